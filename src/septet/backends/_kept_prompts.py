"""Prompts that were fed last, each in a sequence of its own, from which later ones that begin alike are forked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from septet.backends._runtime import Begun
from septet.parts.decoding.topk import Row


class Sequences(Protocol):
    """What a runtime has to do for it."""

    def has_free(self) -> bool:
        """Whether a sequence can be opened without giving up a prompt."""

    def fork(self, seq: int) -> int:
        """See `Runtime.fork`."""

    def cut(self, seq: int, keep: int) -> None:
        """See `Runtime.cut`."""

    def close(self, seq: int) -> None:
        """See `Runtime.close`."""


@dataclass(frozen=True)
class _Kept:
    seq: int
    ids: tuple[int, ...]
    row: Row


class KeptPrompts:
    """At most `most` prompts; the one that was used least recently is given up first.

    What a new prompt takes over is what feeding it would have given: a whole prompt with its distribution, or a
    beginning of a multiple of `step` tokens, the size of a decode call, so that the rest is cut into calls as ever.
    """

    def __init__(self, runtime: Sequences, most: int, step: int) -> None:
        self._runtime, self._most, self._step = runtime, most, step
        self._kept: list[_Kept] = []  # the most recently used last

    def begun(self, ids: Sequence[int]) -> Begun | None:
        """A new sequence with as much of this prompt as one of those kept begins with, None where that is nothing."""
        wanted = tuple(ids)
        best = max(self._kept, key=lambda kept: self._shared(kept, wanted), default=None)
        if best is None or not (n := self._shared(best, wanted)):
            return None
        self._kept.remove(best)
        seq = best.seq  # its own, where no other is free
        if self._runtime.has_free():
            seq = self._runtime.fork(best.seq)
            self._kept.append(best)
        if n < len(best.ids):
            self._runtime.cut(seq, n)
        return Begun(seq, n, best.row if n == len(wanted) else None)

    def keep(self, seq: int, ids: Sequence[int], row: Row) -> None:
        """Keeps a fork of a sequence that holds just this prompt, where there is room for it."""
        wanted = tuple(ids)
        if not self._most or any(kept.ids == wanted for kept in self._kept):
            return
        while len(self._kept) >= self._most:
            self.give_up()
        if self._runtime.has_free():
            self._kept.append(_Kept(self._runtime.fork(seq), wanted, row))

    def give_up(self) -> bool:
        """Gives the sequence of the one that was used least recently back; False where none is kept."""
        if not self._kept:
            return False
        self._runtime.close(self._kept.pop(0).seq)
        return True

    def _shared(self, kept: _Kept, wanted: tuple[int, ...]) -> int:
        n = 0
        for one, other in zip(kept.ids, wanted, strict=False):
            if one != other:
                break
            n += 1
        if n == len(wanted) == len(kept.ids):
            return n
        return min(n, len(wanted) - 1) // self._step * self._step
