"""Sums of token probabilities by the next byte, on five strings by hand."""

from __future__ import annotations

import numpy as np

from septet.parts.decoding.next_bytes import ByteOrder
from septet.parts.decoding.vocabulary import PackedVocab

VOCAB = PackedVocab.of([b"", b"the", b"t", b"to", b"th", b"x"], end_ids=[0], tokenise=lambda text: [])
ORDER = ByteOrder.of(VOCAB)  # t, th, the, to, x
P = np.array([0.1, 0.2, 0.3, 0.15, 0.25])


def sums(low: int, high: int, depth: int) -> dict[str, float]:
    found = ORDER.by_next_byte(P, low, high, depth)
    return {chr(b): round(float(found[b]), 9) for b in np.flatnonzero(found)}


def test_before_anything_is_typed_the_first_bytes_share_all() -> None:
    assert sums(0, 5, 0) == {"t": 0.75, "x": 0.25}


def test_after_t_the_token_t_itself_says_nothing_about_what_follows() -> None:
    assert ORDER.narrowed(0, 5, 0, ord("t")) == (0, 4)
    assert sums(0, 4, 1) == {"h": 0.5, "o": 0.15}


def test_after_th_only_the_goes_on() -> None:
    assert ORDER.narrowed(0, 4, 1, ord("h")) == (1, 3)
    assert sums(1, 3, 2) == {"e": 0.3}
    assert ORDER.longer(1, 3, 2) == 2


def test_a_byte_that_no_token_has_there_leaves_an_empty_range() -> None:
    low, high = ORDER.narrowed(0, 4, 1, ord("z"))
    assert low == high
    assert sums(low, high, 2) == {}
