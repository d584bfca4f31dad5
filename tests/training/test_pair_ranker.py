"""A cross-encoder that learns which of two answers is better, fitted and asked as LLM-Blender does."""

from __future__ import annotations

from pathlib import Path

import pytest

from septet.core.table import Table
from septet.core.types import Query
from septet.testing.toys import toy_config, toy_house

pytestmark = pytest.mark.local
pytest.importorskip("torch")

from tiny_encoder import save_tiny_encoder  # noqa: E402


def yes_or_no(n: int = 60) -> Table:
    """ada says yes and is right, bob says no and is wrong."""
    return Table.of(
        {"query_id": f"q{i}", "query": f"Is {i} a number?", "model": m, "response": text, "score": s}
        for i in range(n)
        for m, text, s in (("ada", f"yes, {i} is a number", 1.0), ("bob", f"no, {i} is a poem", 0.0))
    )


async def test_a_fitted_ranker_finds_the_answer_that_was_always_right(tmp_path: Path) -> None:
    tiny = save_tiny_encoder(tmp_path / "tiny")
    parameters = {"ranker": "encoder", "fuse": 0, "epochs": 10, "batch": 8, "lr": 3e-3, "max_length": 48}
    text = toy_config(
        "llm-blender",
        parameters,
        order=("bob", "ada"),
        roles={"encoder": ["mini"]},
        members={
            "ada": {"answers": {"Is 7 a number?": "yes, 7 is a number"}, "skill": 1.0},
            "bob": {"answers": {"Is 7 a number?": "no, 7 is a poem"}, "skill": 1.0},
        },
        folder=tmp_path,
    )
    mini = f'\nmini = {{ backend = "encoder", model = "{tiny}", device = "cpu" }}\n\n[ensembles.toys]'
    said: list[str] = []
    async with toy_house(text.replace("\n[ensembles.toys]", mini, 1)) as house:
        learned = await house["toys"].fit(yes_or_no(), progress=said.append)
        answer = await house["toys"].ask(Query.of("Is 7 a number?"), seed=1)
    losses = learned.provenance["training"]["held_out_loss"]
    assert min(losses) < 0.2 < 0.693  # that of a coin
    assert (learned.provenance["pairs"], learned.provenance["held_out_pairs"]) == (60, 6)
    assert answer.verdict.reason.startswith("ada's answer is the best of 2 by max-logits")
