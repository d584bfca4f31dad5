"""`septet bench routers`: the table, JSON, the page, the record, and what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Run


@pytest.fixture
def data(folder: Path) -> str:
    """Eight questions about sums and eight about poems, with one member for each."""
    lines = [
        {"query": f"{task} number {i}", "task": task, "split": "train" if i < 4 else "test", "model": model}
        | {"score": float(model == right), "cost_usd": 0.01 if model == "ada" else 0.02}
        for task, right in (("sum", "ada"), ("poem", "bob"))
        for i in range(8)
        for model in ("ada", "bob")
    ]
    path = folder / "tiny.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return str(path)


COMMAND = ("bench", "routers", "--draws", "20", "--grid", "3")


def test_the_table_shows_bounds_then_routers(run: Run, data: str) -> None:
    ran = run(*COMMAND, "--data", data, "--router", "knn-router:features=task,k=3")
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0].split()[:4] == ["table", "router", "n", "quality"]
    assert lines[1].startswith("tiny   (best single (train))")
    assert lines[8].split()[:4] == ["tiny", "knn-router:features=task,k=3", "8", "1.000"]
    assert lines[-1] == "tiny: seed 0 alone"


def test_json_the_page_and_the_record_say_the_same(run: Run, data: str, folder: Path) -> None:
    more = ("--html", "report.html", "--save", "record", "--json")
    ran = run(*COMMAND, "--data", data, "--router", "knn-router:features=task,k=3", *more)
    assert ran.code == 0, ran.err
    (router,) = ran.json["routers"]
    assert (router["router"], router["at_zero"]["quality"]["value"]) == ("knn-router", 1.0)
    assert ran.json["failed"] == []
    assert "knn-router" in (folder / "report.html").read_text(encoding="utf-8")
    record = json.loads((folder / "record" / "routers-tiny.json").read_text(encoding="utf-8"))
    assert record["routers"][0]["quality"] == router["at_zero"]["quality"]
    assert "poem number" not in json.dumps(record)


def test_what_fails_is_listed_with_exit_code_3_and_the_rest_is_shown(
    run: Run, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise ValueError("no battles")

    monkeypatch.setattr("septet.methods.a2_nonpretrained.eagle.Eagle.learn", broken)
    two = ("--router", "eagle", "--router", "knn-router:features=task,k=3")
    ran = run(*COMMAND, "--data", data, *two)
    assert ran.code == 3
    assert "failed: eagle on tiny.jsonl, seed 0: ValueError: no battles" in ran.err
    assert "knn-router:features=task,k=3" in ran.out
    said = run(*COMMAND, "--data", data, *two, "--json")
    assert (said.code, said.json["failed"][0]["job"]) == (3, "eagle on tiny.jsonl, seed 0")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--router", "eagel"), "unknown method 'eagel'; did you mean 'eagle'"),
        (("--router", "knn-router:features=embedder"), "needs the role embedder"),
        (("--split", "fair"), "must be one of own, random, grouped, leave-one-task-out"),
        (("--split", "grouped"), "needs the column group"),
        (("--data", "nowhere.jsonl"), "no outcomes at nowhere.jsonl"),
    ],
)
def test_bad_input_ends_before_anything_is_fitted(
    arguments: tuple[str, ...], said: str, run: Run, data: str, folder: Path
) -> None:
    ran = run(*COMMAND, "--data", data, *arguments)
    assert ran.code == 2
    assert said in ran.err
    assert not (folder / "bench-routers").exists()


def test_help_of_bench_names_what_is_below_it_and_a_wrong_option_the_right_help(run: Run) -> None:
    assert "septet bench routers: Compare routers on recorded outcomes" in run("bench", "--help").out
    ran = run("bench", "routers", "--dat", "x")
    assert ran.code == 2
    assert "Try: septet bench routers --help" in ran.err
