"""An encoder that learns whether an answer is right, fitted and asked as FrugalGPT does."""

from __future__ import annotations

from pathlib import Path

import pytest

from septet.core.errors import BadParameter
from septet.core.table import Table
from septet.core.types import Query
from septet.testing.toys import toy_config, toy_house

pytestmark = pytest.mark.local
pytest.importorskip("torch")

from tiny_encoder import save_tiny_encoder  # noqa: E402

SUM, POEM = "what is the sum of 98?", "what is the sum of 99?"


def sums_and_poems(n: int = 40) -> Table:
    """bob, the cheap one, is right where he says five, and wrong where he says poem; ada is always right."""
    rows = []
    for i in range(n):
        right = i % 2 == 0
        said = {"bob": "five" if right else "poem", "ada": "sum five"}
        for member, usd in (("bob", 1e-4), ("ada", 1e-3)):
            score = 1.0 if member == "ada" else float(right)
            rows.append(
                {"query_id": f"q{i}", "query": f"what is the sum of {i}?", "model": member, "response": said[member],
                 "score": score, "cost_usd": usd}
            )  # fmt: skip
    return Table.of(rows)


def config(tiny: Path, folder: Path) -> str:
    text = toy_config(
        "frugal-gpt",
        {"scorer": "encoder", "epochs": 10, "batch": 8, "lr": 3e-3, "max_length": 32},
        order=("bob", "ada"),
        roles={"encoder": ["mini"]},
        members={
            "bob": {"answers": {SUM: "five", POEM: "poem"}, "skill": 1.0},
            "ada": {"answers": {SUM: "sum five", POEM: "sum five"}, "skill": 1.0},
        },
        folder=folder,
    )
    mini = f'\nmini = {{ backend = "encoder", model = "{tiny}", device = "cpu" }}\n\n[ensembles.toys]'
    return text.replace("\n[ensembles.toys]", mini, 1)


async def test_a_fitted_encoder_keeps_right_answers_and_hands_wrong_ones_on(tmp_path: Path) -> None:
    text = config(save_tiny_encoder(tmp_path / "tiny"), tmp_path)
    said: list[str] = []
    async with toy_house(text) as house:
        learned = await house["toys"].fit(sums_and_poems(), progress=said.append)
        kept, handed_on = [await house["toys"].ask(Query.of(q), seed=1) for q in (SUM, POEM)]
    assert learned.value.chain.order == (0, 1)
    assert learned.value.chain.quality == 1.0
    # 18 of 40 questions teach the scorer; on the other 22 bob is right on about half, and costs a tenth
    assert learned.provenance["scorer_answers"] == 36
    assert learned.provenance["auc_held_out"] == 1.0
    assert min(learned.provenance["training"]["held_out_loss"]) < 0.2
    assert [c.member for c in kept.candidates] == ["bob"]
    assert [c.member for c in handed_on.candidates] == ["bob", "ada"]
    assert said[-1] == "scoring the answers that the list is searched on"
    async with toy_house(text) as again:  # the weights are read again
        answer = await again["toys"].ask(Query.of(POEM), seed=1)
    assert answer.verdict.reason == handed_on.verdict.reason


async def test_too_few_questions_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    async with toy_house(config(save_tiny_encoder(tmp_path / "tiny"), tmp_path)) as house:
        with pytest.raises(BadParameter, match="two questions or more that teach the scorer"):
            await house["toys"].fit(sums_and_poems(2))
