"""examples/configs/after.toml: every method that combines complete answers, from the command line."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from septet.cli import main
from septet.core.facets import Family
from septet.engine import catalogue

pytestmark = [pytest.mark.local, pytest.mark.timeout(900)]  # the models take long where others work, too

PATH = Path(__file__).resolve().parents[2] / "examples" / "configs" / "after.toml"

CONFIG = tomllib.loads(PATH.read_text(encoding="utf-8"))


SERVE_UNFITTED = dict.fromkeys(
    ("nearest", "sure", "switching", "student", "alone", "reviewed", "blended"), "fits"
)
"""Trained methods of which these variants serve before anything was learned."""


def trained(method: str) -> bool:
    return catalogue.get("methods", method).card.trained


def test_every_method_of_the_catalogue_has_an_example() -> None:
    named = {e["method"] for e in CONFIG["ensembles"].values()}
    after = (Family.NONCASCADE, Family.CASCADE)
    known = catalogue.entries("methods")
    assert named == {n for n in known if catalogue.get("methods", n).card.facets.family in after}


def test_all_of_them_fit_their_pools(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ("--set", f"store.path={tmp_path}/after.db")
    main(["check", "-c", str(PATH), *settings, "--json"])
    found = {e["ensemble"]: e["status"] for e in json.loads(capsys.readouterr().out)}
    wanted = {n: "not fitted" if trained(e["method"]) else "fits" for n, e in CONFIG["ensembles"].items()}
    assert found == {**wanted, **SERVE_UNFITTED}


ASKED = [n for n, e in CONFIG["ensembles"].items() if n != "coder" and not trained(e["method"])]
"""Those that learn nothing beforehand, less the coder: a conversation of twenty answers takes two minutes."""


@pytest.mark.parametrize("name", ASKED)
def test_it_answers(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that learn nothing beforehand; the others are fitted and asked on toys by the contract suite."""
    settings = ("--set", f"store.path={tmp_path}/after.db")
    asked = ["ask", "-c", str(PATH), "-e", name, "--json", *settings, "What is the capital of France?"]
    assert main(asked) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["text"].strip()
    assert answer["usage"]["completion_tokens"] > 0
