"""Feedback from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Run
from .test_fit import ELO, outcomes


def test_a_score_is_kept_and_an_online_method_learns(run: Run, folder: Path):
    assert run("fit", "elo", "--data", str(outcomes(folder)), *ELO).code == 0
    trace = run("ask", "-e", "elo", *ELO, "What is 2+3?", "--json").json["trace_id"]
    ran = run("feedback", trace, "--score", "1", *ELO)
    assert (ran.code, ran.out) == (0, "kept, about ada in elo; learned: the state is now version 2\n")
    again = run("feedback", trace, "--score", "1", *ELO)
    assert again.code == 2
    assert "rated before" in again.err


def test_a_comparison_teaches_too(run: Run, folder: Path):
    assert run("fit", "elo", "--data", str(outcomes(folder)), *ELO).code == 0
    fight = ("-e", "elo", "--query", "What is 2+3?", "--winner", "bob", "--loser", "ada")
    assert run("feedback", *fight, *ELO, "--json").json == {"ensemble": "elo", "member": "bob", "version": 2}


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("abc",),
        ("--score", "1"),
        ("abc", "--score", "1", "-e", "elo", "--query", "q", "--winner", "ada", "--loser", "bob"),
    ],
)
def test_it_wants_either_a_score_or_a_comparison(run: Run, arguments: tuple[str, ...]):
    ran = run("feedback", *arguments, *ELO)
    assert ran.code == 2
    assert "give an ID and --score, or a comparison" in ran.err
