"""The table and the record of a bench, from numbers that stand here."""

from __future__ import annotations

import json
from pathlib import Path

from septet.bench.live import Measured, Results
from septet.bench.report import COLUMNS, record, rows, save, versions
from septet.parts.stats.intervals import Estimate
from septet.tasks import loader

RESULTS = Results(
    measured=(
        Measured(
            ensemble="vote",
            method="agent-forest",
            parameters={"samples": 3},
            members=("ada", "bob"),
            state=0,
            task="toy-sums",
            accuracy=Estimate(0.8, 0.49, 0.943, 10),
            usd=0.00125,
            seconds=1.5,
            prompt_tokens=120,
            completion_tokens=30,
            truncated=1,
            unread=2,
            failed=0,
        ),
    ),
    tasks=(loader.load("toy-sums", 10),),
    seed=3,
)


def test_a_row_has_a_cell_per_column() -> None:
    (row,) = rows(RESULTS)  # no member was asked, so there is neither a difference nor an oracle
    assert dict(zip(COLUMNS, row, strict=True)) == {
        "task": "toy-sums",
        "ensemble": "vote",
        "method": "agent-forest",
        "n": "10",
        "score": "0.800",
        "95 % interval": "0.490 – 0.943",
        "− best member": "",
        "usd": "0.001250",
        "s/question": "1.50",
        "cut off": "1",
    }


def test_the_record_has_numbers_and_provenance_and_no_texts() -> None:
    made = record(RESULTS, made="2026-01-02")
    assert (made["seed"], made["made"]) == (3, "2026-01-02")
    assert made["tasks"][0] | {"data": ""} == {
        "name": "toy-sums",
        "version": "1",
        "licence": "Apache-2.0",
        "questions": 10,
        "max_tokens": 24,
        "data": "",
    }
    measured = made["measured"][0]
    assert (measured["accuracy"]["low"], measured["parameters"]) == (0.49, {"samples": 3})
    assert "septet" in made["packages"]
    assert "What is" not in json.dumps(made)


def test_a_package_that_is_not_installed_is_left_out() -> None:
    assert list(versions(("septet", "no-such-package-anywhere"))) == ["septet"]


def test_a_saved_record_replaces_an_older_one(tmp_path: Path) -> None:
    file = tmp_path / "new" / "run.json"
    for made in ("2026-01-02", "2026-01-03"):
        save(RESULTS, file, made=made)
    assert json.loads(file.read_text(encoding="utf-8")) == json.loads(
        json.dumps(record(RESULTS, made="2026-01-03"))
    )
    assert [f.name for f in file.parent.iterdir()] == ["run.json"]
