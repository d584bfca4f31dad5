"""From a fused distribution to one string: truncation after fusion, greedy or drawn, with or without a proposal."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from septet.core.method import Rng
from septet.core.session import Fused
from septet.core.types import Floats
from septet.parts.decoding.topk import top_k

TRIALS = 1000
"""Draws from a residual before it is worked out string by string; on average one is enough."""

Proposal = Callable[[bytes], float]
"""The probability with which a proposal draws a string."""


def by_bytes(fused: Fused) -> Fused:
    """The same distribution sorted by bytes, so that neither ties nor draws depend on the members' order."""
    if fused.ordered:
        return fused
    order = sorted(range(len(fused.texts)), key=fused.texts.__getitem__)
    support = np.array([fused.support[i] for i in order])
    return Fused(tuple(fused.texts[i] for i in order), fused.p[order], support, ordered=True)


def place_of(fused: Fused, piece: bytes) -> int | None:
    """Where a string stands in a distribution that is sorted by bytes; None where it does not."""
    place = bisect_left(fused.texts, piece)
    return place if place < len(fused.texts) and fused.texts[place] == piece else None


def prefixes(fused: Fused, rest: bytes) -> Iterator[tuple[int, int]]:
    """(length, place) of every string of a sorted distribution that `rest` begins with, END apart.

    >>> f = Fused((b"", b"a", b"ab", b"b"), np.full(4, .25), np.ones((4, 1)), ordered=True)
    >>> list(prefixes(f, b"abc"))
    [(1, 1), (2, 2)]
    """
    place = 0
    for n in range(1, len(rest) + 1):
        place = bisect_left(fused.texts, rest[:n], place)
        if place == len(fused.texts) or not fused.texts[place].startswith(rest[:n]):
            return
        if len(fused.texts[place]) == n:
            yield n, place


@dataclass(frozen=True)
class Sampling:
    """How a string is chosen: greedy at temperature 0. `rng_of(step)`: the generator of a piece by its number."""

    temperature: float
    top_p: float
    rng_of: Callable[[int], Rng]

    @property
    def greedy(self) -> bool:
        return self.temperature <= 0

    def shaped(self, fused: Fused) -> Floats:
        """(t,) the probabilities that a string is drawn with: temperature, then the smallest set ≥ top_p."""
        return fused.p if self.greedy else shaped(fused.p, self.temperature, self.top_p)

    def pick(self, fused: Fused, step: int) -> tuple[int, Floats]:
        """The index of the chosen string, and the probabilities (t,) that it was chosen from.
        Greedy: the most probable one, ties to the smaller bytes."""
        p = self.shaped(fused)
        if self.greedy:
            return int(np.argmax(p)), p
        return int(self.rng_of(step).choice(len(p), p=p)), p

    def verify(self, fused: Fused, step: int, proposed: bytes, q: Proposal) -> tuple[int, Floats, bool]:
        """The same where a string was proposed: also whether it stands. Greedy: if it is the best.

        Sampling: accepted with probability min(1, r/q), else drawn from the residual max(0, r − q), r being
        what `shaped` gives; the chosen string is then distributed as r, whatever q is (2211.17192, 2502.01662).
        """
        p = self.shaped(fused)
        place = place_of(fused, proposed)
        if self.greedy:
            best = int(np.argmax(p))
            return best, p, best == place
        rng = self.rng_of(step)
        if place is not None and rng.random() * q(proposed) < p[place]:
            return place, p, True
        return residual(fused, p, q, rng), p, False

    def seeds(self, step: int) -> tuple[int, ...]:
        """Seeds for a member's own draws that begin at a piece; independent of the piece's own generator."""
        sequence = cast("Any", self.rng_of(step).bit_generator).seed_seq
        return tuple(int(n) for n in sequence.spawn(1)[0].generate_state(4))


def shaped(p: Floats, temperature: float, top_p: float) -> Floats:
    """(t,) p^(1/T), renormalised, then cut to the smallest set of total probability ≥ top_p; T > 0.

    >>> shaped(np.array([.55, .45]), .5, 1.0).round(3).tolist()
    [0.599, 0.401]
    """
    with np.errstate(divide="ignore"):
        logits = np.log(p) / temperature
    p = np.exp(logits - logits.max())
    p /= p.sum()
    if top_p < 1.0:
        p = np.where(nucleus(p, top_p), p, 0.0)
        p /= p.sum()
    return p


def nucleus(p: Floats, top_p: float) -> NDArray[np.bool_]:
    """(t,) whether a string is in the smallest set of best strings whose probabilities (t,) reach `top_p`."""
    k = 256
    while True:
        best = top_k(p, k)
        inside = np.cumsum(p[best]) - p[best] < top_p
        if not inside.all() or k >= len(p):
            kept = np.zeros(len(p), dtype=np.bool_)
            kept[best[inside]] = True
            return kept
        k *= 8


def residual(fused: Fused, p: Floats, q: Proposal, rng: Rng) -> int:
    """The index of a string drawn from max(0, p − q), renormalised; p (t,) sums to one.

    Drawn from p and kept with probability max(0, 1 − q/p): that needs q only at the strings that are drawn.
    """
    for _ in range(TRIALS):
        i = int(rng.choice(len(p), p=p))
        if rng.random() * p[i] < p[i] - q(fused.texts[i]):
            return i
    left = np.zeros(len(p))
    for i in np.flatnonzero(p).tolist():
        left[i] = max(0.0, p[i] - q(fused.texts[i]))
    # rounding alone can reject where p and q are equal; then p itself is the residual
    total = left.sum()
    return int(rng.choice(len(p), p=left / total if total > 0 else p))
