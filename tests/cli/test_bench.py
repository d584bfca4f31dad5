"""Ensembles on tasks."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import Run


def test_every_ensemble_is_measured_on_every_task(run: Run):
    ran = run("bench", "-e", "fused", "-e", "ada", "-t", "toy-sums", "--limit", "3", "--json")
    assert ran.code == 0
    found = [(m["ensemble"], m["task"], m["accuracy"]["n"]) for m in ran.json["measured"]]
    assert found == [("fused", "toy-sums", 3), ("ada", "toy-sums", 3)]
    # a toy of skill 1 does every sum right, and so do two of them together
    assert [m["accuracy"]["value"] for m in ran.json["measured"]] == [1.0, 1.0]


def test_the_table_has_a_row_per_ensemble_and_without_a_name_all_are_taken(run: Run):
    lines = run("bench", "-t", "toy-sums", "--limit", "2").out.splitlines()
    assert len(lines) == 2
    assert lines[0].split()[:5] == ["task", "ensemble", "method", "n", "score"]
    assert lines[1].split()[:5] == ["toy-sums", "fused", "unite", "2", "1.000"]


def test_a_second_run_asks_nothing_again_unless_it_is_told_to(run: Run):
    command = ("bench", "-t", "toy-sums", "-e", "ada", "--limit", "2")
    requests = []
    for more in ((), (), ("--fresh",)):
        run(*command, *more)
        requests.append(len(run("trace", "--json").json))
    assert requests == [2, 2, 4]


def test_the_record_can_be_kept_and_holds_no_texts(run: Run, folder: Path):
    ran = run("bench", "-t", "toy-sums", "-e", "ada", "--limit", "2", "--save", "results/a.json")
    assert ran.code == 0
    text = (folder / "results/a.json").read_text(encoding="utf-8")
    assert json.loads(text)["tasks"][0]["questions"] == 2
    assert "What is" not in text


def test_an_unknown_task_names_the_nearest(run: Run):
    ran = run("bench", "-t", "toy-sum", "-e", "ada")
    assert ran.code == 2
    assert ran.err.startswith("error: unknown task 'toy-sum'; did you mean 'toy-sums'?")


def test_an_ensemble_that_does_not_fit_is_refused_before_anything_is_asked(run: Run):
    bad = "ensembles.bad={ method = 'unite', members = ['mute'] }"
    ran = run("bench", "-t", "toy-sums", "-e", "ada", "-e", "bad", "--set", bad)
    assert ran.code == 2
    assert "mute does not offer topk" in ran.err
    assert run("trace", "--json").json == []
