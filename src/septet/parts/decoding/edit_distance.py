"""The nearest token by edit distance (MinED, as in PackLLM, 2404.11531): for every string of one vocabulary, the string
of another that takes the fewest insertions, deletions and substitutions of characters.

Characters, and not bytes, as in the paper: two letters of one script share most of their bytes and no sound. A
byte that is part of no character, in a token that ends inside one, counts as a character of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from septet.core.session import Ids, Vocab
from septet.parts.decoding.union import Logp, UnionTable

PAIRS = 1 << 18
"""Pairs of strings that are looked at together; their bits take 2 MB."""

OWN_BITS = 48
"""Of the 64 bits that say what a string is made of, those of one character each: the most frequent ones."""

Letters = NDArray[np.uint32]
Masks = NDArray[np.uint64]


def nearest(queries: Sequence[bytes], targets: Sequence[bytes]) -> Ids:
    """(q,) the index of the target that is nearest to each query: an equal one where there is one, −1 where none
    is nearer than the empty string.

    `targets` are distinct, and neither list holds b"". Exact; of several equally near ones, the longest that
    the query begins or ends with, then the one nearest in length, then the first. Work: for every query and
    target a look at 128 bits, and for the few pairs that these leave at most |query|·|target| cells, no cell
    outside the band that is still of use. Memory: `PAIRS` × the longest string.

    >>> nearest([b" cats", b"dog", b"xyz", b"?"], [b" cat", b"dig", b"dog", b"y"]).tolist()
    [0, 2, 3, -1]
    """
    wanted, offered = list(map(_characters, queries)), list(map(_characters, targets))
    place = {text: j for j, text in enumerate(offered)}
    found = np.array([place.get(text, -1) for text in wanted], dtype=np.int32)
    best = np.zeros(len(wanted), dtype=np.int32)
    for i in np.flatnonzero(found < 0).tolist():
        best[i], found[i] = _contained(wanted[i], place)
    alphabet = {c: rank for rank, (c, _) in enumerate(Counter("".join(offered)).most_common())}
    shelves = _shelves(offered, np.arange(len(offered)), alphabet)
    for shelf in _shelves(wanted, np.flatnonzero(best), alphabet):
        for other in sorted(shelves, key=lambda o: (abs(o.size - shelf.size), o.size)):
            _improve(shelf, other, best, found)
    return found


def distance(a: bytes, b: bytes) -> int:
    """The edit distance of two strings, in characters.

    >>> distance(b"kitten", b"sitting"), distance("né".encode(), b"ne")
    (3, 1)
    """
    one, other = _characters(a), _characters(b)
    if not one or not other:
        return len(one) + len(other)
    alphabet = {c: rank for rank, c in enumerate(sorted(set(one + other)))}
    rows, columns = _letters([one], alphabet), _letters([other], alphabet)
    return int(_within(rows.T, columns.T, max(len(one), len(other)))[0])


def _characters(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def _contained(query: str, place: dict[str, int]) -> tuple[int, int]:
    """The distance and index of the longest target that the query begins or ends with; without one, those of
    the empty string."""
    for n in range(len(query) - 1, 0, -1):
        for part in (query[:n], query[-n:]):
            if part in place:
                return len(query) - n, place[part]
    return len(query), -1


@dataclass(frozen=True)
class _Shelf:
    """The strings of one length: `at` (n,) their indices, `letters` (n, size), and what they are made of.

    A letter is a character's rank in the targets, `UNKNOWN` where no target has it. A letter's bit is its own
    for the `OWN_BITS` most frequent, and shared by others. `once` and `twice` (n,): the bits of the letters
    that occur at least once, and at least twice; `more` (n,): how many letters that leaves uncounted.
    """

    size: int
    at: Ids
    letters: Letters
    once: Masks
    twice: Masks
    more: NDArray[np.uint16]


UNKNOWN = np.iinfo(np.uint32).max


def _shelves(texts: Sequence[str], kept: NDArray[np.intp], alphabet: Mapping[str, int]) -> list[_Shelf]:
    sizes = np.fromiter(map(len, texts), dtype=np.int32, count=len(texts))
    found = []
    for size in np.unique(sizes[kept]).tolist():
        at = kept[sizes[kept] == size].astype(np.int32)
        letters = _letters([texts[i] for i in at.tolist()], alphabet)
        found.append(_Shelf(size, at, letters, *_made_of(letters)))
    return found


def _letters(texts: Sequence[str], alphabet: Mapping[str, int]) -> Letters:
    """(n, size) the letters of strings of one length."""
    ranks = [alphabet.get(c, UNKNOWN) for c in "".join(texts)]
    return np.array(ranks, dtype=np.uint32).reshape(len(texts), -1)


def _made_of(letters: Letters) -> tuple[Masks, Masks, NDArray[np.uint16]]:
    shared = OWN_BITS + letters % (64 - OWN_BITS)
    bits = np.uint64(1) << np.where(letters < OWN_BITS, letters, shared).astype(np.uint64)
    bits[letters == UNKNOWN] = 0
    once = np.zeros(len(letters), dtype=np.uint64)
    twice, more = once.copy(), np.zeros(len(letters), dtype=np.uint16)
    for bit in bits.T:
        more += (twice & bit) != 0
        twice |= once & bit
        once |= bit
    return once, twice, more


def _improve(shelf: _Shelf, other: _Shelf, best: Ids, found: Ids) -> None:
    """Lowers `best` and sets `found` of the shelf's queries to which a target of the other shelf is nearer."""
    longer = max(shelf.size, other.size)
    open_ = np.flatnonzero(best[shelf.at] > abs(shelf.size - other.size))
    high = max(1, PAIRS // len(other.at))
    for start in range(0, len(open_), high):
        rows = open_[start : start + high]
        limits = np.minimum(best[shelf.at[rows]] - 1, longer)
        # Each letter of the longer string that is in no pair of equal letters takes an edit.
        equal = np.bitwise_count(shelf.once[rows, None] & other.once)
        equal += np.bitwise_count(shelf.twice[rows, None] & other.twice)
        least = longer - limits - shelf.more[rows]  # pairs of equal letters that are needed
        row, column = np.nonzero(equal >= least[:, None])
        # One band is right for all pairs of one limit.
        for limit in np.unique(limits[row]).tolist():
            of_limit = np.flatnonzero(limits[row] == limit)
            for at in range(0, len(of_limit), PAIRS):
                some = of_limit[at : at + PAIRS]
                _compare(shelf, other, rows[row[some]], column[some], limit, best, found)


def _compare(
    shelf: _Shelf,
    other: _Shelf,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    limit: int,
    best: Ids,
    found: Ids,
) -> None:
    """The same for pairs of a query and a target, ordered by query and then by target."""
    far = _within(shelf.letters[rows].T, other.letters[columns].T, limit)
    first = np.flatnonzero(np.diff(rows, prepend=-1))
    ranked = far.astype(np.int64) << 32 | columns
    winner = np.minimum.reduceat(ranked, first)
    at, least = shelf.at[rows[first]], (winner >> 32).astype(np.int32)
    nearer = least < best[at]
    best[at[nearer]] = least[nearer]
    found[at[nearer]] = other.at[(winner[nearer] & 0xFFFFFFFF)]


def _within(a: Letters, b: Letters, limit: int) -> NDArray[np.unsignedinteger[Any]]:
    """(p,) edit distances of p pairs of strings a (l, p) and b (m, p): right where they are ≤ `limit`, above it
    elsewhere; `limit` ≥ |l − m|.

    The insertions and the deletions of a path of at most `limit` edits differ in number by m − l, so that it
    stays in a band around the diagonal (Ukkonen 1985).
    """
    (length, n), size = a.shape, len(b)
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    below, above = (limit - size + length) // 2, (limit + size - length) // 2
    kind = np.min_scalar_type(length + size + 1)
    one = kind.type(1)
    before = {j: np.full(n, j, dtype=kind) for j in range(min(size, above) + 1)}
    for i in range(1, length + 1):
        now = {}
        for j in range(max(0, i - below), min(size, i + above) + 1):
            if j == 0:
                now[j] = np.full(n, i, dtype=kind)
                continue
            least = before[j - 1] + (a[i - 1] != b[j - 1])
            beside = [d[k] for d, k in ((before, j), (now, j - 1)) if k in d]
            for gap in beside:
                np.minimum(least, gap + one, out=least)
            now[j] = least
        before = now
    return before[size]


@dataclass(frozen=True, eq=False)
class Reference:
    """One vocabulary's strings as the classes of all: `table` of its own t strings, and `partner` (n_members, t),
    the place among member i's own strings of the one nearest to each; −1: impossible for that member."""

    table: UnionTable
    partner: Ids

    def mapped(self, i: int, logp: Logp) -> Logp:
        """(t,) log-probabilities from those of member i's own strings."""
        beyond: Logp = np.append(logp, np.float32(-np.inf))
        found: Logp = beyond.take(self.partner[i])
        return found


def references(vocabs: Sequence[Vocab]) -> tuple[Reference, ...]:
    """Each vocabulary as the reference of all; END is nearest to END, and to nothing else.

    Takes `nearest` for each ordered pair of different vocabularies: 54 s of one core for the strings of a
    vocabulary of 262,144 among those of one of 49,152, and 6 s the other way round (both on a busy machine).
    """
    tables = [UnionTable.of([v]) for v in vocabs]
    spelled = [list(t.strings)[1:] for t in tables]
    found = []
    for own in range(len(vocabs)):
        partner = np.zeros((len(vocabs), len(spelled[own]) + 1), dtype=np.int32)
        for i, other in enumerate(spelled):
            if vocabs[i].digest == vocabs[own].digest:
                partner[i] = np.arange(partner.shape[1])
            else:
                at = nearest(spelled[own], other)
                partner[i, 1:] = np.where(at < 0, -1, at + 1)
        found.append(Reference(tables[own], partner))
    return tuple(found)
