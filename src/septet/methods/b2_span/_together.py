"""The members' sessions of one shared answer: write spans, score them, commit one to everybody."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from septet.core.errors import NoCandidate
from septet.core.method import Ask, Asking, Emit, Reply, Seat, SeatPool
from septet.core.session import END, Draft, Sampler
from septet.core.types import Finish, Floats, Query, Tokens, Verdict
from septet.parts.decoding.spans import whole_characters
from septet.parts.decoding.stopping import Stopping

FIRST_TOKENS = 4
"""Tokens of a first draft: enough for most single words and for what shows that they are complete."""

MAX_TOKENS = 256
"""The length of an answer where nobody says."""

Trim = Callable[[Draft], bytes | None]
"""Cuts a draft to a span; None: it holds no complete span yet."""

Scores = Sequence[Sequence[Tokens | None]]
"""[member][candidate]: a candidate's tokens as a member reads it, END as b"" where it is ended; None where
a member has failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """How the next spans are written: at most `max_tokens`, up to one of `until`, cut by `trim`; a draft of
    `first_tokens` is tried first. `who`: the members that go on (None: all); the others leave for good.
    `ended_wins`: where drafts end the answer, one of them is taken; a sole candidate is scored only if
    `score_sole`."""

    max_tokens: int = 16
    first_tokens: int = FIRST_TOKENS
    until: tuple[bytes, ...] = ()
    trim: Trim = lambda draft: draft.text
    temperature: float = 0.0
    top_p: float = 1.0
    who: tuple[int, ...] | None = None
    ended_wins: bool = False
    score_sole: bool = False


class Candidate(NamedTuple):
    """A span, whether it ends the answer, who wrote it, and its tokens as its wordiest author counts them.

    `spelled`: the span as an author's own tokens, without END; an author whose tokens do not end where the
    span does is not in it.
    """

    text: bytes
    ended: bool
    authors: tuple[int, ...]
    n_tokens: int
    spelled: Mapping[int, tuple[bytes, ...]] = MappingProxyType({})


class Together:
    """What the members share while they write one answer. A member that fails leaves `sessions` for good."""

    def __init__(self, query: Query, pool: SeatPool, seed: int) -> None:
        self.query, self.names, self.seed = query, pool.names, seed
        self.sessions: dict[int, Seat] = {}
        self.errors: list[str] = []
        stop = (*query.stop, *(s for m in pool.members for s in m.stop))
        self.answer = Stopping(_as_bytes(stop), _as_bytes(query.until))
        self.left = query.max_tokens or MAX_TOKENS
        self.finish: Finish | None = None
        self.n_spans = 0
        self.share: Floats = np.zeros(len(pool.members))

    def opened(self, replies: Sequence[Reply]) -> None:
        """Takes the sessions."""
        self.sessions = self._kept(range(len(self.names)), replies)
        self._not_alone()

    def live(self, who: Iterable[int]) -> list[tuple[int, Seat]]:
        """Those of some members that are still there."""
        return [(i, self.sessions[i]) for i in who if i in self.sessions]

    def everyone(self) -> list[tuple[int, Seat]]:
        """The members that are still there."""
        return self.live(range(len(self.names)))

    def each(self, asks: Mapping[int, Ask]) -> Asking[dict[int, Any]]:
        """One call per member: member → value. A member that fails leaves the answer."""
        values = yield from self.all_of(list(asks.items()))
        return {i: value for i, value in zip(asks, values, strict=True) if i in self.sessions}

    def all_of(self, asks: Sequence[tuple[int, Ask]]) -> Asking[list[Any]]:
        """Any number of calls per member: their values in order. A member that fails in one of them leaves
        the answer, and all its values are None."""
        replies = (yield [ask for _, ask in asks]) if asks else []
        failed = {i: reply for (i, _), reply in zip(asks, replies, strict=True) if not reply.ok}
        self.errors += [str(reply.error) for reply in failed.values()]
        for i in failed:
            del self.sessions[i]
        self._not_alone()
        return [None if i in failed else reply.value for (i, _), reply in zip(asks, replies, strict=True)]

    def staying(self, who: Sequence[int] | None) -> Asking[None]:
        """Closes the sessions of those that are not named; None: everybody stays."""
        leaving = [] if who is None else [i for i in self.sessions if i not in who]
        if leaving:
            yield [self.sessions.pop(i).close() for i in leaving]

    def _kept(self, who: Iterable[int], replies: Sequence[Reply]) -> dict[int, Any]:
        self.errors += [str(reply.error) for reply in replies if not reply.ok]
        return {i: reply.value for i, reply in zip(who, replies, strict=True) if reply.ok}

    def _not_alone(self) -> None:
        if not self.sessions:
            raise NoCandidate("every member failed: " + "; ".join(self.errors))

    # --- one span ----------------------------------------------------------------------------------

    def written(self, spans: Spans) -> Asking[list[Candidate]]:
        """Every member's span, equal ones merged; who has no complete one yet writes again, twice as far."""
        waiting: Sequence[int] = range(len(self.names))
        longest = min(spans.max_tokens, self.left)
        n_tokens, found = min(spans.first_tokens, longest), list[Candidate]()
        while waiting:
            asks = {
                i: seat.write(spans.until, n_tokens, self._sampler(i, spans))
                for i, seat in self.live(waiting)
            }
            drafts = yield from self.each(asks)
            cuts = {i: _cut(draft, i, spans.trim, n_tokens, longest) for i, draft in drafts.items()}
            found += [cut for cut in cuts.values() if cut is not None]
            waiting = [i for i, cut in cuts.items() if cut is None]
            n_tokens = min(2 * n_tokens, longest)
        return merged(found)

    def _sampler(self, i: int, spans: Spans) -> Sampler:
        """A query's own sampling wins; draws depend on the member's name, not on its place."""
        temperature, top_p = self.query.temperature, self.query.top_p
        return Sampler(
            spans.temperature if temperature is None else temperature,
            spans.top_p if top_p is None else top_p,
            (self.seed, crc32(self.names[i].encode()), self.n_spans),
        )

    def scored(self, candidates: Sequence[Candidate], spans: Spans) -> Asking[Scores]:
        """Every candidate as every member reads it."""
        found: list[list[Tokens | None]] = [[None] * len(candidates) for _ in self.names]
        if len(candidates) == 1 and not spans.score_sole:
            return found
        texts = [c.text for c in candidates]
        read = yield from self.each({i: seat.score(texts) for i, seat in self.everyone()})
        for i, tokens in read.items():
            found[i] = list(tokens)
        for j in (j for j, c in enumerate(candidates) if c.ended):
            pieces = [texts[j]] if texts[j] else []
            looks = yield from self.each({i: seat.look(pieces, 1) for i, seat in self.everyone()})
            for i, nexts in looks.items():
                found[i][j] = _with_end(found[i][j], nexts[-1].logp_of(END))
        return found

    def committed(self, chosen: Candidate, streams: bool) -> Asking[None]:
        """Commits a span to every member and passes on what no stop string can take back."""
        before, part = len(self.answer.passed), 1 / len(chosen.authors)
        self.answer = self.answer.after(chosen.text)
        self.left -= max(chosen.n_tokens, 1)
        self.n_spans += 1
        self.share[list(chosen.authors)] += part
        if self.answer.ended or chosen.ended or self.left <= 0:
            self.finish = self.answer.ended or ("stop" if chosen.ended else "length")
            self.answer = self.answer.closed()
        yield from self._pushed(chosen)
        piece = self.answer.passed[before:]
        if piece and streams:
            yield [Emit(piece, {self.names[i]: part for i in chosen.authors})]

    def _pushed(self, chosen: Candidate) -> Asking[None]:
        """Everybody reads the text, but an author goes on with its own tokens.

        So a member that is fused with itself stays on its own path, also where that is not its tokenizer's
        reading of the text (a blank line, an emoji): the commit rule `own` for spans of several tokens.
        """
        if not chosen.text:
            return
        own = {i: own_ids(seat, chosen.spelled[i]) for i, seat in self.everyone() if i in chosen.spelled}
        asks = {i: seat.push(chosen.text) for i, seat in self.everyone() if not own.get(i)}
        place = 0
        while asks or any(len(ids) > place for ids in own.values()):
            for i, seat in self.live(i for i, ids in own.items() if len(ids) > place):
                asks[i] = seat.push(chosen.spelled[i][place], id=own[i][place])
            yield from self.each(asks)
            asks, place = {}, place + 1

    def verdict(self) -> Verdict:
        """The whole text, each member's share (n_members,) in its spans, and how it ended."""
        share = self.share / max(self.n_spans, 1)
        wrote = ", ".join(f"{name} {part:.0%}" for name, part in zip(self.names, share, strict=True))
        failed = "; failed: " + "; ".join(self.errors) if self.errors else ""
        return Verdict(
            text=self.answer.closed().text,
            weights=share,
            reason=f"{self.n_spans} spans, written by {wrote}{failed}",
            finish=self.finish or "length",
        )


def own_ids(seat: Seat, pieces: Sequence[bytes]) -> tuple[int, ...]:
    """The ids of a member's own tokens; () where it does not know its whole vocabulary, or one is no token."""
    if seat.vocab is None or not seat.vocab.digest:
        return ()
    ids = [seat.vocab.ids_of(piece)[:1] for piece in pieces]
    return tuple(i for (i,) in ids) if all(ids) else ()


def spelling(draft: Draft, text: bytes) -> tuple[bytes, ...]:
    """The tokens of a draft that spell a text; () where it does not begin with it, or no token ends there."""
    if not draft.text.startswith(text):
        return ()
    pieces = [piece for piece in draft.tokens.texts if piece]
    sizes = np.cumsum([0, *map(len, pieces)])
    used = int(np.searchsorted(sizes, len(text)))
    return tuple(pieces[:used]) if used < len(sizes) and sizes[used] == len(text) else ()


def _cut(draft: Draft, author: int, trim: Trim, n_tokens: int, longest: int) -> Candidate | None:
    """A writer's span; None: it has to write further. What cannot get longer is taken as it is."""
    text = trim(draft)
    if text is None:
        over = draft.ended or draft.hit or n_tokens >= longest or len(draft.tokens) < n_tokens
        if not over:
            return None
        text = draft.text if draft.ended else whole_characters(draft.text)
    sizes = np.cumsum([len(piece) for piece in draft.tokens.texts if piece])
    used = int(np.searchsorted(sizes, len(text))) + 1 if text else 0
    own = spelling(draft, text)
    ended = draft.ended and text == draft.text
    return Candidate(text, ended, (author,), used, {author: own} if own else {})


def merged(found: Sequence[Candidate]) -> list[Candidate]:
    """Equal spans are one candidate with all its authors; sorted by bytes, without empty ones that go on."""
    groups: dict[tuple[bytes, bool], list[Candidate]] = {}
    for candidate in found:
        if candidate.text or candidate.ended:
            groups.setdefault((candidate.text, candidate.ended), []).append(candidate)
    return [
        Candidate(
            text,
            ended,
            tuple(sorted({i for c in same for i in c.authors})),
            max(c.n_tokens for c in same),
            {i: own for c in reversed(same) for i, own in c.spelled.items()},
        )
        for (text, ended), same in sorted(groups.items())
    ]


def _with_end(tokens: Tokens | None, logp: float | None) -> Tokens | None:
    """The tokens with END behind them; END stays out where the backend cannot know its probability."""
    if tokens is None or logp is None:
        return tokens
    return Tokens((*tokens.texts, END), np.append(tokens.logp, logp))


def _as_bytes(strings: Iterable[str]) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(s.encode() for s in strings))
