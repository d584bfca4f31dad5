"""GaC, UniTE and PackLLM on the real models: identity with copies (K2) and with weight one (K3), and both together."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from real_models import MEMBERS

import septet
from septet.core.types import Query
from septet.engine.house import House
from septet.parts.decoding.edit_distance import distance, nearest
from septet.parts.decoding.union import UnionTable
from septet.parts.decoding.weights import by_loss, read

pytestmark = [pytest.mark.local, pytest.mark.asyncio(loop_scope="module")]

TOKENS = 16


METHODS: Mapping[str, Mapping[str, Any]] = {
    "gac": {"method": "gac"},
    "gac_sure": {"method": "gac", "mode": "thresholded"},
    "unite_exact": {"method": "unite", "missing": "exact"},
    "packllm": {"method": "packllm"},
    "packllm_opt": {"method": "packllm", "by": "opt"},
    "packllm_near": {"method": "packllm", "alignment": "edit-distance"},
}
WEIGHTED = ["gac", "gac_sure", "packllm"]

PROMPTS = [
    "Write a short Python function with a docstring, then a second one.\n\ndef add(a, b):\n\treturn a + b\n\n",
    "Repeat after me: 😀🎉🚀 hello 😀🎉🚀 hello 😀",
]
"""Blank lines and emoji; identity over twenty prompts is benchmarks/identity.py's."""


def ensemble(name: str, members: list[str], options: Mapping[str, Any]) -> str:
    lines = [f"[ensembles.{name}]", f"members = {json.dumps(members)}"]
    for key, value in options.items():
        shown = json.dumps(value)
        if isinstance(value, dict):
            shown = "{ " + ", ".join(f"{k} = {v}" for k, v in value.items()) + " }"
        lines.append(f"{key} = {shown}")
    return "\n".join(lines) + "\n"


def config() -> str:
    parts = [MEMBERS]
    for name, options in METHODS.items():
        parts += [ensemble(f"{name}_{m}_itself", [m, f"{m}2"], options) for m in ("smol", "gemma")]
        if name in WEIGHTED:
            for one, other in (("smol", "gemma"), ("gemma", "smol")):
                weights = {"weights": {one: 1.0, other: 0.0}}
                parts.append(ensemble(f"{name}_all_{one}", ["smol", "gemma"], {**options, **weights}))
    parts.append(ensemble("best_reader", ["smol", "gemma"], {"method": "packllm", "tau": 1e-6}))
    for name in ("gac", "packllm", "packllm_opt"):
        parts.append(ensemble(f"{name}_both", ["smol", "gemma"], METHODS[name]))
    return "\n".join(parts)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    folder: Path = tmp_path_factory.mktemp("union")
    (folder / "union.toml").write_text(config())
    async with septet.load(folder / "union.toml", set=[f"store.path={folder}/t.db"]) as made:
        yield made


_own: dict[tuple[str, str], str] = {}


async def own(house: House, model: str, prompt: str) -> str:
    """The model's own greedy answer, asked once."""
    if (model, prompt) not in _own:
        answer = await house[model].ask(prompt, max_tokens=TOKENS, temperature=0.0)
        _own[model, prompt] = answer.text
    return _own[model, prompt]


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("model", ["smol", "gemma"])
@pytest.mark.parametrize("name", METHODS)
async def test_k2_a_model_fused_with_its_copy_writes_its_own_answer(
    house: House, name: str, model: str, prompt: str
) -> None:
    answer = await house[f"{name}_{model}_itself"].ask(prompt, max_tokens=TOKENS)
    assert answer.text.encode() == (await own(house, model, prompt)).encode()


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("model", ["smol", "gemma"])
@pytest.mark.parametrize("name", WEIGHTED)
async def test_k3_the_model_that_has_all_the_weight_writes_its_own_answer(
    house: House, name: str, model: str, prompt: str
) -> None:
    answer = await house[f"{name}_all_{model}"].ask(prompt, max_tokens=TOKENS)
    assert answer.text.encode() == (await own(house, model, prompt)).encode()


@pytest.mark.parametrize("prompt", PROMPTS)
async def test_k9_at_a_low_temperature_the_better_reader_of_the_prompt_has_all_the_weight(
    house: House, prompt: str
) -> None:
    actors = [house.builder.member(name).actor for name in ("smol", "gemma")]
    sessions = [await actor.open(Query.of(prompt), scored=True) for actor in actors]
    found = read([s.prompt for s in sessions], prompt.strip().encode())
    for session in sessions:
        await session.close()
    assert found is not None
    assert found.logp.shape[1] > 3  # the question is cut in several places by both tokenizers
    better = ("smol", "gemma")[int(np.argmax(by_loss(found.loss, 1.0)))]
    answer = await house["best_reader"].ask(prompt, max_tokens=TOKENS)
    assert answer.text.encode() == (await own(house, better, prompt)).encode()


@pytest.mark.parametrize("name", ["gac", "packllm", "packllm_opt"])
async def test_both_models_answer_together(house: House, name: str) -> None:
    answer = await house[f"{name}_both"].ask("List three fruits, one per line.", max_tokens=TOKENS)
    assert answer.text.strip()
    assert answer.verdict.weights is not None
    assert answer.verdict.weights.sum() == pytest.approx(1.0)


async def test_the_nearest_tokens_of_the_real_vocabularies_are_the_nearest_of_all(house: House) -> None:
    vocabs = []
    for name in ("smol", "gemma"):
        actor = house.builder.member(name).actor
        await actor.ready()
        vocabs.append(actor.vocab)
    smol, gemma = (list(UnionTable.of([v]).strings)[1:] for v in vocabs)
    known = set(smol)
    rng = np.random.default_rng(0)
    strange = [g for g in gemma if g not in known]
    queries = [strange[i] for i in rng.choice(len(strange), size=300, replace=False).tolist()]
    found = nearest(queries, smol)
    picked = [smol[i] for i in rng.choice(len(smol), size=200, replace=False).tolist()]
    for query, at in zip(queries[:40], found[:40].tolist(), strict=True):
        least = len(query.decode("utf-8", "surrogateescape")) if at < 0 else distance(query, smol[at])
        assert all(distance(query, other) >= least for other in picked)
    assert nearest([b" standar", b" fondament", b"\xe7\xb4\x85"], smol).tolist() == [
        smol.index(b" standard"),
        smol.index(b" fundament"),
        -1,
    ]
