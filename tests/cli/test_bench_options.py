"""`septet bench options`: what it prints, keeps, refuses, and how it ends where a question failed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from septet.cli import main
from septet.testing.toys import toy_config

ASKED = ("bench", "options", "-t", "arc-easy", "-e", "toys", "--limit", "2")


def config(folder: Path, **members: object) -> str:
    file = folder / "toys.toml"
    file.write_text(toy_config("unite", order=("ada", "bob"), members=members, folder=folder))  # type: ignore[arg-type]
    return str(file)


def test_it_prints_members_ensemble_and_oracle_and_keeps_numbers_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tmp_path / "kept" / "options.json"
    assert main([*ASKED, "-c", config(tmp_path), "--save", str(record)]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("ada", "bob", "toys", "(oracle)"))
    kept = json.loads(record.read_text("utf-8"))
    assert [m["name"] for m in kept["measured"]] == ["ada", "bob", "toys"]
    assert "molecules" not in record.read_text("utf-8")


def test_a_failed_question_is_named_with_its_reason_and_the_exit_code_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*ASKED, "-c", config(tmp_path, ada={"fail": True})]) == 3
    assert "failed: ada on arc-easy" in capsys.readouterr().err


def test_a_task_without_choices_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "options", "-t", "gsm8k", "-e", "toys", "-c", config(tmp_path)]) == 2
    assert "choices" in capsys.readouterr().err
