"""ABE and SAFE on the real models: twins write the model's own answer (K2), weight one too (K3), and both
models, whose tokenizers share nothing, answer together in tokens of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from real_models import MEMBERS

import septet
from septet.engine.house import House

pytestmark = [pytest.mark.local, pytest.mark.asyncio(loop_scope="module")]

TOKENS = 16


ENSEMBLES = {
    "abe_smol": 'method = "abe"\nbeam = 1\nmembers = ["smol", "smol2"]',
    "abe_gemma": 'method = "abe"\nbeam = 1\nmembers = ["gemma", "gemma2"]',
    "abe_all_smol": 'method = "abe"\nbeam = 1\nmembers = ["smol", "gemma"]\nweights = { smol = 1.0 }',
    "abe_all_gemma": 'method = "abe"\nbeam = 1\nmembers = ["smol", "gemma"]\nweights = { gemma = 1.0 }',
    "abe_both": 'method = "abe"\nbeam = 1\nmembers = ["smol", "gemma"]',
    "abe_beam": 'method = "abe"\nbeam = 3\nmembers = ["smol", "gemma"]',
    "abe_own_beam": 'method = "abe"\nbeam = 3\nmembers = ["smol"]',
    "abe_twin_beam": 'method = "abe"\nbeam = 3\nmembers = ["smol", "smol2"]',
    "safe_smol": 'method = "safe"\nmembers = ["smol", "smol2"]',
    "safe_gemma": 'method = "safe"\nmembers = ["gemma", "gemma2"]',
    "safe_full_smol": 'method = "safe"\nunion = "full"\nmembers = ["smol", "smol2"]',
    "safe_full_gemma": 'method = "safe"\nunion = "full"\nmembers = ["gemma", "gemma2"]',
    "safe_both": 'method = "safe"\nmembers = ["gemma", "smol"]',
    "safe_full_both": 'method = "safe"\nunion = "full"\nmembers = ["gemma", "smol"]',
}

PROMPTS = [
    "List three fruits, one per line, with an empty line between them.",
    "Repeat after me: 😀🎉🚀 hello 😀🎉🚀 hello 😀",
    "把下面的句子翻译成英文：今天天气很好。\n1. 今天",
    "for i in range(10):\n\tif i:\n\t\tprint(i)\n\telse:\n\t\t",
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    folder: Path = tmp_path_factory.mktemp("agreement")
    tables = [f"[ensembles.{name}]\n{table}\n" for name, table in ENSEMBLES.items()]
    (folder / "agreement.toml").write_text("\n".join([MEMBERS, *tables]))
    async with septet.load(folder / "agreement.toml", set=[f"store.path={folder}/t.db"]) as made:
        yield made


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("model", ["smol", "gemma"])
@pytest.mark.parametrize("name", ["abe", "abe_all", "safe", "safe_full"])
async def test_k2_and_k3_twins_and_weight_one_write_the_model_s_own_answer(
    house: House, name: str, model: str, prompt: str
) -> None:
    own = await house[model].ask(prompt, max_tokens=TOKENS, temperature=0.0)
    together = await house[f"{name}_{model}"].ask(prompt, max_tokens=TOKENS)
    assert together.text.encode() == own.text.encode()
    if name.startswith("safe"):
        assert "ensembled at 0 of" in together.verdict.reason, together.verdict.reason


@pytest.mark.parametrize("prompt", PROMPTS[:2])
async def test_k2_twins_with_a_beam_find_what_the_model_s_own_beam_search_finds(
    house: House, prompt: str
) -> None:
    # alone, a member's joint search is its own beam search
    own = await house["abe_own_beam"].ask(prompt, max_tokens=8)
    twins = await house["abe_twin_beam"].ask(prompt, max_tokens=8)
    assert twins.text.encode() == own.text.encode()


@pytest.mark.parametrize("name", ["abe_both", "abe_beam", "safe_both", "safe_full_both"])
async def test_both_models_answer_together(house: House, name: str) -> None:
    answer = await house[name].ask("The capital of France is", max_tokens=12)
    assert answer.text.strip()
    assert "�" not in answer.text
    assert "failed" not in answer.verdict.reason
    if name != "abe_beam":  # a beam shows nothing before it is done
        assert "".join(piece.text for piece in answer.pieces) == answer.text
