"""What a run of routers leaves behind: the shape of its JSON, which the report, the docs and the terminal read.

A number that may be unknown or infinite is a `Number`: JSON has neither NaN nor ∞, so an unknown one is null and
an infinite one the word "inf" or "-inf". `encode` and `decode` go between the two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

from septet.parts.stats.intervals import Estimate

FORM = 1
"""Of the record; a change of its keys raises it."""

Number = float | str | None
"""A float, null where unknown, or "inf" or "-inf"."""


class Interval(TypedDict):
    """A value and its 95 % interval; `low` and `high` are null where none was computed."""

    value: Number
    low: Number
    high: Number


class Point(TypedDict):
    """One operating point: means over the test questions at one price of cost."""

    prefer: Number  # λ, in quality units per USD; null where a point is no λ (a vertex of a hull)
    quality: Interval
    usd: Interval  # per question; null values where no cost is recorded


class AtZero(TypedDict):
    """The decision by quality alone (λ = 0), beside what it has to beat; differences are paired."""

    quality: Interval
    usd: Interval
    minus_best_single: Interval  # quality less that of the single member chosen on train
    minus_reference: Interval | None  # quality less that of the reference kNN; null where it was not run


class Regret(TypedDict):
    """A question on which the router chose badly (λ = 0)."""

    question: str  # an excerpt, or "" where the text may not be passed on
    task: str
    chosen: str  # a member
    best: str
    score_chosen: float
    score_best: float
    regret: float


class Bin(TypedDict):
    """One bin of predicted quality: its means over the answers in it."""

    predicted: float
    observed: float
    count: int


class RouterResult(TypedDict):
    """One router with one set of parameters on one split of one table, over all seeds of the run."""

    table: str
    router: str  # the method's name
    variant: str  # what tells two settings of one router apart; "" for the defaults
    parameters: dict[str, Any]
    seed: int  # the first of the seeds; the note names them all
    split: str
    n_train: int
    n_test: int
    members: list[str]  # in the order of the picks
    points: list[Point]  # by rising λ; λ = 0 first
    at_zero: AtZero
    picks: list[float]  # share of questions per member at λ = 0, adding up to one
    metrics: dict[str, Interval]  # by the names of bench.metrics.MEANING
    calibration: list[Bin]
    regrets: list[Regret]  # worst first
    seconds_fit: float
    seconds_predict: float
    data_sha256: str
    curve: NotRequired[
        dict[str, Any] | None
    ]  # of a cascade: its knob, and value, quality and cost of each point
    note: NotRequired[str]  # what a reader must know, as "replayed as a stream"; several are parted by "; "


class BoundResult(TypedDict):
    """What no router is needed for, or what none can pass, on one split of one table."""

    table: str
    name: str
    convention: str  # how it is computed, one sentence
    seed: int
    split: str
    n_test: int
    quality: Interval  # of a bound that is a curve: its mean height over the shared range of cost (AIQ)
    usd: Interval
    members: list[str]
    picks: list[float]  # [] for a curve
    points: NotRequired[list[Point]]  # of a bound that is a curve, as the zero router is


class Failure(TypedDict):
    """A job of the run that came to nothing."""

    job: str  # table, router, variant and seed, as a reader would name them
    error: str


class Missing(TypedDict):
    """A method that a table does not record enough for."""

    table: str
    method: str  # with its variant
    missing: str  # the ask that is not recorded, or why else it was not played


class Results(TypedDict):
    """A whole run."""

    form: int
    made: str  # the date, or ""
    packages: dict[str, str]  # versions
    routers: list[RouterResult]
    bounds: list[BoundResult]
    failed: NotRequired[list[Failure]]
    missing: NotRequired[list[Missing]]


def encode(x: float) -> Number:
    """A number as JSON can hold it.

    >>> encode(0.5), encode(math.nan), encode(-math.inf)
    (0.5, None, '-inf')
    """
    x = float(x)
    if math.isnan(x):
        return None
    return x if math.isfinite(x) else ("inf" if x > 0 else "-inf")


def decode(x: Number) -> float:
    """The number that `encode` was given.

    >>> decode(0.5), decode(None), decode("-inf")
    (0.5, nan, -inf)
    """
    return math.nan if x is None else float(x)


def interval(found: Estimate | float) -> Interval:
    """An estimate, or a bare number without an interval, as JSON can hold it."""
    if isinstance(found, Estimate):
        return {"value": encode(found.value), "low": encode(found.low), "high": encode(found.high)}
    return {"value": encode(found), "low": None, "high": None}


@dataclass(frozen=True)
class Span:
    """An `Interval`, decoded: NaN where unknown."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan


def span(found: Interval | None) -> Span:
    """The numbers of an interval; all unknown where there is none.

    >>> span({"value": "inf", "low": 0.5, "high": None})
    Span(value=inf, low=0.5, high=nan)
    """
    if found is None:
        return Span()
    return Span(decode(found["value"]), decode(found["low"]), decode(found["high"]))
