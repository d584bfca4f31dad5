"""Tables of outcomes on the command line: checked, described, taken over and exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from septet.cli import data

from .conftest import Run

SAMPLES = Path(__file__).parents[1] / "bench" / "samples"

ELO = ("--set", "ensembles.elo={ method = 'eagle', members = ['ada', 'bob'] }")


def outcomes(folder: Path, **change: Any) -> str:
    """ada answers the even questions, bob the odd ones; `change` goes into the last row."""
    rows = [
        {
            "query_id": f"q{i}",
            "query": f"Is {i} even?",
            "task": "parity",
            "split": "train" if i < 3 else "test",
            "model": model,
            "score": float((i + j) % 2 == 0),
            "cost_usd": 0.00003,
            "prompt_tokens": 20,
            "completion_tokens": 5,
        }
        for i in range(4)
        for j, model in enumerate(("ada", "bob"))
    ]
    rows[-1] |= change
    path = folder / "outcomes.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_the_verbs_of_data_are_listed_and_a_wrong_one_names_the_nearest(run: Run):
    for ran in (run("data"), run("data", "--help")):
        assert ran.code == 0
        assert all(f"septet data {verb}" in ran.out for verb in data.SUBVERBS)
    ran = run("data", "chek")
    assert (ran.code, ran.err) == (2, "error: unknown verb of data 'chek'; did you mean 'check'?\n")


# --- check -------------------------------------------------------------------------------------------------


def test_a_sound_table_is_said_to_be_sound(run: Run, folder: Path):
    path = outcomes(folder)
    ran = run("data", "check", path)
    assert (ran.code, ran.out) == (0, f"{path}: nothing is wrong\n")
    assert run("data", "check", path, "--json").json == {"path": path, "errors": 0, "problems": []}


def test_an_error_ends_with_two_and_a_warning_does_not(run: Run, folder: Path):
    ran = run("data", "check", outcomes(folder, score=1.5))
    assert (ran.code, ran.out) == (
        2,
        "error: score: must be from 0 to 1; row 8 (q3, bob) has 1.5\n",
    )
    ran = run("data", "check", outcomes(folder, cost_usd=None), "--json")
    assert ran.code == 0
    assert ran.json["problems"] == [
        {
            "level": "warning",
            "place": "cost_usd",
            "message": "is missing in 12.5% of the rows, first in row 8 (q3, bob)",
        }
    ]


def test_a_file_that_cannot_be_read_is_a_problem_like_others(run: Run, folder: Path):
    (folder / "bad.jsonl").write_text("{\n", encoding="utf-8")
    ran = run("data", "check", "bad.jsonl", "--json")
    assert (ran.code, ran.json["errors"]) == (2, 1)
    assert ran.json["problems"][0]["place"] == "bad.jsonl:1"
    assert run("data", "check", "absent.jsonl").code == 2


def test_only_the_named_models_may_occur(run: Run, folder: Path):
    ran = run("data", "check", outcomes(folder), "-m", "ada", "-m", "cyd")
    assert ran.code == 2
    assert ran.out.splitlines() == [
        "error: model: bob is not among ada, cyd; first in row 2",
        "error: model: cyd never occurs",
    ]


def test_costs_are_held_against_the_prices_of_a_configuration(run: Run, folder: Path):
    # ada: 20 tokens in at 1 USD and 5 out at 2 USD per million are 0.00003 USD
    path = outcomes(folder)
    assert run("data", "check", path, "-c", "septet.toml").code == 0
    text = (folder / "septet.toml").read_text(encoding="utf-8")
    dear = text.replace("usd_per_mtok_in = 1.0, usd_per_mtok_out = 2.0", "usd_per_mtok_in = 1500.0")
    (folder / "dear.toml").write_text(dear, encoding="utf-8")
    ran = run("data", "check", path, "-c", "dear.toml")
    assert ran.code == 2
    assert (
        "error: cost_usd: ada costs 0.001 times what its stated price gives: a price per thousand" in ran.out
    )
    cheap = text.replace("usd_per_mtok_in = 1.0, usd_per_mtok_out = 2.0", "usd_per_mtok_in = 0.0000015")
    (folder / "cheap.toml").write_text(cheap, encoding="utf-8")
    ran = run("data", "check", path, "-c", "cheap.toml")
    assert (ran.code, ran.out) == (
        2,
        "error: ada: usd_per_mtok_in is 1.5e-06: that is a price per token; per million tokens it is 1.5\n",
    )


# --- describe ----------------------------------------------------------------------------------------------


def test_a_table_is_described(run: Run, folder: Path):
    ran = run("data", "describe", outcomes(folder))
    assert ran.code == 0
    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    assert lines[0].startswith(
        "outcomes.jsonl: 8 answers, 4 questions × 2 models, 1 sample at most, 0.0% of the scores missing"
    )
    assert lines[1:3] == ["tasks: parity 4", "splits: train 3, test 1"]
    assert "ada 4 0.5000 0.0% $0.00003" in lines
    assert "train 3 0.5000 0.6667 ada 0.6667 ada 1.0000" in lines
    assert "test 1 0.5000 0.0000 ada 1.0000 bob 1.0000" in lines


def test_the_description_as_json_has_the_hash_of_the_file(run: Run, folder: Path):
    import hashlib

    path = outcomes(folder)
    facts = run("data", "describe", path, "--json").json
    assert facts["sha256"] == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert (facts["rows"], facts["bounds"]["test"]["oracle"]) == (8, 1.0)


def test_battles_are_described(run: Run, folder: Path):
    fight = {"query": "2+3?", "a": "ada", "b": "bob", "winner": "ada"}
    (folder / "b.jsonl").write_text(json.dumps(fight) + "\n", encoding="utf-8")
    ran = run("data", "describe", "b.jsonl")
    assert ran.out.startswith("b.jsonl: 1 battles on 1 questions, 2 models, 0 ties")
    assert run("data", "describe", "b.jsonl", "--json").json["members"][0]["win_share"] == 1.0


# --- import ------------------------------------------------------------------------------------------------


def test_a_foreign_format_is_written_in_ours_with_what_is_wrong_with_it(run: Run, folder: Path):
    ran = run("data", "import", "routerbench", str(SAMPLES / "routerbench.csv"), "--out", "rb.jsonl")
    assert (ran.code, ran.out) == (0, "rb.jsonl: 4 answers, 2 questions × 2 models\n")
    assert "warning: cost_usd: is missing in 25.0% of the rows" in ran.err
    rows = [json.loads(line) for line in (folder / "rb.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows[0] == {
        "query_id": "sums.val.1",
        "query": "What is 2+3?\nAnswer with a number.",
        "task": "sums",
        "model": "ada",
        "response": "5",
        "score": 1.0,
        "cost_usd": 2.1e-6,
    }
    assert run("data", "describe", "rb.jsonl").code == 0


def test_imported_battles_are_battles(run: Run, folder: Path):
    sample = str(SAMPLES / "routellm_battles.csv")
    report = run("data", "import", "routellm-battles", sample, "--out", "b.jsonl", "--json").json
    assert (report["kind"], report["rows"], report["models"]) == ("battles", 3, ["ada", "bob", "cyd"])
    assert report["problems"] == []
    first = json.loads((folder / "b.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert first == {"query": "What is 2+3?", "a": "ada", "b": "bob", "winner": "ada"}


def test_nothing_is_written_where_the_sample_is_malformed(run: Run, folder: Path):
    sample = str(SAMPLES / "routerarena_no_index.json")
    ran = run("data", "import", "routerarena", sample, "--out", "ra.jsonl")
    assert (ran.code, ran.out) == (2, "")
    assert "routerarena_no_index.json:2: must have global index or global_index" in ran.err
    assert not (folder / "ra.jsonl").exists()


def test_an_unknown_format_or_ending_is_refused(run: Run):
    ran = run("data", "import", "routerbnch", "x.csv", "--out", "x.jsonl", "--json")
    assert (ran.code, ran.json["error"]["near"][0]) == (2, "routerbench")
    ran = run("data", "import", "routerbench", "x.csv", "--out", "x.xlsx")
    assert (ran.code, ran.err) == (2, "error: --out: must end in .parquet or .jsonl, got 'x.xlsx'\n")


def test_parquet_is_written_by_the_name_of_the_file(run: Run, folder: Path):
    pytest.importorskip("pyarrow")
    assert run("data", "import", "llmrouter", str(SAMPLES / "llmrouter"), "--out", "t.parquet").code == 0
    assert run("data", "describe", "t.parquet", "--json").json["splits"] == {"train": 1, "test": 1, "all": 2}


# --- export ------------------------------------------------------------------------------------------------


def test_what_was_served_and_rated_is_exported_and_fitted_on(run: Run, folder: Path):
    asked = [
        run("ask", "-e", "ada", question, "--json").json for question in ("What is 2+3?", "What is 4+4?")
    ]
    assert run("feedback", asked[0]["trace_id"], "--score", "1").code == 0
    ran = run("data", "export", "-e", "ada", "--out", "served.jsonl")
    assert (ran.code, ran.out) == (
        0,
        "served.jsonl: 2 answers, 2 questions × 1 models\nfrom 2 requests, 1 of them rated\n",
    )
    rows = [json.loads(x) for x in (folder / "served.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row.get("score") for row in rows] == [1.0, None]
    assert rows[0]["query"] == "What is 2+3?"
    assert "propensity" not in rows[0]  # nobody drew
    text = (folder / "served.jsonl").read_text(encoding="utf-8")
    bobs = text.replace('"model": "ada"', '"model": "bob"').replace('"score": 1.0', '"score": 0.0')
    (folder / "both.jsonl").write_text(text + bobs, encoding="utf-8")
    assert run("fit", "elo", "--data", "both.jsonl", *ELO).code == 0


def test_a_router_s_answers_have_their_propensity(run: Run, folder: Path):
    assert run("fit", "elo", "--data", outcomes(folder), *ELO).code == 0
    run("ask", "-e", "elo", *ELO, "What is 2+3?")
    report = run("data", "export", "-e", "elo", "--out", "served.jsonl", "--json").json
    assert (report["requests"], report["rated"], report["skipped"]) == (1, 0, 0)
    row = json.loads((folder / "served.jsonl").read_text(encoding="utf-8"))
    assert 0 < row["propensity"] <= 1


def test_comparisons_are_exported_as_battles(run: Run, folder: Path):
    assert run("fit", "elo", "--data", outcomes(folder), *ELO).code == 0
    told = ("-e", "elo", "--query", "2+3?", "--winner", "ada", "--loser", "bob")
    assert run("feedback", *told, *ELO).code == 0
    ran = run("data", "export", "-e", "elo", "--battles", "--out", "b.jsonl")
    assert (ran.code, ran.out) == (0, "b.jsonl: 1 battles, 1 questions × 2 models\n")
    ran = run("data", "export", "-e", "fused", "--battles", "--out", "c.jsonl")
    assert (ran.code, (folder / "c.jsonl").exists()) == (2, False)


def test_what_several_wrote_together_cannot_be_exported(run: Run, folder: Path):
    run("ask", "-e", "fused", "What is 2+3?")
    ran = run("data", "export", "-e", "fused", "--out", "served.jsonl")
    assert (ran.code, (folder / "served.jsonl").exists()) == (2, False)
    assert "all 1 requests were answered jointly" in ran.err


def test_an_ensemble_that_was_never_asked_is_said(run: Run):
    run("ask", "-e", "ada", "What is 2+3?")
    ran = run("data", "export", "-e", "bob", "--out", "served.jsonl")
    assert ran.code == 2
    assert "must have answered something" in ran.err
    assert "['ada']" in ran.err
