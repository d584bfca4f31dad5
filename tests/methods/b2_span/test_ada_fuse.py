"""AdaFuse by hand: certain and uncertain beginnings, branches, what is kept, and who wins."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.errors import BadParameter
from septet.core.method import Ask
from septet.core.types import Query, Tokens
from septet.methods.b2_span._together import Candidate
from septet.methods.b2_span.ada_fuse import AdaFuse
from septet.testing.contract import Check, check_method
from septet.testing.toys import toy_config, toy_house
from speaker import Speaker, together

CHECKS = [
    *check_method(AdaFuse),
    *check_method(AdaFuse, branches=1, words=1),
    *check_method(AdaFuse, certain=0.0),
]


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_ada_fuse_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    check(tmp_path)


def proposed(yielded: list[list[Any]]) -> list[list[bytes]]:
    """The candidates of each span that were scored."""
    firsts = [next((i for i in items if isinstance(i, Ask) and i.do == "score"), None) for items in yielded]
    return [list(ask.args["spans"]) for ask in firsts if ask is not None]


def test_k20_the_lowest_mean_log_likelihood_wins_and_not_the_lowest_mean_perplexity() -> None:
    def read(*nll: float) -> list[Tokens]:
        return [Tokens((b"x",), np.array([-x])) for x in nll]

    three = [Candidate(text, False, (0,), 1) for text in (b" a", b" b", b" c")]
    assert AdaFuse().choose(three, [read(0.20, 0.35, 1.14), read(0.55, 0.23, 0.31)], {})[0] == 1
    # s1 (0, 1.3), s2 (.7, .7): .65 < .70, where the mean perplexities, 2.33 > 2.01, would choose s2
    assert AdaFuse().choose(three[:2], [read(0.0, 0.7), read(1.3, 0.7)], {})[0] == 0


def test_k14_at_the_margin_of_seven_tenths_a_member_is_certain() -> None:
    def first(best: float, second: float) -> list[list[bytes]]:
        table = {b"": {b" a": best, b" b": second}, b" a": {b" x": 0.5, b" y": 0.4}, b" a x": {b" p": 0.9},
                 b" a y": {b" p": 0.9}, b" b": {b" p": 0.9}, b" a x p": {b" q": 0.9}}  # fmt: skip
        _, yielded = together(AdaFuse(branches=2), {"ada": Speaker(table)}, Query.of("?", max_tokens=9))
        return proposed(yielded)

    assert first(0.84, 0.13)[0] == [b" a x", b" a y"]  # .71: it goes on to the second word, where it is not
    assert first(0.80, 0.15)[0] == [b" a", b" b"]  # .65: the first word is branched


CERTAIN = {
    b"": {b" a": 0.9},
    b" a": {b" red": 0.9},
    b" a red": {b" cat": 0.5, b" fo": 0.3, b" dog": 0.1},
    b" a red cat": {b" sat": 0.9},
    b" a red fo": {b"x": 0.9},
    b" a red fox": {b" sat": 0.9},
    b" a red cat sat": {b".": 0.8},
    b" a red fox sat": {b".": 0.8},
}


def test_words_are_written_while_certain_and_the_uncertain_one_is_branched() -> None:
    ada = Speaker(CERTAIN)
    verdict, yielded = together(AdaFuse(branches=3), {"ada": ada})
    # " dog" is the third beginning; the words before the one that is uncertain are in every candidate
    assert proposed(yielded)[0] == [b" a red cat", b" a red dog", b" a red fox"]
    assert verdict.text == " a red cat sat."
    assert verdict.finish == "stop"
    assert ada.pushed == [b" a", b" red", b" cat", b" sat", b"."]


def test_one_branch_is_no_branch() -> None:
    _, yielded = together(AdaFuse(branches=1), {"ada": Speaker(CERTAIN)})
    assert proposed(yielded) == []  # a sole candidate is not scored


def test_a_span_has_at_most_so_many_words() -> None:
    table = {b" w" * n: {b" w": 0.95} for n in range(30)}
    for words, spans in ((1, 6), (3, 2)):
        verdict, _ = together(AdaFuse(words=words), {"ada": Speaker(table)}, Query.of("?", max_tokens=6))
        assert verdict.text == " w" * 6
        assert verdict.reason.startswith(f"{spans} spans")


def test_what_was_written_ahead_is_not_written_again() -> None:
    ada = Speaker({}, always={b" w": 0.95, b" x": 0.05})
    together(AdaFuse(words=1), {"ada": ada}, Query.of("?", max_tokens=6))
    assert ada.committed == b" w" * 6
    assert ada.asked.count("write") == 1  # eight tokens hold the six spans of one word


def test_what_was_written_ahead_is_dropped_where_the_shared_text_takes_another_way() -> None:
    ada = Speaker({}, always={b" w": 0.95, b" x": 0.05})
    bob = Speaker({}, always={b" x": 0.999, b" w": 0.001})
    together(AdaFuse(words=1), {"ada": ada, "bob": bob}, Query.of("?", max_tokens=3))
    # −log: " w" .05 and 6.9, " x" 3.0 and .00: bob's word three times
    assert ada.committed == b" x" * 3
    assert (ada.asked.count("write"), bob.asked.count("write")) == (3, 1)


def test_another_beginning_wins_where_all_members_like_it_better() -> None:
    ada = Speaker({b"": {b" so": 0.5, b" no": 0.3}, b" so": {b" it": 0.9}, b" no": {b" it": 0.9}})
    bob = Speaker({b"": {b" no": 0.9, b" so": 0.05}, b" so": {b" it": 0.9}, b" no": {b" it": 0.9}})
    verdict, yielded = together(AdaFuse(branches=2, words=1), {"ada": ada, "bob": bob})
    # −log: " so" .69 and 3.00, " no" 1.20 and .11; bob is certain (.85) and brings " no" only
    assert proposed(yielded)[0] == [b" no", b" so"]
    assert verdict.text == " no it"
    assert verdict.reason == "2 spans, written by ada 50%, bob 50%"


def test_the_end_is_a_beginning_like_another() -> None:
    ada = Speaker({b"": {b" yes": 0.95}, b" yes": {b"": 0.5, b" sir": 0.4}, b" yes sir": {b" so": 0.9}})
    verdict, yielded = together(AdaFuse(branches=2, words=2), {"ada": ada})
    # the draft holds " yes" and END: END belongs to its last word; no other beginning is tried behind it
    assert verdict.text == " yes"
    assert proposed(yielded) == []
    ada = Speaker({b"": {b" yes": 0.5, b"": 0.4}, b" yes": {b" sir": 0.9}, b" yes sir": {b"": 0.99}})
    verdict, yielded = together(AdaFuse(branches=2, words=1), {"ada": ada})
    assert proposed(yielded)[0] == [b"", b" yes"]
    assert verdict.text == " yes sir"


def test_a_tie_goes_to_the_smaller_bytes() -> None:
    table = {b"": {b" b": 0.4, b" a": 0.4}, b" a": {b" x": 0.9}, b" b": {b" x": 0.9}}
    verdict, _ = together(AdaFuse(branches=2, words=1), {"ada": Speaker(table)})
    assert verdict.text == " a x"


def test_a_text_without_white_space_is_cut_after_max_tokens() -> None:
    pieces = ["今天".encode(), "天气".encode(), "很好".encode(), "。".encode()]
    table = {b"".join(pieces[:i]): {piece: 0.95} for i, piece in enumerate(pieces)}
    verdict, _ = together(AdaFuse(max_tokens=2), {"ada": Speaker(table)})
    assert verdict.text == "今天天气很好。"
    assert verdict.reason.startswith("3 spans")  # the third is the end alone


@pytest.mark.parametrize("fails", ["next", "write", "look", "score", "push"])
def test_a_member_that_fails_leaves_the_answer(fails: str) -> None:
    bob = Speaker(CERTAIN, fails=fails)
    verdict, _ = together(AdaFuse(), {"ada": Speaker(CERTAIN), "bob": bob})
    assert verdict.text == " a red cat sat."
    assert f"failed: bob cannot {fails}" in verdict.reason


def test_another_temperature_is_refused_before_anything_is_asked() -> None:
    ada = Speaker(CERTAIN)
    with pytest.raises(BadParameter, match="temperature"):
        together(AdaFuse(), {"ada": ada}, Query.of("?", temperature=0.7))
    assert ada.asked == []


@pytest.mark.parametrize("parameters", [{"branches": 1}, {"branches": 1, "certain": 0.0, "words": 5}])
def test_k2_without_branches_a_member_fused_with_its_twin_says_what_it_says_alone(
    parameters: dict[str, Any], tmp_path: Path
) -> None:
    answer = "Goethe wrote 😀 Faust,\n\n  and more."
    same = {"tokenizer": "words", "skill": 1.0, "answers": {"Faust": answer}, "max_tokens": 64}
    text = toy_config(
        "ada-fuse", parameters, members={"ada": same, "bob": same}, order=("ada", "bob"), folder=tmp_path
    )

    async def both() -> tuple[str, str]:
        async with toy_house(text) as house:
            own = await house["ada"].ask("Who wrote Faust?", temperature=0.0)
            return own.text, (await house["toys"].ask("Who wrote Faust?", max_tokens=64)).text

    assert asyncio.run(both()) == (answer, answer)
