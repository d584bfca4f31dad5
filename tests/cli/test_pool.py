"""`septet pool advise`: which members go together, as text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from septet.cli import pool

from .conftest import Run

ROWS = {
    "ada": [(1.0, "B"), (1.0, "C"), (0.0, "A"), (1.0, "D")],
    "bob": [(1.0, "B"), (0.0, "A"), (1.0, "A"), (1.0, "D")],
    "cyd": [
        (0.0, "I think that it is A."),
        (0.0, "Perhaps it is B."),
        (0.0, "It may be C."),
        (1.0, "It is D."),
    ],
}


def outcomes(folder: Path, task: str = "quiz") -> str:
    rows = [
        {"query_id": f"q{i}", "task": task, "model": member, "score": score, "response": text}
        for member, answers in ROWS.items()
        for i, (score, text) in enumerate(answers)
    ]
    path = folder / "outcomes.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def record(folder: Path, methods: tuple[str, str] = ("member", "member")) -> str:
    share = {"low": 0.4, "high": 0.6, "n": 100, "level": 0.95}
    measured: list[dict[str, Any]] = [
        {
            "task": "quiz",
            "ensemble": name,
            "method": method,
            "accuracy": {"value": value, **share},
            "completion_tokens": n,
        }
        for name, method, value, n in (("ada", methods[0], 0.5, 400), ("bob", methods[1], 0.45, 600))
    ]
    path = folder / "bench.json"
    path.write_text(json.dumps({"form": 1, "measured": measured}), encoding="utf-8")
    return str(path)


def test_the_verbs_of_pool_are_listed_and_a_wrong_one_names_the_nearest(run: Run) -> None:
    for ran in (run("pool"), run("pool", "--help")):
        assert ran.code == 0
        assert all(f"septet pool {verb}" in ran.out for verb in pool.SUBVERBS)
    ran = run("pool", "advice")
    assert (ran.code, ran.err) == (2, "error: unknown verb of pool 'advice'; did you mean 'advise'?\n")


def test_each_pair_has_its_reason_and_the_pool_stands_at_the_end(run: Run, folder: Path) -> None:
    ran = run("pool", "advise", "--data", outcomes(folder))
    lines = ran.out.splitlines()
    assert ran.code == 0
    (both,) = [line for line in lines if "ada, bob" in line and "quiz" in line]
    (apart,) = [line for line in lines if "ada, cyd" in line]
    assert "yes" in both
    assert "no: ada is 50 points better" in apart
    assert lines[-1] == "together: ada, bob"


def test_json_tells_the_members_the_pairs_and_the_pool(run: Run, folder: Path) -> None:
    said = run("pool", "advise", "--data", outcomes(folder), "--json").json
    assert said["pool"] == ["ada", "bob"]
    assert [m["member"] for m in said["members"]] == ["ada", "bob", "cyd"]
    first = said["pairs"][0]
    assert (first["a"], first["b"], first["fits"], first["gap"]["value"], first["longer"]) == (
        "ada",
        "bob",
        True,
        0,
        1,
    )
    assert said["limits"] == {"gap": 0.1, "longer": 2.0, "style": 0.5}


def test_limits_models_and_tasks_may_be_given(run: Run, folder: Path) -> None:
    loose = ("--gap", "1", "--longer", "50", "--style", "1")
    path = outcomes(folder)
    assert run("pool", "advise", "--data", path, *loose, "--json").json["pool"] == ["ada", "bob", "cyd"]
    said = run("pool", "advise", "--data", path, "-m", "cyd", "-m", "bob", "--json").json
    assert [(p["a"], p["b"]) for p in said["pairs"]] == [("bob", "cyd")]
    assert run("pool", "advise", "--data", path, "-m", "adda").err.endswith("did you mean 'ada'?\n")
    assert run("pool", "advise", "--data", path, "-t", "quizz").code == 2
    assert run("pool", "advise", "--data", path, "-t", "quiz").code == 0


def test_where_nobody_goes_with_the_best_this_is_said(run: Run, folder: Path) -> None:
    ran = run("pool", "advise", "--data", outcomes(folder), "-m", "ada", "-m", "cyd")
    assert ran.out.splitlines()[-1] == "no other member goes with the best one, ada"


def test_a_record_of_a_bench_will_do_and_what_it_does_not_know_is_said(run: Run, folder: Path) -> None:
    ran = run("pool", "advise", "--record", record(folder))
    assert ran.code == 0
    assert "form not known" in ran.out
    assert ran.out.splitlines()[-1] == "together: ada, bob"
    assert run("pool", "advise", "--record", record(folder), "-m", "zoe").code == 2


def test_outcomes_that_hold_no_pair_are_refused(run: Run, folder: Path) -> None:
    ran = run("pool", "advise", "--record", record(folder, ("member", "unite")))
    assert ran.code == 2
    assert "must hold two models" in ran.err
    assert run("pool", "advise", "--data", outcomes(folder), "-m", "ada").code == 2


def test_without_a_file_or_with_two_the_next_step_is_named(run: Run, folder: Path) -> None:
    path = outcomes(folder)
    for arguments in ((), ("--data", path, "--record", record(folder))):
        ran = run("pool", "advise", *arguments)
        assert (ran.code, ran.err) == (
            2,
            "error: say where the outcomes are: either --data FILE or --record FILE\n",
        )


def test_files_that_are_no_record_are_refused(run: Run, folder: Path) -> None:
    (folder / "none.json").write_text("{", encoding="utf-8")
    for name in ("missing.json", "none.json"):
        assert run("pool", "advise", "--record", str(folder / name)).code == 2
    (folder / "list.json").write_text("[]", encoding="utf-8")
    assert "septet bench --save" in run("pool", "advise", "--record", str(folder / "list.json")).err
