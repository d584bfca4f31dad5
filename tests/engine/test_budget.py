"""The price of cost that keeps a budget: on a table whose best choices are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from septet.core.errors import ConfigError
from septet.core.money import Price
from septet.core.table import Table
from septet.engine.budget import CrossFitted, folds, recorded_usd
from septet.methods.a1_pretrained.benchmark_routing import BenchmarkRouting
from septet.parts.routing.records import Known

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def table(groups: bool = False, **columns: Any) -> Table:
    """Sums, which both can do, and stories, which only the dear one can: $1 and $10 per 1000."""
    rows = []
    for kind, cheap in (("add the numbers", 1.0), ("tell a story about", 0.0)):
        for i, number in enumerate(NUMBERS * 2):
            for model, score, usd in (("cheap", cheap, 0.001), ("dear", 1.0, 0.010)):
                row = {"query": f"{kind} {number} {i}", "model": model, "score": score, "cost_usd": usd}
                rows.append({**row, **({"group": kind} if groups else {}), **columns})
    return Table.of(rows)


def fitted(budget_free: Table | None = None) -> CrossFitted:
    known = Known.of(budget_free or table())
    return CrossFitted(BenchmarkRouting(k=5), known, None, [None, None], 0)


def test_without_a_tight_budget_quality_alone_decides() -> None:
    router = fitted()
    assert router.prefer_for(0.010) == 0.0
    assert router.forecast(0.0).quality.value == 1.0


def test_a_budget_between_the_members_is_spent_where_it_helps() -> None:
    # half the questions need the dear one: (1 + 10) / 2 = 5.5 per 1000
    router = fitted()
    prefer = router.prefer_for(0.0056)
    expected = router.forecast(prefer)
    assert expected.quality.value == 1.0
    assert expected.usd.value == pytest.approx(0.0055)
    assert expected.shares == {"cheap": 0.5, "dear": 0.5}


def test_the_forecast_is_made_on_questions_that_were_not_fitted() -> None:
    router = fitted()
    index = np.sort(np.concatenate([fold.index for fold in router.folds]))
    assert index.tolist() == list(range(40))
    for fold in router.folds:
        assert len(fold.state.rows) == 40 - len(fold.index)


def test_a_budget_below_the_cheapest_choices_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"cheapest choices of benchmark-routing cost \$1"):
        fitted().prefer_for(0.0005)


def test_the_json_says_what_is_expected_of_1000_requests() -> None:
    said = fitted().forecast(0.0).json()
    assert said["usd_per_1k"] == pytest.approx(
        1000 * said["shares"]["dear"] * 0.010 + said["shares"]["cheap"]
    )
    assert (said["n"], said["folds"]) == (40, 5)


def test_groups_stay_together_unless_there_are_too_few() -> None:
    grouped = Known.of(table(groups=True))
    assert len(folds(grouped, np.random.default_rng(0))) == 5  # two groups cannot be five folds
    rows = [{"query": f"q{i}", "model": "a", "score": 1.0, "group": f"g{i % 7}"} for i in range(21)]
    for part in folds(Known.of(Table.of(rows)), np.random.default_rng(0)):
        assert len(part) % 3 == 0  # each of the seven groups has three questions


def test_cost_that_is_not_recorded_comes_from_the_price() -> None:
    rows = [
        {"query": f"q{i}", "model": "a", "score": 1.0, "prompt_tokens": 1000, "completion_tokens": 100}
        for i in range(2)
    ]
    known = Known.of(Table.of([*rows, {"query": "q2", "model": "a", "score": 1.0, "cost_usd": 0.5}]))
    usd = recorded_usd(known, [Price(usd_per_mtok_in=1.0, usd_per_mtok_out=10.0)])
    assert usd[:, 0] == pytest.approx([0.002, 0.002, 0.5])
    with pytest.raises(ConfigError, match="nothing says it for a"):
        recorded_usd(Known.of(Table.of(rows)), [None])
