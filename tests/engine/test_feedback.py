"""Feedback: written down first, learned from where the method learns, and once per answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from septet.core.errors import BadParameter, ConfigError, UnknownName
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy, Utility
from septet.core.method import Card, Method, Rng, method
from septet.core.types import Battle, Decision, Floats
from septet.engine.house import House
from septet.engine.states import load
from septet.methods.a2_nonpretrained._family import NonPretrainedRouter
from septet.parts.learning.features import Featurizer
from septet.parts.learning.rows import Features
from septet.parts.routing.cost import Spending
from septet.parts.routing.records import Fitted
from septet.testing.toys import toy_config, toy_house

CARD = Card(
    paper="0000.00000",
    title="The mean of what was said of each member",
    facets=Facets(
        family=Family.NONPRETRAINED,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.PERFORMANCE,
        supervised=False,
        utility=Utility.CONTINUOUS,
    ),
    online=True,
)


@dataclass(frozen=True)
class Means(Fitted):
    members: tuple[str, ...]
    total: Floats
    n: Floats


@method(CARD)
class RunningMean(NonPretrainedRouter):
    """Starts unfitted at ½ per member; a score moves the mean of the member that answered."""

    state_type = Means

    def begin(self, members: Sequence[str]) -> Means:
        unknown = np.full(len(members), np.nan)
        spending = Spending(unknown, unknown, unknown, unknown)
        ones = np.ones(len(members))
        return Means(Featurizer.of("tf-idf", ["a"]), spending, 0.0, tuple(members), ones / 2, ones)

    def update(self, state: Means, events: Sequence[Battle | Decision], rng: Rng) -> Means:
        total, n = state.total.copy(), state.n.copy()
        for event in events:
            if isinstance(event, Decision):
                total[state.members.index(event.member)] += event.score
                n[state.members.index(event.member)] += 1
        return replace(state, total=total, n=n)

    def utility(self, x: Features, state: Means) -> Floats:
        return np.tile(state.total / state.n, (len(x), 1))


METHODS: dict[str, type[Method]] = {"running-mean": RunningMean}


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with toy_house(toy_config("running-mean", folder=tmp_path), METHODS) as made:
        yield made


async def test_a_method_that_begins_without_a_fit_answers_at_once(house: House) -> None:
    answer = await house["toys"].ask("What is 2+3?")
    assert answer.text == "5"
    assert answer.verdict.reason.endswith("so ada was asked")


async def test_a_score_teaches_the_member_that_answered(house: House) -> None:
    answer = await house["toys"].ask("What is 2+3?")
    taken = await house.rate(answer.trace_id, 0.0)
    assert (taken.ensemble, taken.member, taken.version) == ("toys", "ada", 1)
    # ada's mean is now ¼, so the next member is asked
    again = await house["toys"].ask("What is 2+3?")
    assert again.verdict.reason.endswith("so bob was asked")


async def test_what_was_learned_is_on_disk_after_closing(tmp_path: Path) -> None:
    async with toy_house(toy_config("running-mean", folder=tmp_path), METHODS) as house:
        for _ in range(3):
            answer = await house["toys"].ask("What is 2+3?")
            await house.rate(answer.trace_id, 0.5)
    learned = load(tmp_path / "state", RunningMean())
    assert learned is not None
    assert (learned.version, learned.value.n.sum()) == (3, 6.0)


async def test_an_answer_is_rated_once(house: House) -> None:
    answer = await house["toys"].ask("What is 2+3?")
    await house.rate(answer.trace_id, 1.0)
    with pytest.raises(BadParameter, match="rated before"):
        await house.rate(answer.trace_id, 1.0)
    assert house["toys"].ensemble.cell.value.n.sum() == 4.0


@pytest.mark.parametrize("score", [-0.1, 1.5, float("nan")])
async def test_a_score_outside_0_to_1_is_refused(house: House, score: float) -> None:
    answer = await house["toys"].ask("What is 2+3?")
    with pytest.raises(BadParameter, match="score"):
        await house.rate(answer.trace_id, score)
    await house.rate(answer.trace_id, 0.5)  # nothing had been written


async def test_an_unknown_request_is_refused(house: House) -> None:
    with pytest.raises(BadParameter, match="trace id"):
        await house.rate("nowhere", 1.0)


async def test_a_member_asked_on_its_own_can_be_rated_and_nothing_learns(house: House) -> None:
    answer = await house["ada"].ask("What is 2+3?")
    taken = await house.rate(answer.trace_id, 1.0)
    assert (taken.ensemble, taken.member, taken.version) == ("ada", "ada", None)


async def test_comparisons_are_checked_before_they_are_kept(house: House) -> None:
    for battle, error in (
        (Battle("q", "ada", "eve", "ada"), "ada and eve"),
        (Battle("q", "ada", "ada", "ada"), "ada and ada"),
        (Battle("q", "ada", "bob", "cyd"), "'ada', 'bob' or 'tie'"),
    ):
        with pytest.raises((ConfigError, BadParameter), match=error):
            await house.compare("toys", battle)
    with pytest.raises(UnknownName):
        await house.compare("toy", Battle("q", "ada", "bob", "ada"))
    taken: Any = await house.compare("toys", Battle("q", "ada", "bob", "tie"))
    assert taken.version == 1


async def test_the_decision_says_what_was_spent_and_how_likely_the_draw_was(tmp_path: Path) -> None:
    seen: list[Decision] = []
    text = toy_config("running-mean", members={"ada": {"price": {"usd_per_mtok_out": 1e6}}}, folder=tmp_path)

    class Watching(RunningMean):
        def update(self, state: Means, events: Sequence[Battle | Decision], rng: Rng) -> Means:
            seen.extend(e for e in events if isinstance(e, Decision))
            return super().update(state, events, rng)

    async with toy_house(text, {"running-mean": Watching}) as house:
        answer = await house["toys"].ask("What is 2+3?", task="sums")
        await house.rate(answer.trace_id, 0.25)
    (decision,) = seen
    assert (decision.member, decision.score, decision.propensity, decision.task) == ("ada", 0.25, 1.0, "sums")
    assert decision.query == "What is 2+3?"
    assert decision.spent == pytest.approx(answer.usd)
    assert decision.spent > 0
