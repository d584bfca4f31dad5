"""Where drafts are cut, and case K20 of the check list: mean perplexity is not mean log-likelihood."""

from __future__ import annotations

import numpy as np
import pytest

from septet.core.session import Draft, Next
from septet.core.types import Tokens
from septet.parts.decoding.spans import (
    aligned,
    margin,
    mean_over_members,
    mean_perplexities,
    mean_surprises,
    perplexity,
    shortest,
    starts_word,
    surprise,
    whole_characters,
    whole_words,
    without_outliers,
    words,
)


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
        # ".\n" is one token: in its middle the writer cannot be cut without leaving its own path
        ((b" end.\n", b"\n"), b" end.\n", None),
        ((b" end.\n", b"\n", b"So", b" it"), b" end.\n", b" end.\n\nSo"),
        ((b" end.", b"\n", b"\n"), b" end.", b" end."),
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


def test_a_draft_without_tokens_is_cut_by_its_bytes() -> None:
    assert aligned(Draft(b" end.\n", Tokens((), np.zeros(0)), False)) == b" end."


def test_a_span_may_have_several_words() -> None:
    wrote = draft(b" the", b" red", b"\n", b" cat", b"s", b" sat")
    assert [words(wrote, n) for n in (1, 2, 3, 4)] == [b" the", b" the red", b" the red\n cats", None]
    assert words(draft(b" the", b" cat", ended=True), 4) == b" the cat"


@pytest.mark.parametrize(
    ("pieces", "kept"),
    [
        ((b" a", b" red", b" ca"), b" a red"),
        ((b" a", b" cat", b","), b" a cat,"),
        ((b" a", b" cat", b" "), b" a cat"),
        ((b" a", b" cat", b".", b"\n", b"\n"), b" a cat."),
        ((b" cat",), b" cat"),
        ((b"\n", b"\n"), b"\n\n"),
        (("今天".encode(), "天气".encode()), "今天天气".encode()),
        ((), b""),
    ],
)
def test_a_draft_loses_the_word_that_it_breaks_off_in(pieces: tuple[bytes, ...], kept: bytes) -> None:
    assert whole_words(draft(*pieces)) == kept


def test_a_draft_that_ended_breaks_off_nowhere() -> None:
    assert whole_words(draft(b" a", b" cat", ended=True)) == b" a cat"


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


def test_k20_the_mean_likelihood_decides_as_in_ada_fuse_s_figure() -> None:
    ada, bob = [read(x) for x in (0.20, 0.35, 1.14)], [read(x) for x in (0.55, 0.23, 0.31)]
    got = mean_surprises([ada, bob])
    np.testing.assert_allclose(got, [0.375, 0.290, 0.725])
    assert got.argmin() == 1


def test_k20_outliers_are_left_out_above_a_spread_of_ten() -> None:
    kept = without_outliers(np.array([[1.2, 1.2], [1.5, 1.5], [30.0, 12.0]]), 10.0)
    np.testing.assert_array_equal(kept[:, 0], [np.nan, 1.5, np.nan])  # 30 / 1.2 = 25
    np.testing.assert_array_equal(kept[:, 1], [1.2, 1.5, 12.0])  # 12 / 1.2 is not above ten
    np.testing.assert_allclose(mean_over_members(kept), [1.5, 4.9])


def test_where_nothing_lies_between_only_the_highest_is_left_out() -> None:
    np.testing.assert_array_equal(without_outliers(np.array([[1.5], [30.0]]), 10.0), [[1.5], [np.nan]])
    np.testing.assert_array_equal(without_outliers(np.array([[1.5], [np.inf]]), 10.0), [[1.5], [np.nan]])


def test_what_nobody_can_say_or_all_find_impossible_is_kept_as_it_is() -> None:
    table = np.array([[np.nan, np.inf], [np.nan, np.inf]])
    np.testing.assert_array_equal(without_outliers(table, 10.0), table)
    np.testing.assert_array_equal(mean_over_members(table), [np.inf, np.inf])


def following(*p: float, full: bool = False) -> Next:
    ids = np.arange(len(p), dtype=np.int32)
    return Next(0, ids, np.log(np.array(p, dtype=np.float32)), lambda piece, first: None, full)


def test_k14_the_margin_is_the_best_probability_less_the_second() -> None:
    assert margin(following(0.84, 0.13)) == pytest.approx(0.71)  # ≥ .7: certain
    assert margin(following(0.80, 0.15)) == pytest.approx(0.65)  # < .7: not
    assert margin(following(0.03, 0.13, 0.84, full=True)) == pytest.approx(0.71)
    assert margin(following(0.9)) == pytest.approx(0.9)


def test_a_word_is_complete_where_white_space_or_the_end_follows_it() -> None:
    assert starts_word(b" cat", b" the")
    assert starts_word(b"\n", b".")
    assert starts_word(b"", b" the")
    assert not starts_word(b"re", b" the")
    assert not starts_word(b" the", b"\n")  # the white space is the beginning of the word


def test_surprise_of_nothing_is_unknown() -> None:
    assert np.isnan(surprise(None))
    assert np.isnan(surprise(Tokens((), np.zeros(0))))
