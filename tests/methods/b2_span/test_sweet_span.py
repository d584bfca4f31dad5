"""SweetSpan by hand: spans of some words, the rating that does not count, and one member with its twin."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from septet.core.types import Query, Tokens
from septet.methods.b2_span._together import Candidate
from septet.methods.b2_span.sweet_span import SweetSpan
from septet.testing.contract import Check, check_method
from septet.testing.toys import toy_config, toy_house
from speaker import Speaker, streamed, together


@pytest.mark.parametrize("check", [*check_method(SweetSpan), *check_method(SweetSpan, words=1)], ids=str)
def test_sweet_span_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    check(tmp_path)


def chain(*pieces: bytes, sure: float = 0.9) -> dict[bytes, dict[bytes, float]]:
    """A table in which these tokens follow one another with the same probability, and then END for certain."""
    texts = [b"".join(pieces[:i]) for i in range(len(pieces))]
    return {text: {piece: sure} for text, piece in zip(texts, pieces, strict=True)}


def test_k20_an_unfaithful_rating_is_left_out_before_the_mean() -> None:
    s1, s2 = Candidate(b" s1", False, (0,), 1), Candidate(b" s2", False, (1,), 1)
    ratings = [(1.2, 4.0), (1.5, 4.0), (30.0, 4.0)]  # (n_members, n_candidates)
    tokens = [[Tokens((b"x",), np.array([-np.log(r)])) for r in row] for row in ratings]
    # of s1 only 1.5 is left, against 4; with all of them the mean would be 10.9
    assert SweetSpan().choose([s1, s2], tokens, None)[0] == 0
    assert SweetSpan(spread=30.0).choose([s1, s2], tokens, None)[0] == 1


def test_spans_have_four_words_and_their_author_keeps_its_own_tokens() -> None:
    ada = Speaker(chain(b" one", b" two", b" thr", b"ee", b" four", b" five", b" six"))
    bob = Speaker({}, always={b" x": 0.5})
    verdict, yielded = together(SweetSpan(), {"ada": ada, "bob": bob})
    # each gives the other's words .001 a token: perplexities above 100, which are left out. What is left are
    # ada's 1.11 and bob's 2
    assert verdict.text == " one two three four five six"
    assert verdict.reason == "2 spans, written by ada 100%, bob 0%"
    assert streamed(yielded) == (verdict.text or "").encode()
    assert ada.pushed == [b" one", b" two", b" thr", b"ee", b" four", b" five", b" six"]
    assert bob.pushed == [b" one two three four", b" five six"]


def test_a_shorter_answer_is_one_span_with_its_end() -> None:
    verdict, _ = together(SweetSpan(), {"ada": Speaker(chain(b" two", b" words"))})
    assert (verdict.text, verdict.finish) == (" two words", "stop")


def test_a_text_without_white_space_is_cut_after_max_tokens() -> None:
    ada = Speaker(chain("今天".encode(), "天气".encode(), "很好".encode()))
    verdict, _ = together(SweetSpan(max_tokens=2), {"ada": ada})
    assert verdict.text == "今天天气很好"
    assert verdict.reason.startswith("2 spans")


def test_max_tokens_of_the_query_truncates_the_answer() -> None:
    ada = Speaker(chain(b" one", b" two", b" three", b" four"))
    verdict, _ = together(SweetSpan(), {"ada": ada}, Query.of("?", max_tokens=2))
    assert (verdict.text, verdict.finish) == (" one two", "length")


@pytest.mark.parametrize("spelling", ["words", "bytes"])
def test_k2_a_member_fused_with_its_twin_says_what_it_says_alone(spelling: str, tmp_path: Path) -> None:
    answer = "Goethe wrote 😀 Faust,\n\n  and more."
    same = {"tokenizer": spelling, "skill": 1.0, "answers": {"Faust": answer}, "max_tokens": 64}
    text = toy_config("sweet-span", members={"ada": same, "bob": same}, order=("ada", "bob"), folder=tmp_path)

    async def both() -> tuple[str, str]:
        async with toy_house(text) as house:
            own = await house["ada"].ask("Who wrote Faust?", temperature=0.0)
            return own.text, (await house["toys"].ask("Who wrote Faust?", max_tokens=64)).text

    assert asyncio.run(both()) == (answer, answer)
