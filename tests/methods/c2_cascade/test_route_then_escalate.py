"""Route, then escalate: who is asked first, who second and when, at one price for all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.caps import Caps
from septet.core.errors import BackendError, BadParameter, NoCandidate
from septet.core.method import Ask, SeatPool
from septet.core.state import pack, unpack
from septet.core.table import Table
from septet.core.types import Completion, Query, Tokens, Verdict
from septet.methods.c2_cascade.route_then_escalate import FREE, RouteThenEscalate, State
from septet.parts.deferral.envelope import Curve, shadow_price, sweep
from septet.parts.deferral.supermodels import Priced
from septet.parts.learning.features import Featurizer
from septet.parts.learning.linear import Linear
from septet.testing.contract import Check, check_method
from septet.testing.scripted import drive, seat

POOL = SeatPool((seat("small"), seat("large")))


@pytest.mark.parametrize("check", check_method(RouteThenEscalate), ids=str)
def test_it_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    check(tmp_path)


def dossier(price: Priced = FREE, level: float = 0.5) -> State:
    """The case of 2.15 with costs 1 and 10, confidence being e^(mean logp). The router expects `level` of the small
    member and .9 of the large one, which at a price of .05 leaves .45 and .4."""
    quality = np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    cost = np.array([[1.0, 10.0]] * 4)
    forth = sweep(0, 1, np.array([0.9, 0.8, 0.4, 0.2]), quality, cost)
    never = Curve(1, 0, np.array([-np.inf]), np.array([0.75]), np.array([10.0]))
    logits = np.log(np.array([level / (1 - level), 9.0]))
    return State(
        Featurizer.of("task", ["?"], ["t"]),
        Linear(np.zeros((1, 2)), logits),
        None,
        cost[0],
        "usd",
        (forth, never),
        price,
        0.0,
        0.0,
    )


def said(logp: float, member: str = "small") -> Completion:
    return Completion(member=member, text="It is so.", tokens=Tokens((b"x",), np.array([logp])))


def run(
    small: Any, price: float | None, state: State | None = None, large: Any = None
) -> tuple[Verdict, list[str]]:
    method = RouteThenEscalate(features="task", confidence_from="logp")
    asked = Query.of("?", prefer=price)
    plan = method.plan(asked, POOL, state or dossier(), np.random.default_rng(0))
    verdict, yielded = drive(plan, {"small": small, "large": large or said(-0.1, "large")})
    return verdict, [a.to.name for items in yielded for a in items if isinstance(a, Ask)]


def test_a_confident_first_answer_stands() -> None:
    # at .05 handing on pays (.1 per unit): everything below .8
    verdict, asked = run(said(np.log(0.85)), 0.05)
    assert (asked, verdict.chosen) == (["small"], 0)
    assert verdict.reason == (
        "expected quality: small 0.50, large 0.90; at a price of 0.05 small was asked first; confidence 0.85 ≥ 0.80"
    )


def test_below_the_threshold_of_the_price_the_second_member_answers() -> None:
    verdict, asked = run(said(np.log(0.5)), 0.05)
    assert (asked, verdict.chosen) == (["small", "large"], 1)
    assert verdict.reason.endswith("confidence 0.50 < 0.80; large was asked")


def test_where_escalation_is_not_worth_its_price_nobody_else_is_asked() -> None:
    # .25 of quality for 2.5 is .1 per unit: above that price it does not pay
    assert run(said(np.log(0.01)), 0.11)[1] == ["small"]


def test_at_no_price_the_router_begins_with_the_best_member() -> None:
    verdict, asked = run(said(0.0), 0.0)
    assert (asked, verdict.chosen) == (["large"], 0)


def test_the_shadow_price_of_the_budget_is_taken_where_the_request_states_none() -> None:
    state = dossier(Priced(cheap=0.11, dear=0.05, share=0.5))
    asked = set()
    for seed in range(8):
        method = RouteThenEscalate(features="task", confidence_from="logp")
        plan = method.plan(Query.of("?"), POOL, state, np.random.default_rng(seed))
        _, yielded = drive(plan, {"small": said(np.log(0.5)), "large": said(0.0)})
        asked.add(len(yielded))
    assert asked == {1, 2}


def test_an_answer_of_unknown_probability_is_handed_on() -> None:
    unknown = Completion(member="small", text="It is so.")
    assert run(unknown, 0.05)[1] == ["small", "large"]


def test_if_the_first_member_fails_the_other_answers_and_is_not_asked_twice() -> None:
    verdict, asked = run(BackendError("down"), 0.05)
    assert (asked, verdict.chosen) == (["small", "large"], 0)
    assert "small failed; at a price of 0.05 large was asked first" in verdict.reason
    with pytest.raises(NoCandidate, match="small: down; large: down"):
        run(BackendError("down"), 0.05, large=BackendError("down"))


def test_if_the_second_member_fails_the_first_answer_stands() -> None:
    verdict, asked = run(said(np.log(0.5)), 0.05, large=BackendError("down"))
    assert (asked, verdict.chosen) == (["small", "large"], 0)
    assert verdict.reason.endswith("large was asked, which failed")


# --- the fit -------------------------------------------------------------------------------------------

GOOD, BAD = "The sky is blue.", "The sky is"


def told(n: int = 160) -> Table:
    """The router can tell sums, on which the small member is always right, from riddles, on which it is right in one
    of three; its answer shows whether it is. The large one is always right."""
    rows = []
    for i in range(n):
        task = "sum" if i % 2 else "riddle"
        for member, right, usd in (("small", task == "sum" or i % 6 == 0, 1.0), ("large", True, 10.0)):
            rows.append(
                {
                    "query": f"{task} {i}",
                    "task": task,
                    "model": member,
                    "response": GOOD if right else BAD,
                    "score": float(right),
                    "cost_usd": usd,
                }
            )
    return Table.of(rows)


def fitted(**parameters: Any) -> State:
    state, _ = drive(
        RouteThenEscalate(features="task", **parameters).fit(told(), {}, np.random.default_rng(0)), {}
    )
    assert isinstance(state, State)
    return state


def test_router_and_escalation_are_fitted_together() -> None:
    method, state = RouteThenEscalate(features="task"), fitted()

    def asked(task: str, small: str, price: float) -> list[str]:
        query = Query.of(f"{task} 9", task=task, prefer=price)
        plan = method.plan(query, POOL, state, np.random.default_rng(0))
        _, yielded = drive(plan, {"small": small, "large": GOOD})
        return [a.to.name for items in yielded for a in items if isinstance(a, Ask)]

    # a riddle: ⅔ more of quality for 9 more is worth it below .074, and at once, since the first answer is sunk cost
    assert asked("riddle", BAD, 0.04) == ["large"]
    assert asked("sum", GOOD, 0.04) == ["small"]
    # at .08 the small member begins; its bad answer is handed on, for .1 per unit
    assert asked("riddle", BAD, 0.08) == ["small", "large"]
    assert asked("riddle", GOOD, 0.08) == ["small"]
    assert asked("riddle", BAD, 0.2) == ["small"]


def test_a_budget_is_met_on_the_questions_that_were_held_out() -> None:
    found = [fitted(budget_usd=b) for b in (2.0, 4.0)]
    assert [f.spent for f in found] == pytest.approx([2.0, 4.0], abs=0.01)
    assert found[0].score < found[1].score


def test_without_a_budget_the_quality_is_the_best_there_is() -> None:
    assert (fitted().score, fitted().price) == (1.0, FREE)


def test_curves_hold_only_what_is_best_at_some_price() -> None:
    (forth,) = [c for c in fitted().pairs if (c.first, c.second) == (0, 1)]
    assert forth.quality[-1] == 1.0  # handing on what looks bad, for 10 each
    assert shadow_price(forth).tolist() == pytest.approx([0.1] * (len(forth.cost) - 1))


def test_budgets_that_cannot_be_kept_are_refused() -> None:
    with pytest.raises(BadParameter, match="must be at least 1, the least"):
        fitted(budget_usd=0.5)
    rows = [
        {"query": f"q{i}", "model": m, "response": "x", "score": 1.0} for i in range(20) for m in ("a", "b")
    ]
    with pytest.raises(BadParameter, match="cost_usd for every answer"):
        drive(RouteThenEscalate(budget_usd=1.0).fit(Table.of(rows), {}, np.random.default_rng(0)), {})


def test_the_state_survives_saving_with_and_without_a_scorer() -> None:
    for state in (fitted(budget_usd=2.0), replace(fitted(), scorer=None)):
        again: State = unpack(State, *pack(state))
        assert again.price == state.price
        assert (again.scorer is None) == (state.scorer is None)
        assert [c.first for c in again.pairs] == [c.first for c in state.pairs]
        np.testing.assert_array_equal(again.pairs[0].threshold, state.pairs[0].threshold)


def test_log_probabilities_are_needed_only_where_they_are_read() -> None:
    assert RouteThenEscalate().needs() == Caps(text=True)
    assert RouteThenEscalate(confidence_from="logp").needs() == Caps(text=True, logprobs=True, topk=1)
