"""Contrastive decoding by hand (K13), with copies, and through the engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from septet.core.errors import BadParameter, RunError
from septet.core.session import View
from septet.methods.b1_token._same_vocabulary import Listed
from septet.methods.b1_token.contrastive_decoding import ContrastiveDecoding
from septet.parts.decoding.union import UnionTable
from septet.testing import check_method
from septet.testing.contract import Check
from septet.testing.scripted import view
from septet.testing.toys import toy_config
from twins import ANSWER, answers, of_copies
from whole_views import of_one_vocabulary, of_own_vocabularies, probabilities

EXPERT = {b"1": 0.6, b"2": 0.35, b"3": 0.05}
AMATEUR = {b"1": 0.5, b"2": 0.3, b"3": 0.001, b"4": 0.199}
NAMES = ("large", "small")
PLAIN = ContrastiveDecoding(amateur_temperature=1.0)


def fused(
    method: ContrastiveDecoding, views: list[View | None], table: UnionTable | None
) -> dict[bytes, float]:
    got, _ = method.fuse(views, Listed(NAMES, table))
    return probabilities(got.texts, got.p)


def test_k13_the_mask_keeps_what_the_expert_finds_plausible() -> None:
    # ratios 1.2 : 1.1667 : 50; the threshold .1·.6 = .06 leaves the first two
    views, table = of_one_vocabulary(EXPERT, AMATEUR)
    expected = {b"1": 0.507, b"2": 0.493}
    assert fused(PLAIN, [*views], table) == expected
    assert fused(PLAIN, [view(EXPERT), view(AMATEUR)], None) == expected


def test_k13_without_the_mask_an_unlikely_string_wins_by_its_ratio() -> None:
    views, table = of_one_vocabulary(EXPERT, AMATEUR)
    got = fused(ContrastiveDecoding(amateur_temperature=1.0, plausibility=0.0), [*views], table)
    assert got == {b"1": 0.0229, b"2": 0.0223, b"3": 0.9548}  # of 52.3667


def test_a_temperature_of_a_half_counts_the_amateur_twice() -> None:
    # .6/.5² = 2.4 and .35/.3² = 3.8889: now the second wins
    views, table = of_one_vocabulary(EXPERT, AMATEUR)
    expected = {b"1": 0.3816, b"2": 0.6184}
    assert fused(ContrastiveDecoding(), [*views], table) == expected
    twice = ContrastiveDecoding(amateur_temperature=1.0, coefficient=2.0)
    assert fused(twice, [*views], table) == expected


def test_the_threshold_is_a_share_of_the_expert_s_best_probability() -> None:
    # of .5 and .25 the second is in at .49 and out at .51
    views, table = of_one_vocabulary({b"a": 0.5, b"b": 0.25, b"c": 0.25}, {b"a": 0.5, b"b": 0.25, b"c": 0.25})
    below = ContrastiveDecoding(plausibility=0.49, amateur_temperature=1.0)
    assert fused(below, [*views], table) == {b"a": 0.3333, b"b": 0.3333, b"c": 0.3333}
    above = ContrastiveDecoding(plausibility=0.51, amateur_temperature=1.0)
    assert fused(above, [*views], table) == {b"a": 1.0}


def test_of_two_vocabularies_plausibility_is_measured_among_the_strings_that_both_have() -> None:
    # the expert's " cats" is no string of the amateur: then .09 of " cat" is the best, and the threshold .009
    views, table = of_own_vocabularies(
        {b" cats": 0.9, b" cat": 0.09, b"s": 0.01}, {b" cat": 0.6, b"s": 0.2, b"t": 0.2}
    )
    assert fused(PLAIN, [*views], table) == {b" cat": 0.75, b"s": 0.25}  # .15 : .05


def test_a_given_text_is_scored_over_all_its_spellings_only_without_the_mask() -> None:
    assert ContrastiveDecoding(plausibility=0.0).complete
    assert not ContrastiveDecoding().complete


def test_k2_with_half_a_coefficient_a_member_beside_its_copy_writes_its_own_answer(tmp_path: Path) -> None:
    # p/p^½ = √p: the order of strings stays
    parameters = {"coefficient": 0.5, "amateur_temperature": 1.0, "plausibility": 0.0}
    assert answers(of_copies("contrastive-decoding", parameters, NAMES, tmp_path), "large", "toys") == [
        ANSWER,
        ANSWER,
    ]


def test_with_a_mask_of_one_only_the_expert_s_best_string_is_left(tmp_path: Path) -> None:
    text = of_copies("contrastive-decoding", {"plausibility": 1.0}, NAMES, tmp_path)
    assert answers(text, "large", "toys") == [ANSWER, ANSWER]


@pytest.mark.parametrize("missing", [0, 1])
def test_expert_and_amateur_are_named_when_they_have_failed(missing: int) -> None:
    views, table = of_one_vocabulary(EXPERT, AMATEUR)
    seen = [None if i == missing else v for i, v in enumerate(views)]
    with pytest.raises(RunError, match=rf"{('expert', 'amateur')[missing]}, '{NAMES[missing]}'"):
        fused(PLAIN, seen, table)


def test_an_amateur_that_does_not_count_may_fail() -> None:
    views, table = of_one_vocabulary(EXPERT, AMATEUR)
    got = fused(ContrastiveDecoding(coefficient=0.0, plausibility=0.0), [views[0], None], table)
    assert got == EXPERT


def test_an_amateur_temperature_of_zero_is_refused() -> None:
    with pytest.raises(BadParameter, match="amateur_temperature: must be > 0"):
        ContrastiveDecoding(amateur_temperature=0.0)


def test_two_tokenizers_work_with_the_user_s_leave(tmp_path: Path) -> None:
    text = toy_config("contrastive-decoding", {"approximate": True}, order=("ada", "bob"), folder=tmp_path)
    assert answers(text, "toys")[0]


CHECKS = check_method(ContrastiveDecoding) + check_method(
    ContrastiveDecoding, plausibility=0.0, coefficient=0.1, amateur_temperature=1.0
)


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_it_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    check(tmp_path)
