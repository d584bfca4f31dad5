"""examples/configs/routers.toml: every router is fitted on the shipped outcomes and answers, from the command line."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import pytest

from septet.cli import main
from septet.core.facets import Family
from septet.engine import catalogue

EXAMPLES = Path(__file__).parents[1] / "examples"

CONFIG = tomllib.loads((EXAMPLES / "configs" / "routers.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration and the outcomes, where states and traces may be written."""
    folder = tmp_path_factory.mktemp("routers")
    for part in ("configs/routers.toml", "outcomes/two-models.jsonl"):
        (folder / part).parent.mkdir(exist_ok=True)
        shutil.copy(EXAMPLES / part, folder / part)
    return folder


@pytest.fixture(scope="module")
def question() -> str:
    """A question of the test split."""
    for line in (EXAMPLES / "outcomes" / "two-models.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row.get("split") == "test":
            return str(row["query"])
    raise AssertionError("the outcomes have no test split")


def test_every_router_of_the_catalogue_has_an_example() -> None:
    routers = [
        name
        for name in catalogue.entries("methods")
        if catalogue.get("methods", name).card.facets.family in (Family.PRETRAINED, Family.NONPRETRAINED)
    ]
    assert {e["method"] for e in CONFIG["ensembles"].values()} == set(routers)


@pytest.mark.parametrize("name", CONFIG["ensembles"])
def test_it_is_fitted_on_the_shipped_outcomes_and_answers(
    name: str, copied: Path, question: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(copied / "configs" / "routers.toml")
    if catalogue.get("methods", CONFIG["ensembles"][name]["method"]).state_type is not None:
        data = str(copied / "outcomes" / "two-models.jsonl")
        assert main(["fit", name, "-c", config, "--data", data, "--json"]) == 0, capsys.readouterr().err
        fitted = json.loads(capsys.readouterr().out)
        assert fitted["members"] == ["smol", "gemma"]
        assert fitted["provenance"]["split"] == "train"
    assert main(["ask", "-e", name, "-c", config, question, "--json"]) == 0, capsys.readouterr().err
    answer = json.loads(capsys.readouterr().out)
    assert answer["text"]
    assert answer["verdict"]["reason"]
