"""CBS by hand: case K26, what is asked, how paths are scored, which are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.caps import Caps
from septet.core.errors import BackendError, BadParameter, NoCandidate
from septet.core.method import Ask, SeatPool
from septet.core.money import Usage
from septet.core.types import Completion, Query, Tokens, Verdict
from septet.methods.b3_process.cbs import Cbs, path_score, ranked
from septet.parts.decoding.tree import Node, Tree
from septet.testing.contract import Check, check_method
from septet.testing.scripted import drive, seat

POOL = SeatPool((seat("ada"), seat("bob")))
DEFAULTS = {"beams": 2, "candidates": 4, "tau": 1.0}


def searched(
    answers: Callable[[Ask], Any], query: Query | None = None, pool: SeatPool = POOL, **parameters: Any
) -> tuple[Verdict, list[list[Ask]]]:
    plan = Cbs(**{**DEFAULTS, **parameters}).plan(
        query or Query.of("?"), pool, None, np.random.default_rng(3)
    )
    verdict, yielded = drive(plan, answers)
    return verdict, [[ask for ask in items if isinstance(ask, Ask)] for items in yielded]


def script(
    says: Mapping[str, Mapping[str, Sequence[str]]], p: Mapping[str, Mapping[str, float]]
) -> Callable[[Ask], Any]:
    """`says`: by member and answer so far, its samples in turn; `p`: by member and step, the probability of
    the step's one token, 1/2 unless given."""

    def answers(ask: Ask) -> Any:
        name = ask.to.name
        if ask.do == "score":
            return [
                Tokens((step.encode(),), np.log([p.get(name, {}).get(step, 0.5)]))
                for step in ask.args["texts"]
            ]
        found = says[name][ask.args["query"].prefix]
        return [
            Completion(member=name, text=t, finish="until" if t.endswith("\n") else "stop")
            for t in (list(found) * ask.args["n"])[: ask.args["n"]]
        ]

    return answers


def test_k26_the_score_of_a_path_is_the_mean_over_its_steps() -> None:
    # values are one over the members' mean perplexity: perplexities 2 and 4
    tree = Tree((Node(-1, "", 0, -1), Node(0, "a\n", 1 / 2, 0), Node(1, "a\nb\n", 1 / 4, 0)))
    assert path_score(tree, 2) == pytest.approx(-3.0)


def test_a_step_that_adds_nothing_does_not_count_and_an_empty_path_is_the_worst() -> None:
    tree = Tree((Node(-1, "", 0, -1), Node(0, "a\n", 1 / 2, 0), Node(1, "a\n", 1 / 2, 0, True, True)))
    assert path_score(tree, 2) == pytest.approx(-2.0)
    assert path_score(tree, 0) == -np.inf
    assert ranked(tree, [0, 2]) == [2, 0]


def test_a_step_is_scored_by_the_mean_perplexity_of_all_members_after_what_comes_before() -> None:
    says = {"ada": {"": ["one\n"], "one\n": ["Answer: 1"]}, "bob": {"": ["one\n"], "one\n": ["Answer: 1"]}}
    # perplexities of the first step: 2 and 4, mean 3; of the second: 2 and 8, mean 5; the path: 4
    p = {"ada": {"one\n": 0.5, "Answer: 1": 0.5}, "bob": {"one\n": 0.25, "Answer: 1": 0.125}}
    verdict, asked = searched(script(says, p))
    assert verdict.text == "one\nAnswer: 1"
    assert verdict.confidence == pytest.approx(1 / 4)
    assert verdict.finish == "stop"
    scored = [
        (a.to.name, a.args["query"].prefix, a.args["texts"])
        for asks in asked
        for a in asks
        if a.do == "score"
    ]
    assert scored == [
        ("ada", "", ["one\n"]),
        ("bob", "", ["one\n"]),
        ("ada", "one\n", ["Answer: 1"]),
        ("bob", "one\n", ["Answer: 1"]),
    ]


def test_equal_steps_are_one_candidate_whose_authors_share_it() -> None:
    says = {"ada": {"": ["Answer: 1", "Answer: 1"]}, "bob": {"": ["Answer: 1\n", "Answer: 2"]}}
    verdict, asked = searched(script(says, {"ada": {"Answer: 1": 0.9}}))
    [texts] = {tuple(a.args["texts"]) for asks in asked for a in asks if a.do == "score"}
    assert texts == ("Answer: 1", "Answer: 2")
    assert verdict.text == "Answer: 1"
    np.testing.assert_allclose(verdict.weights, [0.5, 0.5])


def test_the_candidates_of_the_first_round_are_shared_out_evenly_and_then_by_who_wrote_what_was_kept() -> (
    None
):
    says = {
        "ada": {"": ["a1\n", "a2\n"], "a1\n": ["Answer: 1"], "a2\n": ["Answer: 2"]},
        "bob": {"": ["b1\n", "b2\n"], "a1\n": ["Answer: 3"], "a2\n": ["Answer: 4"]},
    }
    p = {name: {"a1\n": 0.9, "a2\n": 0.8, "b1\n": 0.1, "b2\n": 0.1} for name in ("ada", "bob")}
    # both kept beams are ada's: c = (2, 0), softmax (.881, .119), of four candidates 3.52 and .48
    verdict, asked = searched(script(says, p))
    written = [
        [(a.to.name, a.args["query"].prefix, a.args["n"]) for a in asks if a.do == "complete"]
        for asks in asked
    ]
    assert [w for w in written if w] == [
        [("ada", "", 2), ("bob", "", 2)],
        [("ada", "a1\n", 4), ("ada", "a2\n", 4)],
    ]
    assert verdict.text == "a1\nAnswer: 1"
    np.testing.assert_allclose(verdict.weights, [1.0, 0.0])


def test_a_floor_lets_a_member_write_that_wrote_nothing_that_was_kept() -> None:
    says = {
        "ada": {"": ["a1\n", "a2\n"], "a1\n": ["Answer: 1"], "a2\n": ["Answer: 2"]},
        "bob": {"": ["b1\n", "b2\n"], "a1\n": ["Answer: 3"], "a2\n": ["Answer: 4"]},
    }
    p = {name: {"b1\n": 0.1, "b2\n": 0.1, "Answer: 3": 0.95} for name in ("ada", "bob")}
    verdict, asked = searched(script(says, p), floor=1)
    assert [a.args["n"] for a in asked[2]] == [3, 1, 3, 1]
    assert verdict.text == "a1\nAnswer: 3"


def test_an_ended_beam_leaves_and_is_not_replaced() -> None:
    says = {
        "ada": {"": ["Answer: 9", "a\n"], "a\n": ["Answer: 1"]},
        "bob": {"": ["b\n"], "a\n": ["Answer: 1"]},
    }
    p = {name: {"Answer: 9": 0.9, "a\n": 0.8, "b\n": 0.2, "Answer: 1": 0.01} for name in ("ada", "bob")}
    verdict, asked = searched(script(says, p))
    # kept: Answer: 9 and a; b is out although only one beam goes on
    assert {a.args["query"].prefix for a in asked[2]} == {"a\n"}
    assert verdict.text == "Answer: 9"
    assert verdict.confidence == pytest.approx(0.9)


def test_at_the_depth_the_best_path_is_given_as_cut_off() -> None:
    says = {name: {"": ["a\n"]} for name in ("ada", "bob")}
    verdict, _ = searched(script(says, {}), depth=1)
    assert (verdict.text, verdict.finish) == ("a", "length")


def test_empty_lines_are_asked_again_in_one_call_and_never_kept() -> None:
    says = {"ada": {"": ["\n"], "\n": ["\n"], "\n\n": ["\n"]}, "bob": {"": ["Answer: 5"]}}
    verdict, asked = searched(script(says, {}))
    lines = [a for asks in asked for a in asks if a.to.name == "ada" and a.do == "complete"]
    assert [(a.args["query"].prefix, a.args["n"]) for a in lines] == [("", 2), ("\n", 2), ("\n\n", 2)]
    assert verdict.text == "Answer: 5"


def test_if_there_are_only_empty_lines_the_answer_is_empty_and_worth_nothing() -> None:
    lines = {"": ["\n"], "\n": ["\n"], "\n\n": ["\n"]}
    verdict, _ = searched(script({"ada": lines, "bob": lines}, {}))
    assert (verdict.text, verdict.confidence, verdict.finish) == ("", 0.0, "length")


def test_steps_stop_where_the_answer_is_as_long_as_it_may_be() -> None:
    def answers(ask: Ask) -> Any:
        if ask.do == "score":
            return [Tokens((b"x",), np.log([0.5]))] * len(ask.args["texts"])
        usage = Usage(completion_tokens=4)
        return [Completion(member=ask.to.name, text="x\n", finish="until", usage=usage)] * ask.args["n"]

    verdict, asked = searched(answers, Query.of("?", max_tokens=6))
    limits = [{a.args["query"].max_tokens for a in asks if a.do == "complete"} for asks in asked]
    assert [some for some in limits if some] == [{6}, {2}]
    assert (verdict.text, verdict.finish) == ("x\nx", "length")


def test_a_member_that_cannot_write_is_not_asked_to_score_either() -> None:
    says = {name: {"": ["a\n"], "a\n": ["Answer: 1"]} for name in ("ada", "bob")}
    whole = script(says, {})

    def answers(ask: Ask) -> Any:
        return BackendError("bob is down") if ask.to.name == "bob" else whole(ask)

    verdict, asked = searched(answers)
    assert sum(a.to.name == "bob" for asks in asked for a in asks) == 1
    assert verdict.text == "a\nAnswer: 1"
    assert verdict.reason.endswith("failed: bob is down")
    assert [a.args["n"] for a in asked[2]] == [4]  # all candidates are ada's


def test_a_member_that_cannot_score_writes_no_more() -> None:
    says = {name: {"": ["a\n"], "a\n": ["Answer: 1"]} for name in ("ada", "bob")}
    whole = script(says, {})

    def answers(ask: Ask) -> Any:
        scores = ask.to.name == "bob" and ask.do == "score"
        return BackendError("bob cannot score") if scores else whole(ask)

    verdict, asked = searched(answers)
    assert [(a.to.name, a.do) for asks in asked for a in asks if a.to.name == "bob"] == [
        ("bob", "complete"),
        ("bob", "score"),
    ]
    assert verdict.reason.count("bob cannot score") == 1


def test_if_all_members_fail_after_the_first_round_the_best_path_so_far_is_given() -> None:
    says = {name: {"": ["a\n", "b\n"]} for name in ("ada", "bob")}
    whole = script(says, {"ada": {"a\n": 0.9}})

    def answers(ask: Ask) -> Any:
        later = ask.do == "complete" and ask.args["query"].prefix
        return BackendError(f"{ask.to.name} is down") if later else whole(ask)

    verdict, _ = searched(answers)
    assert (verdict.text, verdict.finish) == ("a", "length")
    assert "ada is down" in verdict.reason and "bob is down" in verdict.reason


def test_if_every_member_fails_all_causes_are_named() -> None:
    with pytest.raises(NoCandidate, match=r"ada is down; failed: bob is down"):
        searched(lambda ask: BackendError(f"{ask.to.name} is down"))


def test_too_few_candidates_for_the_floor_are_refused_before_any_call() -> None:
    asked: list[Ask] = []
    with pytest.raises(BadParameter, match=r"candidates: must be at least 6: 3 for each of 2 members, got 4"):
        searched(asked.append, floor=3)
    assert not asked


def test_the_order_of_members_changes_nothing() -> None:
    says = {
        "ada": {"": ["x\n", "y\n"], "x\n": ["Answer: 1"], "y\n": ["Answer: 2"]},
        "bob": {"": ["y\n", "z\n"], "x\n": ["Answer: 3"], "y\n": ["Answer: 4"]},
    }
    straight, _ = searched(script(says, {}), candidates=3)
    turned, _ = searched(script(says, {}), pool=replace(POOL, members=POOL.members[::-1]), candidates=3)
    assert straight.text == turned.text
    assert straight.weights is not None and turned.weights is not None
    np.testing.assert_allclose(straight.weights, turned.weights[::-1])


def test_all_members_must_write_several_answers_and_score_and_there_is_no_role() -> None:
    assert Cbs().needs() == Caps(text=True, samples=True, continues=True, score=True)
    assert Cbs().roles() == {}


@pytest.mark.parametrize(
    "check", check_method(Cbs) + check_method(Cbs, floor=1, tau=2.0, beams=2, candidates=5), ids=str
)
def test_the_contract_holds(check: Check, tmp_path: Path) -> None:
    check(tmp_path)
