"""Stop strings in a stream of bytes: where an answer ends, and what must be held back until that is certain."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, slots=True)
class Stopping:
    """How far an answer has come. `stop` ends it before the string, `until` after it; `passed` are the
    bytes that are certain, `held` those that may be the beginning of such a string; `ended` is "" while
    it goes on, then "stop" or "until"."""

    stop: tuple[bytes, ...] = ()
    until: tuple[bytes, ...] = ()
    passed: bytes = b""
    held: bytes = b""
    ended: Literal["", "stop", "until"] = ""

    @property
    def text(self) -> str:
        """`passed` as text, without the bytes of a character that is not complete at its end."""
        return codecs.getincrementaldecoder("utf-8")("replace").decode(self.passed)

    def after(self, piece: bytes) -> Stopping:
        """The same answer with one more piece; the string that is complete first ends it.

        >>> answer = Stopping(stop=(b"Question:",)).after(b"Yes.").after(b" Que")
        >>> answer.passed, answer.held
        (b'Yes. ', b'Que')
        >>> answer.after(b"stion: Why?").passed
        b'Yes. '
        """
        text = self.held + piece
        ends: list[tuple[int, int, Literal["stop", "until"]]]
        ends = [(text.index(s) + len(s), text.index(s), "stop") for s in self.stop if s in text]
        ends += [(text.index(u) + len(u), text.index(u) + len(u), "until") for u in self.until if u in text]
        if ends:
            _, cut, ended = min(ends)
            return replace(self, passed=self.passed + text[:cut], held=b"", ended=ended)
        cut = len(text) - self._held(text)
        return replace(self, passed=self.passed + text[:cut], held=text[cut:])

    def closed(self) -> Stopping:
        """The same answer at its end: what was held back belongs to it."""
        return replace(self, passed=self.passed + self.held, held=b"")

    def _held(self, text: bytes) -> int:
        """The length of the longest end of the text that begins a stop string."""
        markers = (*self.stop, *self.until)
        longest = max((len(s) for s in markers), default=1) - 1
        for n in range(min(longest, len(text)), 0, -1):
            if any(s.startswith(text[-n:]) for s in markers):
                return n
        return 0
