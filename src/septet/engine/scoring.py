"""How likely a token ensemble is to say a given text.

A text can be cut into pieces in many ways, and an ensemble may say it in any of them. Where the method's
fused distribution covers all that may come next, its s does not change (`complete`), and the members show
their whole distributions, the score is the sum over all segmentations. With the commit rule `canonical` a
member's distribution depends on the bytes before it alone, so the sum is a forward recursion over byte positions:

    α(0) = 1;  α(m) = Σ_{j<m} α(j) · p(B[j:m] | prefix + B[:j]);  score of B = log α(|B|),

the log-probability that the ensemble, at some boundary between its pieces, has said exactly B. Any other
method's score follows one path: at each place the piece that it likes best of those that spell the text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from septet.core.session import END, Fused
from septet.core.types import Floats, Tokens
from septet.engine.drawing import place_of, prefixes

if TYPE_CHECKING:
    from septet.engine.token_loop import FusedSession

NEGLIGIBLE = 1e-2
"""A place is passed over where less than this part of the mass that goes by it stops there, so that a text costs
about one forward per token and member, not one per byte; what is left out can only make a score smaller."""

SUMMED = "score: the sum over the segmentations of the text into pieces, but for negligible ones"
ONE_PATH = "score: one path, the pieces that the ensemble itself prefers among those that spell the text"


async def scored(
    session: FusedSession, span: bytes, end: bool = False, *, negligible: float = NEGLIGIBLE
) -> Tokens:
    """The tokens of a span after what is committed, with END behind them as b"" where `end` is set.

    On forks of the members' sessions, so only the span's own tokens are fed. The sum has no tokens of its own:
    its texts are those of the most probable segmentation, and the log-probability of one that goes from byte i
    to byte j is log α(j) − log α(i). They add up to the score; a text that cannot be said has −inf.
    """
    together = session.together
    # the best k of a member (approximate = true) are not all that may come next
    whole = together.method.complete and not any(together.ks)
    together.note(SUMMED if whole else ONE_PATH)
    twin = await session.fork()
    try:
        if whole:
            twin.commit_rule = "canonical"
            return await _summed(twin, span, end, negligible)
        return await _one_path(twin, span, end)
    finally:
        for error in twin.together.errors[len(together.errors) :]:
            together.note(f"score: without a member that failed: {error}")
        await twin.close()


async def _summed(twin: FusedSession, span: bytes, end: bool, negligible: float) -> Tokens:
    forward, here = _Forward.of(len(span)), 0
    for j in range(len(span)):
        if forward.passes_over(j, negligible):
            continue
        await _push(twin, span[here:j])
        here = j
        fused = await twin.distribution()
        for n, place in prefixes(fused, span[j:]):
            forward.add(j, j + n, float(fused.p[place]))
    ends = forward.boundaries()
    texts = [span[i:j] for i, j in pairwise(ends)]
    logp = np.diff(forward.alpha[ends])
    if len(span) and not np.isfinite(forward.alpha[-1]):
        return Tokens((span,), np.array([-np.inf]))
    return await _with_end(twin, span[here:], texts, logp.tolist(), end)


@dataclass
class _Forward:
    """The recursion over byte positions of a text of L bytes, in logarithms, so that no text is too long.

    `alpha` (L+1,): log α. `over` (L+1,): log of the mass of segments that pass over a position. `best` (L+1,):
    the most probable way to it, which comes from position `back` (L+1,).
    """

    alpha: Floats
    over: Floats
    best: Floats
    back: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, length: int) -> _Forward:
        nothing = np.full(length + 1, -np.inf)
        forward = cls(nothing.copy(), nothing.copy(), nothing.copy(), [0] * (length + 1))
        forward.alpha[0] = forward.best[0] = 0.0
        return forward

    def passes_over(self, j: int, negligible: float) -> bool:
        """Whether (nearly) nothing stops at this position."""
        if np.isneginf(self.alpha[j]):
            return True
        return bool(negligible and self.alpha[j] < np.log(negligible) + self.over[j])

    def add(self, i: int, j: int, p: float) -> None:
        """A piece of probability p goes from position i to j."""
        if p <= 0:
            return
        logp = float(np.log(p))
        self.alpha[j] = np.logaddexp(self.alpha[j], self.alpha[i] + logp)
        self.over[i + 1 : j] = np.logaddexp(self.over[i + 1 : j], self.alpha[i] + logp)
        if self.best[i] + logp > self.best[j]:
            self.best[j], self.back[j] = self.best[i] + logp, i

    def boundaries(self) -> list[int]:
        """Where the pieces of the most probable segmentation begin, and where the last one ends."""
        ends = [len(self.alpha) - 1]
        while ends[-1] > 0:
            ends.append(self.back[ends[-1]])
        return ends[::-1]


async def _one_path(twin: FusedSession, span: bytes, end: bool) -> Tokens:
    texts, logps, at = list[bytes](), list[float](), 0
    while at < len(span):
        fused = await twin.distribution()
        found = [(float(fused.p[place]), -n) for n, place in prefixes(fused, span[at:])]
        p, n = max(found, default=(0.0, 0))
        if p <= 0:
            return Tokens((*texts, span[at:]), np.array([*logps, -np.inf]))
        texts.append(span[at : at - n])
        logps.append(float(np.log(p)))
        at -= n
        await twin.push(texts[-1])
    return await _with_end(twin, b"", texts, logps, end)


async def _with_end(
    twin: FusedSession, left: bytes, texts: list[bytes], logps: list[float], end: bool
) -> Tokens:
    if end:
        await _push(twin, left)
        texts, logps = [*texts, END], [*logps, _log(await twin.distribution(), END)]
    return Tokens(tuple(texts), np.array(logps))


async def _push(twin: FusedSession, piece: bytes) -> None:
    if piece:
        await twin.push(piece)


def _log(fused: Fused, piece: bytes) -> float:
    place = place_of(fused, piece)
    return float(np.log(fused.p[place])) if place is not None and fused.p[place] > 0 else -np.inf
