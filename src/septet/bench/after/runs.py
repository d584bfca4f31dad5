"""Methods after inference × recorded sets: the jobs, side by side in processes, and what they come to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, cast

from septet.bench import pooled
from septet.bench.after.contenders import Contender, check, everyone
from septet.bench.after.jobs import Job
from septet.bench.after.measured import measure
from septet.bench.after.sets import names, open_answers
from septet.bench.jobs import done, write
from septet.bench.processes import Failure, Progress, Tally, each, processes, within
from septet.bench.report import versions
from septet.bench.results import FORM, Missing, Results
from septet.bench.routers import PACKAGES, Comparison
from septet.core.errors import ConfigError


def comparison(
    data: Sequence[str],
    contenders: Sequence[Contender] = (),
    *,
    seeds: int = 1,
    limit: int = 0,
    draws: int = 1000,
) -> Comparison:
    """Reads the sets, all parts of those that have several, and makes a job of every method on every part.

    Without contenders: every method of the catalogue. What a set does not record is found by the job itself. `limit`:
    questions to fit and to test on at most, 0: as many as the set allows by itself. `draws`: resamples for intervals.
    """
    parts = list(dict.fromkeys(part for of in data for part in names(of)))
    if not parts:
        raise ConfigError("say with --data which recorded answers to replay methods on")
    chosen = list(contenders) or everyone()
    check(chosen)
    sets, found = {}, []
    for of in parts:
        answers = open_answers(of, limit)
        sets[of] = answers.recorded
        one = Job(of, answers.recorded.sha256, None, "own", 0, "", draws=draws, limit=limit)
        found.append(one)
        for contender in chosen:
            found += [_with(one, contender, seed) for seed in range(seeds)]
    named = [r.name for r in sets.values()]
    if len(set(named)) < len(named):
        raise ConfigError(f"two of the sets have the same name: {', '.join(named)}")
    return Comparison(sets, tuple(found))


def _with(job: Job, contender: Contender, seed: int) -> Job:
    return Job(job.data, job.sha256, contender, "own", seed, "", draws=job.draws, limit=job.limit)


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
        return tally.failures(each(submit, partial(work, seconds=seconds), tally.left, folder))


def work(job: Job, folder: Path, seconds: float = 0.0) -> None:
    """Measures and writes one job, in whatever process, within so many seconds; the file says how many it took."""
    began = monotonic()
    with within(seconds):
        found = measure(job)
    write(folder / "jobs", job, {**found, "job": job.label, "seconds": round(monotonic() - began, 3)})


def results(run: Comparison, folder: Path, *, made: str = "") -> Results:
    """What is there of a comparison: methods by part and contender, the bounds, and what is not recorded."""
    found: Results = {
        "form": FORM,
        "made": made,
        "packages": dict(versions(PACKAGES)),
        "routers": [],
        "bounds": [],
        "missing": [],
    }
    for of, recorded in run.sets.items():
        read = [(j, d) for j in run.jobs if j.data == of and (d := done(folder / "jobs", j)) is not None]
        bounds = {pooled.bound_key(j): d for j, d in read if j.contender is None}
        whole = [(j, d) for j, d in read if j.contender is not None and "missing" not in d]
        if bounds:
            found["bounds"] += pooled.bound_rows(recorded.name, [x for x in read if x[0].contender is None])
        if whole and bounds:
            found["routers"] += _rows(recorded.name, whole, bounds)
        lacking = {str(j.contender): d["missing"] for j, d in read if "missing" in d}
        found["missing"] += [
            Missing(table=recorded.name, method=name, missing=ask) for name, ask in lacking.items()
        ]
    return found


def _rows(name: str, whole: Sequence[pooled.Done], bounds: Any) -> list[Any]:
    """One row per method, as it was played, with its curve."""
    rows = pooled.routers(name, whole, bounds)
    first: dict[str, Any] = {}
    for job, facts in whole:
        first.setdefault(str(job.contender), facts)
    for row, facts in zip(rows, first.values(), strict=True):
        row.update(
            cast(
                "Any",
                {"variant": facts["played"], "parameters": facts["parameters"], "curve": facts["curve"]},
            )
        )
    return rows
