"""One list of byte strings for several vocabularies, and where each id of each vocabulary stands in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from septet.core.session import Ids, Vocab
from septet.core.types import Floats
from septet.parts.decoding.vocabulary import PackedVocab

FORM = 1
"""Of a table on disk; a change of its arrays or of what they mean raises it."""

Logp = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Strings(Sequence[bytes]):
    """Byte strings in one buffer, in byte order, each once; the first is b"" = END.

    `packed` (n_bytes,), `offsets` (t+1,): string j is packed[offsets[j]:offsets[j+1]].
    """

    packed: NDArray[np.uint8]
    offsets: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, j: int) -> bytes:  # type: ignore[override]  # no slices
        return self.packed[self.offsets[j] : self.offsets[j + 1]].tobytes()

    def find(self, piece: bytes) -> int | None:
        """The place of a string, None where it is not among them."""
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self[middle] < piece:
                low = middle + 1
            else:
                high = middle
        return low if low < len(self) and self[low] == piece else None


@dataclass(frozen=True, eq=False)
class Column:
    """One vocabulary in a union of t strings.

    `ids` (t,): the tokenizer's own id of each string; where it has none, an id whose log-probability is
    always −inf, or V where there is no such id. `place` (V,): the string of each id, −1 for masked ones.
    `doubled`: the other ids of strings that have several, `doubled_at` their strings, both (d,) ascending by
    string.
    """

    ids: Ids
    place: NDArray[np.int32]
    doubled: Ids
    doubled_at: NDArray[np.int32]

    def gather(self, logp: Logp) -> Logp:
        """(t,) log-probability of each string from (V,) of each id; duplicates summed, −inf where it is none."""
        row = np.append(logp, np.float32(-np.inf)) if len(self.ids) and self._beyond(len(logp)) else logp
        found: Logp = row.take(self.ids)
        if len(self.doubled):
            with np.errstate(invalid="ignore"):
                np.logaddexp.at(found, self.doubled_at, logp[self.doubled])
        return found

    def _beyond(self, size: int) -> bool:
        return bool(self.ids.max() == size)


@dataclass(frozen=True, eq=False)
class UnionTable:
    """The union of several vocabularies: `strings` (t,), and one column per vocabulary, in order.

    No array is larger than t or V, so 49k + 262k entries take 6 MB.
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
        offsets = np.zeros(len(strings) + 1, dtype=np.int32)
        np.cumsum([len(s) for s in strings], out=offsets[1:])
        return cls(Strings(np.frombuffer(b"".join(strings), dtype=np.uint8), offsets), columns)

    def gather(self, i: int, logp: Logp) -> Logp:
        """(t,) log-probability of each string under member i, whose (V,) log-probabilities are given."""
        return self.columns[i].gather(logp)


def _column(vocab: PackedVocab, pieces: Sequence[bytes], ids: Ids, number: dict[bytes, int]) -> Column:
    """`pieces` are the bytes of `ids`, in byte order, a string's own id first."""
    at = np.fromiter((number[p] for p in pieces), dtype=np.int32, count=len(pieces))
    first = np.ones(len(at), dtype=np.bool_)
    first[1:] = at[1:] != at[:-1]
    silent = int(vocab.masked_ids[0]) if len(vocab.masked_ids) else vocab.size
    own = np.full(len(number), silent, dtype=np.int32)
    own[at[first]] = ids[first]
    place = np.full(vocab.size, -1, dtype=np.int32)
    place[ids] = at
    if vocab.end_ids:
        own[0] = vocab.end_ids[0]  # a distribution sums all END ids into the first of them
        place[list(vocab.end_ids)] = 0
    return Column(own, place, ids[~first], at[~first])


def union_key(vocabs: Sequence[Vocab | None]) -> str:
    """What names the union of these vocabularies on disk; "" where one of them is not known as a whole."""
    digests = [v.digest if isinstance(v, PackedVocab) else "" for v in vocabs]
    return sha256(f"{FORM} {digests}".encode()).hexdigest() if all(digests) else ""


def probabilities(logp: Floats | Logp) -> Floats:
    """exp, in float64."""
    return np.exp(logp, dtype=np.float64)
