"""Beam search over fused pieces: several answers in view, each on forks of the members' sessions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

import numpy as np

from septet.core.session import END
from septet.engine.pieces import Decided, Task
from septet.engine.token_loop import FusedSession
from septet.parts.decoding.stopping import Stopping
from septet.parts.decoding.topk import top_k


@dataclass(slots=True)
class _Hypothesis:
    """A way that the answer may go: its own fork, its pieces, their log-probability, whether it is whole."""

    session: FusedSession
    taken: tuple[Decided, ...]
    total: float
    said: Stopping
    ended: bool = False

    @property
    def mean(self) -> float:
        """Log-probability per piece, END counted."""
        return self.total / max(len(self.taken), 1)


async def beam(session: FusedSession, task: Task, *, width: int) -> AsyncGenerator[Decided, None]:
    """The `width` most probable ways at every step, by the sum of fused log-probabilities; one that has ended
    keeps its place while it is among them. At the end the highest mean per piece wins, ties go to the more
    probable. Its pieces come when the whole answer is known. Width 1 is greedy."""
    opened = [session]
    try:
        ways = [_Hypothesis(session, (), 0.0, task.stopping)]
        for _ in range(task.limit):
            if all(way.ended for way in ways):
                break
            ways = await _grown(ways, width, opened)
        best = max(ways, key=lambda way: way.mean)
        session.s = best.session.s
        session.together.errors += [
            e for e in best.session.together.errors if e not in session.together.errors
        ]
        for decided in best.taken:
            yield decided
    finally:
        for fork in opened[1:]:
            await fork.close()


async def _grown(ways: Sequence[_Hypothesis], width: int, opened: list[FusedSession]) -> list[_Hypothesis]:
    """The best ways that are one piece longer, with those that have ended."""
    options: list[tuple[float, int, Decided | None]] = []
    for n, way in enumerate(ways):
        if way.ended:
            options.append((way.total, n, None))
            continue
        place = await way.session.place()
        for i in top_k(place.fused.p, width).tolist():
            p = float(place.fused.p[i])
            if p > 0:
                options.append((way.total + float(np.log(p)), n, Decided(place, i, p)))
    options.sort(key=lambda option: -option[0])  # stable: ties to the better way, then to the smaller bytes
    kept, followed = list[_Hypothesis](), set[int]()
    for total, n, decided in options[:width]:
        way = ways[n]
        if decided is None:
            kept.append(way)
            continue
        said = way.said.after(decided.piece)
        ended = decided.piece == END or bool(said.ended)
        grown = _Hypothesis(way.session, (*way.taken, decided), total, said, ended)
        if not ended and n in followed:
            grown.session = await way.session.fork()
            opened.append(grown.session)
        followed |= set() if ended else {n}
        kept.append(grown)
    for n, way in enumerate(ways):
        if n not in followed and not way.ended and way.session is not opened[0]:
            await way.session.close()
    for way in kept:
        if not way.ended:
            await way.session.push(way.taken[-1].piece)
    return kept
