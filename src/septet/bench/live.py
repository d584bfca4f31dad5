"""Live runs: ensembles and members on tasks, marked; accuracy with its interval, USD and seconds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from septet.core.errors import ConfigError, RunError, UnknownName
from septet.core.types import Answer, Floats, Query, Verdict
from septet.engine import catalogue
from septet.engine.house import Asked, House, parameters_json
from septet.parts.stats.intervals import Estimate, bootstrap_difference, bootstrap_mean, wilson
from septet.tasks import loader
from septet.tasks.loader import Task

Progress = Callable[[str, str, int, int], None]
"""Told the ensemble, the task, how many of its questions are done, and how many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One ensemble on one task.

    `accuracy` is the share of right answers with its 95 % Wilson interval, or the mean of graded `scores` (n,) with
    a bootstrap one; `minus_best` the paired difference to the run's best member on the same questions, None for
    members themselves and where none was asked; `usd` is the sum over the n questions, `seconds` the mean per
    question; `truncated` counts answers cut off at max_tokens, `unread` those in which no final answer was found,
    `failed` the questions that ended in an error; both are wrong and not left out.
    """

    ensemble: str
    method: str
    parameters: Mapping[str, Any]
    members: tuple[str, ...]
    state: int
    task: str
    accuracy: Estimate
    usd: float
    seconds: float
    prompt_tokens: int
    completion_tokens: int
    truncated: int
    unread: int
    failed: int
    minus_best: Estimate | None = None
    scores: tuple[float, ...] = ()

    @property
    def is_member(self) -> bool:
        """Whether this is a member that was asked on its own."""
        return self.members == (self.ensemble,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What one run of `bench` measured, and on what."""

    measured: tuple[Measured, ...]
    tasks: tuple[Task, ...]
    seed: int


def task_of(name: str | Path, limit: int | None = None) -> Task:
    """A task by name, ours or a third party's, or by the path of its file.

    A third party's entry point (group `septet.tasks`) names the path of a task file, or a `Task`.
    """
    known = catalogue.entries("tasks")
    if isinstance(name, Path) or name.endswith(".jsonl"):
        return loader.load(name, limit)
    if name not in known:
        raise UnknownName("task", name, known)
    if known[name].owner == "septet":
        return loader.load(name, limit)
    found = catalogue.get("tasks", name)
    if isinstance(found, Task):
        return found.first(limit)
    if isinstance(found, str | Path):
        return loader.load(Path(found), limit)
    raise ConfigError(f"task {name!r} of {known[name].owner} is neither a Task nor a path, but {type(found)}")


async def bench(
    house: House,
    ensembles: Sequence[str],
    tasks: Sequence[Task | str | Path],
    *,
    limit: int | None = None,
    seed: int = 0,
    concurrency: int = 4,
    fresh: bool = False,
    progress: Progress | None = None,
) -> Results:
    """Asks every ensemble (or member) the first `limit` questions of every task.

    A run that was stopped goes on where it stopped: answers that are already in the house's store come from
    there, with the USD and seconds that they took then. `fresh` asks everything anew. The exact response
    cache is not used: an ensemble that reuses another's replies would seem to cost nothing.
    """
    asked = [house[name] for name in ensembles]
    loaded = [t.first(limit) if isinstance(t, Task) else task_of(t, limit) for t in tasks]
    measured = []
    for task in loaded:
        found = [
            measure(one, task, await _answers(one, task, seed, concurrency, fresh, progress)) for one in asked
        ]
        measured += against_best_member(found)
    return Results(measured=tuple(measured), tasks=tuple(loaded), seed=seed)


async def _answers(
    asked: Asked, task: Task, seed: int, concurrency: int, fresh: bool, progress: Progress | None
) -> list[Answer]:
    """The answers to all questions of a task, in one call, since some methods decide over all of them."""
    n_done = 0

    def done(i: int, answer: Answer) -> None:
        nonlocal n_done
        n_done += 1
        if progress is not None:
            progress(asked.name, task.name, n_done, len(task))

    return await asked.ask_many(
        queries(task, seed),
        concurrency=concurrency,
        resume="" if fresh else f"bench {task.name} {data_hash(task)}",
        done=done,
        failed=_unanswered,
    )


def _unanswered(i: int, error: RunError) -> Answer:
    """What stands for a question that nobody could answer: wrong, and counted."""
    return Answer(text="", verdict=Verdict(abstained=True, reason=str(error)), finish="error")


def queries(task: Task, seed: int) -> list[Query]:
    """The questions of a task as queries; sampling is the method's or the member's own."""
    return [Query.of(q.text, max_tokens=task.max_tokens, seed=seed, task=task.name) for q in task.questions]


def measure(asked: Asked, task: Task, answers: Sequence[Answer]) -> Measured:
    """Marks the answers of one ensemble to the questions of a task, in their order."""
    ensemble = asked.ensemble
    marks = [q.mark(a.text, a.finish) for q, a in zip(task.questions, answers, strict=True)]
    return Measured(
        ensemble=ensemble.name,
        method=ensemble.method.name,
        parameters=parameters_json(ensemble.method),
        members=tuple(m.name for m in ensemble.members),
        state=ensemble.cell.learned.version if ensemble.cell.learned else 0,
        task=task.name,
        accuracy=mean_of(np.array([m.score for m in marks])),
        scores=tuple(m.score for m in marks),
        usd=sum(a.usd for a in answers),
        seconds=sum(a.seconds for a in answers) / len(answers),
        prompt_tokens=sum(a.usage.prompt_tokens for a in answers),
        completion_tokens=sum(a.usage.completion_tokens for a in answers),
        truncated=sum(a.finish == "length" for a in answers),
        unread=sum(m.answer is None for m in marks),
        failed=sum(a.finish == "error" for a in answers),
    )


def against_best_member(measured: Sequence[Measured]) -> list[Measured]:
    """The same runs on one task, each ensemble with its difference to the best member among them.

    The best is the one with the highest mean on these very questions, which favours it: an ensemble that is not
    behind it has lost nothing by not knowing which one to take.
    """
    best = max((m for m in measured if m.is_member), key=lambda m: m.accuracy.value, default=None)
    if best is None:
        return list(measured)
    compared = np.array(best.scores)
    return [
        m
        if m.is_member
        else replace(
            m, minus_best=bootstrap_difference(np.array(m.scores), compared, np.random.default_rng(0))
        )
        for m in measured
    ]


def oracle(measured: Sequence[Measured], task: str) -> Estimate | None:
    """The mean of the best member's score on every question of a task; None where no member was asked."""
    rows = [m.scores for m in measured if m.task == task and m.is_member]
    return mean_of(np.array(rows).max(axis=0)) if rows else None


def mean_of(scores: Floats) -> Estimate:
    """The mean of scores (n,): Wilson's interval of a share where each is right or wrong, else a bootstrap one."""
    if np.isin(scores, (0.0, 1.0)).all():
        return wilson(int(scores.sum()), len(scores))
    return bootstrap_mean(scores, np.random.default_rng(0))


def data_hash(task: Task) -> str:
    """What exactly was asked and what counted as right, in 16 hexadecimal digits."""
    facts = [[q.id, q.text, q.gold, q.extractor, q.metric] for q in task.questions]
    return hashlib.sha256(json.dumps([task.max_tokens, facts]).encode()).hexdigest()[:16]
