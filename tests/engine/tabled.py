"""Members whose next-token distributions stand in a table, and methods that mix them: the token loop without models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from septet.core.errors import BackendError
from septet.core.money import Usage
from septet.core.session import END, Draft, Fused, Meter, Next, Sampler, View
from septet.core.types import Query, Tokens
from septet.engine.drawing import Sampling
from septet.engine.token_loop import FusedSession, Together
from septet.methods.b1_token._family import TokenMethod
from septet.parts.decoding.aggregate import arithmetic
from septet.parts.decoding.common import common
from septet.parts.decoding.union import UnionTable
from septet.parts.decoding.vocabulary import PackedVocab
from septet.testing.scripted import vocabulary

Table = Callable[[bytes], Mapping[bytes, float]]
"""From the answer so far to the probabilities of what comes next, b"" being END."""


@dataclass
class Tabled:
    """A session over a table. One forward per `next` that was not read before, per `look`, and per token of
    `write`; `fed` counts pieces. `fails_at`: its forwards after so many bytes of answer raise."""

    table: Table
    pieces: Sequence[bytes]
    text: bytes = b""
    fails_at: int | None = None
    live: list[int] = field(default_factory=lambda: [1])
    pushes: list[tuple[bytes, int | None]] = field(default_factory=list)
    waiting: int = 0
    looked: list[int] = field(default_factory=list)
    known: dict[tuple[bytes, int | None], Next] = field(default_factory=dict)
    commit_rule: str = "own"

    def __post_init__(self) -> None:
        self.vocab, self.meter, self.prompt, self.closed = _vocab(tuple(self.pieces)), Meter(), None, False

    def _next(self, text: bytes, k: int | None) -> Next:
        if self.fails_at is not None and len(text) >= self.fails_at:
            raise BackendError("the table ends here", status=400)
        if (text, k) not in self.known:
            self.known[text, k] = self._read(text, k)
        return self.known[text, k]

    def _read(self, text: bytes, k: int | None) -> Next:
        p = self.table(text)
        logp = np.full(self.vocab.size, -np.inf, dtype=np.float32)
        for piece, value in p.items():
            if value > 0:
                logp[self.vocab.ids_of(piece)[0]] = np.log(value)

        def lookup(piece: bytes, first: bool) -> float | None:
            ids = self.vocab.ids_of(piece)
            return float(logp[ids[0]]) if ids else -np.inf

        ids = np.arange(self.vocab.size, dtype=np.int32)
        if k is None:
            return Next(len(text), ids, logp, lookup, full=True)
        best = np.argsort(-logp, kind="stable")[:k]
        best = best[logp[best] > -np.inf]
        return Next(len(text), ids[best], logp[best], lookup)

    def _forward(self, n: int) -> None:
        self.meter.forwards += 1
        self.meter.usage += Usage(fed_tokens=n)

    async def next(self, k: int | None, *, agreeing: bytes = b"", hidden: bool = False) -> Next:
        found = self._next(self.text, k)
        if self.waiting:
            self._forward(self.waiting)
        self.waiting = 0
        return found

    async def push(self, piece: bytes, *, id: int | None = None) -> None:
        assert piece and not self.closed
        self.text += piece
        self.waiting += 1
        self.pushes.append((piece, id))

    async def look(self, pieces: Sequence[bytes], k: int | None) -> list[Next]:
        texts = [self.text + b"".join(pieces[:n]) for n in range(len(pieces) + 1)]
        found = [self._next(text, k) for text in texts]
        self._forward(self.waiting + len(pieces))
        self.looked.append(len(pieces))
        self.waiting = 0
        return found

    async def write(self, until: Sequence[bytes], max_tokens: int, sampler: Sampler) -> Draft:
        text, texts, logps = self.text, list[bytes](), list[float]()
        sampling = Sampling(
            sampler.temperature, 1.0, lambda step: np.random.default_rng([*sampler.seed, step])
        )
        for step in range(max_tokens):
            p = self.table(text)
            self._next(text, 1)
            self._forward(1)
            choices = Fused(
                sorted(p), np.array([p[t] for t in sorted(p)]), np.ones((len(p), 1)), ordered=True
            )
            i, _ = sampling.pick(choices, step)
            texts.append(choices.texts[i])
            logps.append(float(np.log(choices.p[i])))
            text += texts[-1]
            if texts[-1] == END:
                break
        return Draft(text[len(self.text) :], Tokens(tuple(texts), np.array(logps)), texts[-1] == END)

    async def after(self, paths: Sequence[Sequence[int]]) -> list[Next]:
        raise BackendError("a table knows bytes only")

    async def score(self, spans: Sequence[bytes]) -> list[Tokens]:
        raise BackendError("a table scores nothing itself")

    async def hidden(self) -> Any:
        raise BackendError("a table hides nothing")

    async def fork(self) -> Tabled:
        self.live[0] += 1
        twin = replace(self, live=self.live, pushes=list(self.pushes), looked=[])
        twin.commit_rule = self.commit_rule
        return twin

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.live[0] -= 1


_vocab = lru_cache(vocabulary)


@lru_cache
def _union(vocabs: tuple[PackedVocab, ...]) -> UnionTable:
    return UnionTable.of(vocabs)


class Mean(TokenMethod):
    """The arithmetic mean of the members' whole distributions by fixed weights."""

    name = "mean"
    complete = True  # type: ignore[assignment]

    def __init__(self, weights: Sequence[float], tables: Sequence[Tabled]) -> None:
        self.weights = np.array(weights)
        self.union = _union(tuple(t.vocab for t in tables))

    def start(self, query: Query, prompts: Any, prepared: Any, state: Any) -> Any:
        return None

    def mixture(self, s: Any) -> Any:
        return self.weights

    def fuse(self, views: Sequence[View | None], s: Any) -> tuple[Fused, Any]:
        seen = common(views, self.union, 10)
        return seen.fused(arithmetic(seen.logp, self.weights), self.weights), s


class Counting(Mean):
    """The same with an s that counts pieces, and more weight on the first member with each; s changes, so it
    is not complete."""

    complete = False  # type: ignore[assignment]

    def mixture(self, s: Any) -> Any:
        return None

    def fuse(self, views: Sequence[View | None], s: Any) -> tuple[Fused, Any]:
        w = np.array([1.0 + s, *[1.0] * (len(views) - 1)])
        seen = common(views, self.union, 10)
        return seen.fused(arithmetic(seen.logp, w / w.sum()), w / w.sum()), s + 1


class Unsure(Mean):
    """Asks the others only where the first member's best is below one half."""

    consults = True
    complete = False  # type: ignore[assignment]

    def consult(self, first: Next, s: Any) -> Sequence[int]:
        return [0] if np.exp(first.logp.max()) >= 0.5 else range(len(self.weights))


def together(method: TokenMethod, tables: Sequence[Tabled], s: Any = None, **more: Any) -> FusedSession:
    """The members' shared answer; full distributions."""
    names = tuple("abcdefg"[: len(tables)])
    full = tuple(True for _ in tables)
    ks: Any = tuple(None for _ in tables)
    made = Together(method, names, list(tables), ks, True, method.consults, full=full, **more)  # type: ignore[arg-type]
    return FusedSession(made, s)


def always(p: Mapping[bytes, float]) -> Table:
    """The same distribution everywhere."""
    return lambda text: p


def hashed(pieces: Sequence[bytes], seed: int, end: float = 0.1) -> Table:
    """A distribution for every text, drawn from a hash of it: END has about `end`."""

    @lru_cache(4096)
    def table(text: bytes) -> dict[bytes, float]:
        rng = np.random.default_rng([seed, len(text), *text])
        p = rng.dirichlet(np.full(len(pieces), 0.7)) * (1 - end)
        return {END: end, **{piece: float(x) for piece, x in zip(pieces, p, strict=True)}}

    return table
