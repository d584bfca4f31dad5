"""Post-hoc deferral by hand: targets of the estimators, thresholds, and where confidence misleads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from septet.core.errors import BadParameter
from septet.core.method import SeatPool
from septet.core.types import Completion, Query, Tokens
from septet.methods.c2_cascade.deferral import Deferral, Deferring
from septet.parts.deferral.calibrate import Isotonic, RiskControl
from septet.parts.deferral.post_hoc import Pairs, deferral_curve, targets, threshold_for_share, urgency
from septet.testing.contract import check_method
from septet.testing.scripted import drive, seat

POOL = SeatPool((seat("ada"), seat("bob")))


def test_the_targets_are_those_of_the_dossier() -> None:
    # the first is wrong, the second right; p1(y) = .2, p2(y) = .7, max p2 = .7, max p1 = .5
    one = Pairs(
        np.array([[0.5, 0.2, 0.3]]), np.array([[0.1, 0.7, 0.2]]), np.array([[0.0, 1.0]]), np.array([1])
    )
    assert [float(targets(kind, one)[0]) for kind in ("diff-01", "diff-prob", "max-prob")] == pytest.approx(
        [1, 0.5, 0.7]
    )
    assert float(urgency("max-prob", np.array([0.7]), one.first)[0]) == pytest.approx(0.2)


def test_gain_defers_the_question_that_the_second_can_solve_and_confidence_the_other() -> None:
    # chances of being right: x1 (.6, .6), x2 (.7, .95)
    first = np.array([[0.6, 0.4], [0.7, 0.3]])
    by_confidence = urgency("confidence", np.zeros(2), first)
    by_gain = urgency("diff-prob", np.array([0.6 - 0.6, 0.95 - 0.7]), first)
    assert by_confidence.argmax() == 0
    assert by_gain.argmax() == 1


def test_the_threshold_defers_the_wanted_share() -> None:
    score = np.array([0.1, 0.4, 0.2, 0.3])
    assert (score > threshold_for_share(score, 0.5)).sum() == 2
    curve = deferral_curve(np.array([0.9, 0.1]), np.array([0.0, 1.0]), np.array([1.0, 0.0]))
    assert curve.quality.tolist() == [0.5, 1.0, 0.5]  # none deferred, the right one, both


def test_an_answer_with_doubt_above_the_threshold_is_deferred() -> None:
    top = ((b"A", float(np.log(0.6))), (b"B", float(np.log(0.4))))
    said = Completion(member="ada", text="A", tokens=Tokens((b"A",), np.log([0.6]), (top,)))
    for threshold, chosen in ((0.3, 1), (0.4, 0)):
        state = Deferring(threshold, None, ("A", "B"), 2)
        plan = Deferral(estimator="confidence").plan(Query.of("?"), POOL, state, np.random.default_rng(0))
        verdict, _ = drive(plan, {"ada": said, "bob": "B"})
        assert verdict.chosen == chosen


def test_a_share_and_a_budget_contradict_each_other() -> None:
    with pytest.raises(BadParameter):
        Deferral(defer_share=0.5, budget_usd=0.1)


def test_calibrators_keep_order_and_risk_control_keeps_its_promise() -> None:
    fitted = Isotonic.fit(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.0, 1, 0, 1]))
    assert (np.diff(fitted.p(np.linspace(0, 1, 50))) >= 0).all()
    rng, risks = np.random.default_rng(0), []
    for _ in range(200):
        raw = rng.random(400)
        loss = (rng.random(400) > raw).astype(float)  # as sure as it is right
        control = RiskControl.fit(raw[:200], loss[:200])
        accepted = raw[200:] >= control.threshold(0.2)
        risks.append(float((loss[200:] * accepted).mean()))
    # the promise holds in expectation: 200 splits have a standard error of .002
    assert 0.15 < np.mean(risks) < 0.2 + 0.005


@pytest.mark.parametrize("check", check_method(Deferral), ids=str)
def test_deferral_keeps_the_contract(check: Any, tmp_path: Any) -> None:
    check(tmp_path)
