"""Methods of one vocabulary: who shares one is known without loading, or compared when the sessions open."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.backends.toy import ToyEndpoint
from septet.core.caps import Caps, PoolRule
from septet.core.errors import UnfitPool
from septet.core.method import method
from septet.methods.b1_token._family import TokenMethod
from septet.methods.b1_token.unite import CARD
from septet.parts.decoding.aggregate import arithmetic
from septet.parts.decoding.common import common
from septet.testing.toys import toy_builder, toy_config, toy_house

QUESTION = "What is the capital of France?"


@method(replace(CARD, pool=PoolRule(at_least=2, vocabulary="same")))
class Mean(TokenMethod):
    """The mean of members of one vocabulary."""

    def needs(self) -> Caps:
        return Caps(text=True, continues=True, full=True)

    def fuse(self, views: Any, s: Any) -> Any:
        both = common(views, None, 20)
        weights = np.full(len(views), 1 / len(views))
        return both.fused(arithmetic(both.logp, weights), weights), s


METHODS = {"mean": Mean}


def config(*order: str, folder: Path | str = ".", **parameters: Any) -> str:
    return toy_config("mean", parameters, order=order, folder=folder)


def test_members_that_spell_alike_share_a_vocabulary_though_each_is_its_own_model() -> None:
    made = toy_builder(config("ada", "cyd"), METHODS)
    ensemble = made.ensemble("toys")
    assert [m.vocabulary for m in ensemble.members] == ["toy:words", "toy:words"]
    assert made.endpoints["ada"].loaded is made.endpoints["cyd"].loaded is None


def test_members_that_spell_otherwise_are_refused_and_named() -> None:
    with pytest.raises(UnfitPool, match=r"one vocabulary, but ada, bob do not \(approximate = true"):
        toy_builder(config("ada", "bob", "cyd"), METHODS).ensemble("toys")


def test_an_ensemble_shares_its_vocabulary_with_nobody() -> None:
    inner = '[ensembles.inner]\nmethod = "unite"\nmembers = ["ada", "cyd"]\n'
    text = config("ada", "inner").replace('inner = { "backend" = "toy"', 'unused = { "backend" = "toy"')
    with pytest.raises(UnfitPool, match="one vocabulary, but ada, inner do not"):
        toy_builder(text.replace("[ensembles.toys]", f"{inner}\n[ensembles.toys]"), METHODS).ensemble("toys")


async def test_an_approximate_ensemble_compares_strings_of_any_vocabulary(tmp_path: Path) -> None:
    async with toy_house(config("ada", "bob", folder=tmp_path, approximate=True), METHODS) as house:
        answer = await house["toys"].ask(QUESTION)
    assert answer.text.startswith("Paris")


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """No endpoint says what its tokenizer is."""
    monkeypatch.setattr(ToyEndpoint, "vocabulary", "")


async def test_where_nothing_is_said_what_was_loaded_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(monkeypatch)
    async with toy_house(config("ada", "cyd", folder=tmp_path), METHODS) as house:
        assert (await house["toys"].ask(QUESTION)).text.startswith("Paris")
    async with toy_house(config("ada", "bob", folder=tmp_path), METHODS) as house:
        with pytest.raises(UnfitPool, match="the tokens of ada and bob differ"):
            await house["toys"].ask(QUESTION)
        open_now = [house.builder.endpoints[name].loaded.n_open for name in ("ada", "bob")]
    assert open_now == [0, 0]


def test_descriptions_of_two_kinds_are_not_compared_before_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = property(lambda self: f"{self.toy.tokenizer}:0")  # "words:0" and "bytes:0"
    monkeypatch.setattr(ToyEndpoint, "vocabulary", kinds)
    assert toy_builder(config("ada", "bob"), METHODS).ensemble("toys").name == "toys"
