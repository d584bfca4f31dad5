"""Where drafts are cut, and case K20 of the check list: mean perplexity is not mean log-likelihood."""

from __future__ import annotations

import numpy as np
import pytest

from septet.core.session import Draft
from septet.core.types import Tokens
from septet.parts.decoding.spans import aligned, mean_perplexities, perplexity, shortest, whole_characters


def draft(*pieces: bytes, ended: bool = False) -> Draft:
    texts = (*pieces, b"") if ended else pieces
    return Draft(b"".join(pieces), Tokens(texts, np.full(len(texts), -1.0)), ended)


def read(*nll: float) -> Tokens:
    return Tokens(tuple(b"x" for _ in nll), -np.array(nll))


@pytest.mark.parametrize(
    ("pieces", "short", "whole"),
    [
        ((b" cat", b"s", b" are"), b" cats", b" cats"),
        ((b" cats", b",", b" and"), b" cats", b" cats,"),
        ((b" 3", b".", b"5", b" is"), b" 3", b" 3.5"),
        ((b"\n\n", b"So", b" it"), b"\n\nSo", b"\n\nSo"),
        ((b" caf", "é".encode(), b" au"), " café".encode(), " café".encode()),
        ((b" cat", b"s"), None, None),
        ((b" end.\n", b"\n"), b" end.\n", b" end."),
    ],
)
def test_a_span_ends_where_a_word_ends(
    pieces: tuple[bytes, ...], short: bytes | None, whole: bytes | None
) -> None:
    assert shortest(draft(*pieces)) == short
    assert aligned(draft(*pieces)) == whole


@pytest.mark.parametrize("trim", [shortest, aligned])
def test_a_draft_that_ended_is_complete(trim: object) -> None:
    assert trim(draft(b" cat", b"s", ended=True)) == b" cats"  # type: ignore[operator]
    assert trim(draft(ended=True)) == b""  # type: ignore[operator]


def test_half_a_character_at_the_end_is_left_out() -> None:
    assert whole_characters("aé".encode()[:-1]) == b"a"
    assert whole_characters("é".encode()[:1]) == "é".encode()[:1]
    assert whole_characters(b"a\xffb") == b"a\xffb"


def test_k20_mean_perplexity_and_mean_likelihood_choose_differently() -> None:
    # two members, one token each: s1 has NLL (0, 1.3), s2 (.7, .7)
    got = mean_perplexities([[read(0.0), read(0.7)], [read(1.3), read(0.7)]])
    np.testing.assert_allclose(got, [(1 + np.exp(1.3)) / 2, np.exp(0.7)])
    np.testing.assert_allclose(got, [2.33, 2.01], atol=5e-3)
    assert got.argmin() == 1  # while the mean NLL, .65 < .70, would choose s1


def test_perplexity_is_the_exponential_of_the_mean_over_tokens() -> None:
    assert perplexity(read(0.20, 0.35, 1.14)) == pytest.approx(np.exp(0.56333), rel=1e-4)


def test_absent_members_are_left_out_of_the_mean() -> None:
    np.testing.assert_allclose(mean_perplexities([[read(0.0), None], [None, None]]), [1.0, np.inf])


def test_an_impossible_token_makes_a_span_infinitely_surprising() -> None:
    assert perplexity(Tokens((b"x",), np.array([-np.inf]))) == np.inf
    assert perplexity(read(2000.0)) == np.inf
