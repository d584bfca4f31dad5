"""Weights by hand: case K9 of the check list, and how several members read one text."""

from __future__ import annotations

import numpy as np
import pytest

from septet.core.errors import BadParameter
from septet.core.types import Tokens
from septet.parts.decoding.weights import (
    by_certainty,
    by_greedy_search,
    by_loss,
    by_score,
    read,
    uniform,
    whole_loss,
)

NAN = float("nan")


def spelled(*tokens: tuple[str, float]) -> Tokens:
    return Tokens(tuple(t.encode() for t, _ in tokens), np.array([logp for _, logp in tokens]))


def test_uniform_weights_sum_to_one() -> None:
    assert uniform(4).tolist() == [0.25] * 4


@pytest.mark.parametrize(
    "scores", [{"zoe": 1.0}, {"ada": 0.0}, {"ada": -1.0, "bob": 2.0}, {"ada": NAN}, {"ada": float("inf")}]
)
def test_scores_that_are_no_weights_are_refused_by_the_name_of_the_parameter(
    scores: dict[str, float],
) -> None:
    with pytest.raises(BadParameter, match=r"gac\.weights.*ada"):
        by_score(scores, ["ada", "bob"], "gac.weights")


# --- K9 ----------------------------------------------------------------------------------------------------


def test_k9_sim_is_a_softmax_of_negative_losses() -> None:
    assert by_loss(np.array([2.0, 2.7]), 1.0).round(4).tolist() == [0.6682, 0.3318]


def test_a_low_temperature_leaves_only_the_best_reader() -> None:
    assert by_loss(np.array([2.7, 2.0]), 1e-4).tolist() == [0.0, 1.0]


def test_a_member_without_a_loss_has_no_weight() -> None:
    assert by_loss(np.array([2.0, NAN, 2.0]), 1.0).tolist() == [0.5, 0.0, 0.5]


# two places of two classes each: the label's logit minus the other's
DIFFERENCES = np.array([[0.0, 2.0], [3.0, -1.0]])


def mixed_logits(weights: np.ndarray) -> float:
    return float(np.log1p(np.exp(-(weights @ DIFFERENCES))).mean())


def test_k9_opt_finds_the_best_mixture_of_the_grid() -> None:
    losses = np.array([mixed_logits(w) for w in np.eye(2)])
    assert losses.round(4).tolist() == [0.4100, 0.6809]
    near = [round(mixed_logits(np.array([lam, 1 - lam])), 4) for lam in (0.60, 0.65, 0.70)]
    assert near == [0.3172, 0.3135, 0.3142]
    assert by_greedy_search(losses, mixed_logits).round(2).tolist() == [0.65, 0.35]


def test_opt_leaves_out_who_does_not_help() -> None:
    logp = np.log([[0.5, 0.5], [0.4, 0.4], [0.1, 0.2]])
    mixed = lambda w: float(-np.log(w @ np.exp(logp)).mean())  # noqa: E731
    assert by_greedy_search(-logp.mean(axis=1), mixed).tolist() == [1.0, 0.0, 0.0]


def test_opt_begins_with_the_best_reader_wherever_it_stands_and_passes_over_the_absent() -> None:
    losses = np.array([NAN, mixed_logits(np.array([0.0, 1.0])), mixed_logits(np.array([1.0, 0.0]))])
    mixed = lambda w: mixed_logits(np.array([w[2], w[1]]))  # noqa: E731
    assert by_greedy_search(losses, mixed).round(2).tolist() == [0.0, 0.35, 0.65]


def test_opt_takes_equal_readers_together() -> None:
    logp = np.log([[0.9, 0.2], [0.1, 0.6], [0.9, 0.2]])
    mixed = lambda w: float(-np.log(w @ np.exp(logp)).mean())  # noqa: E731
    weights = by_greedy_search(-logp.mean(axis=1), mixed)
    # λ for the two, 1 - λ for the one: .8/(.1 + .8λ) = .4/(.6 - .4λ) at λ = .6875; the grid's .70 is best
    assert weights.round(3).tolist() == [0.35, 0.3, 0.35]


# --- certainty ---------------------------------------------------------------------------------------------


def test_certainty_weighs_by_one_over_the_entropy() -> None:
    # case K17: H = .6109 and 1.0297, so that 1/H = 1.6370 and .9711
    with np.errstate(divide="ignore"):
        logp = np.log([[0.7, 0.3, 0.0], [0.2, 0.3, 0.5]])
    assert by_certainty(logp).round(4).tolist() == [0.6276, 0.3724]


def test_a_member_without_doubt_outweighs_all_others_and_an_absent_one_has_nothing() -> None:
    logp = np.array([[0.0, -np.inf], np.log([0.5, 0.5]), [-np.inf, -np.inf]])
    assert by_certainty(logp).tolist() == [1.0, 0.0, 0.0]


# --- one text, several readers -----------------------------------------------------------------------------


def test_a_text_is_cut_where_the_tokens_of_all_end() -> None:
    # "the cat sat": one reads the| cat| s|at, the other the| c|at| sat, so that the cuts are 0, 3, 7, 11
    a = spelled(("<s>", NAN), ("the", -1.0), (" cat", -2.0), (" s", -3.0), ("at", -0.5))
    b = spelled(("Q: ", NAN), ("the", -4.0), (" c", -1.0), ("at", -1.5), (" sat", -2.0), ("\nA:", -9.0))
    found = read([a, b], b"the cat sat")
    assert found is not None
    assert found.logp.tolist() == [[-1.0, -2.0, -3.5], [-4.0, -2.5, -2.0]]
    assert found.tokens.tolist() == [4, 4]
    assert found.loss.tolist() == [6.5 / 4, 8.5 / 4]


def test_tokens_that_reach_over_the_edge_of_the_text_are_left_out() -> None:
    # "\nthe" begins before the text and " sat." ends after it: what is left for both is " cat"
    a = spelled(("x", NAN), ("\nthe", -1.0), (" cat", -2.0), (" sat.", -3.0))
    b = spelled(("the", NAN), (" cat", -4.0), (" sat", -5.0))
    found = read([a, b], b"the cat sat")
    assert found is not None
    assert found.logp.tolist() == [[-2.0], [-4.0]]


def test_a_segment_of_unknown_probability_counts_for_nobody() -> None:
    a = spelled(("the", NAN), (" cat", -2.0))
    b = spelled(("<s>", NAN), ("the", -1.0), (" cat", -3.0))
    found = read([a, b], b"the cat")
    assert found is not None
    assert found.logp.tolist() == [[-2.0], [-3.0]]
    assert found.tokens.tolist() == [1, 1]


def test_the_last_place_of_the_text_counts_and_empty_tokens_do_not() -> None:
    a = spelled(("hi", NAN), ("", -7.0), ("hi", -2.0), ("", -8.0))
    found = read([a], b"hi")
    assert found is not None
    assert found.logp.tolist() == [[-2.0]]
    assert found.tokens.tolist() == [1]


def test_an_absent_member_has_no_row() -> None:
    found = read([None, spelled(("<s>", NAN), ("hi", -2.0))], b"hi")
    assert found is not None
    assert np.isnan(found.logp[0]).all()
    assert found.logp[1].tolist() == [-2.0]
    assert np.isnan(found.loss[0])


@pytest.mark.parametrize(
    "prompts",
    [
        [None, None],
        [spelled(("<s>", NAN), ("hello", -1.0)), spelled(("<s>", NAN), ("hallo", -1.0))],
        [spelled(("a hello b", -1.0)), spelled(("<s>", NAN), ("hello", -1.0))],
    ],
    ids=["nobody", "not in one of them", "inside one token"],
)
def test_where_no_segment_is_shared_there_is_no_reading(prompts: list[Tokens | None]) -> None:
    assert read(prompts, b"hello") is None


def test_the_loss_of_a_mixture_is_that_of_the_mean_probability() -> None:
    found = read(
        [spelled(("<s>", NAN), ("hi", np.log(0.8))), spelled(("<s>", NAN), ("hi", np.log(0.2)))], b"hi"
    )
    assert found is not None
    assert found.mixed(np.array([0.5, 0.5])) == pytest.approx(-np.log(0.5))
    assert found.mixed(np.array([0.0, 1.0])) == pytest.approx(-np.log(0.2))


def test_the_loss_of_a_whole_prompt_passes_over_what_nothing_comes_before() -> None:
    loss = whole_loss([spelled(("a", NAN), ("b", -1.0), ("c", -2.0)), spelled(("a", NAN)), None])
    assert loss[0] == 1.5
    assert np.isnan(loss[1:]).all()
