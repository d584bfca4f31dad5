"""The token loop: members decode one answer together, whatever their tokenizers. It is itself a session."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from septet.core.caps import Caps
from septet.core.errors import LimitReached, NoCandidate, RunError
from septet.core.method import Ask, Emit, Fuses, Reply, Rng, Seat, asking
from septet.core.session import END, Draft, Fused, Meter, Next, Sampler, Session, View, Vocab
from septet.core.types import Floats, Query, Tokens
from septet.engine.sessions import close_all, opened
from septet.parts.decoding.stopping import Stopping
from septet.parts.decoding.topk import top_k
from septet.parts.decoding.vocabulary import GrowingVocab

_NO_CAPS = Caps()

TOP_REPORTED = 20
"""How many alternatives per piece the answer's tokens carry: the most that OpenAI's format can ask for."""


@dataclass
class Together:
    """The members' sessions of one answer; None where a member has failed. `ks`: how many of its best tokens
    each member shows, None: its full distribution. `hidden`: whose hidden state the method reads."""

    method: Fuses
    names: tuple[str, ...]
    sessions: list[Session | None]
    ks: tuple[int | None, ...]
    keep_going: bool
    consults: bool
    hidden: tuple[int, ...] = ()
    errors: list[str] = field(default_factory=list)

    async def nexts(self, indices: Sequence[int]) -> list[Next | None]:
        """The next distribution of each of these members, concurrently; None for all others."""

        def one(i: int, session: Session) -> Any:
            return session.next(self.ks[i], hidden=True) if i in self.hidden else session.next(self.ks[i])

        return await self.each(indices, one)

    async def each(self, indices: Sequence[int], call: Any) -> list[Any]:
        """One call per named member, concurrently; a failing one leaves the answer, or ends it."""
        live = [i for i in indices if self.sessions[i] is not None]
        results = await asyncio.gather(*(call(i, self.sessions[i]) for i in live), return_exceptions=True)
        return await self._kept(live, results)

    async def fork(self) -> Together:
        """The same members on forks of their sessions."""
        live = [i for i, session in enumerate(self.sessions) if session is not None]
        forks = await self._kept(live, await opened(s.fork() for s in self.sessions if s is not None))
        return replace(self, sessions=forks, errors=list(self.errors))

    async def _kept(self, live: Sequence[int], results: Sequence[Any]) -> list[Any]:
        """One value per member, None where it has failed: that member leaves, unless its error is fatal."""
        values: list[Any] = [None] * len(self.sessions)
        for i, result in zip(live, results, strict=True):
            if not isinstance(result, BaseException):
                values[i] = result
            elif isinstance(result, RunError) and not isinstance(result, LimitReached) and self.keep_going:
                self.errors.append(str(result))
                await self._drop(i)
            else:
                raise result
        if all(s is None for s in self.sessions):
            raise NoCandidate("every member failed: " + "; ".join(self.errors))
        return values

    async def _drop(self, i: int) -> None:
        session, self.sessions[i] = self.sessions[i], None
        if session is not None:
            await close_all([session])


class FusedSession:
    """A b1 ensemble's side of an answer: next = fused, push and fork = all members.

    Its vocabulary grows: it knows the pieces that it has seen, and gives each an id.
    """

    def __init__(self, together: Together, s: Any, vocab: GrowingVocab | None = None) -> None:
        self.together, self.s = together, s
        self._vocab = vocab or GrowingVocab()
        self._at = 0
        self._fused: Fused | None = None
        self._after: Any = s
        self.own_meter = Meter()

    @property
    def vocab(self) -> Vocab:
        return self._vocab

    @property
    def prompt(self) -> Tokens | None:
        return None

    @property
    def meter(self) -> Meter:
        """The sum over the members."""
        total = Meter()
        for session in self.together.sessions:
            if session is not None:
                total.usage += session.meter.usage
                total.forwards += session.meter.forwards
                total.forward_seconds += session.meter.forward_seconds
                total.rollbacks += session.meter.rollbacks
        return total

    async def distribution(self) -> Fused:
        """The fused distribution after what is committed, sorted by bytes."""
        if self._fused is None:
            views = await self._views()
            fused, self._after = await self._asked(self.together.method.fuse(views, self.s))
            self._fused = by_bytes(fused)
        return self._fused

    async def _views(self) -> list[View | None]:
        """Every consulted member's view; all at once unless the method wants to see the first one's first."""
        t = self.together
        everyone = range(len(t.sessions))
        if not t.consults:
            nexts = await t.nexts(everyone)
        else:
            nexts = await t.nexts([0])
            wanted = everyone if nexts[0] is None else t.method.consult(nexts[0], self.s)
            rest = await t.nexts([i for i in wanted if i != 0])
            nexts = [nexts[0], *rest[1:]] if 0 in wanted else rest
        return [None if n is None else self._view(i, n) for i, n in enumerate(nexts)]

    def _view(self, i: int, n: Next) -> View:
        session = self.together.sessions[i]
        assert session is not None
        return View(n, session.vocab, _seat(self.together.names[i], session))

    async def _asked(self, step: Any) -> tuple[Fused, Any]:
        """Runs a `fuse` that may be a generator of asks on the members' sessions."""
        plan, replies = asking(step), None
        while True:
            try:
                items: Sequence[Ask | Emit] = plan.send(replies)  # type: ignore[arg-type]
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            replies = [
                Reply(await getattr(a.to.session, a.do)(**a.args)) for a in items if isinstance(a, Ask)
            ]

    async def next(self, k: int | None, *, agreeing: bytes = b"", hidden: bool = False) -> Next:
        if hidden:
            raise RunError("a token-level ensemble has no hidden state")
        fused = await self.distribution()
        with np.errstate(divide="ignore"):
            logp = np.log(fused.p).astype(np.float32)
        shown = logp
        if agreeing:
            shown = np.where([_agrees(piece, agreeing) for piece in fused.texts], logp, np.float32(-np.inf))
        best = top_k(shown, k or len(fused.texts))
        ids = np.array([self._vocab.add(fused.texts[i]) for i in best.tolist()], dtype=np.int32)

        def lookup(piece: bytes, first: bool) -> float | None:
            place = place_of(fused, piece)
            return None if place is None else float(logp[place])

        return Next(at=self._at, ids=ids, logp=logp[best], lookup=lookup)

    async def push(self, piece: bytes, *, id: int | None = None) -> None:
        await self.together.each(range(len(self.together.sessions)), lambda i, session: session.push(piece))
        self._at += len(piece)
        self.s, self._fused = self._after, None

    async def look(self, pieces: Sequence[bytes], k: int | None) -> list[Next]:
        twin = await self.fork()
        try:
            seen = [await twin.next(k)]
            for piece in pieces:
                await twin.push(piece)
                seen.append(await twin.next(k))
            return seen
        finally:
            await twin.close()

    async def write(self, until: Sequence[bytes], max_tokens: int, sampler: Sampler) -> Draft:
        twin = await self.fork()
        try:
            return await _written(twin, until, max_tokens, sampler)
        finally:
            await twin.close()

    async def score(self, spans: Sequence[bytes]) -> list[Tokens]:
        raise RunError("a token-level ensemble does not score a given text")

    async def hidden(self) -> Floats:
        raise RunError("a token-level ensemble has no hidden state")

    async def fork(self) -> FusedSession:
        copy = FusedSession(await self.together.fork(), self.s, self._vocab)
        copy._at = self._at
        return copy

    async def close(self) -> None:
        await close_all(session for session in self.together.sessions if session is not None)


def _seat(name: str, session: Session) -> Seat:
    return Seat(name, _NO_CAPS, vocab=session.vocab, session=session)


def _agrees(piece: bytes, agreeing: bytes) -> bool:
    return bool(piece) and (agreeing.startswith(piece) or piece.startswith(agreeing))


def by_bytes(fused: Fused) -> Fused:
    """The same distribution sorted by bytes, so that neither ties nor draws depend on the members' order."""
    if fused.ordered:
        return fused
    order = sorted(range(len(fused.texts)), key=fused.texts.__getitem__)
    support = np.array([fused.support[i] for i in order])
    return Fused(tuple(fused.texts[i] for i in order), fused.p[order], support, ordered=True)


def place_of(fused: Fused, piece: bytes) -> int | None:
    """Where a string stands in a distribution that is sorted by bytes; None where it does not."""
    place = bisect_left(fused.texts, piece)
    return place if place < len(fused.texts) and fused.texts[place] == piece else None


def draw(fused: Fused, temperature: float, top_p: float, rng: Rng | None) -> tuple[int, Floats]:
    """The index of the chosen string, and the probabilities (t,) that it was chosen from.

    Truncation comes after fusion: temperature first, then the smallest set of total probability ≥ top_p.
    Greedy at temperature 0: the most probable string, ties to the smaller bytes.
    """
    if temperature <= 0 or rng is None:
        return int(np.argmax(fused.p)), fused.p
    with np.errstate(divide="ignore"):
        logits = np.log(fused.p) / temperature
    p = np.exp(logits - logits.max())
    p /= p.sum()
    if top_p < 1.0:
        p = np.where(nucleus(p, top_p), p, 0.0)
        p /= p.sum()
    return int(rng.choice(len(p), p=p)), p


def nucleus(p: Floats, top_p: float) -> NDArray[np.bool_]:
    """(t,) whether a string is in the smallest set of best strings whose probabilities (t,) reach `top_p`."""
    k = 256
    while True:
        best = top_k(p, k)
        inside = np.cumsum(p[best]) - p[best] < top_p
        if not inside.all() or k >= len(p):
            kept = np.zeros(len(p), dtype=np.bool_)
            kept[best[inside]] = True
            return kept
        k *= 8


async def _written(session: FusedSession, until: Sequence[bytes], max_tokens: int, sampler: Sampler) -> Draft:
    """The ensemble's own continuation on a session that is thrown away afterwards."""
    text, texts, logps = b"", [], []
    for step in range(max_tokens):
        fused = await session.distribution()
        rng = np.random.default_rng([*sampler.seed, step])
        i, _ = draw(fused, sampler.temperature, sampler.top_p, rng)
        texts.append(fused.texts[i])
        logps.append(float(np.log(fused.p[i])))
        if fused.texts[i] == END:
            return Draft(text, Tokens(tuple(texts), np.array(logps)), True)
        text += fused.texts[i]
        hit = next((u for u in until if u in text), b"")
        if hit:
            text = text[: text.index(hit) + len(hit)]
            return Draft(text, Tokens(tuple(texts), np.array(logps)), False, hit.decode("utf-8", "replace"))
        await session.push(fused.texts[i])
    return Draft(text, Tokens(tuple(texts), np.array(logps)), False)


@dataclass
class Written:
    """What the loop wrote: the text without a stop string, how it ended, and its pieces as tokens."""

    text: bytes
    finish: str
    tokens: Tokens
    shares: Floats


async def answer_with(
    session: FusedSession, query: Query, stop: Sequence[str], rng_of: Any, emit: Any
) -> Written:
    """Decodes one answer: fuse, truncate, draw, commit, until END, a stop string or max_tokens.

    `rng_of(step)` gives the generator of a step; `emit(piece, support, logp)` streams. Stop strings are
    looked for in the bytes of the whole answer, across pieces.
    """
    t = session.together
    texts, logps = [], []
    top: list[tuple[tuple[bytes, float], ...]] = []
    share, finish = np.zeros(len(t.names)), "length"
    said = Stopping(tuple(s.encode() for s in stop), tuple(u.encode() for u in query.until))
    for step in range(query.max_tokens or 256):
        fused = await session.distribution()
        rng = rng_of(step) if query.temperature else None
        i, p = draw(fused, query.temperature or 0.0, 1.0 if query.top_p is None else query.top_p, rng)
        piece, logp = fused.texts[i], float(np.log(p[i]))
        if piece == END:
            finish = "stop"
            break
        texts.append(piece)
        logps.append(logp)
        top.append(_top(fused))
        share += fused.support[i]
        certain, said = len(said.passed), said.after(piece)
        if len(said.passed) > certain:
            support = dict(zip(t.names, fused.support[i].tolist(), strict=True))
            await emit(said.passed[certain:], support, logp)
        if said.ended:
            finish = said.ended
            break
        await session.push(piece)
    if said.held and not said.ended:
        await emit(said.held, {}, float("nan"))
    total = share.sum()
    tokens = Tokens(tuple(texts), np.array(logps), tuple(top))
    return Written(said.closed().passed, finish, tokens, share / total if total else share)


def _top(fused: Fused) -> tuple[tuple[bytes, float], ...]:
    best = top_k(fused.p, TOP_REPORTED)
    with np.errstate(divide="ignore"):
        logp = np.log(fused.p[best])
    return tuple((fused.texts[i], p) for i, p in zip(best.tolist(), logp.tolist(), strict=True))
