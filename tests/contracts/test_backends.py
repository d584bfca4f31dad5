"""The contract of actors over toys: one that offers everything, and stingy ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from septet.testing.actors import check_backend
from septet.testing.toys import toy_builder, toy_config

STINGY = ["score", "embed", "rate", "compare", "run", "samples", "logprobs", "prompt_scores", "continues"]


@pytest.mark.parametrize("tokenizer", ["words", "bytes"])
async def test_a_toy_that_offers_everything_keeps_the_contract(tokenizer: str, tmp_path: Path) -> None:
    member = toy_builder(toy_config("unite", members={"ada": {"tokenizer": tokenizer}})).member("ada")
    checks = check_backend(member.actor)
    assert len(checks) >= 10
    for check in checks:
        await check()


@pytest.mark.parametrize("lacks", STINGY)
async def test_a_stingy_toy_refuses_what_it_does_not_offer(lacks: str, tmp_path: Path) -> None:
    member = toy_builder(toy_config("unite", members={"ada": {"lacks": [lacks]}})).member("ada")
    for check in check_backend(member.actor):
        await check()
