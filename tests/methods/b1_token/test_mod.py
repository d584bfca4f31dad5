"""Multi-objective decoding by hand (K10, K12), with copies (K2), weight one (K3), and through the engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from septet.core.errors import BadParameter, RunError
from septet.core.session import View
from septet.methods.b1_token._same_vocabulary import Listed
from septet.methods.b1_token.mod import Mod
from septet.parts.decoding.union import UnionTable
from septet.testing import check_method
from septet.testing.contract import Check
from septet.testing.scripted import view
from septet.testing.toys import toy_config, toy_house
from twins import ANSWER, answers, of_copies
from whole_views import of_one_vocabulary, probabilities

P, Q = {b"a": 0.9, b"b": 0.1}, {b"a": 0.2, b"b": 0.8}
NAMES = ("helpful", "brief")


def fused(method: Mod, views: list[View | None], table: UnionTable | None) -> dict[bytes, float]:
    got, _ = method.fuse(views, (Listed(NAMES, table), method.weights_of(NAMES)))
    return probabilities(got.texts, got.p)


@pytest.mark.parametrize(
    ("parameters", "a"),
    [
        ({}, 0.6),  # K10: √.18 : √.08
        ({"divergence": "forward-kl"}, 0.648),  # K12: 2/(1/.9 + 1/.2) = .3273, 2/(1/.1 + 1/.8) = .1778
        ({"divergence": "alpha", "alpha": 1.0}, 0.648),
        # (½·(.9^−½ + .2^−½))^−2 = 1.6451^−2 = .3695 and (½·(.1^−½ + .8^−½))^−2 = 2.1402^−2 = .2183
        ({"divergence": "alpha", "alpha": 0.5}, 0.6286),
        ({"weights": {"helpful": 1.0}}, 0.9),  # K3
        ({"weights": {"brief": 3.0}, "divergence": "forward-kl"}, 0.2),
        (
            {"weights": {"helpful": 3.0, "brief": 1.0}},
            0.7861,
        ),  # .9^.75·.2^.25 : .1^.75·.8^.25 = .6179 : .1682
        ({"weights": {"helpful": 2.0, "brief": -1.0}}, 0.997),  # .81/.2 : .01/.8 = 4.05 : .0125
    ],
)
def test_k10_and_k12_the_divergence_decides_the_kind_of_mean(parameters: dict[str, object], a: float) -> None:
    views, table = of_one_vocabulary(P, Q)
    method = Mod(**parameters)  # type: ignore[arg-type]
    expected = {b"a": pytest.approx(a, abs=1e-4), b"b": pytest.approx(1 - a, abs=1e-4)}
    assert fused(method, [*views], table) == expected
    assert fused(method, [view(P), view(Q)], None) == expected


def test_a_small_alpha_is_nearly_the_geometric_mean() -> None:
    views, table = of_one_vocabulary(P, Q)
    near = fused(Mod(divergence="alpha", alpha=1e-4), [*views], table)
    assert near[b"a"] == pytest.approx(0.6, abs=1e-4)


@pytest.mark.parametrize("divergence", ["reverse-kl", "forward-kl", "alpha"])
def test_a_member_that_fails_leaves_its_weight_to_the_others(divergence: str) -> None:
    views, table = of_one_vocabulary(P, Q)
    got = fused(Mod(divergence=divergence), [None, views[1]], table)
    assert got == Q


def test_where_no_weight_above_zero_is_left_the_failed_members_are_named() -> None:
    views, table = of_one_vocabulary(P, Q)
    with pytest.raises(RunError, match="helpful failed"):
        fused(Mod(weights={"helpful": 1.0}), [None, views[1]], table)


@pytest.mark.parametrize(
    ("weights", "divergence"),
    [
        ({"zoe": 1.0}, "reverse-kl"),
        ({"helpful": 0.0}, "reverse-kl"),
        ({"helpful": 1.0, "brief": -1.0}, "reverse-kl"),
        ({"helpful": 2.0, "brief": -1.0}, "forward-kl"),
        ({"helpful": 2.0, "brief": -1.0}, "alpha"),
        ({"helpful": float("nan")}, "reverse-kl"),
        ({"helpful": float("inf")}, "reverse-kl"),
    ],
)
def test_weights_that_make_no_mean_are_refused(weights: dict[str, float], divergence: str) -> None:
    with pytest.raises(BadParameter, match=r"mod\.weights: must give finite numbers with a sum above 0"):
        Mod(weights=weights, divergence=divergence).weights_of(NAMES)


async def test_wrong_weights_are_refused_before_any_session_is_opened(tmp_path: Path) -> None:
    text = of_copies("mod", {"weights": {"zoe": 1.0}}, NAMES, tmp_path)
    async with toy_house(text) as house:
        member = house.builder.member("helpful").actor
        with pytest.raises(BadParameter, match="helpful"):
            await house["toys"].ensemble.prepared()
        assert member.vocab is None or member._endpoint.loaded.n_open == 0


@pytest.mark.parametrize("divergence", ["reverse-kl", "forward-kl", "alpha"])
def test_k2_a_member_beside_its_copies_writes_its_own_answer(divergence: str, tmp_path: Path) -> None:
    text = of_copies("mod", {"divergence": divergence}, ("helpful", "brief", "kind"), tmp_path)
    assert answers(text, "helpful", "toys") == [ANSWER, ANSWER]


@pytest.mark.parametrize("divergence", ["reverse-kl", "forward-kl", "alpha"])
@pytest.mark.parametrize("member", ["ada", "bob"])
def test_k3_with_weight_one_the_answer_is_that_member_s_own(
    member: str, divergence: str, tmp_path: Path
) -> None:
    parameters = {"divergence": divergence, "weights": {member: 1.0}}
    members = {"ada": {"tokenizer": "words", "variant": 3}, "bob": {"tokenizer": "words", "skill": 0.0}}
    text = toy_config("mod", parameters, order=("ada", "bob"), members=members, folder=tmp_path)
    own, together = answers(text, member, "toys")
    assert together == own


def test_shares_follow_weight_and_probability() -> None:
    views, table = of_one_vocabulary(P, Q)
    method = Mod(weights={"helpful": 3.0, "brief": 1.0})
    got, _ = method.fuse(views, (Listed(NAMES, table), method.weights_of(NAMES)))
    # .75·.9 and .25·.2 of .725
    np.testing.assert_allclose(got.support[list(got.texts).index(b"a")], [0.675 / 0.725, 0.05 / 0.725])


CHECKS = (
    check_method(Mod) + check_method(Mod, divergence="forward-kl") + check_method(Mod, divergence="alpha")
)


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_it_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    check(tmp_path)
