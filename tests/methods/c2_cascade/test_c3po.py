"""C3PO: thresholds from unlabelled questions, fixed references, the bound on cost, and the chain that they make."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.errors import BackendError, BadParameter, NoCandidate
from septet.core.method import Ask, SeatPool
from septet.core.money import Load
from septet.core.state import pack, unpack
from septet.core.table import Table
from septet.core.types import Query, Verdict
from septet.methods.c2_cascade._thresholds import Thresholds
from septet.methods.c2_cascade.c3po import C3po
from septet.testing.contract import Check, check_method
from septet.testing.scripted import drive, seat

POOL = SeatPool((seat("weak"), seat("mid"), seat("best")))


@pytest.mark.parametrize("check", check_method(C3po), ids=str)
def test_it_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    check(tmp_path)


def state(*at: float) -> Thresholds:
    return Thresholds(np.array(at), 0.0, 1.0, 2.0, "usd")


def run(kept: Thresholds, said: Mapping[str, Any]) -> tuple[Verdict, list[str]]:
    plan = C3po(samples=5).plan(Query.of("?"), POOL, kept, np.random.default_rng(0))
    verdict, yielded = drive(plan, dict(said))
    return verdict, [a.to.name for items in yielded for a in items if isinstance(a, Ask)]


SAID = {"weak": ["4", "4", "4", "5", "6"], "mid": ["5", "5", "5", "5", "4"], "best": ["6"] * 5}


def test_the_first_that_agrees_enough_with_itself_answers() -> None:
    assert run(state(0.6, 0.8), SAID)[1] == ["weak"]  # 3/5
    verdict, asked = run(state(0.61, 0.8), SAID)  # 4/5
    assert (verdict.chosen, asked) == (5, ["weak", "mid"])
    assert verdict.reason == "agreement 0.60 < 0.61 of weak, so mid was asked; 0.80 ≥ 0.80 of mid: '5'"
    assert run(state(0.61, 0.81), SAID)[1] == ["weak", "mid", "best"]


def test_a_member_with_a_threshold_above_1_is_not_asked() -> None:
    verdict, asked = run(state(1.1, 1.021), SAID)
    assert (asked, verdict.chosen) == (["best"], 0)


def test_skipped_members_are_asked_when_the_chain_fails() -> None:
    verdict, asked = run(state(1.1, 1.1), SAID | {"best": BackendError("down")})
    assert (asked, verdict.chosen) == (["best", "weak"], 0)
    with pytest.raises(NoCandidate, match="best: down"):
        run(state(1.1, 1.1), dict.fromkeys(SAID, BackendError("down")))


def test_if_the_last_fails_the_one_that_agrees_most_stands() -> None:
    verdict, _ = run(state(0.9, 0.9), SAID | {"best": BackendError("down")})
    assert (verdict.chosen, verdict.reason.endswith("mid agrees most with itself: '5'")) == (5, True)


def recorded(n: int, scores: bool = False) -> Table:
    """n questions, 5 samples, a weak member for 1 and a strong one for 9. The weak one says the strong one's answer
    with share 1 on even questions; on odd ones it says another with share .6."""
    rows = []
    for i in range(n):
        weak = ["a"] * 5 if i % 2 == 0 else ["b", "b", "b", "a", "c"]
        for member, answers, usd in (("weak", weak, 0.2), ("best", ["a"] * 4 + ["b"], 1.8)):
            rows += [
                {"query": f"q{i}", "model": member, "sample_id": s, "answer": a, "cost_usd": usd}
                | ({"score": float((i + s) % 3 == 0)} if scores else {})
                for s, a in enumerate(answers)
            ]
    return Table.of(rows)


def test_the_fit_finds_the_threshold_that_tells_the_two_kinds_of_question_apart() -> None:
    fitted = C3po(budget_usd=10.0, alpha=0.2).fit(recorded(40), {}, np.random.default_rng(0))
    assert 0.6 < fitted.at[0] <= 1.0
    assert (fitted.disagreement, fitted.bound, fitted.unit) == (0.0, 10.0, "usd")
    assert 1.0 < fitted.cost < 10.0
    # with less than the strong member costs the weak one answers everything: it differs on the odd questions
    cheap = C3po(budget_usd=5.0, alpha=0.2).fit(recorded(40), {}, np.random.default_rng(0))
    assert (cheap.at.tolist(), cheap.bound) == ([0.0], 1.0)
    assert 0.3 < cheap.disagreement < 0.7


def test_no_score_is_read() -> None:
    without = C3po(budget_usd=10.0).fit(recorded(40), {}, np.random.default_rng(0))
    with_scores = C3po(budget_usd=10.0).fit(recorded(40, scores=True), {}, np.random.default_rng(0))
    assert pack(without)[1] == pack(with_scores)[1]
    np.testing.assert_array_equal(without.at, with_scores.at)


def test_the_same_table_gives_the_same_thresholds_whatever_the_grid_asks_for() -> None:
    # nothing is redrawn: a finer grid can only agree as well or better
    coarse = C3po(budget_usd=10.0, points=15).fit(recorded(40), {}, np.random.default_rng(3))
    fine = C3po(budget_usd=10.0, points=60).fit(recorded(40), {}, np.random.default_rng(3))
    assert fine.disagreement <= coarse.disagreement == 0.0


def test_the_cost_is_that_of_the_samples_that_will_be_drawn() -> None:
    # 10 samples at .2 instead of the 5 recorded
    fitted = C3po(samples=10, budget_usd=5.0, alpha=0.2).fit(recorded(40), {}, np.random.default_rng(0))
    assert fitted.bound == pytest.approx(2.0)


def test_a_budget_between_the_cheapest_and_the_last_member_is_taken_if_none_is_given() -> None:
    # their bounds are 1 and 9: half way is 5, so only the weak member fits
    assert C3po(budget_share=0.5).fit(recorded(40), {}, np.random.default_rng(0)).bound == 1.0
    assert C3po(budget_share=1.0).fit(recorded(40), {}, np.random.default_rng(0)).bound == 9.0


def test_budgets_that_cannot_be_kept_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(BadParameter, match="must be at least 1, the lowest bound"):
        C3po(budget_usd=0.5).fit(recorded(40), {}, rng)
    with pytest.raises(BadParameter, match="at least 9 held-out questions, there are 4"):
        C3po().fit(recorded(8), {}, rng)
    rows = [{"query": f"q{i}", "model": m, "answer": "a"} for i in range(40) for m in ("weak", "best")]
    with pytest.raises(BadParameter, match="cost_usd for every answer"):
        C3po(budget_usd=1.0).fit(Table.of(rows), {}, rng)
    with pytest.raises(BadParameter, match="two questions that every member has answered"):
        C3po().fit(Table.of([*rows[:2], {"query": "x", "model": "weak", "answer": "a"}]), {}, rng)


def test_the_state_survives_saving() -> None:
    fitted = C3po(budget_usd=10.0).fit(recorded(40), {}, np.random.default_rng(0))
    again = unpack(Thresholds, *pack(fitted))
    assert (again.chain(), again.bound) == (fitted.chain(), fitted.bound)


def test_the_worst_case_is_every_sample_of_every_member() -> None:
    worst = C3po(samples=3).worst(Query.of("?", max_tokens=7), POOL)
    assert worst == {name: Load(3, 3, 21) for name in POOL.names}
