"""Multiple choice by score: every option as the answer to its question, and the likeliest one per byte is taken.

What a member or an ensemble says of a given text needs no instruction to be followed, so small base models can
be compared too. A failed question is wrong and counted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from septet.bench import resumed
from septet.bench.live import data_hash, mean_of
from septet.bench.report import versions
from septet.core.errors import BadParameter, RunError
from septet.core.types import Floats, Query
from septet.engine.house import Asked, House, parameters_json
from septet.parts.stats.intervals import Estimate, bootstrap_difference
from septet.tasks.loader import LETTERS, Question, Task

PROMPT = "Question: {question}\nAnswer:"
"""What stands before an option."""

Progress = Callable[[str, str, int, int], None]
"""Told the ensemble, the task, how many of its questions are done, and how many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One ensemble or member on one task. `right` (n,) by question; `minus_best` is the paired difference to
    the best member of the run on the same questions, None for members themselves; `errors`: of the questions
    that failed, each with its id."""

    name: str
    method: str
    parameters: Mapping[str, Any]
    members: tuple[str, ...]
    task: str
    accuracy: Estimate
    minus_best: Estimate | None
    errors: tuple[str, ...]
    right: tuple[bool, ...]


async def options(
    house: House,
    names: Sequence[str],
    tasks: Sequence[Task],
    *,
    lead: str = " ",
    folder: Path | None = None,
    progress: Progress | None = None,
) -> list[Scored]:
    """Scores the options of all questions under every named ensemble and under all of their members.

    `folder`: where the mark of every question is kept; a run that was stopped goes on from there.

    `lead` stands between prompt and option and is scored with it, since it is part of the option's first token.
    Members come first. The members' best is the one that is right most often on these very questions, which
    favours it: an ensemble that is not behind it has lost nothing by not knowing which one to take.
    """
    asked = {name: house[name] for name in names}
    members = list(dict.fromkeys(m.name for a in asked.values() for m in a.ensemble.members))
    everyone = {name: house[name] for name in [*members, *names]}
    for task in tasks:
        _check(task)
    found = []
    for task in tasks:
        marks = {}
        for name, one in everyone.items():
            marks[name] = await _marked(one, task, lead, _Kept.of(folder, one, task, lead), progress)
        best = max((marks[m][0] for m in members), key=lambda right: right.mean(), default=None)
        for name, one in everyone.items():
            right, errors = marks[name]
            minus = None
            if best is not None and name not in members:
                minus = bootstrap_difference(right, best, np.random.default_rng(0))
            found.append(
                Scored(
                    name=name,
                    method=one.ensemble.method.name,
                    parameters=parameters_json(one.ensemble.method),
                    members=tuple(m.name for m in one.ensemble.members),
                    task=task.name,
                    accuracy=mean_of(right),
                    minus_best=minus,
                    errors=tuple(errors),
                    right=tuple(bool(r) for r in right),
                )
            )
    return found


def oracle(scored: Sequence[Scored], task: str) -> Estimate:
    """The share of questions that at least one member is right on."""
    rows = [s.right for s in scored if s.task == task and s.minus_best is None]
    right: Floats = np.array(rows, dtype=np.float64).max(axis=0)
    return mean_of(right)


def record(scored: Sequence[Scored], tasks: Sequence[Task], *, made: str = "") -> dict[str, Any]:
    """The run as JSON: numbers, n, versions and data hashes; no questions and no answers."""
    return {
        "form": 1,
        **({"made": made} if made else {}),
        "packages": versions(),
        "prompt": PROMPT,
        "tasks": [
            {"name": t.name, "questions": len(t), "licence": t.licence, "data": data_hash(t)}
            | {"oracle": asdict(oracle(scored, t.name))}
            for t in tasks
        ],
        "measured": [
            {k: v for k, v in asdict(s).items() if k not in ("right", "errors")} | {"failed": len(s.errors)}
            for s in scored
        ],
    }


COLUMNS = ("task", "name", "method", "n", "right", "95 % interval", "− best member", "failed")
"""The columns of `rows`."""


def rows(scored: Sequence[Scored]) -> list[tuple[str, ...]]:
    """One row per task and member or ensemble, as text, and one per task for the oracle."""
    found = [_row(s) for s in scored]
    for task in dict.fromkeys(s.task for s in scored):
        share = oracle(scored, task)
        found.append((task, "(oracle)", "", *_share(share), "", ""))
    return found


def _row(s: Scored) -> tuple[str, ...]:
    minus = "" if s.minus_best is None else str(s.minus_best)
    return (s.task, s.name, s.method, *_share(s.accuracy), minus, str(len(s.errors) or ""))


def _share(share: Estimate) -> tuple[str, str, str]:
    return str(share.n), f"{share.value:.3f}", f"{share.low:.3f} – {share.high:.3f}"


def _check(task: Task) -> None:
    for question in task.questions:
        if len(question.choices) < 2:
            raise BadParameter("--task", task.name, f"must give every question its choices ({question.id})")


@dataclass
class _Kept:
    """Which questions an earlier run has marked: a line of JSON each, [id, right]; a failed one has none."""

    file: Path | None = None
    marks: dict[str, bool] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path | None, asked: Asked, task: Task, lead: str) -> _Kept:
        """The marks of this ensemble, with these members and parameters, on these very questions."""
        if folder is None:
            return cls()
        e = asked.ensemble
        members = [getattr(m, "identity", m.name) for m in e.members]
        version = e.cell.learned.version if e.cell.learned else 0
        facts = [e.method.name, parameters_json(e.method), members, version, data_hash(task), PROMPT, lead]
        key = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]
        file = folder / f"options-{key}.jsonl"
        return cls(file, dict(resumed.kept(file)))

    def keep(self, question: str, right: bool) -> None:
        """One mark more."""
        self.marks[question] = right
        if self.file is not None:
            resumed.keep(self.file, [question, right])


async def _marked(
    asked: Asked, task: Task, lead: str, kept: _Kept, progress: Progress | None
) -> tuple[Floats, list[str]]:
    """(n,) 1 for each right question, and what went wrong with those that failed."""
    right, errors = np.zeros(len(task)), list[str]()
    for i, question in enumerate(task.questions):
        try:
            if question.id not in kept.marks:
                scores = await _scores(asked, question, lead)
                kept.keep(question.id, LETTERS[int(scores.argmax())] in question.gold)
            right[i] = kept.marks[question.id]
        except RunError as error:
            errors.append(f"{question.id}: {error}")
        if progress is not None:
            progress(asked.name, task.name, i + 1, len(task))
    return right, errors


async def _scores(asked: Asked, question: Question, lead: str) -> Floats:
    """(n_options,) log-probability per byte."""
    texts = [lead + choice for choice in question.choices]
    found = await asked.score(Query(raw=PROMPT.format(question=question.question)), texts)
    sums = [float(tokens.logp.sum()) / len(text.encode()) for tokens, text in zip(found, texts, strict=True)]
    return np.array(sums)
