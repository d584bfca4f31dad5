"""Proxy tuning by hand (K13), with copies (K2), and through the engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from septet.core.errors import RunError, UnfitPool
from septet.core.session import View
from septet.methods.b1_token._same_vocabulary import Listed
from septet.methods.b1_token.proxy_tuning import ProxyTuning
from septet.parts.decoding.union import UnionTable
from septet.testing import check_method
from septet.testing.contract import Check
from septet.testing.scripted import view
from septet.testing.toys import toy_builder, toy_config
from twins import ANSWER, answers, of_copies
from whole_views import of_one_vocabulary, probabilities

BASE, EXPERT, ANTI = {b"a": 0.5, b"b": 0.5}, {b"a": 0.8, b"b": 0.2}, {b"a": 0.6, b"b": 0.4}
NAMES = ("large", "tuned", "plain")


def fused(alpha: float, views: list[View], table: UnionTable | None) -> dict[bytes, float]:
    got, _ = ProxyTuning(alpha=alpha).fuse(views, Listed(NAMES, table))
    return probabilities(got.texts, got.p)


@pytest.mark.parametrize(("alpha", "a"), [(1.0, 0.7273), (0.0, 0.5), (2.0, 0.8767), (-1.0, 0.2727)])
def test_k13_the_ratio_of_expert_and_anti_expert_moves_the_base(alpha: float, a: float) -> None:
    # .8/.6 : .2/.4 = 8 : 3, so .7273; its square 64 : 9, so .8767; its inverse 3 : 8
    views, table = of_one_vocabulary(BASE, EXPERT, ANTI)
    expected = {b"a": a, b"b": round(1 - a, 4)}
    assert fused(alpha, views, table) == expected
    assert fused(alpha, [view(BASE), view(EXPERT), view(ANTI)], None) == expected


@pytest.mark.parametrize("alpha", [-1.0, 1.0, 3.0])
def test_k2_where_expert_and_anti_expert_agree_the_base_is_left_as_it_is(
    alpha: float, tmp_path: Path
) -> None:
    views, table = of_one_vocabulary(EXPERT, ANTI, ANTI)
    assert fused(alpha, views, table) == EXPERT
    text = of_copies("proxy-tuning", {"alpha": alpha}, NAMES, tmp_path)
    assert answers(text, "large", "toys") == [ANSWER, ANSWER]


def test_with_its_own_copy_as_the_anti_expert_a_base_writes_the_expert_s_answer(tmp_path: Path) -> None:
    # log p_base + log p_expert − log p_base
    members = {"ada": {"skill": 0.0}, "bob": {"tokenizer": "words", "skill": 1.0}, "cyd": {"skill": 0.0}}
    text = toy_config("proxy-tuning", order=("ada", "bob", "cyd"), members=members, folder=tmp_path)
    base, expert, fused = answers(text, "ada", "bob", "toys")
    assert fused == expert != base


def test_what_the_anti_expert_holds_impossible_does_not_win_by_an_infinite_ratio() -> None:
    views, table = of_one_vocabulary(
        {b"a": 0.5, b"b": 0.3, b"c": 0.2}, {b"a": 0.8, b"b": 0.1, b"c": 0.1}, {b"a": 0.6, b"b": 0.4}
    )
    # c is out: .5·.8/.6 : .3·.1/.4 = .6667 : .075
    assert fused(1.0, views, table) == {b"a": 0.8989, b"b": 0.1011}


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_each_of_the_three_is_named_when_it_has_failed(missing: int) -> None:
    views, table = of_one_vocabulary(BASE, EXPERT, ANTI)
    seen = [None if i == missing else v for i, v in enumerate(views)]
    part = ("base", "expert", "anti-expert")[missing]
    with pytest.raises(RunError, match=rf"its {part}, '{NAMES[missing]}'.*\[member {NAMES[missing]}\]"):
        ProxyTuning().fuse(seen, Listed(NAMES, table))


def test_two_members_are_refused_before_anything_runs(tmp_path: Path) -> None:
    text = of_copies("proxy-tuning", {}, ("large", "tuned"), tmp_path)
    with pytest.raises(UnfitPool, match="at least 3 members, not 2"):
        toy_builder(text).ensemble("toys")


def test_members_of_several_vocabularies_need_the_user_s_leave(tmp_path: Path) -> None:
    order = ("ada", "bob", "cyd")  # ada and cyd spell words, bob bytes
    with pytest.raises(UnfitPool, match="vocabular"):
        toy_builder(toy_config("proxy-tuning", order=order, folder=tmp_path)).ensemble("toys")
    text = toy_config("proxy-tuning", {"approximate": True}, order=order, folder=tmp_path)
    assert answers(text, "toys")[0]


@pytest.mark.parametrize("check", check_method(ProxyTuning), ids=str)
def test_it_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    check(tmp_path)
