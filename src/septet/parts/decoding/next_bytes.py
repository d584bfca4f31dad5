"""A vocabulary in byte order, and sums of token probabilities by the next byte."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from septet.core.session import Ids
from septet.core.types import Floats
from septet.parts.decoding.vocabulary import PackedVocab

N_SYMBOLS = 257
"""The 256 bytes and END."""

END_SYMBOL = 256

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ByteOrder:
    """The n unmasked ids that are not END, in byte order: `ids` (n,), their bytes one after the other in
    `packed`, `starts` (n+1,) where each begins. A *place* is an index into this order; the tokens that begin
    with some bytes are a range of places, those that are exactly these bytes come first in it."""

    ids: Ids
    packed: NDArray[np.uint8]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, vocab: PackedVocab) -> ByteOrder:
        """The order of a vocabulary."""
        pieces, ids = vocab.spelled()
        starts = np.zeros(len(pieces) + 1, dtype=np.int64)
        np.cumsum([len(piece) for piece in pieces], out=starts[1:])
        return cls(ids, np.frombuffer(b"".join(pieces), dtype=np.uint8), starts)

    def __len__(self) -> int:
        return len(self.ids)

    def bytes_at(self, place: int) -> bytes:
        """The bytes of the token at a place."""
        return self.packed[self.starts[place] : self.starts[place + 1]].tobytes()

    @cached_property
    def firsts(self) -> NDArray[np.int64]:
        """(257,) where the tokens that begin with each byte begin, and n."""
        return np.searchsorted(self.packed[self.starts[:-1]], np.arange(257))

    def longer(self, low: int, high: int, depth: int) -> int:
        """Of the tokens at [low, high), which begin with the same `depth` bytes: where those begin that go on."""
        while low < high and self.starts[low + 1] - self.starts[low] == depth:
            low += 1
        return low

    def narrowed(self, low: int, high: int, depth: int, byte: int) -> tuple[int, int]:
        """The range of those that go on with a byte."""
        if depth == 0:
            return int(self.firsts[byte]), int(self.firsts[byte + 1])
        low = self.longer(low, high, depth)
        following = self.following(low, high, depth)
        first, last = np.searchsorted(following, [byte, byte + 1])
        return low + int(first), low + int(last)

    def following(self, low: int, high: int, depth: int) -> NDArray[np.uint8]:
        """(high − low,) ascending, the byte at `depth` of each; all are longer than that."""
        return self.packed[self.starts[low:high] + depth]

    def by_next_byte(self, p: NDArray[np.floating[Any]], low: int, high: int, depth: int) -> Floats:
        """(256,) the sums of `p` (n,) over the tokens of a range that go on with each byte."""
        sums = np.zeros(256)
        if depth == 0:
            used = np.flatnonzero(np.diff(self.firsts))
            sums[used] = np.add.reduceat(p, self.firsts[used], dtype=np.float64)
            return sums
        low = self.longer(low, high, depth)
        if low == high:
            return sums
        following = self.following(low, high, depth)
        groups = np.concatenate([[0], np.flatnonzero(following[1:] != following[:-1]) + 1])
        sums[following[groups]] = np.add.reduceat(p[low:high], groups, dtype=np.float64)
        return sums
