"""DER on recorded answers of six members: what docs/reproductions/der.md says of its terminator and its rewards."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from recorded import Joined, split

from septet.core.table import Table
from septet.core.types import Floats
from septet.methods.c2_cascade._estimates import Known
from septet.methods.c2_cascade._walks import Walks, World, walk
from septet.methods.c2_cascade.der import DER, Der
from septet.parts.learning.mlp import untrained

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def halves(joined: Joined) -> dict[str, Table]:
    table = joined("nq6", columns=["response", "score", "cost_usd"])
    return {name: split(table, name) for name in ("train", "test")}


@pytest.fixture(scope="module")
def fits(halves: dict[str, Table]) -> dict[str, tuple[Der, World]]:
    """Both rewards: what was learned on the train split, and the test split as a world."""
    starts: tuple[Literal["zero", "paper"], ...] = ("zero", "paper")
    known = Known.of(halves["test"])
    found: dict[str, tuple[Der, World]] = {}
    for start in starts:
        method = DER(start=start)
        state = method.fit(halves["train"], {}, np.random.default_rng(0))
        found[start] = (state, World.of(known, state.reader, state.penalty, **method.rules))
    return found


def walked(fit: tuple[Der, World]) -> Walks:
    state, world = fit
    return walk(state.policy, world, np.arange(len(world.x)), terminator=state.terminator)


def test_the_terminator_knows_more_than_who_answered(
    fits: dict[str, tuple[Der, World]], halves: dict[str, Table]
) -> None:
    state, world = fits["zero"]
    seen, good = world.judged(np.arange(len(world.x)))
    by_member = np.tile((halves["train"].matrix("score") >= 0.73).mean(axis=0), len(world.x))
    fresh = [
        auc(untrained(state.terminator.sizes, np.random.default_rng(i)).outputs(seen)[:, 0], good > 0)
        for i in range(20)
    ]
    assert auc(state.terminator.outputs(seen)[:, 0], good > 0) == pytest.approx(0.766, abs=0.02)
    assert auc(by_member, good > 0) == pytest.approx(0.700, abs=5.1e-4)
    assert np.mean(fresh) == pytest.approx(0.489, abs=5.1e-4)


def test_the_published_reward_makes_a_policy_that_begins_badly(fits: dict[str, tuple[Der, World]]) -> None:
    # .372 and .185; untrained .227
    zero, paper = (walked(fits[start]).score[:, 0].mean() for start in ("zero", "paper"))
    assert zero > paper + 0.1


def test_the_last_answer_is_worse_than_the_best_single_members(fits: dict[str, tuple[Der, World]]) -> None:
    _, world = fits["zero"]
    chains = walked(fits["zero"])
    calls = (chains.member >= 0).sum(axis=1)
    assert world.score.mean(axis=0).max() == pytest.approx(0.434, abs=5.1e-4)
    assert chains.score[np.arange(len(calls)), calls - 1].mean() < 0.38
    assert calls.mean() == pytest.approx(4.2, abs=0.4)


def auc(p: Floats, right: NDArray[np.bool_]) -> float:
    """The share of pairs of a right and a wrong answer in which the right one has the higher p; ties half."""
    wrong = np.sort(p[~right])
    below = np.searchsorted(wrong, p[right], side="left") + np.searchsorted(wrong, p[right], side="right")
    return float(below.mean() / 2 / len(wrong))
