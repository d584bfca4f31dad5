"""The conformal gate: its bound and its scan by hand, its guarantee by simulation, and what the fit keeps."""

from __future__ import annotations

import numpy as np
import pytest

from septet.core.errors import BadParameter
from septet.core.state import pack, unpack
from septet.core.table import Table
from septet.methods.a1_pretrained.conformal_gate import ConformalGate, Gate, lowest_safe
from septet.parts.routing.calibrate import upper_bound

RNG = np.random.default_rng


def outcomes(n: int, weak_is_right: bool = True) -> Table:
    rows = []
    for i in range(n):
        kind = "prove" if i % 2 else "add"
        for model, right in (("weak", kind == "add" and weak_is_right), ("strong", True)):
            rows.append({"query": f"{kind} number {i}", "model": model, "score": float(right)})
    return Table.of(rows)


def chosen(gate: ConformalGate, state: Gate, texts: list[str]) -> list[int]:
    q = gate.utility(state.featurizer.rows(texts), state)
    n = len(texts)
    found = gate.choose(q, np.full((n, 2), np.nan), np.zeros(n), state, RNG(0)).weights.argmax(axis=1)
    return [int(i) for i in found]


def test_two_and_five_wrong_ones_in_a_hundred() -> None:
    assert upper_bound(2, 100, 0.05) == pytest.approx(0.0616, abs=5e-5)
    assert upper_bound(5, 100, 0.05) == pytest.approx(0.1023, abs=5e-5)


def test_the_scan_stops_at_the_first_threshold_that_fails() -> None:
    # of 100 at .9 two are wrong (0.0616), of the 100 more at .8 twenty: 22 in 200 fail at 0.1; that all 2,000
    # at .1 are right would bring the bound down again, but the scan does not get there
    s = np.repeat([0.9, 0.8, 0.1], [100, 100, 2000])
    right = np.ones(2200)
    right[:2] = right[100:120] = 0.0
    t, routed, wrong, bound = lowest_safe(s, right, np.array([0.9, 0.8, 0.1]), alpha=0.1, delta=0.05)
    assert (t, routed, wrong) == (0.9, 100, 2)
    assert bound == pytest.approx(0.0616, abs=5e-5)
    assert upper_bound(22, 2200, 0.05) < 0.1


def test_the_scan_starts_where_the_bound_could_hold() -> None:
    # with alpha 0.05 it takes 59 right answers: the ten at .9 alone prove nothing, and are passed over
    s = np.repeat([0.9, 0.8], [10, 90])
    assert lowest_safe(s, np.ones(100), np.array([0.9, 0.8]), alpha=0.05, delta=0.05)[:3] == (0.8, 100, 0)


def test_if_the_first_fails_nothing_is_routed() -> None:
    found = lowest_safe(np.full(100, 0.9), np.zeros(100), np.array([0.9]), alpha=0.1, delta=0.05)
    assert found == (float("inf"), 0, 0, 1.0)


def test_the_violation_rate_exceeds_alpha_as_rarely_as_promised() -> None:
    # s is the true chance to be right; 100 draws of a calibration set of 300, δ = 0.1
    rng, thresholds, above = RNG(0), np.linspace(0.7, 0.1, 7), 0
    for _ in range(100):
        s = rng.random(300)
        right = (rng.random(300) < s).astype(float)
        t, routed, _, _ = lowest_safe(s, right, thresholds, alpha=0.3, delta=0.1)
        # of uniform s ≥ t, (1 − t) / 2 are wrong on average
        above += bool(routed) and (1 - t) / 2 > 0.3
    assert above / 100 <= 0.1


def test_the_weak_member_answers_what_it_is_safe_on() -> None:
    gate = ConformalGate(alpha=0.1)
    state = gate.fit(outcomes(400), {}, RNG(0))
    asked = np.array(chosen(gate, state, list(outcomes(400).questions)))
    assert (asked[::2] == 0).mean() > 0.5  # sums
    assert (asked[1::2] == 1).all()  # proofs
    assert 0 < state.bound <= 0.1
    assert state.violations == 0


def test_a_weak_member_that_is_never_right_gets_nothing() -> None:
    gate = ConformalGate(alpha=0.1)
    state = gate.fit(outcomes(200, weak_is_right=False), {}, RNG(0))
    assert (state.routed, state.threshold) == (0, 0.0)
    assert chosen(gate, state, ["add number 7", "prove number 8"]) == [1, 1]


def test_a_threshold_counts_the_questions_that_are_exactly_on_it() -> None:
    # weak where s ≥ t: a question with s = t is routed, as it was in the calibration
    gate = ConformalGate(alpha=0.5, l2=0.0)
    everything = Table.of(
        {"query": f"add {i}", "model": m, "score": 1.0} for i in range(100) for m in ("weak", "strong")
    )
    state = gate.fit(everything, {}, RNG(0))
    assert state.routed == 30  # three in ten are the calibration, and all have the same s
    assert chosen(gate, state, ["add 5", "add 6"]) == [0, 0]


def test_the_state_survives_saving() -> None:
    gate = ConformalGate()
    state = gate.fit(outcomes(100), {}, RNG(0))
    again = unpack(Gate, *pack(state))
    x = state.featurizer.rows(["add number 7"])
    np.testing.assert_array_equal(gate.utility(x, again), gate.utility(x, state))
    assert again.threshold == state.threshold


def test_a_table_in_which_the_weak_member_answered_nothing_is_refused() -> None:
    rows = [
        {"query": f"q{i}", "model": m, "score": s}
        for i in range(3)
        for m, s in (("weak", None), ("strong", 1.0))
    ]
    with pytest.raises(BadParameter, match="weak member answered"):
        ConformalGate().fit(Table.of(rows), {}, RNG(0))
