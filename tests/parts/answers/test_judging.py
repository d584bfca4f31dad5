"""Judging by hand: who is shown where, what is read of replies, what the worst case is, and what sways a judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from septet.core.errors import BackendError, BadParameter
from septet.core.method import Ask
from septet.core.money import Load
from septet.core.types import Completion, Message, Query
from septet.parts.answers.judging import (
    Judged,
    Judging,
    Mode,
    effects,
    judged,
    levels_in,
    preferences,
    prompt,
    scale,
    shortened,
)
from septet.testing.scripted import drive, seat

QUERY = Query.of("What is the capital of France?")
TEXTS = ["Paris.", "Lyon.", "Nice.", "Metz."]


def shown(ask: Ask) -> list[str]:
    """The texts of a judge's prompt, in order."""
    text = ask.args["query"].text
    return sorted((t for t in TEXTS if f"\n{t}\n" in text), key=lambda t: int(text.index(f"\n{t}\n")))


def reply(levels: list[Any]) -> list[Completion]:
    return [Completion(member="eve", text=str({str(i): v for i, v in enumerate(levels, 1)}))]


def by(score: Callable[[str, int], Any]) -> Callable[[Ask], Any]:
    """A judge that scores a text at a place."""
    return lambda ask: reply([score(text, place) for place, text in enumerate(shown(ask))])


def asked(how: Judging, script: Any, texts: list[str] = TEXTS, **caps: Any) -> tuple[Judged, list[Ask]]:
    found, yielded = drive(judged(QUERY, texts, [seat("eve", **caps)], how, np.random.default_rng(3)), script)
    assert len(yielded) == 1, "all views are asked at once"
    return found, yielded[0]  # type: ignore[return-value]


WORTH = {"Paris.": 5, "Lyon.": 2, "Nice.": 3, "Metz.": 1}


@pytest.mark.parametrize(("mode", "calls"), [("single", 4), ("pair", 12), ("triple", 8), ("listwise", 2)])
def test_every_mode_finds_the_levels_of_a_judge_that_no_place_moves(mode: Mode, calls: int) -> None:
    found, asks = asked(Judging(mode), by(lambda text, _: WORTH[text]))
    assert found.scores.tolist() == [[5, 2, 3, 1]]
    assert (found.calls, len(asks), found.unread) == (calls, calls, 0)


@pytest.mark.parametrize("mode", ["pair", "triple", "listwise"])
def test_every_candidate_stands_equally_often_at_every_place_where_views_are_flipped(mode: Mode) -> None:
    found, _ = asked(Judging(mode), by(lambda text, _: 1))
    for i in range(4):
        at = Counter(p for p in found.places[0, :, i].tolist() if p >= 0)
        if mode == "listwise":  # an order and its reversal
            assert sum(at.elements()) == 3
        else:
            assert set(at.values()) == {3 if mode == "pair" else 2}


def test_a_judge_that_prefers_the_first_place_sees_no_difference_in_triples() -> None:
    found, _ = asked(Judging("triple"), by(lambda text, place: 5 if place == 0 else 2))
    assert found.scores.tolist() == [[3, 3, 3, 3]]


@pytest.mark.parametrize(
    ("n", "mode", "calls"), [(3, "triple", 6), (2, "pair", 2), (1, "single", 1), (7, "triple", 14)]
)
def test_triples_of_fewer_than_three_fall_back_and_say_so(n: int, mode: Mode, calls: int) -> None:
    texts = [f"t{i}" for i in range(n)]
    found, _ = asked(Judging("triple"), lambda ask: reply([3] * 3), texts)
    assert (found.mode, found.calls) == (mode, calls)
    assert ("too few for triple" in found.remark) == (mode != "triple")


@pytest.mark.parametrize(
    ("text", "n", "found"),
    [
        ('{"1": 4, "2": 2}', 2, [4, 2]),
        ('Sure! Here you go:\n```json\n{"1": 4, "2": 2}\n```\nHope it helps.', 2, [4, 2]),
        ("{'2': 1, '1': 5}", 2, [5, 1]),
        ('{"Answer 1": "3", "Answer 2": "4"}', 2, [3, 4]),
        ('{"first": 3, "second": 4}', 2, [3, 4]),
        ("[5, 1, 2]", 3, [5, 1, 2]),
        ("5, 1, 2", 3, [5, 1, 2]),
        ("Answer 1: 5\nAnswer 2: 3", 2, [5, 3]),
        ('{"1": 4}', 1, [4]),
        ("4", 1, [4]),
        ("I give it a 4.", 1, [4]),
        ("Score: 4/5", 1, [4]),
        ('{"1": 4, "2"', 2, [4, None]),
        ('{"1": 4, "2": 6}', 2, [4, None]),
        ('{"1": 0, "2": -1}', 2, [None, None]),
        ('{"1": 3.5, "2": 3.0}', 2, [None, 3]),
        ('{"1": 4, "1": 2}', 2, [None, None]),
        ("[5, 1]", 3, [None] * 3),
        ("I think answer 2 deserves 5.", 2, [None, None]),
        ("Both are wonderful.", 2, [None, None]),
        ("It is a 4 or a 5.", 1, [None]),
        ("100", 1, [None]),
        ('{"1": "?"}', 1, [None]),
        ('{"1": "4 points"}', 1, [4]),
        ("Answer 1 is very good.", 1, [None]),
        ('{"1": score, "2": score}', 2, [None, None]),
        ("", 3, [None] * 3),
    ],
)
def test_what_is_read_of_a_reply(text: str, n: int, found: list[float | None]) -> None:
    np.testing.assert_array_equal(levels_in(text, n, 5), np.array(found, dtype=np.float64))


def test_what_cannot_be_read_is_counted_and_is_the_middle_or_left_out() -> None:
    def script(ask: Ask) -> Any:  # nonsense wherever Metz stands first; out of scale for Nice
        texts = shown(ask)
        return reply([9 if t == "Nice." else WORTH[t] for t in texts]) if texts[0] != "Metz." else "Hm?"

    def said(ask: Ask) -> Any:
        value = script(ask)
        return [Completion(member="eve", text=value)] if isinstance(value, str) else value

    middle, _ = asked(Judging("single"), said)
    assert middle.scores.tolist() == [[5, 2, 3, 3]]
    assert (middle.unread, middle.asked, middle.remark) == (2, 4, "2 of 4 scores unread")
    out, _ = asked(Judging("single", unread="out"), said)
    np.testing.assert_array_equal(out.scores, [[5, 2, np.nan, np.nan]])
    np.testing.assert_array_equal(np.isnan(out.views), np.isnan(middle.views))  # the views keep what was read


def test_a_model_that_rates_is_asked_to_rate_and_its_first_column_is_taken_as_it_is() -> None:
    found, asks = asked(
        Judging("triple"), lambda ask: np.array([[0.1, 9], [-2, 9], [7, 9], [0, 9.0]]), rate=True
    )
    assert found.scores.tolist() == [[0.1, -2, 7, 0]]
    assert [a.do for a in asks] == ["rate"]
    assert asks[0].args["texts"] == TEXTS
    both, asks = asked(Judging("triple"), by(lambda text, _: 1), rate=True, text=True)
    assert len(asks) == 8, "one that can write is asked in words"
    assert both.unread == 0


def test_a_judge_that_fails_is_named_and_has_said_nothing_and_if_all_fail_the_first_error_is_raised() -> None:
    def script(ask: Ask) -> Any:
        return BackendError("out of order") if ask.to.name == "eve" else reply([4])

    plan = judged(QUERY, TEXTS, [seat("eve"), seat("fay")], Judging("single"), np.random.default_rng(0))
    found, _ = drive(plan, script)
    np.testing.assert_array_equal(found.scores, [[np.nan] * 4, [4] * 4])
    assert "judge eve failed (out of order)" in found.remark
    with pytest.raises(BackendError, match="out of order"):
        drive(judged(QUERY, TEXTS, [seat("eve")], Judging("single"), np.random.default_rng(0)), script)


def test_the_worst_case_is_what_is_asked() -> None:
    judges = [seat("eve"), seat("box", rate=True)]
    for mode in ("single", "pair", "triple", "listwise"):
        how = Judging(mode)
        _, asks = asked(how, by(lambda text, _: 1))
        loads = how.loads(QUERY.but(max_tokens=10), 4, judges)
        most = sum(a.args["query"].max_tokens for a in asks)
        assert (loads["eve"].calls, loads["eve"].tokens) == (len(asks), most)
        unit = len(QUERY.text.encode()) // 4 + 1
        assert loads["eve"].prompts * unit * 4 >= sum(len(a.args["query"].text) for a in asks)
        assert (loads["box"].calls, loads["box"].tokens) == (1, 0)
    twice = Judging("single").loads(QUERY, 4, [judges[0], judges[0]])
    assert twice["eve"].calls == 8
    assert isinstance(twice["eve"], Load)


def test_a_candidate_that_is_too_long_is_shown_by_its_beginning_and_end_and_that_is_said() -> None:
    texts = ["a" * 300 + "the end", "b"]
    found, asks = asked(Judging("pair", longest=100), lambda ask: reply([1, 1]), texts)
    assert found.cut == 1
    assert "1 long answer was shortened for the judges" in found.remark
    assert "characters left out" in asks[0].args["query"].text
    assert "the end\n[end of answer" in asks[0].args["query"].text
    assert shortened("abc", 100) == "abc"


def test_the_prompt_holds_the_question_with_its_conversation_and_words_for_every_level() -> None:
    talk = Query(messages=(Message("user", "Hi"), Message("assistant", "Yes?"), Message("user", "2+3?")))
    said = prompt(talk, ["5"], 3, "ab")
    assert "user: Hi\nassistant: Yes?\nuser: 2+3?" in said
    for levels in range(2, 11):
        lines = scale(levels).splitlines()
        assert [line.split(":")[0] for line in lines] == [str(k) for k in range(1, levels + 1)]
        assert len({line.split(": ")[1] for line in lines}) == levels


@pytest.mark.parametrize("wrong", [{"levels": 1}, {"levels": 11}, {"views": 0}, {"longest": 5}])
def test_what_cannot_be_judged_with_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(BadParameter, match=next(iter(wrong))):
        Judging(**wrong)  # type: ignore[arg-type]


def test_a_position_effect_is_the_mean_of_first_less_last() -> None:
    # two levels more in the first of three places, so first less last is 2; a fair judge has 0
    rng = np.random.default_rng(5)

    def one(score: Callable[[str, int], Any]) -> Judged:
        return drive(judged(QUERY, TEXTS, [seat("eve")], Judging("triple"), rng), by(score))[0]

    members = [["a", "b", "c", "d"]] * 10
    (swayed,) = effects([one(lambda t, place: 3 if place == 0 else 1) for _ in range(10)], members, rng)
    (fair,) = effects([one(lambda t, _: WORTH[t]) for _ in range(10)], members, rng)
    assert swayed.position is not None and fair.position is not None
    assert (swayed.position.value, swayed.position.low, fair.position.value) == (2, 2, 0)
    assert swayed.preference is None, "eve has no answer of her own"
    single = effects([asked(Judging("single"), by(lambda t, _: 2))[0]], members[:1], rng)
    assert single[0].position is None


def test_self_preference_is_found_where_it_was_planted_and_neither_strictness_nor_peers_make_it() -> None:
    rng = np.random.default_rng(1)
    names = ("a", "b", "c", "d")
    plain = rng.normal(size=(200, 1, 4)) + np.array([0, -3, 2, 5])[None, :, None]  # quality and strictness
    planted = plain.copy()
    planted[:, 0, 0] += 1.5  # a likes its own
    planted[:, 2, 2] += 4.0  # and so does c
    for scores, wanted in ((plain, [0, 0, 0, 0]), (planted, [1.5, 0, 4, 0])):
        nothing = np.full((4, 1, 4), np.nan)
        asked = [Judged(names, s, nothing, np.full((4, 1, 4), -1), "single") for s in scores]
        found = effects(asked, [list(names)] * 200, rng)
        assert [e.preference.value for e in found if e.preference] == pytest.approx(wanted, abs=1e-9)
    assert np.isnan(preferences(plain[0], names, ("a", "b", "b", "x"))).tolist() == [False, False, True, True]
