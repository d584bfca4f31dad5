"""Which questions of a table are fitted on and which are tested on: by its own marks, at random, by group, by task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import BadParameter
from septet.core.table import Table

SplitKind: TypeAlias = Literal["own", "random", "grouped", "leave-one-task-out"]

KINDS: tuple[str, ...] = get_args(SplitKind)

TRAIN_SHARE = 0.7
"""Share of the questions (of the groups, for "grouped") that a split at random fits on."""


@dataclass(frozen=True, eq=False)
class Split:
    """`train` and `test` (q,) are true for the questions of each part; no question is in both.

    `seed` is that of the draw and of the fit; `fold` names the task that is left out, else it is empty.
    """

    kind: SplitKind
    seed: int
    fold: str
    train: NDArray[np.bool_]
    test: NDArray[np.bool_]


def splits(table: Table, kind: SplitKind, seeds: Sequence[int]) -> list[Split]:
    """The splits of a table, one per seed, or one per task and seed; a part without questions is refused.

    own: the marks "train" and "test" in the table, the same for every seed. random: seven tenths of the
    questions to fit on, drawn anew per seed; questions with the same text stay together. grouped: the same by group, so
    that no group is in both parts. leave-one-task-out: each task once as the test part.
    """
    if kind == "own":
        marks = np.array(table.splits)
        return [_checked(Split(kind, s, "", marks == "train", marks == "test"), table) for s in seeds]
    if kind == "random":
        return [_checked(_drawn(kind, s, table.questions, table), table) for s in seeds]
    if kind == "grouped":
        if not any(table.groups):
            raise BadParameter("--split", kind, "needs the column group, which this table does not have")
        return [_checked(_drawn(kind, s, table.groups, table), table) for s in seeds]
    tasks = list(dict.fromkeys(table.tasks))
    if len(tasks) < 2:
        raise BadParameter("--split", kind, f"needs two tasks or more, and this table has {tasks}")
    of = np.array(table.tasks)
    return [_checked(Split(kind, s, t, of != t, of == t), table) for s in seeds for t in tasks]


def kind_of(text: str) -> SplitKind:
    """The kind of split that a user names."""
    if text not in KINDS:
        raise BadParameter("--split", text, f"must be one of {', '.join(KINDS)}")
    return cast("SplitKind", text)


def _drawn(kind: SplitKind, seed: int, units: Sequence[str], table: Table) -> Split:
    """A draw of whole units: questions of one text, or of one group; what has no group stands alone."""
    keys = [unit or f"\0{query}" for unit, query in zip(units, table.queries, strict=True)]
    _, unit = np.unique(np.array(keys), return_inverse=True)
    n_units = int(unit.max(initial=-1)) + 1
    n_train = int(np.clip(round(TRAIN_SHARE * n_units), 0, max(n_units - 1, 0)))
    chosen = np.zeros(n_units, dtype=np.bool_)
    chosen[np.random.default_rng([seed, 1]).permutation(n_units)[:n_train]] = True
    return Split(kind, seed, "", chosen[unit], ~chosen[unit])


def _checked(split: Split, table: Table) -> Split:
    for part in ("train", "test"):
        if not getattr(split, part).any():
            marks = sorted(set(table.splits))
            hint = f"; the table's own marks are {marks}" if split.kind == "own" else ""
            raise BadParameter("--split", split.kind, f"leaves no question to {part} on{hint}")
    return split
