"""The answer loop: the pieces of one answer as a schedule gives them, to END, a stop string or the last piece."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from septet.core.session import END, Fused
from septet.core.trace import PieceEvent
from septet.core.types import Floats, Query, Tokens
from septet.engine.drawing import Sampling
from septet.engine.pieces import TOP_REPORTED, Decided, Schedule, Task
from septet.engine.schedules import every
from septet.engine.token_loop import FusedSession, Together
from septet.parts.decoding.stopping import Stopping
from septet.parts.decoding.topk import top_k

SHOWN = 5
"""How many candidates of a piece the trace shows."""

MOST_PIECES = 256
"""How long an answer may be where nobody says it."""

Top = tuple[tuple[bytes, float], ...]


@dataclass
class Written:
    """What the loop wrote: the text without a stop string, how it ended, and its pieces as tokens.
    `shares` (n_members,): each member's part in the pieces."""

    text: bytes
    finish: str
    tokens: Tokens
    shares: Floats


async def answer_with(
    session: FusedSession,
    query: Query,
    stop: Sequence[str],
    rng_of: Any,
    emit: Any,
    *,
    schedule: Schedule = every,
    steps: Steps | None = None,
) -> Written:
    """Decodes one answer. `rng_of(step)` gives the generator of a piece; `emit(piece, support, logp)` streams;
    `steps` is told how each piece came about, END among them.

    Stop strings are looked for in the bytes of the whole answer, across pieces.
    """
    names = session.together.names
    sampling = Sampling(query.temperature or 0.0, 1.0 if query.top_p is None else query.top_p, rng_of)
    texts, logps, tops = list[bytes](), list[float](), list[Top]()
    share, finish = np.zeros(len(names)), "length"
    said = Stopping(tuple(s.encode() for s in stop), tuple(u.encode() for u in query.until))
    if steps is not None:
        steps.begin(session.together)
    pieces = schedule(session, Task(sampling, query.max_tokens or MOST_PIECES, said))
    async with aclosing(pieces):
        async for decided in pieces:
            piece, logp, top = decided.piece, _log(decided.p), _top(decided.place.fused)
            support = decided.place.fused.support[decided.index]
            if steps is not None:
                steps.tell(decided, support, top)
            if piece == END:
                finish = "stop"
                break
            texts.append(piece)
            logps.append(logp)
            tops.append(top)
            share += support
            certain, said = len(said.passed), said.after(piece)
            if len(said.passed) > certain:
                await emit(said.passed[certain:], dict(zip(names, support.tolist(), strict=True)), logp)
            if said.ended:
                finish = said.ended
                break
    if said.held and not said.ended:
        await emit(said.held, {}, float("nan"))
    total = share.sum()
    tokens = Tokens(tuple(texts), np.array(logps), tuple(tops))
    return Written(said.closed().passed, finish, tokens, share / total if total else share)


def _log(p: float) -> float:
    return math.log(p) if p > 0 else -math.inf


def _top(fused: Fused) -> Top:
    best = top_k(fused.p, TOP_REPORTED)
    with np.errstate(divide="ignore"):
        logp = np.log(fused.p[best])
    return tuple((fused.texts[i], p) for i, p in zip(best.tolist(), logp.tolist(), strict=True))


class Steps:
    """Makes a `PieceEvent` of every piece and passes it on.

    `seconds` of a piece go from the commit before it to its own, its tokens `fed` and `forward_seconds` are what
    the members' meters gained in that time: so a draft's forward is booked to the first piece that it decides.
    """

    def __init__(
        self,
        hear: Callable[[PieceEvent], None],
        request: str,
        path: str,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._hear, self._request, self._path, self._clock = hear, request, path, clock
        self._number = self._at = 0

    def begin(self, together: Together) -> None:
        """The answer begins; what was fed before belongs to the prompt."""
        self._together, self._number, self._at = together, 0, 0
        self._since, self._fed, self._forward = self._clock(), *self._meters()

    def tell(self, decided: Decided, support: Floats, top: Top) -> None:
        """One more piece."""
        names, views = self._together.names, decided.place.views
        now, (fed, forward) = self._clock(), self._meters()
        p = decided.place.fused.p[decided.index]
        self._hear(
            PieceEvent(
                request=self._request,
                path=self._path,
                number=self._number,
                at=self._at,
                piece=decided.piece,
                logp=_log(decided.p),
                support=dict(zip(names, support.tolist(), strict=True)),
                candidates=self._candidates(decided, top, float(p)),
                asked=tuple(n for n, view in zip(names, views, strict=True) if view is not None),
                fed=_gained(fed, self._fed),
                forward_seconds=_gained(forward, self._forward),
                seconds=now - self._since,
                drafted=decided.drafted,
            )
        )
        self._since, self._fed, self._forward = now, fed, forward
        self._number, self._at = self._number + 1, self._at + len(decided.piece)

    def _candidates(
        self, decided: Decided, top: Top, p: float
    ) -> tuple[tuple[bytes, float, Mapping[str, float | None]], ...]:
        """The best fused strings, and the chosen one where it is none of them."""
        shown = [(piece, math.exp(logp)) for piece, logp in top[:SHOWN]]
        if all(piece != decided.piece for piece, _ in shown):
            shown.append((decided.piece, p))
        views = [(n, v.next) for n, v in zip(self._together.names, decided.place.views, strict=True) if v]
        return tuple((piece, q, {n: _own(next_.logp_of(piece)) for n, next_ in views}) for piece, q in shown)

    def _meters(self) -> tuple[dict[str, int], dict[str, float]]:
        """Tokens fed and seconds in forwards by member; those of a member that left are not told any more."""
        t = self._together
        live = [(name, s.meter) for name, s in zip(t.names, t.sessions, strict=True) if s is not None]
        return (
            {name: meter.usage.fed_tokens for name, meter in live},
            {name: meter.forward_seconds for name, meter in live},
        )


def _gained(now: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value - before[name] for name, value in now.items() if name in before}


def _own(logp: float | None) -> float | None:
    return None if logp is None else math.exp(logp)
