"""The token loop: members decode one answer together, whatever their tokenizers. It is itself a session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from septet.core.caps import Caps
from septet.core.errors import LimitReached, NoCandidate, RunError
from septet.core.method import Ask, Asking, Emit, Fuses, Reply, Seat
from septet.core.session import END, Draft, Fused, Meter, Next, Sampler, Session, View, Vocab
from septet.core.types import Floats, Tokens
from septet.engine.drawing import Sampling, by_bytes, place_of
from septet.engine.scoring import scored
from septet.engine.sessions import close_all, opened
from septet.parts.decoding.topk import top_k
from septet.parts.decoding.vocabulary import GrowingVocab

_NO_CAPS = Caps()


def _unheard(note: str) -> None:
    """Where notes go when nobody keeps them."""


NOTHING = Next(0, np.zeros(0, np.int32), np.zeros(0, np.float32), lambda piece, first: None)
"""What a member shows where the method asks it itself."""


@dataclass
class Together:
    """The members' sessions of one answer; None where a member has failed. `ks`: how many of its best tokens
    each member shows, None: its full distribution, 0: nothing. `hidden`: whose hidden state the method reads.
    `full`: who could show its full distribution. `note`: where it is said what is to be known about the answer."""

    method: Fuses
    names: tuple[str, ...]
    sessions: list[Session | None]
    ks: tuple[int | None, ...]
    keep_going: bool
    consults: bool
    hidden: tuple[int, ...] = ()
    full: tuple[bool, ...] = ()
    commit: str = "own"
    note: Callable[[str], None] = _unheard
    errors: list[str] = field(default_factory=list)

    @property
    def everyone(self) -> range:
        """All members' places, the failed ones' too."""
        return range(len(self.sessions))

    def live(self) -> list[int]:
        """The members that are still there."""
        return [i for i in self.everyone if self.sessions[i] is not None]

    def knows_all(self, i: int) -> bool:
        """Whether a member knows the probability of every string."""
        return bool(self.full) and self.full[i]

    async def nexts(self, indices: Sequence[int]) -> list[Next | None]:
        """The next distribution of each of these members, concurrently; None for all others."""

        async def nothing() -> Next:
            return NOTHING

        def one(i: int, session: Session) -> Any:
            if self.ks[i] == 0:
                return nothing()
            return session.next(self.ks[i], hidden=True) if i in self.hidden else session.next(self.ks[i])

        return await self.each(indices, one)

    async def each(self, indices: Sequence[int], call: Any) -> list[Any]:
        """One call per named member, concurrently; a failing one leaves the answer, or ends it."""
        live = [i for i in indices if self.sessions[i] is not None]
        results = await asyncio.gather(*(call(i, self.sessions[i]) for i in live), return_exceptions=True)
        return await self._kept(live, results)

    async def fork(self) -> Together:
        """The same members on forks of their sessions."""
        live = self.live()
        forks = await self._kept(live, await opened(s.fork() for s in self.sessions if s is not None))
        return replace(self, sessions=forks, errors=list(self.errors))

    async def lose(self, i: int, error: BaseException) -> None:
        """A member that has failed leaves the answer, unless its error is fatal or it was the last one."""
        await self._kept([i], [error])

    async def _kept(self, live: Sequence[int], results: Sequence[Any]) -> list[Any]:
        """One value per member, None where it has failed: that member leaves, unless its error is fatal."""
        values: list[Any] = [None] * len(self.sessions)
        fatal: BaseException | None = None
        for i, result in zip(live, results, strict=True):
            if not isinstance(result, BaseException):
                values[i] = result
            elif may_pass(result) and self.keep_going:
                self.errors.append(str(result))
                await self._drop(i)
            else:
                fatal = fatal or result
        if fatal is not None:
            await close_all(v for v in values if isinstance(v, Session) and v not in self.sessions)
            raise fatal
        if all(s is None for s in self.sessions):
            raise NoCandidate("every member failed: " + "; ".join(self.errors))
        return values

    async def _drop(self, i: int) -> None:
        session, self.sessions[i] = self.sessions[i], None
        if session is not None:
            await close_all([session])


def may_pass(error: BaseException) -> bool:
    """Whether an answer may go on without the member that made this error."""
    return isinstance(error, RunError) and not isinstance(error, LimitReached)


@dataclass(frozen=True, slots=True)
class Place:
    """What is known at a boundary between pieces: the fused distribution, sorted by bytes, the views that it
    was made of, and the method's next s. `ahead`: it was read before the text up to it was committed."""

    fused: Fused
    views: Sequence[View | None]
    after: Any
    ahead: bool = False


class FusedSession:
    """A b1 ensemble's side of an answer: next = fused, push and fork = all members.

    Its vocabulary grows: it knows the pieces that it has seen, and gives each an id.
    """

    def __init__(self, together: Together, s: Any, vocab: GrowingVocab | None = None) -> None:
        self.together, self.s = together, s
        self._vocab = vocab or GrowingVocab()
        self._text = b""
        self._place: Place | None = None
        self._ahead: list[tuple[bytes, Place]] = []  # what a look has read beyond the present place

    @property
    def vocab(self) -> Vocab:
        return self._vocab

    @property
    def prompt(self) -> Tokens | None:
        return None

    @property
    def commit_rule(self) -> str:
        """The members' commit rule."""
        return self.together.commit

    @commit_rule.setter
    def commit_rule(self, rule: str) -> None:
        self.together.commit = rule
        for session in self.together.sessions:
            if session is not None and getattr(session, "commit_rule", rule) != rule:
                session.commit_rule = rule  # type: ignore[attr-defined]

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

    # --- distributions -----------------------------------------------------------------------------

    async def distribution(self) -> Fused:
        """The fused distribution after what is committed, sorted by bytes."""
        return (await self.place()).fused

    async def place(self) -> Place:
        """What is known after what is committed; read from the members at the first call."""
        if self._place is None:
            self._place = await self.fused(await self._views(), self.s)
        return self._place

    async def fused(
        self, views: list[View | None], s: Any, *, settle: Callable[[], Any] | None = None
    ) -> Place:
        """The place that these views come to. `settle` is awaited before the method asks the members anything
        further: where they were read ahead, it commits to them the text before this place.

        A member that fails to answer leaves, and the others are fused without it.
        """
        t = self.together
        while True:
            step = t.method.fuse(views, s)
            if settle is not None and isinstance(step, Generator):
                await settle()
            try:
                fused, after = await self._asked(step, views)
            except _Lost as lost:
                await t.lose(lost.member, lost.error)
                views = [None if i == lost.member else view for i, view in enumerate(views)]
                continue
            total = float(fused.p.sum())
            if not total > 0 or not np.isfinite(total):
                raise RunError(f"the fused probabilities sum to {total}, so no string can be chosen")
            return Place(by_bytes(fused), views, after, ahead=settle is not None)

    async def _views(self) -> list[View | None]:
        """Every consulted member's view; all at once unless the method wants to see the first one's first."""
        return await views_of(self, self.together.nexts)

    def view(self, i: int, following: Next, ahead: bytes = b"") -> View:
        """A member's distribution as the method sees it, `ahead` bytes beyond what is committed."""
        session = self.together.sessions[i]
        assert session is not None
        seat = Seat(self.together.names[i], _NO_CAPS, vocab=session.vocab, session=session)
        return View(following, session.vocab, seat, self._text + ahead)

    async def _asked(self, step: Any, views: Sequence[View | None]) -> tuple[Fused, Any]:
        """Runs a `fuse` that may be a generator of asks on the members' sessions."""
        if not isinstance(step, Generator):
            return step  # type: ignore[no-any-return]
        plan: Asking[tuple[Fused, Any]] = step
        replies = None
        while True:
            try:
                items: Sequence[Ask | Emit] = plan.send(replies)  # type: ignore[arg-type]
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            asks = [a for a in items if isinstance(a, Ask)]
            found = await asyncio.gather(
                *(getattr(a.to.session, a.do)(**a.args) for a in asks), return_exceptions=True
            )
            for ask, value in zip(asks, found, strict=True):
                if isinstance(value, BaseException):
                    plan.close()
                    if not (may_pass(value) and self.together.keep_going):
                        raise value
                    for i, view in enumerate(views):
                        if view is not None and view.session is ask.to:
                            raise _Lost(i, value)
                    raise value
            replies = [Reply(value) for value in found]

    # --- the session's side ------------------------------------------------------------------------

    async def next(self, k: int | None, *, agreeing: bytes = b"", hidden: bool = False) -> Next:
        if hidden:
            raise RunError("a token-level ensemble has no hidden state")
        return self._next(await self.place(), len(self._text), k, agreeing)

    def _next(self, place: Place, at: int, k: int | None, agreeing: bytes = b"") -> Next:
        fused = place.fused
        with np.errstate(divide="ignore"):
            logp = np.log(fused.p).astype(np.float32)
        shown = logp
        if agreeing:
            shown = np.where([_agrees(piece, agreeing) for piece in fused.texts], logp, np.float32(-np.inf))
        best = top_k(shown, k or len(fused.texts))
        ids = np.array([self._vocab.add(fused.texts[i]) for i in best.tolist()], dtype=np.int32)

        def lookup(piece: bytes, first: bool) -> float | None:
            there = place_of(fused, piece)
            return None if there is None else float(logp[there])

        return Next(at=at, ids=ids, logp=logp[best], lookup=lookup)

    async def push(self, piece: bytes, *, id: int | None = None, drawn: int | None = None) -> None:
        """Commits a piece to every member. `drawn`: the member whose own token `id` it is."""
        t, place = self.together, self._place
        ids: dict[int, int | None] = {}
        if place is not None and place.ahead and t.commit == "own":
            # the members have not read this place themselves, so they are told which id is their own
            ids = {i: own_id(view, piece) for i, view in enumerate(place.views) if view is not None}
        if drawn is not None and t.commit == "own":
            ids[drawn] = id
        await t.each(t.everyone, lambda i, session: session.push(piece, id=ids.get(i)))
        ahead = self._ahead
        self.passed(piece, place)
        if ahead and ahead[0][0] == piece:
            self._place, self._ahead = ahead[0][1], ahead[1:]

    def passed(self, piece: bytes, place: Place | None) -> None:
        """Takes note that the members have, or will be given, this piece; `place`: what was known before it."""
        self._text += piece
        if place is not None:
            self.s = place.after
        self._place, self._ahead = None, []

    async def look(self, pieces: Sequence[bytes], k: int | None) -> list[Next]:
        """One look per member; a method that consults, or asks on, walks the way on forks instead."""
        places = await self._along(pieces)
        if places is None:
            return await self._walked(pieces, k)
        self._ahead = list(zip(pieces, places[1:], strict=True))
        ends = np.cumsum([len(self._text), *map(len, pieces)]).tolist()
        return [self._next(place, at, k) for place, at in zip(places, ends, strict=True)]

    async def _along(self, pieces: Sequence[bytes]) -> list[Place] | None:
        """The places now and after each piece, from one look per member; None where that is not to be had."""
        t = self.together
        if t.consults or t.hidden or not pieces:
            return None
        here = await self.place()

        async def one(i: int, session: Session) -> list[Next] | None:
            try:
                return await session.look(pieces, t.ks[i])
            except RunError as error:
                if not may_pass(error):
                    raise
                return None  # it cannot go all the way, for instance where its context ends: it may go a part

        rows = await t.each([i for i, view in enumerate(here.views) if view is not None], one)
        if any(rows[i] is None for i, view in enumerate(here.views) if view is not None):
            return None
        places = [here]
        for j in range(1, len(pieces) + 1):
            text = b"".join(pieces[:j])
            views = [None if row is None else self.view(i, row[j], text) for i, row in enumerate(rows)]
            step = t.method.fuse(views, places[-1].after)
            if isinstance(step, Generator):
                step.close()
                return None
            fused, after = step
            places.append(Place(by_bytes(fused), views, after, ahead=True))
        return places

    async def _walked(self, pieces: Sequence[bytes], k: int | None) -> list[Next]:
        if not pieces:
            return [await self.next(k)]
        twin = await self.fork()
        try:
            seen = [await twin.next(k)]
            for piece in pieces:
                await twin.push(piece)
                seen.append(await twin.next(k))
            return seen
        finally:
            await twin.close()

    async def after(self, paths: Sequence[Sequence[int]]) -> list[Next]:
        raise RunError(
            "a token-level ensemble has no tokens of its own, so no distribution after some of them"
        )

    async def write(self, until: Sequence[bytes], max_tokens: int, sampler: Sampler) -> Draft:
        twin = await self.fork()
        try:
            return await _written(twin, until, max_tokens, sampler)
        finally:
            await twin.close()

    async def score(self, spans: Sequence[bytes], *, end: bool = False) -> list[Tokens]:
        """Log-probabilities of each span after the committed text; nothing is committed. `end`: with END after
        it, as b"". See `engine/scoring.py` for what the score of an ensemble is."""
        return [await scored(self, span, end) for span in spans]

    async def hidden(self) -> Floats:
        raise RunError("a token-level ensemble has no hidden state")

    async def fork(self) -> FusedSession:
        copy = FusedSession(await self.together.fork(), self.s, self._vocab)
        copy._text, copy._place, copy._ahead = self._text, self._place, list(self._ahead)
        return copy

    async def close(self) -> None:
        await close_all(session for session in self.together.sessions if session is not None)


class _Lost(Exception):
    """A member failed while the method asked it something."""

    def __init__(self, member: int, error: BaseException) -> None:
        self.member, self.error = member, error


async def views_of(session: FusedSession, read: Any) -> list[View | None]:
    """The views of the members that the method wants; `read(indices)` gives their distributions."""
    t = session.together
    if not t.consults:
        nexts = await read(t.everyone)
    else:
        nexts = await read([0])
        wanted = t.everyone if nexts[0] is None else t.method.consult(nexts[0], session.s)
        rest = await read([i for i in wanted if i != 0])
        nexts = [nexts[0], *rest[1:]] if 0 in wanted else rest
    return [None if n is None else session.view(i, n) for i, n in enumerate(nexts)]


def own_id(view: View, piece: bytes) -> int | None:
    """The id that the member itself ranks first, where it has the bytes of the piece."""
    following = view.next
    if not len(following.ids):
        return None
    best = int(following.logp.argmax()) if following.full else int(following.ids[0])
    return best if view.vocab.bytes_of(best) == piece else None


def _agrees(piece: bytes, agreeing: bytes) -> bool:
    return bool(piece) and (agreeing.startswith(piece) or piece.startswith(agreeing))


async def _written(session: FusedSession, until: Sequence[bytes], max_tokens: int, sampler: Sampler) -> Draft:
    """The ensemble's own continuation on a session that is thrown away afterwards."""

    def rng_of(step: int) -> np.random.Generator:
        return np.random.default_rng([*sampler.seed, step])

    sampling = Sampling(sampler.temperature, sampler.top_p, rng_of)
    text, texts, logps = b"", [], []
    for step in range(max_tokens):
        fused = await session.distribution()
        i, _ = sampling.pick(fused, step)
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
