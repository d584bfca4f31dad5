"""examples/configs/during.toml: every method that combines models while they write answers, from the command line."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from septet.cli import main
from septet.core.facets import Family
from septet.engine import catalogue

pytestmark = [pytest.mark.local, pytest.mark.timeout(900)]  # the models take long where others work, too

PATH = Path(__file__).resolve().parents[2] / "examples" / "configs" / "during.toml"

CONFIG = tomllib.loads(PATH.read_text(encoding="utf-8"))

DURING = (Family.TOKEN, Family.SPAN, Family.PROCESS)


def methods_of(families: tuple[Family, ...]) -> set[str]:
    return {
        name
        for name in catalogue.entries("methods")
        if catalogue.get("methods", name).card.facets.family in families
    }


def test_every_method_of_the_catalogue_has_an_example() -> None:
    named = {e["method"] for e in CONFIG["ensembles"].values()}
    assert named == methods_of(DURING)


@pytest.mark.parametrize("name", [n for n, e in CONFIG["ensembles"].items() if e["method"] != "eva"])
def test_it_answers(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All but eva, whose first use takes ten minutes; its own tests ask it where it is ready."""
    if catalogue.get("methods", CONFIG["ensembles"][name]["method"]).card.trained:
        pytest.skip("it is fitted first, as its own tests do")
    mixture = CONFIG["ensembles"][name].get("schedule") == "mixture"
    sampled = ["--temperature", "1"] if mixture else []
    question = "What is the capital of France? Answer briefly."
    asked = ["ask", "-c", str(PATH), "-e", name, question, "--json", "--max-tokens", "6", *sampled]
    assert main([*asked, "--set", f"store.path={tmp_path}/during.db"]) == 0, capsys.readouterr().err
    answer = json.loads(capsys.readouterr().out)
    assert answer["text"].strip()
