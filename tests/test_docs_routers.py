"""The tables of routers among the reproductions are made from the records, and from nothing else."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from septet.engine import catalogue

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def span(value: float | None, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high}


RECORD = {
    "table": "tiny",
    "sha256": "0123456789abcdef",
    "questions": 40,
    "members": ["a", "b"],
    "notes": ["cost is a proxy"],
    "bounds": [
        {"name": "oracle", "convention": "the best member", "split": "own", "n_test": 20}
        | {"quality": span(0.9, 0.8, 1.0), "usd": span(0.001)}
    ],
    "routers": [
        {"router": name, "variant": variant, "split": "own", "n_test": 20, "usd": span(usd)}
        | {"quality": span(quality, quality - 0.1, quality + 0.1)}
        | {"minus_best_single": span(0.02, -0.01, 0.05), "minus_reference": None}
        | {"metrics": {"QNC": {"value": 0.75, "low": 0.5, "high": "inf"}} if name == "nameless" else {}}
        for name, variant, quality, usd in (("eagle", "", 0.5, None), ("nameless", "k=16", 0.6, 0.002))
    ],
}

PUBLISHED = """
[[published]]
router = "eagle"
table = "tiny"
says = ".7 on half of it"
source = "2409.15518"

[[published]]
router = "eagle"
table = "another"
says = "not here"
source = "a talk"
"""


def test_a_record_becomes_a_table_of_bounds_and_routers_by_falling_quality(
    build: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "routers-tiny.json").write_text(json.dumps(RECORD), encoding="utf-8")
    (tmp_path / "published.toml").write_text(PUBLISHED, encoding="utf-8")
    lines = build.routers_section(tmp_path).strip().splitlines()
    assert lines[0] == "(oracle): the best member."
    assert lines[2] == "### tiny"
    assert lines[4] == "40 questions, 2 members, sha256 0123456789ab. Cost is a proxy."
    assert lines[8:] == [
        "| (oracle) | own | 20 | 0.900 [0.800, 1.000] | 1 |  |  |  |  |",
        "| nameless `k=16` | own | 20 | 0.600 [0.500, 0.700] | 2 | +0.020 [−0.010, +0.050] |  | 0.750 [0.500, ∞] |  |",
        "| [eagle](eagle.md) | own | 20 | 0.500 [0.400, 0.600] |  | +0.020 [−0.010, +0.050] |  |  |"
        " .7 on half of it ([arXiv 2409.15518](https://arxiv.org/abs/2409.15518)) |",
    ]


def test_the_page_keeps_what_was_written_by_hand_and_without_its_marks_it_is_refused(
    build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_hand = (ROOT / "docs" / "reproductions" / "README.md").read_text(encoding="utf-8")
    before = by_hand.partition(build.BEGIN)[0]
    assert build.reproductions_page().startswith(before)
    folder = tmp_path / "reproductions"
    folder.mkdir()
    (folder / "README.md").write_text("# Reproductions\n", encoding="utf-8")
    monkeypatch.setattr(build, "DOCS", tmp_path)
    with pytest.raises(ValueError, match="has lost the marks"):
        build.reproductions_page()


def test_what_is_published_names_routers_and_sources(build: ModuleType) -> None:
    import tomllib

    text = (ROOT / "docs" / "reproductions" / "published.toml").read_text(encoding="utf-8")
    bounds = {"best single (train)", "best single (test)", "random", "task oracle", "oracle", "reference kNN"}
    for entry in tomllib.loads(text)["published"]:
        assert set(entry) == {"router", "table", "says", "source"}
        assert entry["router"] in bounds or entry["router"] in catalogue.entries("methods"), entry["router"]


def test_the_records_hold_numbers_and_no_questions() -> None:
    for file in (ROOT / "docs" / "reproductions" / "results").glob("routers-*.json"):
        record = json.loads(file.read_text(encoding="utf-8"))
        assert not {"regrets", "question", "texts"} & set(record), file
        assert all("regrets" not in r and "question" not in r for r in record["routers"]), file
        assert len(record["sha256"]) == 64, file
