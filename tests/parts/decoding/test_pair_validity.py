"""Which token may follow which: against reading the two together, on tables of merges by hand and at random."""

from __future__ import annotations

import pytest

from byte_toys import K24, lattice, random_merges, read, vocabulary
from septet.core.types import Floats
from septet.parts.decoding.pair_validity import Merges, from_scores


def followers(merges: list[tuple[bytes, bytes]], alphabet: bytes) -> dict[bytes, set[bytes]]:
    """By token, what may follow it."""
    made = lattice(vocabulary(merges, alphabet))
    assert made.by_bytes is not None
    pieces = [made.order.bytes_at(j) for j in range(len(made.order))]
    table = made.by_bytes.merges
    return {
        piece: {pieces[j] for j in table.following(i).nonzero()[0]}
        for i, piece in enumerate(pieces)
        if table.reached[i]
    }


def test_k24_the_valid_successors() -> None:
    assert followers(K24, b"ab") == {
        b"a": {b"a", b"ab", b"aba"},
        b"b": {b"a", b"b", b"ab", b"aba"},
        b"ab": {b"b", b"ab", b"aba"},
        b"aba": {b"a", b"ab", b"aba"},
    }


@pytest.mark.parametrize("seed", range(120))
def test_it_is_what_reading_both_together_gives(seed: int) -> None:
    merges, alphabet = random_merges(seed)
    found = followers(merges, alphabet)
    tokens = {bytes([b]) for b in alphabet} | {left + right for left, right in merges}
    assert set(found) == {t for t in tokens if read(t, merges) == [t]}
    for left, right_ones in found.items():
        assert right_ones == {r for r in found if read(left + r, merges) == [left, r]}


def test_a_token_that_its_own_merges_never_give_follows_nothing() -> None:
    # "abc" would need "a" and "bc", but ab is merged before bc
    merges = [(b"a", b"b"), (b"b", b"c"), (b"a", b"bc")]
    found = followers(merges, b"abc")
    assert b"abc" not in found
    assert all(b"abc" not in after for after in found.values())


def test_with_scores_any_split_of_an_entry_makes_it_and_the_highest_score_comes_first() -> None:
    # ab .9, bc .5, abc .1: abc is ab+c; "a" + "bc" cannot stand together, since ab is joined first
    scores = {b"a": 0.0, b"b": 0.0, b"c": 0.0, b"ab": 0.9, b"bc": 0.5, b"abc": 0.1}
    places = {piece: i for i, piece in enumerate(sorted(scores))}
    rules = from_scores(scores, places)
    assert rules[places[b"a"], places[b"bc"]][1] == rules[places[b"ab"], places[b"c"]][1] == places[b"abc"]
    table = Merges.of(_single(places), [len(p) for p in sorted(scores)], rules)
    names = sorted(scores)
    assert table.reached.all()
    assert {names[j] for j in table.following(places[b"a"]).nonzero()[0]} == {b"a", b"ab", b"abc", b"c"}
    assert {names[j] for j in table.following(places[b"ab"]).nonzero()[0]} == {
        b"a",
        b"ab",
        b"abc",
        b"b",
        b"bc",
    }


def _single(places: dict[bytes, int]) -> Floats:
    import numpy as np

    return np.array([len(piece) == 1 for piece in sorted(places)])


def test_characters_are_not_cut_apart() -> None:
    places = {piece: i for i, piece in enumerate(["é".encode(), b"a", "éa".encode()])}
    rules = from_scores({"é".encode(): 0.0, b"a": 0.0, "éa".encode(): 1.0}, places)
    assert list(rules) == [(0, 1)]
