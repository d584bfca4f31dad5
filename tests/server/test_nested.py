"""A router over a cascade over token-level fusion, asked over HTTP with the official client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from septet.core.table import Table
from septet.engine.config import parse
from septet.engine.house import House

from .serving import Served, served

CONFIG = """
[store]
path = "traces.db"

[members]
a = { backend = "toy", price = { usd_per_mtok_in = 1.0, usd_per_mtok_out = 1.0 } }
b = { backend = "toy", seed = 1, price = { usd_per_mtok_in = 1.0, usd_per_mtok_out = 1.0 } }
sage = { backend = "toy", answers = { France = "Paris", Italy = "Rome" }, price = { usd_per_mtok_out = 100.0 } }
poet = { backend = "toy", answers = { sky = "blue", grass = "green" } }

[ensembles.fused]
method = "unite"
members = ["a", "b"]

[ensembles.frugal]
method = "frugal-gpt"
members = ["fused", "sage"]
features = "text"

[ensembles.routed]
method = "benchmark-routing"
members = ["frugal", "poet"]
"""

SUMS = [f"What is {i}+3?" for i in range(20)]
CAPITALS = [
    f"What is the capital of {land}, in letter {i}?" for i in range(10) for land in ("France", "Italy")
]
COLOURS = [f"Which colour has the {thing} on day {i}?" for i in range(10) for thing in ("sky", "grass")]

DO_NOT_KNOW = "I do not know."


def row(question: str, model: str, response: str, score: float, usd: float) -> dict[str, Any]:
    return {"query": question, "model": model, "response": response, "score": score, "cost_usd": usd}


def cascade_outcomes() -> Table:
    """The fused toys know sums only; the sage knows everything and is dear."""
    rows = [row(q, "fused", str(i + 3), 1, 0.001) for i, q in enumerate(SUMS)]
    rows += [row(q, "sage", str(i + 3), 1, 0.1) for i, q in enumerate(SUMS)]
    rows += [row(q, "fused", DO_NOT_KNOW, 0, 0.001) for q in CAPITALS]
    rows += [row(q, "sage", "Paris" if "France" in q else "Rome", 1, 0.1) for q in CAPITALS]
    return Table.of(rows)


def router_outcomes() -> Table:
    """The poet knows colours only; the cascade all else."""
    rows = [row(q, "frugal", "right", 1, 0.01) for q in SUMS + CAPITALS]
    rows += [row(q, "poet", DO_NOT_KNOW, 0, 0.01) for q in SUMS + CAPITALS]
    rows += [row(q, "frugal", DO_NOT_KNOW, 0, 0.01) for q in COLOURS]
    rows += [row(q, "poet", "blue", 1, 0.01) for q in COLOURS]
    return Table.of(rows)


async def fit(path: str) -> None:
    async with House(parse(CONFIG, path)) as house:
        await house["frugal"].fit(cascade_outcomes())
        await house["routed"].fit(router_outcomes())


@pytest.fixture(scope="module")
def nested(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    path = str(tmp_path_factory.mktemp("nested") / "septet.toml")
    asyncio.run(fit(path))
    with served(CONFIG, path) as server:
        yield server


@pytest.fixture
def client(nested: Served) -> Iterator[openai.OpenAI]:
    with nested.client() as client:
        yield client


CASES = [
    ("What is 7+3?", "10", {"a", "b"}),
    ("What is the capital of France, in letter 4?", "Paris", {"a", "b", "sage"}),
    ("Which colour has the grass on day 3?", "green", {"poet"}),
]


@pytest.mark.parametrize(("question", "answer", "asked"), CASES)
def test_a_router_over_a_cascade_over_fusion_answers(
    nested: Served, client: openai.OpenAI, question: str, answer: str, asked: set[str]
) -> None:
    messages: Any = [{"role": "user", "content": question}]
    reply = client.chat.completions.create(model="routed", messages=messages)
    assert reply.choices[0].message.content == answer
    house = (reply.model_extra or {})["septet"]
    assert house["members"].keys() == asked
    request, calls = nested.trace(house["trace_id"])
    assert request["usd"] == pytest.approx(sum(call["usd"] for call in calls))
    assert reply.usage is not None
    assert reply.usage.completion_tokens == sum(call["usage"]["completion_tokens"] for call in calls)
    assert {call["path"] for call in calls} <= {"routed", "routed/frugal", "routed/frugal/fused"}


@pytest.mark.parametrize(("question", "answer", "asked"), CASES)
def test_the_same_answers_are_streamed(
    client: openai.OpenAI, question: str, answer: str, asked: set[str]
) -> None:
    messages: Any = [{"role": "user", "content": question}]
    options: Any = {"include_usage": True}
    chunks = client.chat.completions.create(
        model="routed", messages=messages, stream=True, stream_options=options
    )
    *pieces, last = list(chunks)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == answer
    assert (last.model_extra or {})["septet"]["members"].keys() == asked


def test_two_requests_at_once_are_answered_as_when_asked_alone(nested: Served) -> None:
    async def both() -> list[str | None]:
        async with openai.AsyncOpenAI(base_url=f"{nested.url}/v1", api_key="none", max_retries=0) as client:

            async def ask(question: str) -> str | None:
                messages: Any = [{"role": "user", "content": question}]
                reply = await client.chat.completions.create(model="routed", messages=messages)
                return reply.choices[0].message.content

            return await asyncio.gather(*(ask(question) for question, _, _ in CASES for _ in range(2)))

    assert asyncio.run(both()) == [answer for _, answer, _ in CASES for _ in range(2)]
    assert sorted(nested.house.builder.endpoints) == ["a", "b", "poet", "sage"]


def test_before_its_fit_an_ensemble_says_which_command_fits_it(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = str(tmp_path_factory.mktemp("unfitted") / "septet.toml")
    messages: Any = [{"role": "user", "content": "What is 7+3?"}]
    with (
        served(CONFIG, path) as server,
        server.client() as client,
        pytest.raises(openai.InternalServerError, match="septet fit routed") as caught,
    ):
        client.chat.completions.create(model="routed", messages=messages)
    assert (caught.value.status_code, caught.value.code) == (503, "model_unavailable")
