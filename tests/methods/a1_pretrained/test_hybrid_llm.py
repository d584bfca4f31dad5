"""Hybrid-LLM: three kinds of labels, the threshold on held-out questions, and the price of cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.errors import UnfitPool
from septet.core.state import pack, unpack
from septet.core.table import Table
from septet.core.types import Floats
from septet.methods.a1_pretrained.hybrid_llm import NEVER, Hybrid, HybridLlm
from septet.parts.learning.features import Featurizer
from septet.parts.routing.cost import Spending
from septet.parts.routing.records import Known
from septet.testing.contract import check_method
from septet.testing.toys import toy_builder, toy_config

FREE = Spending(*(np.full(2, np.nan) for _ in range(4)))
RNG = np.random.default_rng(0)


def samples(*questions: tuple[list[float], list[float]]) -> Table:
    return Table.of(
        {"query": f"q{i}", "model": m, "sample_id": j, "score": s}
        for i, arms in enumerate(questions)
        for m, scores in zip(("weak", "strong"), arms, strict=True)
        for j, s in enumerate(scores)
    )


def labels(kind: Any, *questions: tuple[list[float], list[float]]) -> list[float]:
    found: list[float] = HybridLlm(labels=kind).targets(Known.of(samples(*questions))).y[:, 0].tolist()
    return found


def test_labels_of_first_samples_of_all_pairs_and_relaxed() -> None:
    small, large = [0.8, 0.6], [0.7, 0.5]
    assert labels("det", (small, large)) == [1.0]
    assert labels("prob", (small, large)) == [0.75]
    # gaps .1, .3, −.1, .1; a question alone is spread by no relaxation, so t* is the smallest, 0
    assert labels("trans", (small, large)) == [0.75]


def test_transformed_labels_are_relaxed_to_where_they_differ_most() -> None:
    # gaps −3, −1, −.5, .2 as in the part's own check, in scores
    questions = [([0.0], [3.0]), ([0.0], [1.0]), ([0.0], [0.5]), ([0.2], [0.0])]
    assert labels("det", *questions) == [0.0, 0.0, 0.0, 1.0]
    assert labels("trans", *questions) == [0.0, 0.0, 1.0, 1.0]


def test_with_scores_of_zero_and_one_transforming_changes_nothing() -> None:
    questions = [([0.0], [1.0]), ([0.0], [1.0]), ([1.0], [1.0])]
    assert labels("trans", *questions) == labels("prob", *questions) == [0.0, 0.0, 1.0]


def test_a_question_that_one_arm_lacks_has_no_label() -> None:
    table = Table.of(
        [
            {"query": "q", "model": "weak", "score": 1.0},
            {"query": "p", "model": "weak", "score": 1.0},
            {"query": "p", "model": "strong", "score": 1.0},
        ]
    )
    np.testing.assert_array_equal(HybridLlm().targets(Known.of(table)).y, [[np.nan], [1.0]])


def state(threshold: float) -> Hybrid:
    return Hybrid(Featurizer.unused(), FREE, 0.0, np.empty((0, 1)), np.zeros(1), "bce", threshold=threshold)


def strong(p: list[float], threshold: float, cost: Floats | None = None, prefer: float = 0.0) -> list[float]:
    """The strong member's weight at P(strong is needed) = p."""
    q = np.array([[1 - x, x] for x in p])
    c = np.zeros_like(q) if cost is None else cost
    weights = HybridLlm().choose(q, c, np.full(len(q), prefer), state(threshold), RNG).weights
    return weights[:, 1].tolist()  # type: ignore[no-any-return]


def test_the_strong_member_answers_from_the_threshold_on() -> None:
    assert strong([0.29, 0.3, 0.31], 0.3) == [0.0, 1.0, 1.0]
    assert strong([0.0, 1.0], 0.0) == [1.0, 1.0]
    assert strong([0.0, 1.0], NEVER) == [0.0, 0.0]


def test_a_price_of_cost_moves_the_threshold_by_half_of_what_is_saved() -> None:
    # the strong one costs $.01 more; at λ = 20 that is .2, so 2p − .2 ≥ 2·.3: from p = .4 on
    cost = np.array([[0.0, 0.01]] * 3)
    assert strong([0.3, 0.39, 0.41], 0.3, cost, prefer=20.0) == [0.0, 0.0, 1.0]
    assert strong([1.0], 0.0, cost[:1], prefer=float("inf")) == [0.0]


def test_utility_is_how_likely_each_arm_is_the_right_choice() -> None:
    x = np.log(np.array([[3.0]]))  # sigmoid ¾
    np.testing.assert_allclose(HybridLlm(network="encoder").utility(x, state(0.5)), [[0.75, 0.25]])


def test_the_fit_sets_the_threshold_that_loses_little() -> None:
    easy = [([1.0], [1.0])] * 40
    table = Table.of(
        {"query": f"{text} {i}", "model": m, "score": s}
        for i in range(40)
        for text, scores in (("add the numbers up to", (1.0, 1.0)), ("prove the theorem of", (0.0, 1.0)))
        for m, s in zip(("weak", "strong"), scores, strict=True)
    )
    router = HybridLlm()
    fitted = router.fit(table, {}, RNG)
    x = fitted.featurizer.rows(["add the numbers up to 99", "prove the theorem of 99"])
    q = router.utility(x, fitted)
    assert router.choose(q, 0 * q, np.zeros(2), fitted, RNG).weights.tolist() == [[1, 0], [0, 1]]
    never = router.fit(samples(*easy), {}, RNG)
    assert never.threshold == NEVER


def test_a_stated_threshold_is_kept_and_nothing_is_held_out() -> None:
    router = HybridLlm(threshold=0.25)
    assert router.held_out(50, RNG).sum() == 0
    assert HybridLlm().held_out(50, RNG).sum() == 10
    fitted = router.fit(samples(([0.0], [1.0]), ([1.0], [1.0]), ([1.0], [0.0])), {}, RNG)
    assert fitted.threshold == 0.25


def test_the_state_survives_saving() -> None:
    again = unpack(Hybrid, *pack(state(0.4)))
    assert again.threshold == 0.4


def test_three_members_are_refused(tmp_path: Path) -> None:
    builder = toy_builder(toy_config("hybrid-llm", folder=tmp_path))
    with pytest.raises(UnfitPool, match="2"):
        builder.ensemble("toys")


CHECKS = [*check_method(HybridLlm), *check_method(HybridLlm, labels="det", threshold=0.5)]


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_it_keeps_the_contract(check: Any, tmp_path: Path) -> None:
    check(tmp_path)
