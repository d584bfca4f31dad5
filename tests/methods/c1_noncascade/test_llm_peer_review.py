"""LLM-PeerReview by hand: means and labels, a fit without labels, ties, judges that fail, and members as judges."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from septet.core.errors import BackendError, BadParameter, ConfigError
from septet.core.method import Ask, Seat, SeatPool
from septet.core.table import Table
from septet.core.types import Completion, Query, Verdict
from septet.methods.c1_noncascade.llm_peer_review import LlmPeerReview, Panel, as_labels
from septet.testing.contract import check_method
from septet.testing.scripted import drive, seat, texts

MEMBERS = (seat("ada"), seat("bob"), seat("cyd"))
SAID = {"ada": "It is Lyon.", "bob": "It is Paris.", "cyd": "It is Nice."}
QUERY = Query.of("What is the capital of France?", max_tokens=8)


def script(worth: Mapping[str, Sequence[Any]], said: Mapping[str, Any] = SAID) -> Any:
    """Members say what they say; each judge scores the three answers as given, wherever they stand."""
    answers = texts(said)

    def answer(ask: Ask) -> Any:
        if ask.purpose != "judgement":
            return answers(ask)
        levels = worth[ask.to.name]
        if isinstance(levels, Exception):
            return levels
        prompt = ask.args["query"].text
        known = {
            text: level for text, level in zip(said.values(), levels, strict=True) if isinstance(text, str)
        }
        shown = re.findall(r"(?ms)^\[answer \d+ \w{16}\]\n(.*?)\n\[end", prompt)
        return [Completion(member=ask.to.name, text=str({str(i): known[t] for i, t in enumerate(shown, 1)}))]

    return answer


def decided(
    worth: Mapping[str, Any], state: Panel | None = None, said: Mapping[str, Any] = SAID, **parameters: Any
) -> tuple[Verdict, list[Any]]:
    review = LlmPeerReview(**parameters)
    pool = SeatPool(MEMBERS, {"judge": tuple(seat(name) for name in worth)})
    begun = state or review.begin(pool.names)
    assert begun is not None
    return drive(review.plan(QUERY, pool, begun, np.random.default_rng(0)), script(worth, said))


def test_the_highest_mean_over_judges_wins_in_every_way_of_scoring() -> None:
    worth = {"eve": [1, 4, 2], "fay": [3, 3, 1]}  # means 2, 3.5, 1.5
    for scoring, calls in (("single", 6), ("pair", 12), ("triple", 12), ("listwise", 4)):
        verdict, asked = decided(worth, scoring=scoring)
        assert verdict.chosen == 1
        assert verdict.confidence == pytest.approx(2.5 / 4)
        assert verdict.reason == "candidate 2 of 3, by bob, is best to 2 judges: mean level 3.50 of 5"
        assert verdict.posterior is not None
        assert verdict.posterior.p == pytest.approx(np.array([1, 2.5, 0.5]) / 4)
        assert [len(items) for items in asked] == [3, calls]


def test_mean_levels_are_floored_as_released_or_rounded() -> None:
    means = np.array([2.83, 2.17, 3.0])  # the dossier's check: 2, 2, 3 and 3, 2, 3
    assert (as_labels(means, "floor") + 1).tolist() == [2, 2, 3]
    assert (as_labels(means, "round") + 1).tolist() == [3, 2, 3]
    assert as_labels(np.array([np.mean([3, 3, 3, 3, 3, 3]) - 1e-13]), "floor").tolist() == [2]


def test_weighted_turns_an_adversary_round() -> None:
    # eve says the opposite of the truth, fay tosses a coin: the answer that eve likes least is right
    liar, coin = np.array([[0.0, 1], [1, 0]]), np.full((2, 2), 0.5)
    state = Panel(("eve", "fay"), np.array([0.5, 0.5]), np.stack([liar, coin]), 0.0)
    worth = {"eve": [2, 1, 2], "fay": [2, 1, 1]}
    assert decided(worth, aggregate="average", levels=2, scoring="single")[0].chosen == 0
    verdict, _ = decided(worth, state, aggregate="weighted", levels=2, scoring="single")
    assert verdict.chosen == 1
    assert "expected level 2.00 of 2" in verdict.reason


def table(n: int) -> Table:
    rows = [
        {
            "query_id": f"q{i}",
            "query": f"Question {i}?",
            "model": name,
            "response": f"{name} on {i}: {kind}",
            "score": 0.5,
        }
        for i in range(n)
        for name, kind in zip(
            ("ada", "bob", "cyd"), np.random.default_rng(i).permutation(["good", "poor", "poor"]), strict=True
        )
    ]
    return Table.of(rows)


def judging(ask: Ask) -> Any:
    """eve and fay know good from poor nine times of ten, gil says the opposite."""
    shown = re.findall(r"(?ms)^\[answer \d+ \w{16}\]\n(.*?)\n\[end", ask.args["query"].text)
    levels = []
    for text in shown:
        luck = np.random.default_rng(sum(map(ord, ask.to.name + text))).random()
        good = ("good" in text) == (luck < 0.9)
        levels.append(2 if good != (ask.to.name == "gil") else 1)
    return [Completion(member=ask.to.name, text=str(levels))]


JUDGES = (seat("eve"), seat("fay"), seat("gil"))


def fitted(n: int = 60, judges: tuple[Seat, ...] = JUDGES, answer: Any = judging, **parameters: Any) -> Panel:
    review = LlmPeerReview(aggregate="weighted", levels=2, scoring="single", **parameters)
    plan: Any = review.fit(table(n), {"judge": judges, "members": MEMBERS}, np.random.default_rng(0))
    panel: Panel = drive(plan, answer)[0]
    return panel


def test_a_fit_without_labels_learns_whom_to_believe() -> None:
    panel = fitted()
    assert panel.judges == ("eve", "fay", "gil")
    right = panel.matrix[:, [0, 1], [0, 1]].mean(axis=1)
    assert right[:2].min() > 0.8
    assert right[2] < 0.3
    assert panel.unread == 0
    assert panel.prior.tolist() == pytest.approx([0.5, 0.5])


def test_a_fit_whose_judges_say_nothing_that_can_be_read_is_refused_or_notes_it() -> None:
    def mute(ask: Ask) -> Any:
        return [Completion(member=ask.to.name, text="Lovely.")]

    with pytest.raises(BadParameter, match="none could be read"):
        fitted(5, answer=mute, unread="out")
    assert fitted(5, answer=mute, unread="middle").unread == 1
    with pytest.raises(BadParameter, match="answers in words"):
        next(
            LlmPeerReview(aggregate="weighted").fit(Table.of([]), {"judge": JUDGES}, np.random.default_rng(0))
        )


def test_a_state_of_other_judges_and_parameters_that_contradict_are_refused_before_any_call() -> None:
    with pytest.raises(ConfigError, match=r"fitted for the judges .*'gil'.*fit it again"):
        decided({"eve": [1, 1, 1]}, fitted(20), aggregate="weighted", levels=2)
    with pytest.raises(BadParameter, match="must be average"):
        LlmPeerReview(scoring="reward", aggregate="weighted")
    with pytest.raises(ConfigError, match="learns nothing"):
        next(LlmPeerReview().fit(table(1), {"judge": JUDGES}, np.random.default_rng(0)))


def test_ties_go_by_the_policy() -> None:
    worth = {"eve": [3, 3, 1]}
    assert decided(worth, tie="first")[0].chosen == 0
    assert decided(worth, tie="longest")[0].chosen == 1
    review, seen = LlmPeerReview(scoring="single"), set()
    pool = SeatPool(MEMBERS, {"judge": (seat("eve"),)})
    for seed in range(20):
        state = review.begin(pool.names)
        assert state is not None
        plan = review.plan(QUERY, pool, state, np.random.default_rng(seed))
        seen.add(drive(plan, script(worth))[0].chosen)
    assert seen == {0, 1}


def test_members_judge_each_other_where_the_role_is_members() -> None:
    worth = {"ada": [5, 4, 1], "bob": [2, 5, 1], "cyd": [1, 4, 5]}
    verdict, asked = decided(worth, scoring="single")
    assert verdict.chosen == 1  # means 2.67, 4.33, 2.33
    assert len(asked[1]) == 9


def test_a_judge_that_fails_is_named_and_the_others_decide() -> None:
    verdict, _ = decided({"eve": BackendError("it is out"), "fay": [1, 1, 4]}, scoring="single")
    assert verdict.chosen == 2
    assert "1 judge: mean level 4.00" in verdict.reason
    assert "judge eve failed (it is out)" in verdict.reason
    with pytest.raises(BackendError, match="it is out"):
        decided({"eve": BackendError("it is out")})


def test_judges_of_whom_nothing_can_be_read_decide_nothing_and_that_is_said() -> None:
    for unread in ("middle", "out"):
        verdict, _ = decided({"eve": ["?", "?", "?"]}, scoring="single", tie="first", unread=unread)
        assert verdict.chosen == 0
        assert verdict.confidence is None
        assert "no judge gave a score that could be read; 3 of 3 scores unread" in verdict.reason


def test_an_answer_that_is_cut_off_is_not_judged_and_one_that_stands_alone_is_taken() -> None:
    cut = Completion(member="ada", text="It is", finish="length")
    verdict, asked = decided({"eve": [5, 2, 4]}, said={**SAID, "ada": cut}, scoring="single")
    assert verdict.chosen == 2
    assert len(asked[1]) == 2
    verdict, asked = decided({"eve": [5, 2, 4]}, said={"ada": cut, "bob": "Paris.", "cyd": ""})
    assert verdict.chosen == 1
    assert len(asked) == 1
    assert "not judged" in verdict.reason


def test_models_that_rate_judge_in_their_own_scale() -> None:
    review = LlmPeerReview(scoring="reward")
    assert review.roles()["judge"].rate
    pool = SeatPool(MEMBERS, {"judge": (seat("box", rate=True),)})
    state = review.begin(pool.names)
    assert state is not None
    answers = texts(SAID)
    plan = review.plan(QUERY, pool, state, np.random.default_rng(0))
    verdict, _ = drive(
        plan, lambda ask: np.array([[-4.0], [-1.5], [-9]]) if ask.do == "rate" else answers(ask)
    )
    assert (verdict.chosen, verdict.confidence) == (1, None)
    assert "mean score -1.5" in verdict.reason


def test_the_worst_case_counts_every_judgement_and_answers_inside_their_prompts() -> None:
    pool = SeatPool(MEMBERS, {"judge": (MEMBERS[0], seat("eve"))})
    loads = LlmPeerReview().worst(QUERY, pool)
    assert {name: load.calls for name, load in loads.items()} == {"ada": 7, "bob": 1, "cyd": 1, "eve": 6}
    assert loads["eve"].tokens == 6 * 40
    assert loads["eve"].prompts > 6


@pytest.mark.parametrize("check", check_method(LlmPeerReview), ids=str)
def test_the_average_keeps_the_contract(check: Any, tmp_path: Any) -> None:
    check(tmp_path)


@pytest.mark.parametrize(
    "check", check_method(LlmPeerReview, aggregate="weighted", scoring="single"), ids=str
)
def test_weighted_keeps_the_contract(check: Any, tmp_path: Any) -> None:
    check(tmp_path)
