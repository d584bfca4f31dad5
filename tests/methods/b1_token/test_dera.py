"""DeRa by hand (K11), with copies (K2), and through the engine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from septet.core.errors import BadParameter, RunError
from septet.core.session import View
from septet.engine.prepared import prepared
from septet.methods.b1_token._same_vocabulary import Listed
from septet.methods.b1_token.dera import Dera
from septet.parts.decoding.union import UnionTable
from septet.testing import check_method
from septet.testing.contract import Check
from septet.testing.scripted import view
from septet.testing.toys import toy_config, toy_house
from twins import ANSWER, QUESTION, answers, of_copies
from whole_views import of_one_vocabulary, of_own_vocabularies, probabilities

SFT = {b" yes": 0.5, b" no": 0.5}
ALIGNED = {b" yes": 0.8, b" no": 0.2}
NAMES = ("sft", "dpo")


def fused(strength: float, views: list[View], table: UnionTable | None) -> dict[bytes, float]:
    got, _ = Dera(strength=strength).fuse(views, Listed(NAMES, table))
    return probabilities(got.texts, got.p)


@pytest.mark.parametrize(
    ("strength", "yes"), [(0.0, 0.5), (0.5, 0.6667), (1.0, 0.8), (2.0, 0.9412), (-1.0, 0.2)]
)
def test_k11_strength_goes_from_the_first_member_to_the_second_and_beyond(
    strength: float, yes: float
) -> None:
    # λ = ½: √(.5·.8) : √(.5·.2) = 2 : 1. λ = 2: .8²/.5 : .2²/.5 = 16 : 1. λ = −1: .5²/.8 : .5²/.2 = 1 : 4
    views, table = of_one_vocabulary(SFT, ALIGNED)
    expected = {b" yes": yes, b" no": round(1 - yes, 4)}
    assert fused(strength, views, table) == expected
    assert fused(strength, [view(SFT), view(ALIGNED)], None) == expected  # by the union of the top k


@pytest.mark.parametrize("strength", [-1.0, 0.0, 0.5, 1.0, 2.0, 10.0])
def test_k2_a_member_beside_its_copy_is_itself_at_every_strength(strength: float, tmp_path: Path) -> None:
    views, table = of_one_vocabulary(ALIGNED, ALIGNED)
    assert fused(strength, views, table) == ALIGNED
    text = of_copies("dera", {"strength": strength}, ("sft", "dpo"), tmp_path)
    assert answers(text, "sft", "toys") == [ANSWER, ANSWER]


def test_of_two_vocabularies_only_strings_that_both_have_are_possible() -> None:
    # " y" is the first's alone and "n" the second's alone: what is left is .4 : .1 under both, and END
    views, table = of_own_vocabularies(
        {b"": 0.1, b" yes": 0.4, b" no": 0.1, b" y": 0.4}, {b"": 0.1, b" yes": 0.4, b" no": 0.1, b"n": 0.4}
    )
    assert fused(2.0, views, table) == {b"": 0.1667, b" yes": 0.6667, b" no": 0.1667}


def test_support_counts_a_member_with_a_negative_weight_as_none() -> None:
    views, table = of_one_vocabulary(SFT, ALIGNED)
    got, _ = Dera(strength=2.0).fuse(views, Listed(NAMES, table))
    assert got.support[list(got.texts).index(b" yes")].tolist() == [0.0, 1.0]
    got, _ = Dera(strength=0.5).fuse(views, Listed(NAMES, table))  # .5·.5 and .5·.8 of .65
    assert got.support[list(got.texts).index(b" yes")].tolist() == pytest.approx([0.25 / 0.65, 0.4 / 0.65])


def test_a_member_that_has_failed_is_named_unless_it_has_no_weight() -> None:
    (_, aligned), table = of_one_vocabulary(SFT, ALIGNED)
    with pytest.raises(RunError, match=r"fine-tuned member, 'sft', which has failed.*\[member sft\]"):
        Dera(strength=0.5).fuse([None, aligned], Listed(NAMES, table))
    got, _ = Dera(strength=1.0).fuse([None, aligned], Listed(NAMES, table))
    assert probabilities(got.texts, got.p) == ALIGNED


def test_what_is_prepared_is_kept_on_disk_by_the_members_vocabularies_and_names(tmp_path: Path) -> None:
    async def twice() -> tuple[Listed, Listed]:
        async with toy_house(of_copies("dera", {}, ("sft", "dpo"), tmp_path)) as house:
            await house["toys"].ask(QUESTION)
            pool = type("Pool", (), {"names": NAMES, "members": [_actor(house, n) for n in NAMES]})()
            made = prepared(Dera(), pool, tmp_path / "cache")
            assert len(list((tmp_path / "cache").rglob("*.npz"))) == 1
            return made, prepared(Dera(), pool, tmp_path / "cache")

    made, read = asyncio.run(twice())
    assert read.names == made.names == NAMES
    assert made.table is not None
    assert read.table is not None
    assert list(read.table.strings) == list(made.table.strings)


def _actor(house: object, name: str) -> object:
    return house.builder.member(name).actor  # type: ignore[attr-defined]


def test_strength_has_bounds() -> None:
    with pytest.raises(BadParameter, match=r"dera\.strength"):
        Dera(strength=1e6)


def test_members_that_report_their_best_strings_only_are_let_through_as_an_approximation(
    tmp_path: Path,
) -> None:
    few = {"lacks": ["full"], "topk_limit": 20, "tokenizer": "words"}
    text = toy_config(
        "dera", {"approximate": True}, order=("ada", "bob"), members={"ada": few, "bob": few}, folder=tmp_path
    )
    assert answers(text, "toys")[0]


@pytest.mark.parametrize("check", check_method(Dera) + check_method(Dera, strength=2.0), ids=str)
def test_it_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    check(tmp_path)
