"""The purifying ensemble by hand (K10 and the checks of 2402.14845), with copies (K2), and through the engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from septet.core.errors import BadParameter, RunError
from septet.core.session import View
from septet.methods.b1_token._same_vocabulary import Listed
from septet.methods.b1_token.purifying_ensemble import PurifyingEnsemble
from septet.parts.decoding.union import UnionTable
from septet.testing import check_method
from septet.testing.contract import Check
from septet.testing.scripted import view
from twins import ANSWER, answers, of_copies
from whole_views import of_one_vocabulary, probabilities

P, Q = {b"a": 0.9, b"b": 0.1}, {b"a": 0.2, b"b": 0.8}
NAMES = ("large", "clean")


def fused(
    method: PurifyingEnsemble, views: list[View | None], table: UnionTable | None
) -> dict[bytes, float]:
    got, _ = method.fuse(views, Listed(NAMES, table))
    return probabilities(got.texts, got.p)


@pytest.mark.parametrize(
    ("alpha", "beta", "a"),
    [
        (0.5, 0.5, 0.6),  # K10: √.18 : √.08 = 3 : 2
        (1.0, 1.0, 0.6923),  # .18 : .08: weights are not divided by their sum
        (0.0, 1.0, 0.2),
        (1.0, 0.5, 0.8182),  # .9·√.2 : .1·√.8 = 9 : 2
    ],
)
def test_k10_weights_are_taken_as_they_are(alpha: float, beta: float, a: float) -> None:
    views, table = of_one_vocabulary(P, Q)
    method, expected = PurifyingEnsemble(alpha=alpha, beta=beta), {b"a": a, b"b": round(1 - a, 4)}
    assert fused(method, [*views], table) == expected
    assert fused(method, [view(P), view(Q)], None) == expected


def test_the_min_rule_takes_the_smaller_probability() -> None:
    # (.7, .2, .1) and (.1, .8, .1): the smaller are (.1, .2, .1), of .4
    views, table = of_one_vocabulary({b"a": 0.7, b"b": 0.2, b"c": 0.1}, {b"a": 0.1, b"b": 0.8, b"c": 0.1})
    expected = {b"a": 0.25, b"b": 0.5, b"c": 0.25}
    assert fused(PurifyingEnsemble(rule="min"), [*views], table) == expected
    assert fused(PurifyingEnsemble(rule="min", alpha=3.0, beta=0.1), [*views], table) == expected


@pytest.mark.parametrize("rule", ["geometric", "min"])
def test_what_the_clean_member_would_never_say_is_never_said(rule: str) -> None:
    views, table = of_one_vocabulary({b"secret": 0.99, b"word": 0.01}, {b"word": 0.6, b"other": 0.4})
    assert fused(PurifyingEnsemble(rule=rule), [*views], table) == {b"word": 1.0}


@pytest.mark.parametrize("rule", ["geometric", "min"])
def test_without_the_clean_member_there_is_no_answer(rule: str) -> None:
    views, table = of_one_vocabulary(P, Q)
    with pytest.raises(RunError, match=r"clean member, 'clean'.*\[member clean\]"):
        fused(PurifyingEnsemble(rule=rule), [views[0], None], table)
    with pytest.raises(RunError, match="large member, 'large'"):
        fused(PurifyingEnsemble(rule=rule), [None, views[1]], table)


@pytest.mark.parametrize(
    "parameters", [{}, {"alpha": 1.0, "beta": 1.0}, {"alpha": 0.3, "beta": 0.3}, {"rule": "min"}]
)
def test_k2_a_member_beside_its_copy_writes_its_own_answer(
    parameters: dict[str, object], tmp_path: Path
) -> None:
    text = of_copies("purifying-ensemble", parameters, NAMES, tmp_path)
    assert answers(text, "large", "toys") == [ANSWER, ANSWER]


def test_a_clean_member_without_weight_is_refused() -> None:
    with pytest.raises(BadParameter, match="beta: must be > 0"):
        PurifyingEnsemble(beta=0.0)


CHECKS = check_method(PurifyingEnsemble) + check_method(PurifyingEnsemble, rule="min")


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_it_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    check(tmp_path)
