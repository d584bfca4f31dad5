"""What is fitted on and what is tested on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from septet.bench.splits import kind_of, splits
from septet.core.errors import BadParameter
from septet.core.table import Table


def table(n: int = 20, **columns: Any) -> Table:
    """n questions answered by two members; a column is a list, one value per question."""
    facts = [{"query": f"question {i}"} | {k: v[i] for k, v in columns.items()} for i in range(n)]
    return Table.of(
        [{"query_id": str(i), "model": m, "score": 1.0} | f for i, f in enumerate(facts) for m in ("a", "b")]
    )


def test_the_table_s_own_marks_are_taken_and_what_has_another_mark_is_in_neither_part() -> None:
    (one, two) = splits(table(4, split=["train", "test", "train", "other"]), "own", [0, 7])
    assert one.train.tolist() == [True, False, True, False]
    assert one.test.tolist() == [False, True, False, False]
    assert (two.seed, two.train.tolist()) == (7, one.train.tolist())


def test_a_draw_leaves_three_in_ten_for_the_test_and_depends_on_the_seed_alone() -> None:
    first, again, other = (splits(table(), "random", [s])[0] for s in (0, 0, 1))
    assert int(first.train.sum()) == 14
    assert not (first.train & first.test).any()
    assert (first.train | first.test).all()
    np.testing.assert_array_equal(first.train, again.train)
    assert (first.train != other.train).any()


def test_questions_of_one_text_stay_together() -> None:
    texts = [f"question {i // 2}" for i in range(20)]
    for split in splits(table(20, query=texts), "random", range(5)):
        assert (split.train[::2] == split.train[1::2]).all()


def test_no_group_is_in_both_parts_and_what_has_no_group_stands_alone() -> None:
    groups = ["a"] * 6 + ["b"] * 6 + [""] * 8
    split = splits(table(20, group=groups), "grouped", [0])[0]
    assert len(set(split.train[:6].tolist())) == len(set(split.train[6:12].tolist())) == 1
    assert len(set(split.train[12:].tolist())) == 2


def test_each_task_is_left_out_once() -> None:
    found = splits(table(6, task=list("xxyyzz")), "leave-one-task-out", [0])
    assert [s.fold for s in found] == ["x", "y", "z"]
    assert [s.test.tolist() for s in found][1] == [False, False, True, True, False, False]
    assert [int(s.train.sum()) for s in found] == [4, 4, 4]


@pytest.mark.parametrize(
    ("kind", "columns", "said"),
    [
        ("own", {}, "leaves no question to train on; the table's own marks are ['']"),
        ("own", {"split": ["train"] * 20}, "leaves no question to test on"),
        ("grouped", {}, "needs the column group"),
        ("grouped", {"group": ["one"] * 20}, "leaves no question to train on"),
        ("leave-one-task-out", {"task": ["x"] * 20}, "needs two tasks or more, and this table has ['x']"),
    ],
)
def test_a_part_without_questions_is_refused(kind: str, columns: dict[str, Any], said: str) -> None:
    with pytest.raises(BadParameter, match=r".") as caught:
        splits(table(**columns), kind_of(kind), [0])
    assert said in str(caught.value)


def test_an_unknown_kind_is_refused_with_those_there_are() -> None:
    with pytest.raises(BadParameter, match="must be one of own, random, grouped, leave-one-task-out"):
        kind_of("fair")
