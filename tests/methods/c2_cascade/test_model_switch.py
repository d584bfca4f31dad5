"""ModelSwitch: when it switches, the weighted vote of the dossier, and external weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.errors import BackendError, BadParameter, NoCandidate
from septet.core.method import Ask, SeatPool
from septet.core.money import Load
from septet.core.table import Table
from septet.core.types import Completion, Query, Verdict
from septet.methods.c2_cascade.model_switch import ModelSwitch, Trust
from septet.testing.contract import Check, check_method
from septet.testing.scripted import drive, seat

POOL = SeatPool((seat("one"), seat("two")))
M1 = ["7", "7", "7", "5", "7"]
CUT = Completion(member="one", text="I was about to", finish="length")


@pytest.mark.parametrize("check", check_method(ModelSwitch), ids=str)
def test_it_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    check(tmp_path)


def run(said: Mapping[str, Any], state: Trust | None = None, **parameters: Any) -> tuple[Verdict, list[str]]:
    plan = ModelSwitch(samples=5, **parameters).plan(Query.of("?"), POOL, state, np.random.default_rng(0))
    verdict, yielded = drive(plan, dict(said))
    return verdict, [a.to.name for items in yielded for a in items if isinstance(a, Ask)]


def votes(verdict: Verdict) -> dict[str, float]:
    """Shares of the answers."""
    assert verdict.posterior is not None
    return dict(zip(verdict.posterior.classes, verdict.posterior.p.tolist(), strict=True))


def test_a_consistent_first_member_is_the_only_one_asked() -> None:
    verdict, asked = run({"one": ["7"] * 5, "two": ["5"] * 5})
    assert (asked, verdict.chosen, verdict.confidence) == (["one"], 0, 1.0)


def test_the_first_case_of_the_dossier() -> None:
    # W_α: .4225 and 1 → 7: 1.690, 5: 5.4225
    verdict, asked = run({"one": M1, "two": ["5"] * 5})
    assert asked == ["one", "two"]
    assert votes(verdict) == pytest.approx({"7": 1.690 / 7.1125, "5": 5.4225 / 7.1125}, abs=1e-4)
    assert verdict.chosen == 3  # the first sample that says 5


def test_the_second_case_of_the_dossier_where_a_plurality_ties() -> None:
    # W_α(m2) = .3080 → 7: 1.690, 5: .4225 + 3·.3080 = 1.3465, 3 and 2: .3080 each
    said = {"one": M1, "two": ["5", "5", "5", "3", "2"]}
    weighted, _ = run(said)
    total = 1.690 + 1.3465 + 2 * 0.3080
    assert votes(weighted) == pytest.approx(
        {"7": 1.690 / total, "5": 1.3465 / total, "3": 0.308 / total, "2": 0.308 / total}, abs=1e-4
    )
    assert weighted.chosen == 0
    plural, _ = run(said, vote="plurality")  # 4 : 4, and 7 was seen first
    assert votes(plural) == pytest.approx({"7": 0.4, "5": 0.4, "3": 0.1, "2": 0.1})
    assert plural.chosen == 0


def test_a_lower_threshold_keeps_the_first_member() -> None:
    assert run({"one": M1, "two": ["5"] * 5}, threshold=0.8)[1] == ["one"]
    assert run({"one": M1, "two": ["5"] * 5}, threshold=0.81)[1] == ["one", "two"]


def test_what_cannot_be_read_disagrees_and_does_not_vote() -> None:
    # four of five: .8 < 1, so two is asked; in the vote one says 7 alone, W_α = 1
    verdict, asked = run({"one": ["7", "7", CUT, "7", "7"], "two": ["5", "5", "5", "7", "5"]})
    assert asked == ["one", "two"]
    assert votes(verdict)["(truncated)"] == 0.0
    assert votes(verdict)["7"] > votes(verdict)["5"]  # 4 + .4225 : 4·.4225


def test_if_nothing_can_be_read_the_first_text_is_returned() -> None:
    verdict, _ = run({"one": [CUT], "two": [CUT]})
    assert verdict.chosen == 0


def test_external_weights_multiply_those_of_consistency() -> None:
    # 7: 1.690 · 4 = 6.76 > 5: .4225 · 4 + 5 = 6.69
    said = {"one": M1, "two": ["5"] * 5}
    assert run(said, Trust(np.array([4.0, 1.0])))[0].chosen == 0
    assert run(said, Trust(np.array([3.0, 1.0])))[0].chosen == 3  # 5.07 < 6.2675


def test_a_failed_member_is_passed_over() -> None:
    verdict, _ = run({"one": BackendError("down"), "two": ["5"] * 5})
    assert verdict.chosen == 0
    assert verdict.reason == "one failed, so two was asked; 1.00 ≥ 1.00 of two; '5' has the largest weight"
    with pytest.raises(NoCandidate, match="one: down; two: down"):
        run({"one": BackendError("down"), "two": BackendError("down")})


def outcomes(right: Mapping[str, float], n: int = 12) -> Table:
    """n questions, 5 samples: `one` says a four times and b once, `two` the other way round."""
    rows = []
    for i in range(n):
        for member in ("one", "two"):
            answers = ["a"] * 4 + ["b"] if member == "one" else ["b"] * 4 + ["a"]
            rows += [
                {"query": f"q{i}", "model": member, "sample_id": s, "answer": a, "score": right[a]}
                for s, a in enumerate(answers)
            ]
    return Table.of(rows)


def test_the_fit_trusts_the_member_that_is_right() -> None:
    # both have W_α = .4225 and 4 : 1 for their own answer: 4β₁ + β₂ against β₁ + 4β₂
    by_two = ModelSwitch().fit(outcomes({"a": 0.0, "b": 1.0}), {}, np.random.default_rng(0))
    assert by_two.beta.tolist() == [1.0, 2.0]
    by_one = ModelSwitch().fit(outcomes({"a": 1.0, "b": 0.0}), {}, np.random.default_rng(0))
    assert by_one.beta.tolist() == [1.0, 1.0]  # a tie goes to the answer seen first, so nothing need change


def test_a_fit_needs_scores() -> None:
    with pytest.raises(BadParameter, match="answers with a score"):
        ModelSwitch().fit(outcomes({"a": np.nan, "b": np.nan}), {}, np.random.default_rng(0))


def test_before_a_fit_everybody_weighs_1() -> None:
    assert ModelSwitch().begin(["one", "two"]).beta.tolist() == [1.0, 1.0]


def test_the_worst_case_is_every_sample_of_every_member() -> None:
    worst = ModelSwitch(samples=3).worst(Query.of("?", max_tokens=7), POOL)
    assert worst == {"one": Load(3, 3, 21), "two": Load(3, 3, 21)}
