"""A run as a reader takes it in: one section per table and split, in it one row per router and per bound."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from septet.bench.results import Bin, BoundResult, Point, Regret, Results, RouterResult, Span, decode, span

BEST_SINGLE = "best single (train)"
"""The bound that a router has to beat."""

Key = TypeVar("Key")
Item = TypeVar("Item")


@dataclass(frozen=True)
class Operating:
    """A point of a curve: λ, quality, USD per question."""

    prefer: float
    quality: Span
    usd: Span


@dataclass(frozen=True)
class Row:
    """A router or a bound on one split of one table."""

    label: str
    quality: Span
    usd: Span
    picks: tuple[tuple[str, float], ...]  # (member, share)
    convention: str = ""  # of a bound; "" for a router
    points: tuple[Operating, ...] = ()
    minus_best: Span = Span()
    minus_reference: Span = Span()
    metrics: Mapping[str, Span] = field(default_factory=dict)
    calibration: tuple[Bin, ...] = ()
    regrets: tuple[Regret, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seconds_fit: float = math.nan
    seconds_predict: float = math.nan
    notes: tuple[str, ...] = ()

    @property
    def bound(self) -> bool:
        """Whether this is a bound and no router."""
        return bool(self.convention)


@dataclass(frozen=True)
class Section:
    """One split of one table: its rows, best first; `mixtures` is the zero router, where cost is known."""

    table: str
    split: str
    n_train: int
    n_test: int
    data_sha256: str
    notes: tuple[str, ...]  # what holds for all its routers
    rows: tuple[Row, ...]
    mixtures: Row | None = None

    @property
    def routers(self) -> tuple[Row, ...]:
        """The rows that are routers."""
        return tuple(r for r in self.rows if not r.bound)

    @property
    def bounds(self) -> tuple[Row, ...]:
        """The rows that are bounds."""
        return tuple(r for r in self.rows if r.bound)

    @property
    def best_single(self) -> Row | None:
        """The single member chosen on train."""
        return next((r for r in self.bounds if r.label == BEST_SINGLE), None)

    @property
    def priced(self) -> bool:
        """Whether any operating point has a cost."""
        return any(math.isfinite(p.usd.value) for r in self.routers for p in r.points)


def sections(results: Results) -> tuple[Section, ...]:
    """The run by table and split, in the order in which they first occur."""
    routers = _grouped(results["routers"], lambda r: (r["table"], r["split"]))
    bounds = _grouped(results["bounds"], lambda b: (b["table"], b["split"]))
    return tuple(
        _section(table, split, routers.get((table, split), []), bounds.get((table, split), []))
        for table, split in dict.fromkeys([*routers, *bounds])
    )


def _section(table: str, split: str, routers: list[RouterResult], bounds: list[BoundResult]) -> Section:
    seeds = {r["seed"] for r in routers}
    notes = [_notes(r) for r in routers]
    common = tuple(n for n in (notes[0] if notes else ()) if all(n in own for own in notes))
    rows = [_router(r, common, seeded=len(seeds) > 1) for r in routers]
    curves = [_curve(b) for b in bounds if "points" in b]
    rows += [_bound(b) for b in bounds if "points" not in b] + curves
    return Section(
        table=table,
        split=split,
        n_train=routers[0]["n_train"] if routers else 0,
        n_test=(routers or bounds)[0]["n_test"],
        data_sha256=routers[0]["data_sha256"] if routers else "",
        notes=common,
        rows=tuple(sorted(rows, key=lambda r: (math.isnan(r.quality.value), -r.quality.value))),
        mixtures=next(iter(curves), None),
    )


def _router(r: RouterResult, common: tuple[str, ...], *, seeded: bool) -> Row:
    zero = r["at_zero"]
    name = [r["router"], r["variant"], f"seed {r['seed']}" if seeded else ""]
    return Row(
        label=" · ".join(filter(None, name)),
        quality=span(zero["quality"]),
        usd=span(zero["usd"]),
        picks=tuple(zip(r["members"], r["picks"], strict=True)),
        points=_points(r["points"]),
        minus_best=span(zero["minus_best_single"]),
        minus_reference=span(zero["minus_reference"]),
        metrics={m: span(found) for m, found in r["metrics"].items()},
        calibration=tuple(r["calibration"]),
        regrets=tuple(r["regrets"]),
        parameters=r["parameters"],
        seconds_fit=r["seconds_fit"],
        seconds_predict=r["seconds_predict"],
        notes=tuple(n for n in _notes(r) if n not in common),
    )


def _bound(b: BoundResult) -> Row:
    return Row(
        label=b["name"],
        quality=span(b["quality"]),
        usd=span(b["usd"]),
        picks=tuple(zip(b["members"], b["picks"], strict=True)),
        convention=b["convention"] or "a bound",
    )


def _curve(b: BoundResult) -> Row:
    """A bound that is a curve has no quality of its own, but an area."""
    return Row(
        label=b["name"],
        quality=Span(),
        usd=Span(),
        picks=(),
        convention=b["convention"] or "a bound",
        points=_points(b["points"]),
        metrics={"AIQ": span(b["quality"])},
    )


def _points(points: list[Point]) -> tuple[Operating, ...]:
    return tuple(Operating(decode(p["prefer"]), span(p["quality"]), span(p["usd"])) for p in points)


def _notes(r: RouterResult) -> tuple[str, ...]:
    return tuple(filter(None, r.get("note", "").split("; ")))


def _grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    found: dict[Key, list[Item]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found
