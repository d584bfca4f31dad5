"""`septet bench bits`: members and their byte-exact mixtures on texts, as a table and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Run


@pytest.fixture
def texts(folder: Path) -> tuple[str, str]:
    (folder / "scored.jsonl").write_text(
        '{"text": "In France it is Paris"}\n{"text": "So it is Paris then"}\n'
    )
    (folder / "fit.txt").write_text("I think it is Paris")
    return "prose=scored.jsonl", "prose=fit.txt"


def test_members_and_mixtures_are_scored_and_the_record_holds_no_texts(
    run: Run, folder: Path, texts: tuple[str, str]
) -> None:
    scored, fit = texts
    ran = run(
        "bench",
        "bits",
        "-m",
        "fused",
        "-t",
        scored,
        "--fit",
        fit,
        "--context",
        "4",
        "--save",
        "b.json",
        "--json",
    )
    assert ran.code == 0, ran.err
    assert [line["model"] for line in ran.json["lines"]] == [
        "ada",
        "bob",
        "arithmetic, uniform",
        "arithmetic, fitted",
        "geometric, uniform",
        "geometric, fitted",
    ]
    assert all(line["n_documents"] == 2 and line["bits"]["value"] > 0 for line in ran.json["lines"])
    saved = (folder / "b.json").read_text()
    assert json.loads(saved)["members"] == ["ada", "bob"]
    assert "France" not in saved


def test_the_table_has_a_row_per_model_and_says_how_fast_it_was(run: Run, texts: tuple[str, str]) -> None:
    lines = run("bench", "bits", "-m", "ada", "-t", texts[0], "--context", "4").out.splitlines()
    assert lines[0].split()[:2] == ["text", "model"]
    assert lines[1].split()[:2] == ["prose", "ada"]
    assert "bytes a second" in lines[-1]


def test_a_member_that_shows_only_its_best_tokens_is_refused(run: Run, texts: tuple[str, str]) -> None:
    ran = run("bench", "bits", "-m", "mute", "-t", texts[0])
    assert ran.code == 2
    assert "mute does not offer full distributions" in ran.err


def test_a_text_that_is_not_there_is_named(run: Run) -> None:
    ran = run("bench", "bits", "-m", "ada", "-t", "missing.txt")
    assert ran.code == 2
    assert "cannot read the text missing.txt" in ran.err
