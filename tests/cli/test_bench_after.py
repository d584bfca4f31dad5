"""`septet bench after` from the command line, on a handful of recorded answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from septet.cli import main


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    path = tmp_path / "sums.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for i in range(12):
            for name in ("ada", "bob", "cyd"):
                right = name == "ada" or i % 2 == 0
                row = {
                    "query_id": f"q{i}",
                    "query": f"What is {i}+1?",
                    "task": "sums",
                    "split": "train" if i < 6 else "test",
                    "model": name,
                    "response": f"It is {i + 1 if right else i + 50}.",
                    "score": float(right),
                    "cost_usd": 0.001,
                }
                file.write(json.dumps(row) + "\n")
    return path


def test_it_prints_a_table_and_writes_the_page_and_the_record(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["bench", "after", "--data", str(recorded), "--out", str(tmp_path / "out"), "--draws", "50"]
    chosen = ["--method", "agent-forest", "--method", "mixture-of-agents"]
    kept = ["--html", str(tmp_path / "page.html"), "--save", str(tmp_path / "kept")]
    assert main([*asked, *chosen, *kept]) == 0
    said = capsys.readouterr().out
    assert "agent-forest:samples=1" in said
    assert "– sums, mixture-of-agents: not played: the role fuser (text)" in said
    assert "Methods on recorded answers" in (tmp_path / "page.html").read_text("utf-8")
    record = json.loads((tmp_path / "kept" / "after-sums.json").read_text("utf-8"))
    assert record["missing"] == [{"method": "mixture-of-agents", "missing": "the role fuser (text)"}]
    # half of the test questions: bob and cyd agree on a wrong answer there, and are two of three
    assert record["routers"][0]["quality"]["value"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "say either with --data which recorded answers, or with --task what to ask live"),
        (["--data", "x", "--task", "gsm8k"], "say either with --data"),
        (["--data", "no/such/file.jsonl"], "unknown set of answers"),
        (["--data", "{recorded}", "--method", "eagle"], "must combine complete answers"),
        (["--data", "{recorded}", "--method", "mbr:samples=0"], "mbr.samples"),
        (["--data", "{recorded}", "--method", "mbrr"], "did you mean 'mbr'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(
    arguments: list[str], said: str, recorded: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = [a.replace("{recorded}", str(recorded)) for a in arguments]
    assert main(["bench", "after", *given, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
