"""How differently members fail, and which of them make the best team (2410.03953)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import BadParameter

EXHAUSTIVE = 2000
"""Up to as many teams all are tried; beyond, a genetic search looks for a good one."""

_POPULATION, _GENERATIONS, _MUTATES = 40, 40, 0.3


def generalised(fails: NDArray[np.bool_]) -> float:
    """GD = 1 − p(2)/p(1) of who fails on which item (n, s): 0 all together, 1 never two at once, 0 where nobody fails.

    With p_i the share of items on which i of s members fail: p(1) = Σ i/s p_i, p(2) = Σ i(i−1)/(s(s−1)) p_i.

    >>> fails = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]], dtype=bool)
    >>> round(generalised(fails), 4)  # 1 − .3333/.5833
    0.4286
    """
    s = fails.shape[1]
    if s < 2:
        raise BadParameter("members", s, "must be two or more: one is not diverse")
    count = fails.sum(axis=1)
    one, two = float(count.sum()), float((count * (count - 1)).sum() / (s - 1))
    return 1 - two / one if one > 0 else 0.0


def focal(fails: NDArray[np.bool_]) -> float:
    """Focal diversity: the mean over members of GD on the items that the member fails, (n, s).

    A member that never fails adds GD = 0.

    >>> focal(np.array([[1, 0], [0, 1]], dtype=bool)), focal(np.array([[1, 1], [0, 0]], dtype=bool))
    (1.0, 0.0)
    """
    return float(np.mean([generalised(fails[fails[:, i]]) for i in range(fails.shape[1])]))


def best_team(
    n_members: int, size: int, worth: Callable[[Sequence[int]], float], rng: np.random.Generator
) -> tuple[int, ...]:
    """The team of `size` of n members that is worth most; ties → the first in order.

    All teams are tried where there are few; else a genetic search: parents by tournament of two, a child takes what
    both have and the rest at random from either, and now and then swaps one member; the best two always live on.

    >>> best_team(4, 2, lambda team: -abs(sum(team) - 5), np.random.default_rng(0))
    (2, 3)
    """
    if not 0 < size <= n_members:
        raise BadParameter("size", size, f"must be from 1 to {n_members}, the number of members")
    if comb(n_members, size) <= EXHAUSTIVE:
        return max(combinations(range(n_members), size), key=lambda team: (worth(team), [-i for i in team]))
    known: dict[tuple[int, ...], float] = {}

    def value(team: tuple[int, ...]) -> tuple[float, list[int]]:
        if team not in known:
            known[team] = worth(team)
        return known[team], [-i for i in team]

    def drawn() -> tuple[int, ...]:
        return tuple(sorted(rng.choice(n_members, size, replace=False).tolist()))

    living = [drawn() for _ in range(_POPULATION)]
    for _ in range(_GENERATIONS):
        living = sorted(set(living), key=value, reverse=True)[:_POPULATION]
        born = living[:2]
        while len(born) < _POPULATION:
            one, other = (
                max((living[i] for i in rng.integers(len(living), size=2)), key=value) for _ in "ab"
            )
            born.append(_child(one, other, n_members, rng))
        living = [*living, *born]
    return max(living, key=value)


def _child(
    one: tuple[int, ...], other: tuple[int, ...], n_members: int, rng: np.random.Generator
) -> tuple[int, ...]:
    both, either = set(one) & set(other), sorted(set(one) ^ set(other))
    team = [*both, *rng.permutation(either).tolist()[: len(one) - len(both)]]
    if rng.random() < _MUTATES:
        outside = sorted(set(range(n_members)) - set(team))
        if outside:
            team[int(rng.integers(len(team)))] = int(rng.choice(outside))
    return tuple(sorted(team))
