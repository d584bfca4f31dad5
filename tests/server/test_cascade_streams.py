"""A stream of a cascade over slow members: keep-alives until an answer is accepted, and no text of a rejected one."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from .serving import Serve, Served

CONFIG = """
[members]
weak   = { backend = "toy", fallback = "Perhaps a weak answer.", latency_seconds = 0.2 }
other  = { backend = "toy", fallback = "Something else entirely.", latency_seconds = 0.2 }
strong = { backend = "toy", fallback = "The strong answer.", latency_seconds = 0.2, variant = 2 }

[ensembles.agreeing]
method  = "semantic-agreement"
members = ["weak", "other", "strong"]

[ensembles.thought]
method  = "mot-cascade"
members = ["weak", "other", "strong"]
rule    = "verify"
samples = 1
"""


async def lines(server: Served, model: str) -> list[Any]:
    """ "ping", "done" or the chunk of each line, in order."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Why?"}],
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    found: list[Any] = []
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}/v1/chat/completions", json=body) as response,
    ):
        assert response.status == 200
        for line in (await response.text()).splitlines():
            if line:
                said = line.removeprefix("data: ")
                found.append({": ping": "ping", "[DONE]": "done"}.get(said) or json.loads(said))
    return found


@pytest.mark.parametrize("model", ["agreeing", "thought"])
async def test_a_rejected_answer_never_reaches_the_stream_and_silence_is_filled_with_pings(
    serve: Serve, model: str
) -> None:
    server = serve(CONFIG, ping_seconds=0.05)
    found = await lines(server, model)
    texts = [
        (c["choices"][0]["delta"].get("content") or "") if isinstance(c, dict) and c["choices"] else ""
        for c in found
    ]
    first = next(i for i, text in enumerate(texts) if text)
    assert found[:first].count("ping") >= 3  # two calls of 0.2 s, one after the other
    assert [c for c in found[:first] if c != "ping"] == [found[0]]
    assert "".join(texts) == "The strong answer."  # all that any delta says

    assert found[-1] == "done"
    last = found[-2]
    request, calls = server.trace(last["septet"]["trace_id"])
    assert sorted(c["member"] for c in calls) == ["other", "strong", "weak"]
    assert last["usage"]["completion_tokens"] == sum(c["usage"]["completion_tokens"] for c in calls)
    assert request["answer"] == "The strong answer."
