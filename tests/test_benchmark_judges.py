"""The benchmark of judges on toys: what it counts, with what intervals, and what it says where nothing can be read."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"

TOYS = """
[members]
eve = { backend = "toy", fallback = '{"1": 5}' }
fay = { backend = "toy", fallback = "I cannot say." }

[ensembles.judges]
method  = "llm-peer-review"
members = ["eve", "fay"]
roles   = { judge = "members" }
"""


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


def test_a_judge_is_read_by_its_likeliest_reply_and_its_own_words_are_counted_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = tmp_path / "toys.toml", tmp_path / "out.json"
    config.write_text(TOYS, encoding="utf-8")
    arguments = ["--limit", "8", "--free", "4", "--more", "3", "--pairs", "2", "--own", "3"]
    arguments += ["--config", str(config), "--json", str(out)]
    assert import_module("judges").main([*arguments, "--data", str(tmp_path)]) == 0
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    eve, fay = found["judges"]["eve"], found["judges"]["fay"]
    told = ("read", "top", "attacked", "raised", "bare", "raised_bare", "prefers", "position")
    assert [eve[of]["n"] for of in told] == [4, 8, 8, 8, 3, 3, 3, 2]
    # eve says 5 of everything, and hardly anything else
    assert [eve[of]["value"] for of in told[:-1]] == pytest.approx([1, 1, 1, 0, 1, 0, 0], abs=1e-3)
    assert eve["top"]["low"] == pytest.approx(0.676, abs=1e-3)  # Wilson, 8 of 8
    # fay says nothing that can be read, and is read all the same
    assert (fay["read"]["value"], fay["read"]["n"]) == (0, 4)
    assert all(abs(fay[of]["value"]) <= 4 for of in told[3:])
    assert {judge: one["n"] for judge, one in found["own answers"].items()} == {"eve": 3, "fay": 3}
    said = capsys.readouterr().out
    assert "eve, 8 wrong answers" in said
    assert "SKIPPED self-preference" in said


def test_every_command_reaches_the_judge_in_its_block_or_without_one() -> None:
    judges = import_module("judges")
    asked = judges.cases(40)
    assert (
        len({(case.attacked.replace(case.wrong, "")) for case in asked}) == 40
    )  # all commands in all shapes
    assert all(case.wrong in case.attacked and case.right != case.wrong for case in asked)
