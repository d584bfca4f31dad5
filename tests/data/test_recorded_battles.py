"""Ratings from human comparisons (PandaLM): Eagle's global rating returns the order of the shares of wins."""

from __future__ import annotations

import numpy as np
import pytest
from recorded import Read

from septet.core.method import Rng
from septet.core.table import Table
from septet.core.types import Battle
from septet.methods.a2_nonpretrained.eagle import Eagle

pytestmark = pytest.mark.data

ORDER = ["llama-7b", "pythia-6.9b", "bloom-7b", "opt-7b", "cerebras-gpt-6.7B"]
SHARES = [0.711, 0.523, 0.489, 0.422, 0.338]


@pytest.fixture(scope="module")
def battles(read: Read) -> list[Battle]:
    return [
        Battle(row["query"], row["model_a"], row["model_b"], row.get(row["winner"], "tie"))
        for row in read("pandalm_battles/battles", ["query", "model_a", "model_b", "winner"])
    ]


def shuffled(battles: list[Battle], rng: Rng) -> list[Battle]:
    return [battles[i] for i in rng.permutation(len(battles))]


def test_shares_of_wins_are_those_of_the_readme(battles: list[Battle]) -> None:
    won = dict.fromkeys(ORDER, 0.0)
    fought = dict.fromkeys(ORDER, 0)
    for battle in battles:
        for member in (battle.a, battle.b):
            fought[member] += 1
            won[member] += 0.5 if battle.winner == "tie" else float(battle.winner == member)
    assert len(battles) == 999
    assert sum(b.winner == "tie" for b in battles) == 105
    np.testing.assert_allclose([won[m] / fought[m] for m in ORDER], SHARES, atol=5.1e-4)


def rated(eagle: Eagle, battles: list[Battle], rng: Rng) -> list[str]:
    """The members from the highest global rating to the lowest, after a board learned these battles."""
    rows = [{"query": f"of {m} alone", "model": m, "score": 1.0} for m in ORDER]  # no battle
    board = eagle.update(eagle.fit(Table.of(rows), {}, rng), battles, rng)
    assert board.ratings.n == len(battles)
    return [board.members[i] for i in np.argsort(-eagle.overall(board))]


def test_the_mean_rating_over_time_returns_the_order_of_wins(battles: list[Battle]) -> None:
    assert rated(Eagle(), battles, np.random.default_rng(0)) == ORDER
    for seed in range(5):
        rng = np.random.default_rng(seed)
        assert rated(Eagle(), shuffled(battles, rng), rng) == ORDER


def test_the_last_rating_follows_the_last_battles_instead(battles: list[Battle]) -> None:
    # as the note says: with K = 32 it returns that order in 17 of 100 shuffles
    orders = [
        rated(Eagle(rating="last"), shuffled(battles, rng), rng)
        for rng in map(np.random.default_rng, range(100))
    ]
    assert sum(order == ORDER for order in orders) == 17


def test_with_a_small_step_the_last_rating_returns_it_too(battles: list[Battle]) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        assert rated(Eagle(k=1.0, rating="last"), shuffled(battles, rng), rng) == ORDER
