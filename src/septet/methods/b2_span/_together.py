"""The members' sessions of one shared answer: write spans, score them, commit one to everybody."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
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
"""Tokens of a first draft: enough for most words and for what shows that they are complete."""

MAX_TOKENS = 256
"""The length of an answer where nobody says."""

Trim = Callable[[Draft], bytes | None]
"""Cuts a draft to a span; None: it holds no complete span yet."""

Scores = Sequence[Sequence[Tokens | None]]
"""[member][candidate]: a candidate's tokens as a member reads it, END as b"" where it is ended; None where
a member has failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """How the next spans are written: at most `max_tokens`, up to one of `until`, cut by `trim`, by the
    members `who` (None: all). `ended_wins`: a draft that ends the answer is taken without scoring; a sole
    candidate is scored only if `score_sole`."""

    max_tokens: int = 16
    until: tuple[bytes, ...] = ()
    trim: Trim = lambda draft: draft.text
    temperature: float = 0.0
    top_p: float = 1.0
    who: tuple[int, ...] | None = None
    ended_wins: bool = False
    score_sole: bool = False


class Candidate(NamedTuple):
    """A span, whether it ends the answer, who wrote it, and its tokens as its wordiest author counts them."""

    text: bytes
    ended: bool
    authors: tuple[int, ...]
    n_tokens: int


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
        values = self._kept(asks, (yield list(asks.values())))
        for i in asks.keys() - values.keys():
            del self.sessions[i]
        self._not_alone()
        return values

    def _kept(self, who: Iterable[int], replies: Sequence[Reply]) -> dict[int, Any]:
        self.errors += [str(reply.error) for reply in replies if not reply.ok]
        return {i: reply.value for i, reply in zip(who, replies, strict=True) if reply.ok}

    def _not_alone(self) -> None:
        if not self.sessions:
            raise NoCandidate("every member failed: " + "; ".join(self.errors))

    # --- one span ----------------------------------------------------------------------------------

    def written(self, spans: Spans) -> Asking[list[Candidate]]:
        """Every writer's span, equal ones merged; who has no complete one yet writes again, twice as far."""
        waiting: Sequence[int] = range(len(self.names)) if spans.who is None else spans.who
        longest = min(spans.max_tokens, self.left)
        n_tokens, found = min(FIRST_TOKENS, longest), list[Candidate]()
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
        return _merged(found)

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
        if chosen.text:
            yield from self.each({i: seat.push(chosen.text) for i, seat in self.everyone()})
        piece = self.answer.passed[before:]
        if piece and streams:
            yield [Emit(piece, {self.names[i]: part for i in chosen.authors})]

    def verdict(self) -> Verdict:
        """The whole text, each member's share (n_members,) in its spans, and how it ended."""
        share = self.share / max(self.n_spans, 1)
        wrote = ", ".join(f"{name} {part:.0%}" for name, part in zip(self.names, share, strict=True))
        failed = "; failed: " + "; ".join(self.errors) if self.errors else ""
        return Verdict(
            text=self.answer.closed().passed.decode("utf-8", "replace"),
            weights=share,
            reason=f"{self.n_spans} spans, written by {wrote}{failed}",
            finish=self.finish or "length",
        )


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
    return Candidate(text, draft.ended and text == draft.text, (author,), used)


def _merged(found: Sequence[Candidate]) -> list[Candidate]:
    """Equal spans are one candidate with all its authors; sorted by bytes, without empty ones that go on."""
    groups: dict[tuple[bytes, bool], list[Candidate]] = {}
    for candidate in found:
        if candidate.text or candidate.ended:
            groups.setdefault((candidate.text, candidate.ended), []).append(candidate)
    return [
        Candidate(text, ended, tuple(sorted(c.authors[0] for c in same)), max(c.n_tokens for c in same))
        for (text, ended), same in sorted(groups.items())
    ]


def _with_end(tokens: Tokens | None, logp: float | None) -> Tokens | None:
    """The tokens with END behind them; END stays out where the backend cannot know its probability."""
    if tokens is None or logp is None:
        return tokens
    return Tokens((*tokens.texts, END), np.append(tokens.logp, logp))


def _as_bytes(strings: Iterable[str]) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(s.encode() for s in strings))
