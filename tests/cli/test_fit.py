"""A state from recorded outcomes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from septet.cli.fit import read_table
from septet.core.errors import BadParameter, ConfigError

from .conftest import Run

ELO = ("--set", "ensembles.elo={ method = 'eagle', members = ['ada', 'bob'] }")


def outcomes(folder: Path, questions: int = 8) -> Path:
    """ada is right on every question, bob on none; the last quarter is the test split."""
    rows = [{"note": "made for a test"}] + [
        {
            "query_id": f"q{i}",
            # a line separator that JSON leaves as it is, and that str.splitlines would break at
            "query": f"Is {i}\u2028even?",
            "split": "train" if i < questions * 3 // 4 else "test",
            "model": member,
            "score": score,
            "cost_usd": 0.001,
        }
        for i in range(questions)
        for member, score in (("ada", 1.0), ("bob", 0.0))
    ]
    path = folder / "outcomes.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_fitted_ensemble_answers_and_says_where_its_state_is(run: Run, folder: Path):
    data = outcomes(folder)
    before = run("ask", "-e", "elo", *ELO, "What is 2+3?")
    assert (before.code, before.out) == (2, "")
    assert "septet fit elo" in before.err
    ran = run("fit", "elo", "--data", str(data), *ELO)
    assert ran.code == 0
    assert "on 12 rows of 6 questions × ada, bob; outcomes.jsonl, split train, seed 0" in ran.out
    assert f"saved as version 1 in {folder}/states/elo\n" in ran.out
    after = run("ask", "-e", "elo", *ELO, "What is 2+3?")
    assert (after.code, after.out) == (0, "5\n")
    assert "answer of ada" in after.err


def test_the_state_says_what_it_was_made_from(run: Run, folder: Path):
    data = outcomes(folder)
    made = run("fit", "elo", "--data", str(data), "--seed", "3", "--split", "test", "--json", *ELO).json
    assert made["provenance"] == {
        "data": "outcomes.jsonl",
        "sha256": hashlib.sha256(data.read_bytes()).hexdigest(),
        "split": "test",
        "rows": 4,
        "queries": 2,
        "seed": 3,
        "septet": made["provenance"]["septet"],
    }
    assert json.loads((folder / "states/elo/state.json").read_text())["provenance"] == made["provenance"]


def test_fitting_again_makes_the_next_version(run: Run, folder: Path):
    data = outcomes(folder)
    versions = [run("fit", "elo", "--data", str(data), "--json", *ELO).json["version"] for _ in range(2)]
    assert versions == [1, 2]


def test_check_asks_for_the_fit_and_is_content_after_it(run: Run, folder: Path):
    before = run("check", "--json", *ELO)
    assert (before.code, before.json[1]["status"]) == (2, "not fitted")
    run("fit", "elo", "--data", str(outcomes(folder)), *ELO)
    after = run("check", "--json", *ELO)
    assert (after.code, after.json[1]["status"]) == (0, "fits")


def test_a_method_that_keeps_no_state_is_refused(run: Run, folder: Path):
    ran = run("fit", "fused", "--data", str(outcomes(folder)))
    assert (ran.code, ran.err) == (2, "error: unite keeps no state, so there is nothing to fit\n")


def test_a_member_is_no_ensemble(run: Run, folder: Path):
    ran = run("fit", "ada", "--data", str(outcomes(folder)))
    assert (ran.code, ran.err) == (2, "error: fit: must be an ensemble: fused, got 'ada'\n")


def test_outcomes_of_other_members_are_refused(run: Run, folder: Path):
    ran = run("fit", "elo", "--data", str(outcomes(folder)), *ELO, "--set", "ensembles.elo.members=['dan']")
    assert ran.code == 2
    assert "must be among the table's members ['ada', 'bob']" in ran.err


def test_without_a_split_the_training_split_is_taken_where_there_is_one(folder: Path):
    data = outcomes(folder)
    assert len(read_table(data, "")[0].queries) == 6
    text = data.read_text(encoding="utf-8").replace('"train"', '"a"')
    data.write_text(text, encoding="utf-8")
    table, made = read_table(data, "")
    assert (len(table.queries), made["split"]) == (8, "all")


WEIGHED = ("--set", "ensembles.weighed={ method = 'ow-isp', members = ['ada', 'bob'] }")


def test_a_method_that_reads_no_scores_is_fitted_on_answers_without_any(run: Run, folder: Path):
    rows = [
        {"query": f"Is {i} even?", "model": m, "response": said}
        for i in range(8)
        for m, said in (("ada", "yes"), ("bob", "no" if i == 3 else "yes"))
    ]
    path = folder / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert run("fit", "weighed", "--data", str(path), *WEIGHED).code == 0
    refused = run("fit", "weighed", "elo", "--data", str(path), *WEIGHED, *ELO)
    assert refused.code == 2
    assert "score: no row has one" in refused.err


def test_an_unknown_split_names_those_that_there_are(folder: Path):
    with pytest.raises(BadParameter, match=r"--split: must be one of \['test', 'train'\], got 'dev'"):
        read_table(outcomes(folder), "dev")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no outcomes"),
        (b"\xff\n", "not UTF-8"),
        (b"{\n", r"bad.jsonl:1: must be JSON"),
        (None, "cannot read"),
    ],
)
def test_data_that_cannot_be_read_is_said(tmp_path: Path, content: bytes | None, said: str):
    path = tmp_path / "bad.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        read_table(path, "")


def test_a_budget_sets_the_price_of_cost_and_says_what_to_expect(run: Run, folder: Path):
    rows = [
        {"query": f"{kind} {i}", "model": m, "score": score, "cost_usd": usd}
        for kind, cheap in (("add the numbers", 1.0), ("tell a story about", 0.0))
        for i in range(20)
        for m, score, usd in (("ada", 1.0, 0.010), ("bob", cheap, 0.001))
    ]
    (folder / "kinds.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    bench = ("--set", "ensembles.near={ method = 'benchmark-routing', members = ['ada', 'bob'] }")
    ran = run("fit", "near", "--data", "kinds.jsonl", "--budget-usd-per-1k", "5.6", *bench)
    assert (ran.code, ran.err) == (0, "")
    assert "expected quality 1.000 [1.000, 1.000], cost $5.5 [" in ran.out
    assert "answering: ada 50%, bob 50%" in ran.out
    said = run("ask", "-e", "near", "tell a story about 3", *bench)
    assert "answer of ada" in said.err
    cheap = run("ask", "-e", "near", "add the numbers 3", *bench)
    assert "answer of bob" in cheap.err
    low = run("fit", "near", "--data", "kinds.jsonl", "--budget-usd-per-1k", "0.5", *bench)
    assert low.code == 2
    assert "cannot be kept" in low.err


@pytest.mark.parametrize("harm", ["truncate", "poison", "garble"])
def test_a_state_that_cannot_be_read_is_refused_by_its_folder(run: Run, folder: Path, harm: str):
    assert run("fit", "elo", "--data", str(outcomes(folder)), *ELO).code == 0
    (arrays,) = (folder / "states" / "elo").glob("*.npz")
    if harm == "truncate":
        arrays.write_bytes(arrays.read_bytes()[:-40])
    elif harm == "poison":
        np.savez(arrays, a=np.array([{"an": "object"}], dtype=object))
    else:
        (folder / "states" / "elo" / "state.json").write_text("[1", encoding="utf-8")
    ran = run("ask", "-e", "elo", *ELO, "What is 2+3?")
    assert ran.code == 2
    assert f"the state in {folder}/states/elo cannot be read" in ran.err
