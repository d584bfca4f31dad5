"""A member of a span ensemble whose next-token probabilities are a table, and a way to let several answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from septet.core.caps import Caps
from septet.core.errors import BackendError
from septet.core.method import Ask, Emit, Method, Seat, SeatPool
from septet.core.session import END, Draft, Next
from septet.core.types import Query, Tokens, Verdict
from septet.testing.scripted import drive, vocabulary

UNKNOWN = 0.001
"""The probability of a token that the table does not name."""


class Speaker:
    """`table`: text so far → {next token: probability}, b"" being END; `always`: after any other text.

    It writes greedily, reads a text as the longest of its tokens from the left, and keeps what it was asked.
    `fails`: the ability that raises.
    """

    def __init__(
        self,
        table: Mapping[bytes, Mapping[bytes, float]],
        fails: str = "",
        *,
        always: Mapping[bytes, float] = MappingProxyType({END: 1.0}),
    ) -> None:
        self.table, self.fails, self.always = table, fails, always
        named = {piece for row in (*table.values(), always) for piece in row if piece}
        self.vocab = vocabulary([*sorted(named), *(b for i in range(256) if (b := bytes([i])) not in named)])
        self.committed = b""
        self.pushed: list[bytes] = []
        self.asked: list[str] = []

    def __call__(self, ask: Ask) -> Any:
        if ask.do == self.fails:
            return BackendError(f"{ask.to.name} cannot {ask.do}")
        self.asked.append(ask.do)
        if ask.do == "open":
            nobody: Any = object()
            return Seat(ask.to.name, Caps(text=True), vocab=self.vocab, session=nobody)
        return getattr(self, ask.do)(**ask.args)

    def row(self, text: bytes) -> dict[bytes, float]:
        """The next-token probabilities after a text, the best first."""
        row = self.table.get(text, self.always)
        return dict(sorted(row.items(), key=lambda item: (-item[1], item[0])))

    def after(self, text: bytes, k: int) -> Next:
        row = self.row(text)
        ids = np.array([self.vocab.ids_of(piece)[0] for piece in row][:k], dtype=np.int32)
        logp = np.log(np.array(list(row.values())[:k], dtype=np.float32))

        def lookup(piece: bytes, first: bool) -> float:
            return float(np.log(row.get(piece, UNKNOWN)))

        return Next(len(text), ids, logp, lookup)

    def next(self, k: int, **_: Any) -> Next:
        return self.after(self.committed, k)

    def look(self, pieces: Sequence[bytes], k: int) -> list[Next]:
        return [self.after(self.committed + b"".join(pieces[:i]), k) for i in range(len(pieces) + 1)]

    def write(self, max_tokens: int, **_: Any) -> Draft:
        pieces: list[bytes] = []
        logp: list[float] = []
        while len(pieces) < max_tokens and END not in pieces:
            piece, p = next(iter(self.row(self.committed + b"".join(pieces)).items()))
            pieces.append(piece)
            logp.append(float(np.log(p)))
        return Draft(b"".join(pieces), Tokens(tuple(pieces), np.array(logp)), END in pieces)

    def score(self, spans: Sequence[bytes]) -> list[Tokens]:
        return [self.read(span) for span in spans]

    def read(self, span: bytes) -> Tokens:
        pieces = [self.vocab.bytes_of(i) for i in self.vocab.tokenise(span)]
        before = [self.committed + b"".join(pieces[:i]) for i in range(len(pieces))]
        p = [self.row(text).get(piece, UNKNOWN) for text, piece in zip(before, pieces, strict=True)]
        return Tokens(tuple(pieces), np.log(np.array(p)))

    def push(self, piece: bytes, id: int | None) -> None:
        assert id is None or self.vocab.bytes_of(id) == piece
        self.pushed.append(piece)
        self.committed += piece

    def close(self) -> None:
        """It holds nothing."""


def together(
    method: Method, speakers: Mapping[str, Any], query: Query | None = None
) -> tuple[Verdict, list[list[Any]]]:
    """The verdict of a span method over these members, and the lists of asks that its plan yielded."""
    seats = {name: Seat(name, Caps(text=True)) for name in speakers}
    pool = SeatPool(tuple(seats.values()))
    plan = method.plan(query or Query.of("?"), pool, None, np.random.default_rng(0))
    return drive(plan, lambda ask: speakers[ask.to.name](ask))


def streamed(yielded: list[list[Any]]) -> bytes:
    """What was passed on to the user."""
    return b"".join(item.piece for items in yielded for item in items if isinstance(item, Emit))
