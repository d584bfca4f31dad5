"""What neural caching keeps, and the events that change it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from septet.core.types import Floats, Posterior
from septet.parts.deferral.student import Student
from septet.parts.learning.rows import Rows


@dataclass(frozen=True)
class Cache:
    """One tenant's stream: queries `seen`, calls `left`, what was stored, and the `students`, the latest first.

    r stored questions as `rows` (r, d), their soft labels `shares` (r, c) over `classes` (c); `learned` of them are
    known to the latest student.
    """

    seen: int
    left: int
    rows: Rows
    shares: Floats
    classes: tuple[str, ...]
    students: tuple[Student, ...]
    learned: int


@dataclass(frozen=True)
class Caches:
    """The caches of all `tenants`, in the order in which they first came."""

    tenants: tuple[str, ...]
    caches: tuple[Cache, ...]


@dataclass(frozen=True)
class Arrived:
    """An event: a query of a tenant came, with features `row` (1, d)."""

    tenant: str
    row: Rows


@dataclass(frozen=True)
class Answered:
    """An event: the member answered; `labels` are the shares of its answers."""

    tenant: str
    row: Rows
    labels: Mapping[str, float]


@dataclass(frozen=True)
class Judged:
    """Whether the member is asked and why, and what the student says: `posterior`, None where there is none yet."""

    call: bool
    why: str
    posterior: Posterior | None


def stored(cache: Cache, event: Answered) -> Cache:
    """With one more question; a label that was never seen is a new class, of which the others have no share."""
    classes = tuple(dict.fromkeys((*cache.classes, *event.labels)))
    known = np.zeros((len(cache.rows) + 1, len(classes)))
    known[:-1, : len(cache.classes)] = cache.shares
    known[-1] = [event.labels.get(name, 0.0) for name in classes]
    known[-1] /= known[-1].sum()
    return replace(cache, rows=cache.rows.joined(event.row), shares=known, classes=classes)
