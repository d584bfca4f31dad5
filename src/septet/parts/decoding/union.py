"""One list of byte strings for several vocabularies, and where each id of each vocabulary stands in it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from septet.core.session import Ids, Vocab
from septet.core.types import Floats
from septet.parts.decoding.vocabulary import PackedVocab

FORM = 2
"""Of a table on disk; a change of its arrays or of what they mean raises it."""

Logp = NDArray[np.float32]

BLOCK = 16
"""Strings that are read one after the other to find one of them; the first of a block stands there whole."""

_MOST_SHARED = 255


@dataclass(frozen=True, eq=False)
class Strings(Sequence[bytes]):
    """Byte strings in byte order, each once; the first is b"" = END.

    Each is written as what it adds to the one before it, which takes 1.3 MB where 258,776 of them, one after
    the other, take 3: `added` (n_bytes,), `shared` (t,) how many bytes are those of the string before, none at
    the beginning of a block, `lengths` (t,) how many are added, `starts` (t/BLOCK,) where each block begins.
    """

    added: NDArray[np.uint8]
    shared: NDArray[np.uint8]
    lengths: NDArray[np.unsignedinteger[Any]]
    starts: NDArray[np.int32]

    @classmethod
    def of(cls, texts: Sequence[bytes]) -> Strings:
        """From distinct strings in byte order."""
        sizes = np.fromiter(map(len, texts), dtype=np.int32, count=len(texts))
        ends = np.cumsum(sizes, dtype=np.int32)
        begins = ends - sizes
        packed = np.frombuffer(b"".join(texts), dtype=np.uint8)
        shared = _shared(packed, begins, sizes)
        lengths = sizes - shared
        # A byte is kept where its place in its own string is not one of the shared.
        place = np.arange(len(packed), dtype=np.int32) - np.repeat(begins, sizes)
        added = packed[place >= np.repeat(shared, sizes)]
        small = np.min_scalar_type(int(lengths.max(initial=0)))
        starts = (np.cumsum(lengths) - lengths)[::BLOCK]
        return cls(added, shared.astype(np.uint8), lengths.astype(small), starts.astype(np.int32))

    def __len__(self) -> int:
        return len(self.shared)

    def __getitem__(self, j: int) -> bytes:  # type: ignore[override]  # no slices
        added, shared, lengths, starts = self._buffers
        j = range(len(shared))[j]
        block = j // BLOCK
        at, text = starts[block], b""
        for i in range(block * BLOCK, j + 1):
            end = at + lengths[i]
            text = text[: shared[i]] + added[at:end]
            at = end
        return text

    def __iter__(self) -> Iterator[bytes]:
        added, shared, lengths, _ = self._buffers
        at, text = 0, b""
        for n_shared, length in zip(shared, lengths, strict=True):
            text = text[:n_shared] + added[at : at + length]
            at += length
            yield text

    @cached_property
    def _buffers(self) -> tuple[memoryview, memoryview, memoryview, memoryview]:
        # Plain buffers: reading one item of a numpy array costs five times as much.
        return self.added.data, self.shared.data, self.lengths.data, self.starts.data

    def find(self, piece: bytes) -> int | None:
        """The place of a string, None where it is not among them."""
        place = bisect_left(self, piece)
        return place if place < len(self) and self[place] == piece else None


def _shared(packed: NDArray[np.uint8], begins: Ids, sizes: Ids) -> NDArray[np.int32]:
    """(t,) the bytes that each string has in common with the one before it; none at the beginning of a block."""
    shared = np.zeros(len(sizes), dtype=np.int32)
    left = np.arange(1, len(sizes))
    left = left[left % BLOCK != 0]
    for n in range(_MOST_SHARED):
        left = left[(sizes[left] > n) & (sizes[left - 1] > n)]
        left = left[packed[begins[left] + n] == packed[begins[left - 1] + n]]
        if not len(left):
            break
        shared[left] = n + 1
    return shared


@dataclass(frozen=True, eq=False)
class Column:
    """One vocabulary of V entries in a union of t strings.

    `ids` (t,): the tokenizer's own id of each string; where it has none, an id whose log-probability is
    always −inf (a masked one), or V where there is no such id. `doubled`: the other ids of strings that have
    several, `doubled_at` their strings, both (d,) ascending by string. All `end_ids` are the string b"".
    """

    ids: NDArray[np.integer[Any]]
    doubled: Ids
    doubled_at: NDArray[np.int32]
    end_ids: Ids
    silent: int
    size: int

    def gather(self, logp: Logp) -> Logp:
        """(t,) log-probability of each string from (V,) of each id; duplicates summed, −inf where it is none."""
        row = np.append(logp, np.float32(-np.inf)) if self.silent == self.size else logp
        found: Logp = row.take(self.ids)
        if len(self.doubled):
            first = self._first_doubled
            strings = self.doubled_at[first]
            others = np.logaddexp.reduceat(logp[self.doubled], first)
            found[strings] = np.logaddexp(found[strings], others)
        return found

    def add(self, p: NDArray[np.float32], total: NDArray[np.float32]) -> None:
        """Adds (V + 1,) amounts of each id, the last one 0, to those of the strings, (t,): for probabilities."""
        if 2 * len(self._held) < len(self.ids):  # a small vocabulary in a large union
            total[self._held] += p.take(self._held_ids)
        else:
            total += p.take(self.ids)
        if len(self.doubled):
            first = self._first_doubled
            total[self.doubled_at[first]] += np.add.reduceat(p[self.doubled], first)

    def logp_at(self, j: int, logp: Logp) -> float:
        """The log-probability of string j from (V,) of each id."""
        own = int(self.ids[j])
        found = -np.inf if own == self.size else float(logp[own])
        low, high = np.searchsorted(self.doubled_at, [j, j + 1])
        for other in self.doubled[low:high].tolist():
            found = float(np.logaddexp(found, logp[other]))
        return found

    @cached_property
    def _held(self) -> NDArray[np.intp]:
        """The strings that the vocabulary has."""
        return np.flatnonzero(self.ids != self.silent)

    @cached_property
    def _held_ids(self) -> NDArray[np.integer[Any]]:
        return self.ids[self._held]

    @cached_property
    def _first_doubled(self) -> NDArray[np.intp]:
        return np.flatnonzero(np.diff(self.doubled_at, prepend=-1))

    @cached_property
    def place(self) -> NDArray[np.int32]:
        """(V,) the string of each id, 0 for every END id; −1 for an id that is no string."""
        place = np.full(self.size, -1, dtype=np.int32)
        place[self._held_ids] = self._held
        place[self.doubled] = self.doubled_at
        place[self.end_ids] = 0
        return place


@dataclass(frozen=True, eq=False)
class UnionTable:
    """The union of several vocabularies: `strings` (t,), and one column per vocabulary, in order.

    No array is larger than t or V, so 49k + 262k entries take 3 MB.
    """

    strings: Strings
    columns: tuple[Column, ...]

    @classmethod
    def of(cls, vocabs: Sequence[Vocab]) -> UnionTable:
        """The union of packed vocabularies; all their END ids are one string, b""."""
        packed = [v for v in vocabs if isinstance(v, PackedVocab)]
        if len(packed) < len(vocabs):
            raise TypeError("a vocabulary that is not known as a whole has no place in a union table")
        spelled = [v.spelled() for v in packed]
        strings = sorted({b"", *(piece for pieces, _ in spelled for piece in pieces)})
        number = {piece: j for j, piece in enumerate(strings)}
        columns = tuple(
            _column(v, pieces, ids, number) for v, (pieces, ids) in zip(packed, spelled, strict=True)
        )
        return cls(Strings.of(strings), columns)

    def gather(self, i: int, logp: Logp) -> Logp:
        """(t,) log-probability of each string under member i, whose (V,) log-probabilities are given."""
        return self.columns[i].gather(logp)


def _column(vocab: PackedVocab, pieces: Sequence[bytes], ids: Ids, number: dict[bytes, int]) -> Column:
    """`pieces` are the bytes of `ids`, in byte order, a string's own id first."""
    at = np.fromiter((number[p] for p in pieces), dtype=np.int32, count=len(pieces))
    first = np.ones(len(at), dtype=np.bool_)
    first[1:] = at[1:] != at[:-1]
    silent = int(vocab.masked_ids[0]) if len(vocab.masked_ids) else vocab.size
    # numpy gathers as fast by 16 bits as by 64, and 32 are enough for every vocabulary.
    small: type[np.integer[Any]] = np.uint16 if vocab.size < 1 << 16 else np.int32
    own = np.full(len(number), silent, dtype=small)
    own[at[first]] = ids[first]
    if vocab.end_ids:
        own[0] = vocab.end_ids[0]  # a distribution sums all END ids into the first of them
    ends = np.array(vocab.end_ids, dtype=np.int32)
    return Column(own, ids[~first], at[~first], ends, silent, vocab.size)


def union_key(vocabs: Sequence[Vocab | None]) -> str:
    """What names the union of these vocabularies on disk; "" where one of them is not known as a whole."""
    digests = [v.digest if isinstance(v, PackedVocab) else "" for v in vocabs]
    return sha256(f"{FORM} {digests}".encode()).hexdigest() if all(digests) else ""


def probabilities(logp: Floats | Logp) -> Floats:
    """exp, in float64."""
    return np.exp(logp, dtype=np.float64)
