"""Members whose next token is written down: a table from the text so far to probabilities of pieces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from septet.core.caps import Caps
from septet.core.errors import BackendError
from septet.core.method import Ask, Emit, Seat, SeatPool
from septet.core.session import END, Next
from septet.core.types import Query, Verdict
from septet.testing.scripted import drive, vocabulary

Language = Callable[[bytes], Mapping[bytes, float]]


@dataclass
class Open:
    """One session: the pieces that were pushed, each as one token."""

    pieces: tuple[bytes, ...] = ()
    closed: bool = False

    @property
    def text(self) -> bytes:
        return b"".join(self.pieces)


@dataclass
class Member:
    """Says what its language says next. `topk`: it shows no more, like a server, and knows nothing beyond.
    `fails`: the ability that raises. All its sessions are kept in `sessions`."""

    language: Language
    pieces: Sequence[bytes]
    topk: int = 0
    fails: str = ""
    stop: tuple[str, ...] = ()
    sessions: list[Open] = field(default_factory=list)
    asked: list[Ask] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.vocab = vocabulary(self.pieces)

    def caps(self) -> Caps:
        return Caps(text=True, continues=True, fork=True, full=not self.topk, topk=self.topk or 99)

    def __call__(self, ask: Ask) -> Any:
        self.asked.append(ask)
        if ask.do == self.fails:
            return BackendError(f"{ask.to.name} cannot {ask.do}")
        session: Any = ask.to.session
        if ask.do in ("open", "fork"):
            self.sessions.append(Open(session.pieces if session else ()))
            return Seat(ask.to.name, self.caps(), vocab=self.vocab, session=self.sessions[-1])  # type: ignore[arg-type]
        if ask.do == "close":
            session.closed = True
            return None
        assert not session.closed, "a closed session was used"
        if ask.do == "push":
            assert ask.args["piece"] != END
            session.pieces += (ask.args["piece"],)
            return None
        if ask.do == "look":
            text, seen = session.text, []
            for piece in (b"", *ask.args["pieces"]):
                text += piece
                seen.append(self.next(text, ask.args["k"], b""))
            return seen
        assert ask.do == "next"
        return self.next(session.text, ask.args["k"], ask.args["agreeing"])

    def next(self, text: bytes, k: int | None, agreeing: bytes) -> Next:
        p = self.language(text)
        ranked = sorted(((-q, piece) for piece, q in p.items() if q > 0))
        shown = ranked[: self.topk] if self.topk else ranked
        known = {piece: float(np.log(-q)) for q, piece in shown}

        def agrees(piece: bytes) -> bool:
            return not agreeing or (
                piece != END and (piece.startswith(agreeing) or agreeing.startswith(piece))
            )

        kept = [piece for _, piece in shown if agrees(piece)][:k]
        ids = np.array([self.vocab.ids_of(piece)[0] for piece in kept], dtype=np.int32)
        logp = np.array([known[piece] for piece in kept], dtype=np.float32)
        unknown = None if self.topk else -np.inf

        def lookup(piece: bytes, first: bool) -> float | None:
            if first and piece and piece not in known:
                piece = self.vocab.bytes_of(self.vocab.first_id(piece))
            return known.get(piece, unknown)

        return Next(len(text), ids, logp, lookup)


def says(table: Mapping[bytes, Mapping[bytes, float]]) -> Language:
    """A language from a table; where the table says nothing, the answer ends."""
    return lambda text: table.get(text, {END: 1.0})


def ask(method: Any, members: Mapping[str, Member], query: Query | None = None) -> tuple[Verdict, bytes]:
    """The verdict of a plan on scripted members, and the bytes that it streamed."""
    seats = tuple(Seat(name, m.caps(), vocab=m.vocab, stop=m.stop) for name, m in members.items())
    pool = SeatPool(seats, prepared=method.prepare(SeatPool(seats)))
    plan = method.plan(query or Query.of("?"), pool, None, np.random.default_rng(0))
    verdict, asked = drive(plan, lambda a: members[a.to.name](a))
    return verdict, b"".join(item.piece for items in asked for item in items if isinstance(item, Emit))
