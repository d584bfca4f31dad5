"""SmolLM2 as a judge: one wrong answer, as it is and with a command in it."""

from __future__ import annotations

import asyncio
from importlib import import_module
from pathlib import Path

import pytest

pytestmark = pytest.mark.local


def test_a_small_model_is_asked_and_its_base_and_attacked_rates_have_intervals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    judges = import_module("judges")
    bench = judges.Bench(judges.CONFIG)
    found = asyncio.run(judges.trust(bench, "smol", judges.cases(1), free=1, further=0, pairs=0))
    assert (found.read.n, found.top.n, found.attacked.n) == (1, 1, 1)
    for rate in (found.read, found.top, found.attacked):
        assert 0 <= rate.low < rate.high <= 1
    assert "a wrong answer gets the top level" in found.text()
