"""Replays on the shared answers: bounds that the data README states, and rows of the page of answers, made again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.bench.after.contenders import Contender
from septet.bench.after.jobs import Job
from septet.bench.after.measured import measure
from septet.bench.after.sets import EVERY, names, open_answers

pytestmark = pytest.mark.data

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "reproductions" / "results"


@pytest.fixture(autouse=True)
def _there(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets are found by name."""
    monkeypatch.setenv("SEPTET_DATA", str(data))


def measured(of: str, method: str = "") -> dict[str, Any]:
    contender = Contender.of(method) if method else None
    return measure(Job(of, open_answers(of).recorded.sha256, contender, "own", 0, ""))


def test_every_part_has_members_answers_and_a_split() -> None:
    for of in EVERY:
        answers = open_answers(of)
        assert set(answers.table.splits) == {"train", "test"}, of
        assert answers.samples().min() >= 1, of


@pytest.mark.parametrize(
    ("of", "best", "oracle"),
    [("nq6", 0.4343, 0.5736), ("misguided", None, None), ("peerreview/gsm8k", 0.903, 0.952)],
)
def test_the_bounds_are_those_of_the_readme(of: str, best: float | None, oracle: float | None) -> None:
    found = {b["name"]: float(np.mean(b["quality"])) for b in measured(of)["bounds"]}
    assert found["random"] <= found["best single (train)"] <= found["oracle"]
    if best is not None:
        assert (found["best single (train)"], found["oracle"]) == pytest.approx((best, oracle), abs=6e-4)


@pytest.mark.parametrize(
    ("of", "method"), [("nq6", "agent-forest"), ("more_qa", "ow-isp"), ("mot_cascade/date", "mot-cascade")]
)
def test_rows_of_the_page_are_made_again(of: str, method: str) -> None:
    record = json.loads((RESULTS / f"after-{of.replace('/', '-')}.json").read_text("utf-8"))
    row = next(r for r in record["routers"] if r["method"] == method)
    found = measured(of, method)
    assert float(np.mean(found["quality"])) == pytest.approx(row["quality"]["value"], abs=1e-6)
    assert found["metrics"]["answers"] == row["metrics"]["answers"]


def test_a_set_by_name_is_all_its_parts() -> None:
    assert names("peerreview") == [f"peerreview/{t}" for t in ("trivia_qa", "gsm8k", "math", "alpaca")]
