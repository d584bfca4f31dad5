"""What a method after inference is tried on, and how it is made ready for it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from septet.bench.after.replay import Stage
from septet.bench.after.sets import Answers
from septet.bench.splits import splits
from septet.bench.trials import Trial, trial_of
from septet.core.table import Table


@dataclass(frozen=True, eq=False)
class On:
    """What a job is measured on: the answers, the trial with all of them, and that of members `alone`.

    `index` (n,) are the places of the test questions in the table.
    """

    answers: Answers
    trial: Trial
    alone: Trial

    @property
    def index(self) -> NDArray[np.int64]:
        return self.trial.index

    @classmethod
    def of(cls, answers: Answers, seed: int) -> On:
        """The own split of some answers; where cost is not known, every answer costs 1."""
        split = splits(answers.table, "own", [seed])[0]
        found = trial_of(answers.recorded, split)
        alone = trial_of(replace(answers.recorded, table=answers.alone()), split)
        if not found.priced:
            table = answers.table
            numbers = {**table.numbers, "usd": np.ones(len(table))}
            recorded = replace(answers.recorded, table=replace(table, numbers=numbers))
            answers = replace(answers, recorded=recorded)
        return cls(answers, found, alone)


def prepare(stage: Stage, trial: Trial, seed: int, notes: list[str]) -> None:
    """The state before the first question: fitted, where the method cannot serve without."""
    method = stage.method
    stage.state = method.begin(stage.members)
    if not method.card.trained or stage.state is not None:
        return
    if method.card.labels == "none":
        unmarked = _without_scores(trial.test)
        notes.append("fitted without labels on the test questions' own answers")
        stage.fit(unmarked.of_members(stage.members), np.random.default_rng([seed, 0]))
    else:
        stage.fit(trial.train.of_members(stage.members), np.random.default_rng([seed, 0]))


def _without_scores(table: Table) -> Table:
    return replace(table, numbers={**table.numbers, "score": np.full(len(table), np.nan)})
