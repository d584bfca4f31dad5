"""Elo ratings: strengths learned from comparisons of two, one at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from septet.core.types import Floats
from septet.parts.learning.rows import Features
from septet.parts.routing.records import Fitted

START = 1500.0
"""The rating before any battle. Any other number shifts all ratings equally and changes no ranking."""


_TOGETHER = 512
"""Replays that go on side by side: the battles of so many fit in a few MB."""


@dataclass(frozen=True)
class Ratings:
    """Ratings (m,) after the last battle, and their mean over the times after each of `n` battles.

    With a step that never shrinks, the last rating follows the last few battles; the mean settles.
    """

    last: Floats
    mean: Floats
    n: int

    @classmethod
    def start(cls, n_members: int) -> Ratings:
        """Before any battle."""
        even = np.full(n_members, START)
        return cls(even, even, 0)

    def after(self, battles: Iterable[tuple[int, int, float]], step: float) -> Ratings:
        """After more battles (a, b, a's share S), in order: R ← R + step · (S − E), for both."""
        now = self.last.tolist()  # plain floats: a million battles are replayed in a second
        total, since, n = [0.0] * len(now), [0] * len(now), 0
        for a, b, share in battles:
            change = step * (share - 1 / (1 + 10 ** ((now[b] - now[a]) / 400)))
            for member in (a, b):  # a rating is summed up only when it changes
                total[member] += now[member] * (n - since[member])
                since[member] = n
            now[a] += change
            now[b] -= change
            n += 1
        last = np.array(now)
        total_after = np.array(total) + last * (n - np.array(since))
        return (
            Ratings(last, (self.mean * self.n + total_after) / max(self.n + n, 1), self.n + n) if n else self
        )


@dataclass(frozen=True)
class Board(Fitted):
    """Ratings and the battles behind them.

    `ratings` after all battles; `rows` (q, d) of the questions that were fought over; per battle (b,)
    in order of time: `question` (its row), `a` and `b` (members), `outcome` (a's share: 1, 0.5 or 0).
    """

    members: tuple[str, ...]
    ratings: Ratings
    rows: Features
    question: NDArray[np.int32]
    a: NDArray[np.int32]
    b: NDArray[np.int32]
    outcome: Floats


def replays(board: Board, ratings: Floats, questions: NDArray[np.int64], step: float) -> Floats:
    """(n, m) ratings after the battles of some questions (n, k) once more, in order of time, from `ratings` (m,).

    All n replays take their j-th battle together, so that it costs one vector operation and not n loops.
    """
    order = np.argsort(board.question, kind="stable")
    begins = np.searchsorted(board.question[order], np.arange(len(board.rows) + 1))
    found = np.tile(ratings.astype(np.float64), (len(questions), 1))
    for first in range(0, len(questions), _TOGETHER):
        part = questions[first : first + _TOGETHER]
        battles = [
            np.sort(np.concatenate([order[begins[q] : begins[q + 1]] for q in set(row.tolist())]))
            for row in part
        ]
        _replayed(board, battles, found[first : first + _TOGETHER], step)
    return found


def _replayed(board: Board, battles: list[NDArray[np.int64]], ratings: Floats, step: float) -> None:
    """Changes ratings (n, m) by the battles of each row; rows with more battles go on after the others."""
    lengths = np.array([len(b) for b in battles])
    rows = np.argsort(-lengths, kind="stable")
    longest = int(lengths.max(initial=0))
    index = np.zeros((longest, len(battles)), dtype=np.int64)
    for column, row in enumerate(rows.tolist()):
        index[: lengths[row], column] = battles[row]
    going = np.searchsorted(-lengths[rows], -np.arange(longest), side="left")  # rows with a j-th battle
    now = ratings[rows]
    every = np.arange(len(battles))
    for j in range(longest):
        at, battle = every[: going[j]], index[j, : going[j]]
        a, b = board.a[battle], board.b[battle]
        change = step * (board.outcome[battle] - 1 / (1 + 10 ** ((now[at, b] - now[at, a]) / 400)))
        now[at, a] += change
        now[at, b] -= change
    ratings[rows] = now


def expected(rating: Floats | float, opponent: Floats | float) -> Floats:
    """The expected share of a win, E = 1 / (1 + 10^((opponent − rating) / 400)).

    >>> float(expected(1516.0, 1484.0).round(4))
    0.5459
    """
    return np.asarray(1 / (1 + 10 ** ((opponent - rating) / 400)))


def replay(ratings: Floats, battles: Iterable[tuple[int, int, float]], step: float) -> Floats:
    """The ratings (m,) after battles (a, b, a's share), in order.

    >>> replay(np.array([1500., 1500.]), [(0, 1, 1.0)], 32.0)
    array([1516., 1484.])
    """
    return Ratings(ratings, ratings, 0).after(battles, step).last
