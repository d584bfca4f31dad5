"""The list of methods, and method × member."""

from __future__ import annotations

import pytest

from septet.cli.methods import learns
from septet.engine import catalogue
from septet.engine.catalogue import Broken

from .conftest import Run


def test_json_lists_each_method_with_its_facts(run: Run):
    found = {m["name"]: m for m in run("methods", "--json").json}
    assert set(found) == set(catalogue.entries("methods"))
    unite = found["unite"]
    assert (unite["family"], unite["paper"]) == ("b1_token", "2410.03777")
    assert unite["needs"] == {"text": True, "continues": True, "topk": 10}
    assert unite["facets"]["granularity"] == "token"
    assert unite["parameters"][0] == {
        "name": "k",
        "default": 10,
        "rule": "≥ 1 and ≤ 1000",
        "sentence": "Candidates that each member brings.",
    }
    assert unite["differs"]


def test_the_methods_stand_in_the_order_of_the_families(run: Run):
    families = [m["family"] for m in run("methods", "--json").json]
    assert families == sorted(families)


def test_a_family_lists_its_methods_only(run: Run):
    names = [m["name"] for m in run("methods", "--family", "a2", "--json").json]
    assert names == ["blending", "eagle", "pickllm", "port"]
    both = run("methods", "--family", "a2", "--family", "b1", "--json").json
    assert {m["name"] for m in both} >= {*names, "unite"}
    assert {m["family"][:2] for m in both} == {"a2", "b1"}
    refused = run("methods", "--family", "a3")
    assert refused.code == 2
    assert "must be one of a1, a2, b1, b2, b3, c1, c2, got 'a3'" in refused.err


def test_the_table_has_a_line_per_method(run: Run):
    lines = run("methods").out.splitlines()
    assert lines[0].split() == ["method", "family", "paper", "learns", "needs", "parameters"]
    assert {line.split()[0] for line in lines[1:] if line[:1].strip()} == set(catalogue.entries("methods"))


def test_fits_names_the_missing_capability_per_cell(run: Run):
    ran = run("methods", "--fits", "septet.toml", "--json")
    rows = {row["method"]: row for row in ran.json}
    assert rows["unite"]["members"] == {"ada": [], "bob": [], "dan": [], "mute": ["topk 10"]}
    assert rows["unite"]["members_missing"] == 0


def test_fits_as_a_table_says_fits_where_nothing_is_missing(run: Run):
    lines = run("methods", "--fits", "septet.toml").out.splitlines()
    assert lines[0].split() == ["method", "ada", "bob", "dan", "mute", "roles", "pool"]
    unite = next(line for line in lines if line.startswith("unite "))
    assert unite.split() == ["unite", "fits", "fits", "fits", "topk", "10", "–", "fits"]


def test_a_broken_plug_in_is_named_with_its_reason(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        catalogue, "broken", lambda kind: [Broken("vote", "septet-vote", "ImportError: no x")]
    )
    ran = run("methods", "--json")
    assert ran.code == 0
    assert ran.err == "cannot be used: vote of septet-vote: ImportError: no x\n"


@pytest.mark.parametrize(
    ("trained", "online", "word"),
    [(True, True, "fitted, online"), (True, False, "fitted"), (False, True, "online"), (False, False, "–")],
)
def test_what_a_method_learns_is_one_word_or_two(trained: bool, online: bool, word: str):
    assert learns({"trained": trained, "online": online}) == word
