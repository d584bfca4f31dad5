"""Spans as the trace shows them: what members that write spans in turn emit, with who wrote it."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

from septet.core.trace import PieceEvent
from septet.core.types import Piece
from septet.engine.run import Run


class Spans:
    """Passes streamed pieces on, and makes a `PieceEvent` of every one that members are named for.

    There is nothing to say about candidates and probabilities: the members compared whole spans. `seconds` of a
    span go from the one before it, those of the first from the beginning of the request.
    """

    def __init__(
        self, pass_on: Callable[[Piece], Awaitable[None]], hear: Callable[[PieceEvent], None], run: Run
    ) -> None:
        self._pass_on, self._hear, self._run = pass_on, hear, run
        self._number = self._at = 0
        self._since = run.began

    async def __call__(self, piece: Piece) -> None:
        """One more piece."""
        text = piece.text.encode("utf-8", "replace")
        if piece.support:
            now = self._run.clock()
            self._hear(
                PieceEvent(
                    request=self._run.id,
                    path=self._run.place,
                    number=self._number,
                    at=self._at,
                    piece=text,
                    logp=math.nan,
                    support=dict(piece.support),
                    seconds=now - self._since,
                )
            )
            self._since, self._number = now, self._number + 1
        self._at += len(text)
        await self._pass_on(piece)
