"""The results of single splits put together: one row per router and table, over seeds and left-out tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from septet.bench.curves import pareto_distance
from septet.bench.jobs import Job
from septet.bench.judged import WORST
from septet.bench.reference import REFERENCE
from septet.bench.results import (
    AtZero,
    Bin,
    BoundResult,
    Interval,
    Point,
    RouterResult,
    decode,
    encode,
    interval,
)
from septet.core.types import Floats
from septet.parts.stats.bootstrap import Resamples
from septet.parts.stats.intervals import Estimate

Done = tuple[Job, Mapping[str, Any]]
"""A job and what its file says."""


@lru_cache(maxsize=2)
def _resamples(n: int, draws: int) -> Resamples:
    """Those of n questions, drawn once for all that is compared on as many."""
    return Resamples.of(n, np.random.default_rng(0), draws=draws)


@dataclass(frozen=True, eq=False)
class Questions:
    """The questions of several splits: which one each row (r,) is about, and resamples of the distinct ones (u,).

    A question that is tested on under several seeds is drawn with all its rows.
    """

    of_row: NDArray[np.int64]
    again: Resamples

    @classmethod
    def of(cls, splits: Sequence[Mapping[str, Any]], draws: int) -> Questions:
        """Those of the splits in their order; what is compared on the same splits shares its resamples."""
        index = np.concatenate([np.array(s["index"], dtype=np.int64) for s in splits])
        distinct, of_row = np.unique(index, return_inverse=True)
        return cls(of_row, _resamples(len(distinct), draws))

    def mean(self, values: Floats) -> Estimate:
        """The mean of values (r,) with its interval over the questions."""
        known = ~np.isnan(values)
        n = self.again.n
        total = np.bincount(self.of_row[known], values[known], minlength=n)
        count = np.bincount(self.of_row[known], minlength=n).astype(np.float64)
        drawn = self.again.means(np.stack([total, count], axis=1))
        with np.errstate(invalid="ignore"):
            value, means = total.sum() / count.sum(), drawn[:, 0] / drawn[:, 1]
        return self.again.estimate(float(value), means)


def column(splits: Sequence[Mapping[str, Any]], name: str) -> Floats:
    """(r,) the numbers of all splits in their order; NaN where a split has none."""
    parts = []
    for split in splits:
        values = split[name]
        n = len(split["index"]) if values is None else len(values)
        parts.append(np.full(n, np.nan) if values is None else np.array([decode(v) for v in values]))
    return np.concatenate(parts)


def routers(table: str, done: Sequence[Done], bounds: Mapping[tuple[int, str], Any]) -> list[RouterResult]:
    """One result per contender of one table, in the order in which they come; `bounds` by seed and fold."""
    by: dict[str, list[Done]] = {}
    for job, facts in done:
        by.setdefault(str(job.contender), []).append((job, facts))
    found = [_router(table, jobs, bounds) for jobs in by.values()]
    _distances(found)
    return found


def _router(table: str, done: Sequence[Done], bounds: Mapping[tuple[int, str], Any]) -> RouterResult:
    job, first = done[0]
    assert job.contender is not None
    splits = [facts for _, facts in done]
    held = [bounds[key] for j, _ in done if (key := bound_key(j))]
    questions = Questions.of(splits, job.draws)
    quality = column(splits, "quality")
    single = _of_bound(held, "best single (train)")
    assert single is not None, "the bounds of every split have it"
    reference = _of_bound(held, REFERENCE)
    share = np.array([f["n_test"] for f in splits], dtype=np.float64)
    share /= share.sum()
    at_zero: AtZero = {
        "quality": interval(questions.mean(quality)),
        "usd": interval(questions.mean(column(splits, "usd")) if first["priced"] else np.nan),
        "minus_best_single": interval(questions.mean(quality - single)),
        "minus_reference": None if reference is None else interval(questions.mean(quality - reference)),
    }
    seeds = list(dict.fromkeys(j.seed for j, _ in done))
    return {
        "table": table,
        "router": job.contender.name,
        "variant": job.contender.variant,
        "parameters": asdict(cast("Any", job.contender.make())),
        "seed": seeds[0],
        "split": job.kind,
        "n_train": round(float(np.mean([f["n_train"] for f in splits]))),
        "n_test": round(sum(f["n_test"] for f in splits) / len(seeds)),
        "members": list(first["members"]),
        "points": _points(splits, share),
        "at_zero": at_zero,
        "picks": (share @ np.array([f["picks"] for f in splits])).tolist(),
        "metrics": _metrics(splits, share),
        "calibration": _calibration(splits),
        "regrets": _regrets(splits),
        "seconds_fit": float(np.mean([f["seconds_fit"] for f in splits])),
        "seconds_predict": float(np.mean([f["seconds_predict"] for f in splits])),
        "data_sha256": job.sha256,
        "note": note([j for j, _ in done], splits),
    }


def bound_key(job: Job) -> tuple[int, str]:
    """The seed and the fold under which the bounds of a job's split are kept; a table's own split needs no seed."""
    return (0 if job.kind == "own" else job.seed, job.fold)


def note(jobs: Sequence[Job], splits: Sequence[Mapping[str, Any]]) -> str:
    """What a reader has to know, as one text: the seeds, how far they are apart, and the notes of the splits."""
    seeds = list(dict.fromkeys(j.seed for j in jobs))
    if len(seeds) == 1:
        said = [f"seed {seeds[0]} alone"]
    else:
        means = [
            np.mean(column([f for j, f in zip(jobs, splits, strict=True) if j.seed == s], "quality"))
            for s in seeds
        ]
        listed = ", ".join(map(str, seeds))
        said = [f"mean over the seeds {listed}, whose standard deviation is {np.std(means, ddof=1):.4f}"]
    folds = list(dict.fromkeys(j.fold for j in jobs if j.fold))
    said += [f"{len(folds)} tasks left out in turn"] if folds else []
    said += dict.fromkeys(n for facts in splits for n in facts["notes"])
    return "; ".join(said)


def _of_bound(held: Sequence[Mapping[str, Any]], name: str) -> Floats | None:
    """(r,) the quality of a bound on the questions of all splits; None where a split lacks it."""
    found = [[b for b in h["bounds"] if b["name"] == name] for h in held]
    if not all(found):
        return None
    return np.concatenate([np.array(b[0]["quality"], dtype=np.float64) for b in found])


def _mean(values: Sequence[Any], share: Floats) -> Any:
    """The mean of numbers as JSON holds them, by share; unknown if one of them is."""
    return encode(float(share @ np.array([decode(v) for v in values])))


def _interval(found: Sequence[Interval], share: Floats) -> Interval:
    """The means of values and of both ends: over seeds that is no narrower than an interval of the mean."""
    low, high = ([f[end] for f in found] for end in ("low", "high"))
    return {
        "value": _mean([f["value"] for f in found], share),
        "low": _mean(low, share),
        "high": _mean(high, share),
    }


def _points(splits: Sequence[Mapping[str, Any]], share: Floats) -> list[Point]:
    """The operating points, price by price: all splits of a table have the same."""
    return [
        {
            "prefer": points[0]["prefer"],
            "quality": _interval([p["quality"] for p in points], share),
            "usd": _interval([p["usd"] for p in points], share),
        }
        for points in zip(*(f["points"] for f in splits), strict=True)
    ]


def _metrics(splits: Sequence[Mapping[str, Any]], share: Floats) -> dict[str, Interval]:
    """The metrics that every split has."""
    names = [n for n in splits[0]["metrics"] if all(n in f["metrics"] for f in splits)]
    return {n: _interval([f["metrics"][n] for f in splits], share) for n in names}


def _calibration(splits: Sequence[Mapping[str, Any]]) -> list[Bin]:
    """The bins of all splits, tenth by tenth."""
    tenths: dict[int, list[Bin]] = {}
    for facts in splits:
        for b in facts["calibration"]:
            tenths.setdefault(min(int(b["predicted"] * 10 + 1e-9), 9), []).append(b)
    found: list[Bin] = []
    for _, bins in sorted(tenths.items()):
        count = np.array([b["count"] for b in bins], dtype=np.float64)
        predicted, observed = (
            float(count @ np.array([b[side] for b in bins]) / count.sum())
            for side in ("predicted", "observed")
        )
        found.append({"predicted": predicted, "observed": observed, "count": int(count.sum())})
    return found


def _regrets(splits: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The worst questions of all splits, each once."""
    found = {r["question"]: r for facts in splits for r in reversed(facts["regrets"])}
    return sorted(found.values(), key=lambda r: -r["regret"])[:WORST]


def _distances(found: Sequence[RouterResult]) -> None:
    """Adds ParetoDist, for which the points of all routers are needed."""
    points = [
        np.array([[decode(p["usd"]["value"]), decode(p["quality"]["value"])] for p in r["points"]]).T
        for r in found
    ]
    if not points or np.isnan(np.concatenate(points, axis=1)).any():
        return
    usd, quality = np.concatenate(points, axis=1)
    for result, (own_usd, own_quality) in zip(found, points, strict=True):
        distance = pareto_distance(own_usd, own_quality, usd, quality)
        result["metrics"]["ParetoDist"] = interval(distance)


def bound_rows(table: str, done: Sequence[Done]) -> list[BoundResult]:
    """The bounds of one table, over its splits; the zero router last, as a curve."""
    splits = [facts for _, facts in done]
    job, first = done[0]
    questions = Questions.of(splits, job.draws)
    share = np.array([f["n_test"] for f in splits], dtype=np.float64)
    share /= share.sum()
    seeds = len({j.seed for j, _ in done})
    common: dict[str, Any] = {
        "table": table,
        "seed": job.seed,
        "split": job.kind,
        "n_test": round(sum(f["n_test"] for f in splits) / seeds),
        "members": list(first["members"]),
    }
    found: list[BoundResult] = []
    for name in [b["name"] for b in first["bounds"]]:
        each = [b for f in splits for b in f["bounds"] if b["name"] == name]
        if len(each) < len(splits):
            continue
        rows = [{**b, "index": f["index"]} for b, f in zip(each, splits, strict=True)]
        usd = questions.mean(column(rows, "usd")) if first["priced"] else np.nan
        row = {
            **common,
            "name": name,
            "convention": each[0]["convention"],
            "quality": interval(questions.mean(column(rows, "quality"))),
            "usd": interval(usd),
            "picks": (share @ np.array([b["picks"] for b in each])).tolist(),
        }
        found.append(cast("BoundResult", row))
    if first["priced"]:
        found.append(_zero_router(common, first))
    return found


def _zero_router(common: Mapping[str, Any], first: Mapping[str, Any]) -> BoundResult:
    """Random mixtures of single members, as a curve; of the first split where there are several."""
    points = [
        {"prefer": None, "quality": interval(q), "usd": interval(c)}
        for c, q in zip(*first["zero_router"], strict=True)
    ]
    row = {
        **common,
        "name": "random mixture",
        "convention": "the hull of single members: a point draws between two of them; the mean over the range of cost",
        "quality": {"value": first["aiq_zero"], "low": None, "high": None},
        "usd": interval(np.nan),
        "picks": [],
        "points": points,
    }
    return cast("BoundResult", row)
