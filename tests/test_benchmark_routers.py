"""The benchmark of routers on a few rows: it runs, and prints every aim; how long anything takes is not asserted."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


def test_every_part_is_measured_and_the_aims_stand_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    assert import_module("routers").main(["--quick", "--json", str(tmp_path / "out.json")]) == 0
    section = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["routers"]
    aims = {f["what"]: f["aim"] for f in section["figures"] if f["aim"]}
    assert aims["kNN ÷ scikit-learn's kNN"] == 1.0
    assert aims["clusters (avengers) ÷ scikit-learn's kNN"] == 0.1
    assert aims["table of tasks (bench-coe) ÷ scikit-learn's kNN"] == 0.1
    assert aims["septet-router, from text to choice"] == 3.0
    assert aims["100 prices of cost ÷ one, 20 questions"] == 3.0
    assert {what for what in aims if "grow" in what} == {
        f"{what} grows by ÷ {of} grow by"
        for what in ("one decision: time", "memory")
        for of in ("rows, 200 → 400", "members, 4 → 8")
    }
    assert not section["notes"]
    assert "≤ 0.1" in capsys.readouterr().out


def test_a_router_that_is_not_there_is_skipped_aloud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    module = import_module("routers")
    gone = module.Contender.of("no-such-router")
    monkeypatch.setattr(module, "routers", lambda: {"kNN": gone})
    figures, notes = module.decisions(module.QUICK)
    assert figures == []
    assert notes[0].startswith("SKIPPED kNN: unknown method 'no-such-router'")
