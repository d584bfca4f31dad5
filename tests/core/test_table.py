"""A table of outcomes: built from records, lines or columns; what nobody recorded takes no memory."""

from __future__ import annotations

import doctest
import json
import pickle

import numpy as np
import pytest

import septet.core.table
from septet.core.errors import BadParameter
from septet.core.table import NUMBERS, Table


def columns(**more: object) -> Table:
    """Two questions, two members, one answer missing."""
    given: dict[str, object] = {
        "queries": ["q1", "q2"],
        "members": ["ada", "bob"],
        "query": np.array([0, 0, 1]),
        "member": np.array([0, 1, 0]),
        "numbers": {"score": np.array([1.0, 0.0, 0.5])},
    }
    return Table.of_arrays(**(given | more))  # type: ignore[arg-type]


def test_the_examples_in_the_docstrings_hold() -> None:
    result = doctest.testmod(septet.core.table)
    assert result.attempted >= 2
    assert result.failed == 0


def test_records_and_columns_make_the_same_table() -> None:
    records = [
        {"query_id": "q1", "query": "2+3?", "split": "train", "model": "ada", "score": 1, "answer": "5"},
        {"query_id": "q1", "query": "2+3?", "split": "train", "model": "bob", "score": 0, "answer": None},
        {"query_id": "q2", "query": "4+4?", "split": "test", "model": "ada", "score": 0.5, "answer": "5"},
    ]
    a = Table.of(records)
    b = columns(
        questions=["2+3?", "4+4?"],
        splits=["train", "test"],
        answer=np.array(["5", None, "5"], dtype=object),
    )
    for name in ("queries", "questions", "tasks", "groups", "splits", "members"):
        assert getattr(a, name) == getattr(b, name)
    for name in ("query", "member", "sample", "text", "answer"):
        assert getattr(a, name).tolist() == getattr(b, name).tolist()
    for name in NUMBERS:
        np.testing.assert_array_equal(a.numbers[name], b.numbers[name])
    assert a.answer[0] is a.answer[2]  # one object for a word that two rows say


def test_what_nobody_recorded_takes_no_memory_and_stays_so_in_a_part() -> None:
    table = columns()
    part = table.rows(np.array([True, False, True]))
    for some in (table, part, table.of_members(["bob", "ada"]), table.of_queries(np.array([False, True]))):
        for column in (some.text, some.usd, some.sample):
            assert (column.strides, len(column)) == ((0,), len(some))
    assert part.score.tolist() == [1.0, 0.5]
    assert part.text.tolist() == [None, None]


def test_a_column_of_unknown_values_is_as_one_that_was_not_given() -> None:
    table = columns(numbers={"score": np.ones(3), "usd": np.full(3, np.nan)}, text=[None, None, None])
    assert table.usd.strides == table.text.strides == (0,)


def test_a_column_of_the_right_type_is_kept_and_not_copied() -> None:
    score, query = np.array([1.0, 0.0, 0.5]), np.array([0, 0, 1], dtype=np.int32)
    table = columns(query=query, numbers={"score": score})
    assert np.shares_memory(table.score, score)
    assert np.shares_memory(table.query, query)


def test_a_table_survives_the_way_to_another_process() -> None:
    back = pickle.loads(pickle.dumps(columns()))
    assert back.matrix("score").tolist()[0] == [1.0, 0.0]
    assert np.isnan(back.usd).all()


def test_an_empty_table_has_no_rows_and_its_parts_neither() -> None:
    table = Table.of([])
    assert (len(table), table.queries, table.text.tolist(), table.usd.tolist()) == (0, (), [], [])
    assert len(table.rows(np.zeros(0, dtype=bool))) == 0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"member": np.array([0, 1])}, r"member: must have a value for each of the 3 rows, got 2"),
        ({"member": np.array([0, 1, 2])}, r"member: must be indices from 0 to 1, got 2"),
        ({"query": np.array([-1, 0, 1])}, r"query: must be indices from 0 to 1"),
        ({"splits": ["train"]}, r"splits: must have a value for each of the 2 queries, got 1"),
        ({"text": ["a"]}, r"text: must have a value for each of the 3 rows, got 1"),
        ({"numbers": {"price": np.ones(3)}}, r"numbers: must be among score, usd, .*, got \['price'\]"),
    ],
)
def test_columns_that_do_not_belong_together_are_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(BadParameter, match=said):
        columns(**wrong)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"query_id": "q"}, r"t:3: must have model and query_id or query, got \['query_id'\]"),
        ({"query_id": None, "model": "a"}, r"t:3: must have model and query_id or query"),
        ({"query_id": "q", "model": None}, r"t:3: must have model and query_id or query"),
        ({"query_id": "q", "model": "a", "score": "good"}, r"t:3.score: must be a number, got 'good'"),
        ({"query_id": "q", "model": "a", "cost_usd": [1]}, r"t:3.cost_usd: must be a number, got \[1\]"),
        (
            {"query_id": "q", "model": "a", "sample_id": "x"},
            r"t:3.sample_id: must be a whole number, got 'x'",
        ),
    ],
)
def test_a_wrong_line_is_named_by_its_number_in_the_file(row: dict[str, object], said: str) -> None:
    with pytest.raises(BadParameter, match=said):
        Table.of_lines(['{"note": "made for a test"}', "", json.dumps(row)], "t")


def test_repeated_samples_are_averaged_and_missing_ones_left_out() -> None:
    rows = [("q1", "ada", 0, 1.0), ("q1", "ada", 1, 0.0), ("q1", "ada", 2, None), ("q2", "bob", 0, 0.25)]
    table = Table.of([{"query_id": q, "model": m, "sample_id": s, "score": v} for q, m, s, v in rows])
    np.testing.assert_array_equal(table.matrix("score"), [[0.5, np.nan], [np.nan, 0.25]])


def test_battles_are_decided_by_the_mean_score() -> None:
    table = columns(query=np.array([0, 0, 1]), questions=["2+3?", "4+4?"])
    (battle,) = table.battles()  # of the second question only ada's score is known
    assert (battle.query, battle.a, battle.b, battle.winner) == ("2+3?", "ada", "bob", "ada")
