"""Schedules on the real models: a draft writes the bytes of every, in fewer forwards; a mixture makes one a piece."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from real_models import MEMBERS
from real_models import PROMPTS as AWKWARD

import septet
from septet.core.types import Query
from septet.engine.house import House

pytestmark = [pytest.mark.local, pytest.mark.asyncio(loop_scope="module")]

TOKENS = 24

CONFIG = (
    MEMBERS
    + """
[ensembles.every]
method = "unite"
members = ["smol", "gemma"]

[ensembles.draft]
method = "unite"
members = ["smol", "gemma"]
schedule = "draft"

[ensembles.whole]
method = "gac"
members = ["smol", "gemma"]

[ensembles.whole_draft]
method = "gac"
members = ["smol", "gemma"]
schedule = "draft"

[ensembles.mixture]
method = "gac"
members = ["smol", "gemma"]
schedule = "mixture"

[ensembles.beam]
method = "gac"
members = ["smol", "gemma"]
beam = 3
"""
)

PROMPTS = [
    *AWKWARD,
    "The history of the city of Paris begins with a small settlement on an island in the river. In the first",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
    "Question: Why is the sky blue? Explain it to a child, step by step, in your own words.\nAnswer: The sky",
    "To bake a good loaf of bread you need flour, water, salt and yeast. First, mix the flour with",
    "Dear Sir or Madam, I am writing to you because the train that I took last Monday was",
    "There are several reasons why people learn a second language. One of them is that",
    "<html>\n<body>\n<h1>Hello</h1>\n<p>",
    "1, 1, 2, 3, 5, 8, 13,",
    "Q: What is the capital of France?\nA: Paris\nQ: What is the capital of Italy?\nA:",
    "Once upon a time there was a king who had three daughters. The eldest",
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    folder: Path = tmp_path_factory.mktemp("schedules")
    (folder / "schedules.toml").write_text(CONFIG)
    async with septet.load(folder / "schedules.toml", set=[f"store.path={folder}/t.db"]) as made:
        yield made


async def answered(house: House, name: str, prompt: str, **fields: Any) -> tuple[Any, dict[str, Any]]:
    """An answer, and each member's counts."""
    answer = await house[name].ask(Query(raw=prompt, max_tokens=TOKENS), **fields)
    await house.store.flush()
    _, calls = house.store.trace(answer.trace_id)
    steps = {c["member"]: c["steps"] for c in calls if c["purpose"] == "decode"}
    return answer, {"forwards": {m: s["forwards"] for m, s in steps.items()}}


FORWARDS: list[tuple[int, int]] = []
"""The verifier's forwards for one answer under `every` and under `draft`, gathered by the test below."""


@pytest.mark.parametrize("prompt", PROMPTS)
async def test_a_draft_writes_the_same_bytes_as_every(house: House, prompt: str) -> None:
    straight, straight_costs = await answered(house, "every", prompt)
    drafted, drafted_costs = await answered(house, "draft", prompt)
    assert drafted.text.encode() == straight.text.encode()
    assert drafted.tokens.texts == straight.tokens.texts
    FORWARDS.append((straight_costs["forwards"]["gemma"], drafted_costs["forwards"]["gemma"]))


async def test_a_draft_spares_the_verifier_a_third_of_its_forwards() -> None:
    if len(FORWARDS) < len(PROMPTS):
        pytest.skip("counts the forwards of the answers above, which did not all run")
    every, draft = np.sum(FORWARDS, axis=0)
    assert draft / every <= 0.65, f"{draft} forwards against {every}"


@pytest.mark.parametrize("prompt", [PROMPTS[0], PROMPTS[6], PROMPTS[10]])
async def test_a_draft_over_whole_vocabularies_writes_the_same_bytes(house: House, prompt: str) -> None:
    straight, _ = await answered(house, "whole", prompt)
    drafted, _ = await answered(house, "whole_draft", prompt)
    assert drafted.text.encode() == straight.text.encode()


async def test_a_mixture_makes_one_forward_a_piece(house: House) -> None:
    answer, costs = await answered(house, "mixture", PROMPTS[10], temperature=1.0, seed=4)
    # the prompt is one forward each; the first piece comes with it
    forwards = sum(costs["forwards"].values())
    assert answer.text
    assert forwards <= 2 + len(answer.tokens)


async def test_a_beam_is_at_least_as_likely_as_greedy(house: House) -> None:
    greedy, _ = await answered(house, "whole", PROMPTS[15])
    beam, _ = await answered(house, "beam", PROMPTS[15])
    assert beam.tokens.logp.mean() >= greedy.tokens.logp.mean() - 1e-6


async def test_a_score_sums_over_segmentations_at_the_cost_of_about_one_forward_a_token(house: House) -> None:
    options = [" It opens doors to other cultures.", " xq zvbn wq."]
    good, bad = await house["whole"].score(Query(raw=PROMPTS[15]), options)
    assert b"".join(good.texts).decode() == options[0]
    assert good.logp.sum() > bad.logp.sum()
    assert "sum over the segmentations" in house.store.recent(1)[0]["notes"][0]
