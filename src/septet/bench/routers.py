"""Routers × recorded tables: the jobs, side by side in processes, and what they come to; a stopped run goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from septet.bench import jobs as files
from septet.bench import pooled
from septet.bench.contenders import Contender, check, everyone, fitting
from septet.bench.jobs import Job
from septet.bench.processes import Failure, Progress, Tally, each, processes, within
from septet.bench.replayed import featurise, measure
from septet.bench.report import versions
from septet.bench.results import FORM, Results
from septet.bench.sets import Recorded, open_set
from septet.bench.splits import SplitKind, splits
from septet.core.errors import ConfigError

ONE_SEED_ABOVE = 5000
"""Questions to train on above which one seed is enough: the draw of the fit moves less than the draw of the test."""

PACKAGES = ("septet", "numpy", "scipy", "scikit-learn")


@dataclass(frozen=True)
class Comparison:
    """All that a run has to do, in the order in which it is reported; `sets` by what `--data` called them."""

    sets: Mapping[str, Recorded]
    jobs: tuple[Job, ...]


def comparison(
    data: Sequence[str],
    contenders: Sequence[Contender] = (),
    *,
    split: SplitKind = "own",
    seeds: int = 1,
    grid: int = 100,
    draws: int = 1000,
    stream: bool = False,
) -> Comparison:
    """Reads the sets and refuses all that cannot be measured, before anything is fitted.

    Without contenders: every router that needs neither torch nor a role, on each set where it fits. `seeds`: how many,
    from 0; one alone where a split has more than 5,000 questions to train on. `grid`: prices of cost beside 0 and ∞.
    `draws`: resamples for intervals. `stream`: also the routers that were fitted learn from the test questions.
    """
    sets = {of: open_set(of) for of in dict.fromkeys(data)}
    if not sets:
        raise ConfigError("say with --data which recorded outcomes to compare routers on")
    named = [r.name for r in sets.values()]
    if len(set(named)) < len(named):
        raise ConfigError(f"two of the sets have the same name: {', '.join(named)}")
    check(contenders, list(sets.values()))
    found = []
    for of, recorded in sets.items():
        chosen = list(contenders) or fitting(everyone(), recorded)
        parts = splits(recorded.table, split, range(seeds))
        if max(int(p.train.sum()) for p in parts) > ONE_SEED_ABOVE:
            parts = [p for p in parts if p.seed == 0]
        one = Job(of, recorded.sha256, None, split, 0, "", grid, draws, stream)
        keys = {("", 0) if split == "own" else (p.fold, p.seed): None for p in parts}
        found += [replace(one, fold=fold, seed=seed) for fold, seed in keys]
        found += [replace(one, contender=c, fold=p.fold, seed=p.seed) for c in chosen for p in parts]
        for part in parts:
            _seen(recorded, part.train)
    return Comparison(sets, tuple(found))


def _seen(recorded: Recorded, train: Any) -> None:
    """Refuses a split whose part to train on lacks a member."""
    scored = ~np.isnan(recorded.table.numbers["score"]) & train[recorded.table.query]
    count = np.bincount(recorded.table.member[scored], minlength=len(recorded.table.members))
    if not count.all():
        unseen = [m for m, n in zip(recorded.table.members, count.tolist(), strict=True) if not n]
        raise ConfigError(f"{', '.join(unseen)} have no score in the part of {recorded.name} to train on")


def carry_out(
    run: Comparison,
    folder: Path,
    *,
    workers: int = 1,
    seconds: float = 0.0,
    progress: Progress | None = None,
) -> list[Failure]:
    """Does what no earlier run has done; every result is in a file of its own as soon as it is there.

    A job that lasts longer than `seconds` fails; 0 is no limit.
    """
    tally = Tally(run.jobs, folder, progress)
    with processes(workers) as submit:
        # features first, so that no two processes compute the same ones
        for job, error in each(submit, featurise, _featured(tally.left), folder / "features"):
            tally.tell(f"features for {job.label}" if error is None else job.label)
        # the largest sets first, so that no process is left alone with a long job at the end
        size = {of: len(recorded.table) for of, recorded in run.sets.items()}
        by_size = sorted(tally.left, key=lambda job: -size[job.data])
        return tally.failures(each(submit, partial(work, seconds=seconds), by_size, folder))


def _featured(jobs: Sequence[Job]) -> list[Job]:
    """One job per set of features that some router needs."""
    found: dict[Any, Job] = {}
    for job in jobs:
        if job.contender is not None:
            kind = job.contender.make().features
            found.setdefault((job.data, kind, job.fold, 0 if job.kind == "own" else job.seed), job)
    return list(found.values())


def work(job: Job, folder: Path, seconds: float = 0.0) -> None:
    """Measures and writes one job, in whatever process, within so many seconds; the file says how many it took."""
    began = monotonic()
    with within(seconds):
        found = measure(job, folder / "features")
    files.write(folder / "jobs", job, {**found, "seconds": round(monotonic() - began, 3)})


def results(run: Comparison, folder: Path, *, made: str = "") -> Results:
    """What is there of a comparison: routers by table and contender, and the bounds of their tables."""
    found: Results = {
        "form": FORM,
        "made": made,
        "packages": dict(versions(PACKAGES)),
        "routers": [],
        "bounds": [],
    }
    for of, recorded in run.sets.items():
        done = [
            (j, d) for j in run.jobs if j.data == of and (d := files.done(folder / "jobs", j)) is not None
        ]
        bounds = {pooled.bound_key(j): d for j, d in done if j.contender is None}
        whole = [(j, d) for j, d in done if j.contender is not None and pooled.bound_key(j) in bounds]
        if bounds:
            found["bounds"] += pooled.bound_rows(recorded.name, [x for x in done if x[0].contender is None])
        if whole:
            found["routers"] += pooled.routers(recorded.name, whole, bounds)
    return found
