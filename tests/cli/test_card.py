"""The card of a method and of a backend."""

from __future__ import annotations

import pytest

from septet.cli.card import method_lines
from septet.engine import catalogue

from .conftest import Run


def test_a_method_is_shown_with_its_paper_and_its_parameters(run: Run):
    ran = run("card", "unite")
    assert ran.out.startswith("unite: Determine-Then-Ensemble")
    assert "https://arxiv.org/abs/2410.03777" in ran.out
    assert "Candidates that each member brings." in ran.out
    assert "Differs from the paper:" in ran.out


def test_every_method_has_a_card(run: Run):
    for name in catalogue.entries("methods"):
        assert run("card", name, "--json").json["name"] == name


def test_a_backend_is_shown_with_its_options(run: Run):
    card = run("card", "toy", "--json").json
    assert card["options"][0]["name"] == "tokenizer"
    assert card["options"][0]["rule"] == "one of words, bytes, pairs"


def test_an_unknown_name_names_the_nearest_of_both_kinds(run: Run):
    ran = run("card", "unit")
    assert (ran.code, ran.err) == (
        2,
        "error: unknown method or backend 'unit'; did you mean 'unite' or 'uniroute' or 'quantile'?\n",
    )


@pytest.mark.parametrize(
    ("paper", "shown"), [("2410.03777", "https://arxiv.org/abs/2410.03777"), ("ours", "ours")]
)
def test_an_arxiv_id_becomes_an_address_and_anything_else_stays(run: Run, paper: str, shown: str):
    facts = run("card", "unite", "--json").json
    assert f"  paper    {shown}" in method_lines({**facts, "paper": paper})
