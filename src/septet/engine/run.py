"""The context of one request: who asked, what it may still spend, and what it has spent."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol
from zlib import crc32

import numpy as np

from septet.core.errors import LimitReached
from septet.core.money import Usage
from septet.core.trace import CallEvent, PieceEvent
from septet.engine.config import Limits

Clock = Callable[[], float]


class Recorder(Protocol):
    """Where calls, and the pieces of members that decode together, are written down."""

    def call(self, event: CallEvent) -> None: ...
    def piece(self, event: PieceEvent) -> None: ...


def new_id(now: float) -> str:
    """A request id: milliseconds and 40 random bits in hexadecimal, so that ids sort by time."""
    return f"{int(now * 1000):012x}{secrets.token_hex(5)}"


@dataclass
class Tally:
    """What a run has spent, its children included; `reserved` is the worst case of calls under way."""

    usage: Usage = field(default_factory=Usage)
    usd: float = 0.0
    reserved: float = 0.0
    calls: int = 0


@dataclass
class Run:
    """One request of one ensemble; a nested ensemble has a child run that spends its parents' budgets.

    `path`: ensemble names from the root. `began` and `deadline` are on the gate's clock, in seconds.
    """

    id: str
    path: tuple[str, ...]
    seed: int
    limits: Limits
    began: float
    deadline: float
    recorder: Recorder
    clock: Clock
    sample: int = 0
    parent: Run | None = None
    use_cache: bool = False
    steps: count[int] = field(default_factory=count)
    tally: Tally = field(default_factory=Tally)
    notes: list[str] = field(default_factory=list)

    def child(self, name: str, limits: Limits, sample: int) -> Run:
        """The run of a nested ensemble."""
        now = self.clock()
        return Run(
            id=self.id,
            path=(*self.path, name),
            seed=self.seed,
            limits=limits,
            began=self.began,
            deadline=min(self.deadline, now + limits.seconds),
            recorder=self.recorder,
            clock=self.clock,
            sample=sample,
            parent=self,
            use_cache=self.use_cache,
            steps=self.steps,
            notes=self.notes,
        )

    @property
    def place(self) -> str:
        return "/".join(self.path)

    def lineage(self) -> list[Run]:
        """This run and its parents, innermost first."""
        runs: list[Run] = []
        run: Run | None = self
        while run is not None:
            runs.append(run)
            run = run.parent
        return runs

    def reserve(self, usd: float) -> None:
        """Admits one call that costs at most `usd`, or raises LimitReached; nothing has been called yet."""
        lineage = self.lineage()
        for run in lineage:
            spent, limits = run.tally, run.limits
            if spent.calls + 1 > limits.calls:
                raise LimitReached("calls", spent.calls + 1, limits.calls)
            allowed = limits.usd_per_request
            if allowed is not None and spent.usd + spent.reserved + usd > allowed:
                raise LimitReached("usd_per_request", spent.usd + spent.reserved + usd, allowed)
        self.check_time()
        for run in lineage:
            run.tally.calls += 1
            run.tally.reserved += usd

    def settle(self, reserved: float, usage: Usage, usd: float) -> None:
        """Books what a call really used in place of what was reserved."""
        for run in self.lineage():
            run.tally.reserved -= reserved
            run.tally.usage += usage
            run.tally.usd += usd

    def check_usd(self) -> None:
        """Raises LimitReached where more was spent than may be: a session spends after it was admitted."""
        for run in self.lineage():
            spent, allowed = run.tally.usd + run.tally.reserved, run.limits.usd_per_request
            if allowed is not None and spent > allowed:
                raise LimitReached("usd_per_request", spent, allowed)

    def check_time(self) -> None:
        """Raises LimitReached after the deadline."""
        now = self.clock()
        if now >= self.deadline:
            raise LimitReached("seconds", now - self.began, self.deadline - self.began)

    def rng(self, purpose: str, step: int = 0) -> np.random.Generator:
        """The generator of one purpose: fixed by the seed, the path, the sample and the step."""
        return np.random.default_rng(
            [self.seed, crc32(f"{self.place}:{purpose}".encode()), self.sample, step]
        )

    def seed_for(self, name: str, purpose: str, step: int) -> int:
        """A member's own seed for one ask: fixed by the root seed, the path and the member's name."""
        return crc32(f"{self.seed}:{self.place}:{name}:{purpose}:{self.sample}:{step}".encode()) >> 1
