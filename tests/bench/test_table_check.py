"""What is wrong with a table is said, each with its row or column; a sound table has nothing."""

from __future__ import annotations

import doctest
import json
from pathlib import Path
from typing import Any

import pytest

import septet.bench.table_check
from septet.bench.table_check import Problem, check, price_problem, problems
from septet.bench.tables import Source
from septet.core.money import Price
from septet.core.table import Table
from septet.core.types import Battle

Rows = list[dict[str, Any]]


def sound() -> Rows:
    """Four questions, two members: nothing is wrong with it. ada reads at .1 and writes at .4 USD per million."""
    return [
        {
            "query_id": f"q{i}",
            "query": f"Is {i} even?",
            "split": "train" if i < 2 else "test",
            "model": model,
            "score": float((i + j) % 2),
            "cost_usd": (100 * 0.1 + 50 * 0.4) / 1e6,
            "prompt_tokens": 100,
            "completion_tokens": 50,
        }
        for i in range(4)
        for j, model in enumerate(("ada", "bob"))
    ]


def found(rows: Rows, **more: Any) -> list[str]:
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    return [str(p) for p in problems(Source("t", Table.of(rows), (), columns, ""), **more)]


def changed(row: int, **values: Any) -> Rows:
    rows = sound()
    rows[row] |= values
    return rows


def test_the_examples_in_the_docstrings_hold() -> None:
    result = doctest.testmod(septet.bench.table_check)
    assert result.attempted >= 2
    assert result.failed == 0


def test_nothing_is_wrong_with_a_sound_table() -> None:
    assert found(sound()) == []
    assert found(sound(), models=["ada", "bob"], prices={"ada": Price(0.1, 0.4)}) == []


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            changed(2, score=1.5),
            "error: score: must be from 0 to 1; row 3 (q1, ada) has 1.5",
        ),
        (
            [r | {"score": -1.0 - int(r["query_id"][1])} if r["model"] == "bob" else r for r in sound()],
            "error: score: must be from 0 to 1; row 2 (q0, bob) has -1, and so 3 more",
        ),
        (
            changed(1, cost_usd=-0.5),
            "error: cost_usd: must be finite and not negative; row 2 (q0, bob) has -0.5",
        ),
        (
            changed(0, cost_usd=float("inf")),
            "error: cost_usd: must be finite and not negative; row 1 (q0, ada) has inf",
        ),
        (
            [r | {"cost_usd": None} for r in sound()],
            "error: cost_usd: is a column of the file and has no value in any row",
        ),
        (
            changed(5, cost_usd=None),
            "warning: cost_usd: is missing in 12.5% of the rows, first in row 6 (q2, bob)",
        ),
        (
            [*sound(), sound()[3]],
            "error: query_id, model, sample_id: 1 rows repeat a query, model and sample; row 9 (q1, bob), "
            "sample 0, stands in row 4 already",
        ),
        (
            [r | {"score": 1.0} for r in sound()],
            "error: score: has one class only: it is 1 in all 8 rows",
        ),
        (
            [r | {"score": 1.0} if r["model"] == "bob" else r for r in sound()],
            "warning: score: bob has one class only: it is 1 in all its rows",
        ),
        (
            [r | {"score": None} if r["model"] == "bob" else r for r in sound()],
            "error: model: bob has no score in any row",
        ),
        ([r | {"score": None} for r in sound()], "error: score: no row has one"),
        (
            [r | {"score": None} if r["split"] == "test" else r for r in sound()],
            "error: split: 'test' is empty: no question of it has a score",
        ),
        (
            [r | {"split": "train"} for r in sound()],
            "warning: split: 'test' is empty: the file has only train",
        ),
        (
            [r | {"split": ""} if r["query_id"] == "q0" else r for r in sound()],
            "warning: split: 1 of 4 questions are in no split",
        ),
        (
            [r | {"query": "Is it?"} if r["query_id"] in ("q0", "q3") else r for r in sound()],
            "warning: query: 1 questions stand in two splits with the same text, such as 'Is it?'",
        ),
        (
            changed(7, completion_tokens=-3),
            "error: completion_tokens: must be finite and not negative; row 8 (q3, bob) has -3",
        ),
        (
            changed(0, confidence=7),
            "error: confidence: must be from 0 to 1; row 1 (q0, ada) has 7",
        ),
        (
            changed(0, propensity=0.0),
            "error: propensity: must be above 0 and at most 1; row 1 (q0, ada) has 0",
        ),
        (
            changed(0, logp=0.5),
            "error: logp: must not be above 0, being the logarithm of a probability; row 1 (q0, ada) has 0.5",
        ),
    ],
)
def test_a_problem_names_its_row_or_column(rows: Rows, said: str) -> None:
    assert found(rows) == [said]


def test_samples_are_no_duplicates() -> None:
    assert found([*sound(), sound()[3] | {"sample_id": 1}]) == []


def test_members_are_held_against_a_list() -> None:
    assert found(sound(), models=["ada", "cyd"]) == [
        "error: model: bob is not among ada, cyd; first in row 2",
        "error: model: cyd never occurs",
    ]


@pytest.mark.parametrize(
    ("factor", "why"),
    [
        (1e6, "costs 1e+06 times what its stated price gives: tokens × price was not divided by a million"),
        (
            1e3,
            "costs 1e+03 times what its stated price gives: a price per million tokens was read as one per",
        ),
        (1e-3, "costs 0.001 times what its stated price gives: a price per thousand tokens was read as one"),
        (
            1e-6,
            "costs 1e-06 times what its stated price gives: a price per token was read as one per million",
        ),
    ],
)
def test_a_cost_in_another_unit_than_the_stated_price_is_refused(factor: float, why: str) -> None:
    rows = [r | {"cost_usd": r["cost_usd"] * factor} if r["model"] == "ada" else r for r in sound()]
    (said,) = found(rows, prices={"ada": Price(0.1, 0.4)})
    assert said.startswith(f"error: cost_usd: ada {why}")


def test_a_cost_that_is_merely_far_off_is_a_warning() -> None:
    rows = [r | {"cost_usd": r["cost_usd"] * 30} for r in sound()]
    (said,) = found(rows, prices={"ada": Price(0.1, 0.4)})
    assert said == "warning: cost_usd: ada costs 30 times what its stated price gives"


def test_without_a_price_a_cost_that_no_model_has_is_refused() -> None:
    rows = [r | {"cost_usd": r["cost_usd"] * 1e6} if r["model"] == "bob" else r for r in sound()]
    (said,) = found(rows)
    assert said.startswith("error: cost_usd: bob comes to 2e+05 USD per million tokens, which no model costs")
    rows = [r | {"cost_usd": r["cost_usd"] * 1e-6} if r["model"] == "bob" else r for r in sound()]
    (said,) = found(rows)
    assert said.endswith(
        "bob comes to 2e-07 USD per million tokens, which no model costs; perhaps a price per "
        "token was read as one per million"
    )


def test_where_nobody_counted_tokens_the_texts_are_measured() -> None:
    kept = ("query_id", "query", "model", "score", "split")
    rows = [{k: r[k] for k in kept} | {"response": "x" * 400, "cost_usd": 4e-5} for r in sound()]
    assert found(rows) == []  # 102.5 tokens: .39 USD per million
    (first, second) = found([r | {"cost_usd": 40.0} for r in rows])
    assert "ada comes to 3.9e+05 USD per million tokens" in first
    assert "bob comes to 3.9e+05" in second


def test_free_models_have_no_unit() -> None:
    assert found([r | {"cost_usd": 0.0} for r in sound()]) == []


def test_a_price_per_token_is_refused_with_the_reason() -> None:
    assert price_problem("ada", Price(0.15, 0.6)) is None
    assert price_problem("ada", Price()) is None
    assert str(price_problem("ada", Price(0.15, 6e-7))) == (
        "error: ada: usd_per_mtok_out is 6e-07: that is a price per token; per million tokens it is 0.6"
    )
    assert str(price_problem("ada", Price(150000.0))) == (
        "error: ada: usd_per_mtok_in is 150000, more than any model costs per million tokens"
    )


def test_a_wrong_price_is_said_once_and_not_held_against_the_costs() -> None:
    assert found(sound(), prices={"ada": Price(1e-7, 4e-7)}) == [
        "error: ada: usd_per_mtok_in is 1e-07: that is a price per token; per million tokens it is 0.1"
    ]


def test_battles_are_checked_too() -> None:
    fights = (Battle("q", "ada", "bob", "tie"), Battle("r", "ada", "bob", "tie"))
    source = Source("b", None, fights, (), "")
    assert [str(p) for p in problems(source, models=["ada", "cyd"])] == [
        "error: a, b: bob is not among ada, cyd",
        "error: a, b: cyd never fights",
        "error: winner: has one class only: all 2 battles are ties",
    ]
    assert problems(Source("b", None, (), (), "")) == [Problem("error", "battles", "there is none")]


def test_a_file_that_cannot_be_read_is_one_problem(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"query_id": "q", "score": 1}\n', encoding="utf-8")
    (problem,) = check(path)
    assert (problem.level, problem.place) == ("error", "t.jsonl:1")
    assert "must have model and query_id or query" in problem.message
    (problem,) = check(tmp_path / "absent.jsonl")
    assert problem.place == "absent.jsonl"
    path.write_text(json.dumps({"note": "nothing else"}) + "\n", encoding="utf-8")
    assert [str(p) for p in check(path)] == ["error: t.jsonl: holds no outcomes"]


def test_the_prices_of_a_folder_are_held_against_its_costs(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    rows = [{k: v for k, v in r.items() if k not in ("query", "split")} for r in sound()]
    questions = {r["query_id"]: {k: r[k] for k in ("query_id", "query", "split")} for r in sound()}
    pq.write_table(pa.Table.from_pylist(list(questions.values())), tmp_path / "queries.parquet")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "outcomes.parquet")
    assert check(tmp_path) == []
    models = [{"model": "ada", "usd_per_m_input": 100.0, "usd_per_m_output": 400.0}]
    pq.write_table(pa.Table.from_pylist(models), tmp_path / "models.parquet")
    (problem,) = check(tmp_path)
    assert problem.message.startswith("ada costs 0.001 times what its stated price gives")
