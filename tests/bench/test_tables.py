"""Tables of outcomes and battles on disk: read as they were written, or refused by row and column."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.bench import tables
from septet.core.errors import BadParameter, ConfigError, MissingExtra
from septet.core.table import NUMBERS, Table
from septet.core.types import Battle

RECORDS: list[dict[str, Any]] = [
    {
        "query_id": "q1",
        "query": "Is 1\u2028odd?",  # a line separator that JSON leaves as it is
        "task": "parity",
        "split": "train",
        "model": "ada",
        "answer": "yes",
        "response": "Yes, it is.",
        "score": 1.0,
        "cost_usd": 0.002,
        "prompt_tokens": 5,
    },
    {"query_id": "q1", "query": "Is 1\u2028odd?", "task": "parity", "split": "train", "model": "bob"},
    {"query_id": "q2", "query": "2+3?", "split": "test", "model": "ada", "sample_id": 1, "propensity": 0.5},
    {"query_id": "q2", "query": "2+3?", "split": "test", "model": "ada", "sample_id": 2, "answer": "yes"},
]

FIGHTS = [Battle("2+3?", "ada", "bob", "ada"), Battle("4+4?", "bob", "ada", "tie")]

FORMS = ("jsonl", "parquet")


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    return str(request.param)


def write_parquet(path: Path, columns: dict[str, Any]) -> Path:
    pa = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pa.table(columns), path)
    return path


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return path


def assert_equal(a: Table, b: Table) -> None:
    for name in ("queries", "questions", "tasks", "groups", "splits", "members"):
        assert getattr(a, name) == getattr(b, name), name
    for name in ("query", "member", "sample", "text", "answer"):
        assert getattr(a, name).tolist() == getattr(b, name).tolist(), name
    for name in NUMBERS:
        np.testing.assert_array_equal(a.numbers[name], b.numbers[name])


def test_what_was_written_is_read_again(form: str, tmp_path: Path) -> None:
    table = Table.of(RECORDS)
    path = tmp_path / f"outcomes.{form}"
    tables.write(table, path)
    source = tables.read_source(path)
    assert source.table is not None
    assert_equal(source.table, table)
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert "cost_usd" in source.columns
    assert "seconds" not in source.columns  # nobody recorded it
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_large_table_is_read_batch_by_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    rng = np.random.default_rng(0)
    n, q, m = 500, 40, 3
    table = Table.of_arrays(
        queries=[f"q{i}" for i in range(q)],
        questions=[f"question {i}" for i in range(q)],
        groups=[f"g{i % 4}" for i in range(q)],
        members=["ada", "bob", "cyd"],
        query=np.concatenate([np.arange(q), rng.integers(0, q, n - q)]),  # in no order
        member=np.concatenate([np.arange(q) % m, rng.integers(0, m, n - q)]),
        sample=np.arange(n),
        text=[f"text {i}" if i % 3 else None for i in range(n)],
        answer=[None if i % 5 == 0 else "ABC"[i % 3] for i in range(n)],
        numbers={"score": rng.random(n), "usd": np.where(rng.random(n) < 0.1, np.nan, 1e-4)},
    )
    tables.write(table, tmp_path / "t.parquet")
    monkeypatch.setattr(tables, "_BATCH", 7)
    assert_equal(tables.read(tmp_path / "t.parquet"), table)


def test_without_texts_the_answers_stay(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    tables.write(Table.of(RECORDS), tmp_path / "t.parquet")
    table = tables.read(tmp_path / "t.parquet", texts=False)
    assert table.text.tolist() == [None] * 4
    assert table.answer.tolist() == ["yes", None, None, "yes"]


def test_battles_are_read_as_they_were_written(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"battles.{form}"
    tables.write_battles(FIGHTS, path)
    assert tables.read_battles(path) == FIGHTS
    with pytest.raises(BadParameter, match="holds battles, not outcomes"):
        tables.read(path)


def test_outcomes_are_no_battles(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "o.jsonl", RECORDS)
    with pytest.raises(BadParameter, match=r"o.jsonl: must have the columns query, a, b, winner"):
        tables.read_battles(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"winner": "cyd"}, r"b.jsonl:2.winner: must be 'ada', 'bob' or 'tie', got 'cyd'"),
        ({"b": "ada"}, r"b.jsonl:2.b: must be another member than a, got 'ada'"),
        ({"query": None}, r"b.jsonl:2: must have query"),
    ],
)
def test_a_battle_that_cannot_have_been_is_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    row = {"query": "2+3?", "a": "ada", "b": "bob", "winner": "ada"}
    path = write_lines(tmp_path / "b.jsonl", [row, row | change])
    with pytest.raises(BadParameter, match=said):
        tables.read_battles(path)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"query_id": ["q"], "score": [1.0]}, r"t.parquet: must have the column model, got"),
        ({"model": ["a"], "score": [1.0]}, r"t.parquet: must have the column query_id or query, got"),
        ({"query_id": ["q", None], "model": ["a", "a"]}, r"t.parquet:2.query_id: must be given, got None"),
        ({"query_id": ["q", "r"], "model": ["a", None]}, r"t.parquet:2.model: must be given, got None"),
        (
            {"query_id": ["q", "r"], "model": ["a", "a"], "cost_usd": ["1", "cheap"]},
            r"t.parquet:2.cost_usd: must be a number, got 'cheap'",
        ),
    ],
)
def test_a_wrong_parquet_file_is_refused_by_row_and_column(
    columns: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = write_parquet(tmp_path / "t.parquet", columns)
    with pytest.raises(BadParameter, match=said):
        tables.read(path)


def test_ids_that_are_numbers_and_numbers_that_are_texts_are_read(tmp_path: Path) -> None:
    columns = {"query_id": [7, 8], "model": ["a", "a"], "score": ["1", "0.5"], "sample_id": [None, 3]}
    table = tables.read(write_parquet(tmp_path / "t.parquet", columns))
    assert (table.queries, table.score.tolist()) == (("7", "8"), [1.0, 0.5])
    assert table.sample.tolist() == [0, 3]


def test_a_question_that_stands_twice_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "queries.parquet", {"query_id": ["q", "q"], "query": ["2+3?", "4+4?"]})
    write_parquet(tmp_path / "outcomes.parquet", {"query_id": ["q"], "model": ["a"]})
    with pytest.raises(BadParameter, match=r"queries.parquet:2.query_id: must be there once, got 'q'"):
        tables.read(tmp_path)


def test_a_folder_says_which_file_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must hold queries.parquet and outcomes.parquet"):
        tables.read(tmp_path)


def test_a_file_that_is_not_parquet_is_said(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "t.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(ConfigError, match=r"t.parquet is not a parquet file: "):
        tables.read(tmp_path / "t.parquet")


def test_a_parquet_file_that_is_cut_off_is_said(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    tables.write(Table.of(RECORDS), tmp_path / "t.parquet")
    whole = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match=r"t.parquet is not a parquet file: "):
        tables.read(tmp_path / "t.parquet")


def test_a_parquet_file_whose_pages_are_damaged_is_said(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "t.parquet"
    tables.write(Table.of(RECORDS), path)
    raw = bytearray(path.read_bytes())
    raw[4:24] = b"\xff" * 20  # the first page's header; the footer is as it was
    path.write_bytes(bytes(raw))
    with pytest.raises(ConfigError, match=r"t.parquet is damaged after row 0: "):
        tables.read(path)


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.parquet").touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r'pip install "septet\[data\]"'):
        tables.read(tmp_path / "t.parquet")


def test_json_lines_need_no_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    tables.write(Table.of(RECORDS), tmp_path / "t.jsonl")
    assert_equal(tables.read(tmp_path / "t.jsonl"), Table.of(RECORDS))


def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "t.jsonl", RECORDS)
    before = path.read_bytes()
    table = Table.of([*RECORDS, {"query_id": "q3", "model": "ada", "answer": object()}])
    with pytest.raises(TypeError, match="not JSON serializable"):
        tables.write(table, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["t.jsonl"]


def test_the_split_and_the_hash_are_in_the_provenance(tmp_path: Path) -> None:
    rows = [
        {"query_id": f"q{i}", "split": "test" if i else "train", "model": "ada", "score": i % 2}
        for i in range(3)
    ]
    path = write_lines(tmp_path / "t.jsonl", [{"note": "x"}, *rows])
    table, made = tables.read_table(path, "test")
    assert table.queries == ("q1", "q2")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert made == {"data": "t.jsonl", "sha256": digest, "split": "test"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"score": 1.5},
            r"t.jsonl cannot be fitted on:\n  - score: must be from 0 to 1; row 2 \(q1, bob\) has 1.5",
        ),
        (
            {"cost_usd": -1},
            r"cannot be fitted on:\n  - cost_usd: must be finite and not negative; row 2 \(q1, bob\)",
        ),
        ({"model": "ada"}, r"cannot be fitted on:\n  - query_id, model, sample_id: 1 rows repeat"),
    ],
)
def test_rows_that_cannot_be_right_are_not_fitted_on(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    rows = [
        {"query_id": q, "model": m, "score": s}
        for q, m, s in (("q1", "ada", 1), ("q1", "bob", 0), ("q2", "ada", 0))
    ]
    assert len(tables.read_table(write_lines(tmp_path / "t.jsonl", rows), "")[0]) == 3
    rows[1] |= change
    with pytest.raises(ConfigError, match=said):
        tables.read_table(write_lines(tmp_path / "t.jsonl", rows), "")


def test_a_model_without_scores_is_not_judged_before_it_is_known_who_is_fitted(tmp_path: Path) -> None:
    rows = [
        {"query_id": q, "model": m, "score": s}
        for q, m, s in (("q1", "ada", 1), ("q2", "ada", 0), ("q1", "bob", None))
    ]
    table, _ = tables.read_table(write_lines(tmp_path / "t.jsonl", rows), "")
    assert table.members == ("ada", "bob")
