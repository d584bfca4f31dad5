"""A split of recorded outcomes, ready to be routed: what to train on, and the test questions all have answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from septet.bench.bounds import best_single, column_means
from septet.bench.jobs import Job, recorded_of, split_of
from septet.bench.sets import Recorded
from septet.bench.splits import Split
from septet.core.errors import BadParameter
from septet.core.table import Table
from septet.core.types import Floats


@dataclass(frozen=True, eq=False)
class Trial:
    """A split in its two tables, the test questions of which every member has a score, and what they got.

    `index` (n,) are the places of the test questions in the whole table; `scores`, `usd` (n, m).
    `costs` is the mean cost of each member in the whole table, by which prices of cost are scaled; `span` goes from
    the cheapest member's mean cost on the test questions to the dearest's: over it areas are taken.
    """

    train: Table
    test: Table
    index: NDArray[np.int64]
    scores: Floats
    usd: Floats
    priced: bool
    costs: Floats
    span: tuple[float, float]
    notes: tuple[str, ...]

    def of_members(self, members: Sequence[str]) -> Trial:
        """The same with some of the members, in this order."""
        place = [self.test.members.index(m) for m in members]
        return replace(
            self,
            train=self.train.of_members(members),
            test=self.test.of_members(members),
            scores=self.scores[:, place],
            usd=self.usd[:, place],
        )


def trial(job: Job) -> Trial:
    """What a job is measured on; an empty test part and an unseen member raise."""
    return trial_of(recorded_of(job.data), split_of(job))


def trial_of(recorded: Recorded, split: Split) -> Trial:
    """The same of outcomes and a split of them."""
    table, notes, priced = recorded.table, list(recorded.notes), recorded.priced
    if not priced:
        notes.append("the cost of every answer is not known, so cost is left out: every call counts 1")
        numbers = {**table.numbers, "usd": np.ones(len(table))}
        table = replace(table, numbers=numbers)
    train = table.of_queries(split.train)
    unknown = np.flatnonzero(np.isnan(train.matrix("score")).all(axis=0)).tolist()
    if unknown:
        unseen = [table.members[i] for i in unknown]
        raise BadParameter("members", unseen, f"have no score in the part of {recorded.name} to train on")
    whole = ~np.isnan(table.matrix("score")).any(axis=1)
    index = np.flatnonzero(split.test & whole)
    if not len(index):
        raise BadParameter(
            "split", split.kind, f"leaves no question of {recorded.name} that all members have answered"
        )
    if lost := int(split.test.sum()) - len(index):
        notes.append(f"{lost} test questions are left out, as not all members have a score there")
    keep = np.zeros(len(table.queries), dtype=np.bool_)
    keep[index] = True
    test = table.of_queries(keep)
    scores, usd = test.matrix("score"), test.matrix("usd")
    means = usd.mean(axis=0)
    span = float(means.min()), float(means.max())
    costs = column_means(table.matrix("usd"))
    return Trial(train, test, index, scores, usd, priced, costs, span, tuple(notes))


def weak_and_strong(on: Trial) -> tuple[str, str]:
    """The cheapest and the best member on the questions to train on; without known cost the worst and the best."""
    members = on.train.members
    scores = column_means(on.train.matrix("score"))
    strong = best_single(on.train.matrix("score"))
    worth = -column_means(on.train.matrix("usd")) if on.priced else -scores
    worth[strong] = -np.inf
    return members[int(np.nanargmax(worth))], members[strong]
