"""Which token may follow which inside one word: where byte-pair merges would not join the two otherwise.

A tokenizer that merges neighbours, best rule first, writes a sequence of tokens exactly if it writes each
neighbouring pair. Whether it writes a pair depends on the last symbol of the left token and the first symbol of the
right one while each is put together: a rule that joins two of these, and comes before either is merged further into
its own token, crosses the boundary. So what cannot follow a token is a handful of ranges in an order of the
vocabulary by first symbols; no vocabulary × vocabulary matrix and no replay per pair is needed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from septet.parts.decoding.next_bytes import Mask

Places = NDArray[np.int32]

NEVER = np.iinfo(np.int32).max

Rules = Mapping[tuple[int, int], tuple[int, int]]
"""(left, right) -> (rank, result), all but the rank as places; the lowest rank is merged first, of equal ones the
leftmost."""


@dataclass(frozen=True, eq=False)
class Merges:
    """The merges of n tokens, by place.

    `reached` (n,): the tokens that merging their own symbols gives. `right` (n,): the right half of the last
    merge of each, −1 for single symbols; `until` (n,): the rank before which that half is merged away in it.
    `position` (n,): a depth-first order of the tokens below their left halves. The m rules by left symbol:
    those of place x are [rule_from[x], rule_from[x+1]) of `rule_rank`, ascending, and of the positions
    [rule_low, rule_high) that they make impossible behind x.
    """

    reached: Mask
    right: Places
    until: Places
    position: Places
    rule_from: Places
    rule_rank: Places
    rule_low: Places
    rule_high: Places

    @classmethod
    def of(cls, single: Mask, lengths: Sequence[int], rules: Rules) -> Merges:
        """From which tokens are single symbols (n,), how many bytes each has, and the rules."""
        n = len(single)
        halves = _Halves(single, rules)
        made: dict[int, list[tuple[int, int]]] = {}
        for pair, (_, place) in rules.items():
            made.setdefault(place, []).append(pair)
        for place in sorted(made, key=lengths.__getitem__):
            if not single[place]:
                halves.split(place, made[place])
        reached = np.array(halves.reached, dtype=np.bool_)
        left, right, until, since = (
            np.array(part, dtype=np.int32) for part in (halves.left, halves.right, halves.until, halves.since)
        )
        assert len(left) == n
        return cls._ordered(reached, left, right, until, since, rules)

    @classmethod
    def _ordered(
        cls, reached: Mask, left: Places, right: Places, until: Places, since: Places, rules: Rules
    ) -> Merges:
        """`since` (n,): the rank up to which the left half of each token stands alone in it."""
        n = len(reached)
        children: list[list[int]] = [[] for _ in range(n)]
        for place in np.flatnonzero(left >= 0).tolist():
            children[left[place]].append(place)
        for below in children:
            below.sort(key=lambda c: -since[c])
        position, end = _preorder([p for p in range(n) if left[p] < 0], children)
        keys = [[-int(since[c]) for c in below] for below in children]
        found = []
        for (x, y), (rank, _) in rules.items():
            if reached[x] and reached[y]:
                cut = bisect_right(keys[y], -rank)
                high = position[children[y][cut]] if cut < len(children[y]) else end[y]
                found.append((x, rank, position[y], high))
        found.sort()
        table = np.array(found, dtype=np.int32).reshape(-1, 4)
        start = np.searchsorted(table[:, 0], np.arange(n + 1)).astype(np.int32)
        columns = (np.ascontiguousarray(table[:, i]) for i in (1, 2, 3))
        return cls(reached, right, until, np.array(position, np.int32), start, *columns)

    def following(self, place: int) -> Mask:
        """(n,) the tokens that the tokenizer writes behind this one with no split between them."""
        lows, highs = [], []
        symbol, before = place, NEVER
        while symbol >= 0:
            low, high = self.rule_from[symbol], self.rule_from[symbol + 1]
            high = low + np.searchsorted(self.rule_rank[low:high], before)
            lows.append(self.rule_low[low:high])
            highs.append(self.rule_high[low:high])
            symbol, before = int(self.right[symbol]), int(self.until[symbol])
        crossed = np.zeros(len(self.reached), dtype=np.bool_)
        for start, end in _united(np.concatenate(lows), np.concatenate(highs)):
            crossed[start:end] = True
        return self.reached & ~crossed[self.position]


def _united(lows: Places, highs: Places) -> list[tuple[int, int]]:
    """The ranges [low, high) as fewer ones that do not overlap."""
    if not len(lows):
        return []
    order = np.argsort(lows, kind="stable")
    lows, reach = lows[order], np.maximum.accumulate(highs[order])
    begins = np.concatenate([[True], lows[1:] > reach[:-1]])
    ends = np.concatenate([reach[:-1][begins[1:]], reach[-1:]])
    return list(zip(lows[begins].tolist(), ends.tolist(), strict=True))


class _Halves:
    """The last merge of each token: `left` and `right` are its sides, −1 for single symbols. `until`: the rank
    before which the right one is merged away, `since`: up to which the left one is not."""

    def __init__(self, single: Mask, rules: Rules) -> None:
        n = len(single)
        self.rules, self.reached = rules, single.tolist()
        self.left, self.right, self.worst = [-1] * n, [-1] * n, [-1] * n
        self.until, self.since = [NEVER] * n, [NEVER] * n

    def split(self, place: int, pairs: Sequence[tuple[int, int]]) -> None:
        """Finds which of the pairs that make a token is merged last when its own symbols are merged."""
        for x, y in sorted(pairs, key=self.rules.__getitem__):
            if self.reached[x] and self.reached[y] and not self._crossed(x, y):
                rank = self.rules[x, y][0]
                self.left[place], self.right[place], self.reached[place] = x, y, True
                self.until[place] = max(rank, self.worst[x])
                self.since[place] = max(rank, self.worst[y])
                self.worst[place] = max(self.until[place], self.since[place])
                return

    def _crossed(self, x: int, y: int) -> bool:
        """Whether a rule joins part of x with part of y before both are whole."""
        a, before = x, NEVER
        while a >= 0:
            b, up_to = y, NEVER
            while b >= 0:
                rule = self.rules.get((a, b))
                if rule is not None and rule[0] < before and rule[0] <= up_to and (a != x or b != y):
                    return True
                b, up_to = self.left[b], self.since[b]
            a, before = self.right[a], self.until[a]
        return False


def _preorder(roots: Iterable[int], children: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """The position of each node, and where its subtree ends, children in their order."""
    position, end, count = [0] * len(children), [0] * len(children), 0
    for root in roots:
        stack = [(root, False)]
        while stack:
            node, done = stack.pop()
            if done:
                end[node] = count
                continue
            position[node], count = count, count + 1
            stack.append((node, True))
            stack += [(child, False) for child in reversed(children[node])]
    return position, end


def from_pairs(pairs: Iterable[tuple[bytes, bytes]], places: Mapping[bytes, int]) -> Rules:
    """The rules of a list of merges, best first; of two with equal sides the first counts."""
    rules: dict[tuple[int, int], tuple[int, int]] = {}
    for rank, (left, right) in enumerate(pairs):
        if left in places and right in places and left + right in places:
            rules.setdefault((places[left], places[right]), (rank, places[left + right]))
    return rules


def from_scores(scores: Mapping[bytes, float], places: Mapping[bytes, int]) -> Rules:
    """The rules of a vocabulary with scores: any two neighbours whose join is an entry, the highest score first,
    split between characters (SentencePiece's BPE; llama.cpp's reading of it)."""
    ranks = {score: rank for rank, score in enumerate(sorted(set(scores.values()), reverse=True))}
    rules = {}
    for piece, score in scores.items():
        for i in range(1, len(piece)):
            if piece[i] & 0xC0 != 0x80:  # not inside a character
                left, right = places.get(piece[:i]), places.get(piece[i:])
                if left is not None and right is not None:
                    rules[left, right] = (ranks[score], places[piece])
    return rules
