"""A member's own continuation, token by token: how a token is drawn, where an answer stops, what is shown."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from septet.backends._strand import Strand
from septet.core.session import END, Draft, Sampler
from septet.core.types import Finish, Tokens
from septet.parts.decoding.topk import Row

HOP = 8
"""Tokens per hop to the worker: few enough that others get their turn and a cancelled request ends soon."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A string that ended an answer, where it begins and ends, and whether it stays in the text."""

    end: int
    start: int
    kept: bool
    marker: bytes

    @property
    def cut(self) -> int:
        """Where the text ends."""
        return self.end if self.kept else self.start


@dataclass(frozen=True, slots=True)
class Ends:
    """The strings that end an answer, as bytes: before a `stop`, after an `until`."""

    stop: tuple[bytes, ...] = ()
    until: tuple[bytes, ...] = ()

    def hit(self, text: bytes | bytearray, before: int) -> Hit | None:
        """The first string to be complete, where all up to `before` has been searched; ties → the longest."""
        hits = []
        for kept, markers in ((False, self.stop), (True, self.until)):
            for marker in markers:
                start = text.find(marker, max(0, before - len(marker) + 1))
                if start >= 0:
                    hits.append(Hit(start + len(marker), start, kept, marker))
        return min(hits, key=lambda hit: (hit.end, hit.start, hit.kept), default=None)

    def held(self, text: bytes | bytearray) -> int:
        """How many bytes at the end could be the beginning of a stop string, and are not shown yet."""
        longest = max((len(marker) for marker in self.stop), default=1)
        for n in range(min(len(text), longest - 1), 0, -1):
            if any(marker.startswith(text[-n:]) for marker in self.stop):
                return n
        return 0


@dataclass(slots=True)
class Written:
    """One token of a continuation: its bytes, its log-probability, and the best alternatives."""

    piece: bytes
    logp: float
    top: tuple[tuple[bytes, float], ...]


class Writing:
    """A continuation that is being written on a strand. `finish` is None while it goes on.

    Token j is drawn with `default_rng([*sampler.seed, j])`, so a draw depends on its place only and a
    continuation can be cut and taken up again.
    """

    def __init__(
        self, strand: Strand, sampler: Sampler, ends: Ends, *, max_tokens: int, alternatives: int = 0
    ) -> None:
        self.strand, self.sampler, self.ends = strand, sampler, ends
        self.max_tokens, self.alternatives = max_tokens, alternatives
        self.finish: Finish | None = None if max_tokens > 0 else "length"
        self.hit: Hit | None = None
        self.text = bytearray()
        self.written: list[Written] = []
        self.end: Written | None = None

    def advance(self, n_tokens: int = HOP) -> None:
        """Up to n more tokens."""
        for _ in range(n_tokens):
            if self.finish is not None:
                return
            self._step()

    def _step(self) -> None:
        strand = self.strand
        row = strand.head()
        token_id = draw(row, self.sampler, len(self.written))
        piece = strand.vocab.bytes_of(token_id)
        token = Written(piece, float(row.logp([token_id])[0]), self._alternatives(row))
        if piece == END:
            self.end, self.finish = token, "stop"
            return
        strand.append(token_id)
        before = len(self.text)
        self.text += piece
        self.written.append(token)
        self.hit = self.ends.hit(self.text, before)
        if self.hit:
            self.finish = "until" if self.hit.kept else "stop"
        elif len(self.written) >= self.max_tokens or strand.room < 0:
            # The last token of a full context can still be fed; nothing could be after it.
            self.finish = "length"

    def _alternatives(self, row: Row) -> tuple[tuple[bytes, float], ...]:
        if not self.alternatives:
            return ()
        ids = row.top(self.alternatives)
        bytes_of = self.strand.vocab.bytes_of
        return tuple((bytes_of(i), float(p)) for i, p in zip(ids.tolist(), row.logp(ids), strict=True))

    @property
    def shown(self) -> bytes:
        """The text as far as it is certain: cut at what ended it, without what may become a stop string."""
        if self.hit:
            return bytes(self.text[: self.hit.cut])
        held = 0 if self.finish else self.ends.held(self.text)
        return bytes(self.text[: len(self.text) - held])

    def tokens(self, *, with_end: bool = False) -> Tokens:
        """The tokens of the shown text; one that the end cuts through is shortened, and keeps its logp.

        `with_end` adds END as b"" where the member ended by itself.
        """
        kept, left = list[Written](), len(self.shown)
        for token in self.written:
            if left <= 0:
                break
            kept.append(Written(token.piece[:left], token.logp, token.top))
            left -= len(token.piece)
        if with_end and self.end:
            kept.append(self.end)
        logp = np.array([token.logp for token in kept], dtype=np.float64)
        top = tuple(token.top for token in kept) if self.alternatives else None
        return Tokens(tuple(token.piece for token in kept), logp, top)

    def draft(self) -> Draft:
        """What `Session.write` gives; where the member ended, END is the last of its tokens."""
        hit = self.hit.marker.decode(errors="replace") if self.hit else ""
        return Draft(self.shown, self.tokens(with_end=True), self.end is not None, hit)


def draw(row: Row, sampler: Sampler, place: int) -> int:
    """One id: the best at temperature 0, else drawn from softmax(logp / T) cut to `top_p`; END is one id."""
    if sampler.temperature == 0:
        return row.best()
    u = float(np.random.default_rng([*sampler.seed, place]).random())
    if sampler.top_p >= 1:
        return _inverse(row.logits, sampler.temperature, u)
    ids = _nucleus(row, sampler)
    return int(ids[_inverse(row.logits[ids], sampler.temperature, u)])


def _inverse(logits: np.ndarray[tuple[int, ...], np.dtype[np.float32]], temperature: float, u: float) -> int:
    """The index at which the cumulative distribution passes u in [0, 1)."""
    scaled = (logits - logits.max()) / np.float32(temperature)
    mass = np.exp(scaled).cumsum(dtype=np.float64)
    last = int(np.searchsorted(mass, mass[-1]))  # rounding must not reach a row without mass
    return min(int(np.searchsorted(mass, u * mass[-1], side="right")), last)


def _nucleus(row: Row, sampler: Sampler) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    """The fewest best ids whose mass at this temperature reaches `top_p`, ascending; at least one."""
    scaled = (row.logits - row.logits.max()) / np.float32(sampler.temperature)
    total = np.exp(scaled).sum(dtype=np.float64)
    k = 256
    while True:
        ids = row.top(k)
        mass = np.exp(scaled[ids]).cumsum(dtype=np.float64) / total
        if mass[-1] >= sampler.top_p or len(ids) < k:
            return np.sort(ids[: int(np.searchsorted(mass, sampler.top_p)) + 1])
        k *= 8


def whole_characters(text: bytes, decoder: codecs.IncrementalDecoder | None = None) -> str:
    """The complete characters; invalid bytes become U+FFFD, an unfinished character at the end waits."""
    return (decoder or new_decoder()).decode(text)


def new_decoder() -> codecs.IncrementalDecoder:
    """Decodes a stream of bytes, holding back an unfinished character."""
    return codecs.getincrementaldecoder("utf-8")("replace")


def as_bytes(strings: Sequence[str]) -> tuple[bytes, ...]:
    """Strings as their UTF-8 bytes."""
    return tuple(string.encode() for string in strings)
