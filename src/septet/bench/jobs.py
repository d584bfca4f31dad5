"""One piece of a comparison of routers: a router, or the bounds, on one split of one table; its key and its file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from septet.bench.contenders import Contender
from septet.bench.sets import Recorded, open_set
from septet.bench.sources import code_of
from septet.bench.splits import Split, SplitKind, splits
from septet.engine import catalogue

FORM = 1
"""Of a job's file; a change of its keys raises it."""


@dataclass(frozen=True)
class Job:
    """What is measured, on what, and how. `contender` None: the bounds and the reference kNN of the split.

    `sha256` is that of the data; `fold` the task left out, or ""; `stream`: every method that learns while it serves
    is given the test questions one by one with the outcome of its choice.
    """

    data: str
    sha256: str
    contender: Contender | None
    kind: SplitKind
    seed: int
    fold: str
    grid: int = 100
    draws: int = 1000
    stream: bool = False

    @property
    def label(self) -> str:
        """As the progress bar and the list of failures show it."""
        where = f"{Path(self.data).name}, seed {self.seed}" + (f", without {self.fold}" if self.fold else "")
        return f"{self.contender or 'bounds'} on {where}"

    @cached_property
    def key(self) -> str:
        """The hash of everything that determines the result: data, split, parameters, and the code that runs."""
        modules = ["septet.bench.replayed"]
        facts = {**asdict(self), "form": FORM}
        del facts["data"]  # the same files under another path are the same data
        if self.contender is not None:
            modules.append(catalogue.entries("methods")[self.contender.name].module)
            facts["contender"] = str(self.contender)
        facts["code"] = code_of(*modules)
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


@lru_cache(maxsize=2)
def recorded_of(data: str) -> Recorded:
    """The outcomes that a job is about; a process that does several on one table reads it once."""
    return open_set(data)


def split_of(job: Job) -> Split:
    """The split that a job is about."""
    found = splits(recorded_of(job.data).table, job.kind, [job.seed])
    return next(s for s in found if s.fold == job.fold)


def done(folder: Path, job: Job) -> dict[str, Any] | None:
    """What an earlier run has measured; None where it has not, or its file cannot be read."""
    try:
        found: dict[str, Any] = json.loads((folder / f"{job.key}.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found


def write(folder: Path, job: Job, found: Mapping[str, Any]) -> None:
    """Writes what was measured, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{job.key}.{os.getpid()}.part"
    unfinished.write_text(json.dumps(found, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    os.replace(unfinished, folder / f"{job.key}.json")
