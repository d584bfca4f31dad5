"""Agreement on bytes: members keep their own tokens, and a joint search keeps only what all of them can mean.

A hypothesis is one token sequence per member; it is alive while every member's bytes are a prefix of the
longest one. Who is ahead waits, who is behind must go on along what is ahead of it (2502.21265, section 3).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum

from septet.core.session import END


@dataclass(frozen=True, slots=True)
class Side:
    """One member's part of a hypothesis: its bytes, the summed log-probability of its tokens (END among them,
    natural log), how many these are, and whether the last is END."""

    text: bytes = b""
    logp: float = 0.0
    n_tokens: int = 0
    ended: bool = False

    def after(self, step: Step) -> Side:
        """The same side one token on; one that waits stays as it is."""
        if step.id is None:
            return self
        return Side(self.text + step.piece, self.logp + step.logp, self.n_tokens + 1, step.piece == END)


@dataclass(frozen=True, slots=True)
class Step:
    """A token by which a member may go on; b"" is END. `id` None: it waits."""

    piece: bytes
    id: int | None
    logp: float


WAIT = Step(b"", None, 0.0)

Sides = tuple[Side, ...]


def lead(sides: Sequence[Side]) -> bytes:
    """The longest text of any member."""
    return max((side.text for side in sides), key=len)


def agreed(sides: Sequence[Side]) -> bytes:
    """What every member has written."""
    return min((side.text for side in sides), key=len)


def compatible(sides: Sequence[Side]) -> bool:
    """Whether all texts are prefixes of the longest, and those that have ended are the longest.

    >>> compatible([Side(b" cat"), Side(b" cats")]), compatible([Side(b" the"), Side(b" cats")])
    (True, False)
    >>> compatible([Side(b" cat", ended=True), Side(b" cats")])
    False
    """
    longest = lead(sides)
    return all(longest == side.text if side.ended else longest.startswith(side.text) for side in sides)


def waits(sides: Sequence[Side]) -> list[bool]:
    """Which members take no token now: those that have ended, and those that are ahead while others are behind."""
    longest, shortest = len(lead(sides)), len(agreed(sides))
    return [side.ended or shortest < longest == len(side.text) for side in sides]


def behind(sides: Sequence[Side], i: int) -> bytes:
    """What the longest text has after member i's; its next token must be a prefix of this or extend it."""
    return lead(sides)[len(sides[i].text) :]


def allowed(sides: Sequence[Side], i: int, piece: bytes) -> bool:
    """Whether a token of member i can be compatible with where the others stand."""
    rest = behind(sides, i)
    if any(side.ended for side in sides):  # nobody goes beyond a text that has ended, nor ends before it
        return piece != END and rest.startswith(piece) if rest else piece == END
    return not rest or (piece != END and (rest.startswith(piece) or piece.startswith(rest)))


def normalised(sides: Sequence[Side], weights: Sequence[float]) -> float:
    """Σ_i w_i · logp_i / n_tokens_i, by which hypotheses are ranked while they grow."""
    # fsum: the order of the members must not decide between equal hypotheses
    return fsum(w * side.logp / max(side.n_tokens, 1) for w, side in zip(weights, sides, strict=True))


def total(sides: Sequence[Side], weights: Sequence[float]) -> float:
    """Σ_i w_i · logp_i, by which whole answers are compared; it never rises as a hypothesis grows."""
    return fsum(w * side.logp for w, side in zip(weights, sides, strict=True))


@dataclass(frozen=True, slots=True)
class Extension:
    """A hypothesis one step on: the one it comes from, each member's token, and where that leads."""

    parent: int
    steps: tuple[Step, ...]
    sides: Sides
    score: float

    @property
    def ended(self) -> bool:
        """Whether every member has ended."""
        return all(side.ended for side in self.sides)


@dataclass(frozen=True, slots=True)
class Options:
    """A member's next tokens, best first. `whole`: there are no others."""

    steps: tuple[Step, ...]
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came to: `best` first, ended ones among them. `short`: (hypothesis, member) whose options
    were read to their end while there are more, so that the search is not finished. `n_visited`: states."""

    best: tuple[Extension, ...]
    short: tuple[int, int] | None
    n_visited: int


def joint_search(
    hypotheses: Sequence[Sides],
    options: Sequence[Sequence[Options]],
    weights: Sequence[float],
    *,
    n: int,
    n_ended: int = 1,
    limit: int = 10_000,
    floor: float = float("-inf"),
) -> Found:
    """The best compatible extensions of several hypotheses, by cube pruning (2502.21265, section 3.2).

    `options[h][i]` are member i's tokens after hypothesis h; the first state of each hypothesis takes every
    member's best, and a state's neighbours take one member's next one instead. Best first by `normalised`,
    until `n` that go on or `n_ended` that have ended are found, no state is left, or `limit` states were
    seen. A state whose `total` is below `floor`, or below an ended one, is given up: it can only fall.

    >>> a = Options((Step(b" cat", 1, -0.6931), Step(b"s", 2, -1.3863), Step(b" the", 3, -2.3026)))
    >>> b = Options((Step(b" cats", 4, -0.5978), Step(b" cat", 5, -1.6094)))
    >>> found = joint_search([(Side(), Side())], [[a, b]], [.5, .5], n=2)    # K15
    >>> [(e.sides[0].text, e.sides[1].text, round(e.score, 4)) for e in found.best]
    [(b' cat', b' cats', -0.6455), (b' cat', b' cat', -1.1513)]
    """
    heap: list[tuple[float, bytes, int, tuple[int, ...], Sides]] = []
    seen: set[tuple[int, tuple[int, ...]]] = set()

    def see(h: int, ranks: tuple[int, ...]) -> None:
        if (h, ranks) in seen:
            return
        seen.add((h, ranks))
        sides = tuple(
            side.after(member.steps[rank])
            for side, member, rank in zip(hypotheses[h], options[h], ranks, strict=True)
        )
        if total(sides, weights) >= floor:
            # equal scores: the smaller bytes first
            heapq.heappush(heap, (-normalised(sides, weights), lead(sides), h, ranks, sides))

    for h, members in enumerate(options):
        if all(member.steps for member in members):
            see(h, (0,) * len(members))
    best: list[Extension] = []
    ended = 0
    while heap and len(best) - ended < n and ended < n_ended and len(seen) <= limit:
        negative, _, h, ranks, sides = heapq.heappop(heap)
        if total(sides, weights) < floor:
            continue
        for i, member in enumerate(options[h]):
            if ranks[i] + 1 < len(member.steps):
                see(h, (*ranks[:i], ranks[i] + 1, *ranks[i + 1 :]))
            elif not member.whole:
                return Found(tuple(best), (h, i), len(seen))
        if compatible(sides):
            steps = tuple(member.steps[rank] for member, rank in zip(options[h], ranks, strict=True))
            best.append(Extension(h, steps, sides, -negative))
            if best[-1].ended:
                ended += 1
                floor = max(floor, total(sides, weights))
    return Found(tuple(best), None, len(seen))
