"""FrugalGPT: what is accepted, what happens when members fail, and what a fit learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from septet.core.caps import Caps
from septet.core.errors import BackendError, BadParameter, NoCandidate
from septet.core.method import Ask, SeatPool
from septet.core.money import Load
from septet.core.state import pack, unpack
from septet.core.table import Table
from septet.core.types import Completion, Query, Tokens, Verdict
from septet.methods.c2_cascade.frugal_gpt import Frugal, FrugalGPT
from septet.parts.answers.certainty import mean_logp
from septet.parts.deferral.chain import Chain
from septet.parts.deferral.scorer import AnswerScorer
from septet.parts.learning.tfidf import TfIdf
from septet.testing.scripted import drive, seat
from septet.testing.toys import toy_table

POOL = SeatPool((seat("smol"), seat("gemma"), seat("big")))
ASKED = Query.of("What is 2+3?")


def trusting_logp(order: tuple[int, ...], *thresholds: float) -> Frugal:
    """A scorer whose p is 1 / (1 + e^−logp'), where logp' is the answer's mean log-probability plus one."""
    weights = np.zeros((3, 8 + 3))
    weights[:, 8] = 1.0
    scorer = AnswerScorer(TfIdf(np.ones(8)), weights, np.ones(3), np.zeros(3), np.ones(3))
    return Frugal(scorer, Chain(order, thresholds, quality=0.9, cost=0.01))


def answer(member: str, logp: float) -> list[Completion]:
    tokens = Tokens((b"5",), np.array([logp]))
    return [Completion(member=member, text=f"5, says {member}", tokens=tokens)]


def run(state: Frugal, logps: dict[str, float | None], **parameters: Any) -> tuple[Verdict, list[Ask]]:
    def script(ask: Ask) -> Any:
        logp = logps[ask.to.name]
        return BackendError("down") if logp is None else answer(ask.to.name, logp)

    plan = FrugalGPT(**parameters).plan(ASKED, POOL, state, np.random.default_rng(0))
    verdict, yielded = drive(plan, script)
    return verdict, [item for items in yielded for item in items if isinstance(item, Ask)]


def test_an_answer_that_reaches_its_threshold_ends_the_chain() -> None:
    # logp −0.5: p = 1 / (1 + e^−.5) = .62
    verdict, asks = run(trusting_logp((0, 1), 0.6), {"smol": -0.5, "gemma": -0.1})
    assert [a.to.name for a in asks] == ["smol"]
    assert (verdict.chosen, verdict.reason) == (0, "confidence 0.62 ≥ 0.60 after smol")
    assert verdict.confidence == pytest.approx(0.6225, abs=1e-4)


def test_an_answer_below_its_threshold_hands_on_and_the_last_is_always_accepted() -> None:
    # logp −1.5 and −3: p = .38 and .12
    verdict, asks = run(trusting_logp((0, 1), 0.6), {"smol": -1.5, "gemma": -3.0})
    assert [a.to.name for a in asks] == ["smol", "gemma"]
    assert verdict.chosen == 1
    assert verdict.reason == (
        "confidence 0.38 < 0.60 after smol, so gemma was asked; it is last and always accepted"
    )


def test_the_list_need_not_follow_the_pool_nor_hold_every_member() -> None:
    _, asks = run(trusting_logp((2, 0), 0.99), {"smol": -1.0, "big": -1.0})
    assert [a.to.name for a in asks] == ["big", "smol"]


def test_log_probabilities_are_asked_for_only_where_they_are_read() -> None:
    _, with_logp = run(trusting_logp((0,)), {"smol": -1.0})
    _, without = run(trusting_logp((0,)), {"smol": -1.0}, features="text")
    assert (with_logp[0].args["logprobs"], without[0].args["logprobs"]) == (1, 0)
    assert FrugalGPT().needs() == Caps(text=True, logprobs=True, topk=1)
    assert FrugalGPT(features="text").needs() == Caps(text=True)


def test_a_failed_member_is_passed_over_and_chosen_counts_only_answers() -> None:
    verdict, _ = run(trusting_logp((0, 1), 0.6), {"smol": None, "gemma": -1.0})
    assert verdict.chosen == 0
    assert verdict.reason == "smol failed, so gemma was asked; it is last and always accepted"


def test_when_the_last_fails_the_most_confident_answer_stands() -> None:
    # .27 and .38, both too low; big fails
    verdict, _ = run(trusting_logp((0, 1, 2), 0.6, 0.6), {"smol": -2.0, "gemma": -1.5, "big": None})
    assert verdict.chosen == 1
    assert verdict.reason.endswith("big failed; gemma is the most confident that answered")


def test_members_off_the_list_are_asked_when_all_on_it_have_failed() -> None:
    verdict, asks = run(trusting_logp((0,)), {"smol": None, "gemma": -1.0})
    assert [a.to.name for a in asks] == ["smol", "gemma"]
    assert verdict.reason == "smol failed, so gemma was asked; it is last and always accepted"


def test_when_everybody_fails_the_error_names_each() -> None:
    with pytest.raises(NoCandidate, match=r"smol: down; gemma: down; big: down"):
        run(trusting_logp((0, 1), 0.6), dict.fromkeys(("smol", "gemma", "big")))


def test_a_first_token_without_a_condition_is_left_out_of_the_mean() -> None:
    tokens = Tokens((b"a", b"b", b"c"), np.array([np.nan, -1.0, -3.0]))
    assert mean_logp(tokens) == -2.0
    assert np.isnan(mean_logp(None))


def test_the_fit_finds_a_chain_that_beats_every_member_where_log_probabilities_tell() -> None:
    # on the toy table ada is right on even sums, bob on odd ones, and a wrong answer has logp −1
    state = FrugalGPT().fit(toy_table(), {}, np.random.default_rng(0))
    assert set(state.chain.order) >= {0, 1}
    assert (state.chain.quality, state.chain.unit) == (1.0, "usd")


def test_a_budget_holds_on_the_questions_of_the_search() -> None:
    free = FrugalGPT().fit(toy_table(), {}, np.random.default_rng(0))
    tight = FrugalGPT(budget_usd=2.5e-4).fit(toy_table(), {}, np.random.default_rng(0))
    assert tight.chain.cost <= 2.5e-4 < free.chain.cost
    assert tight.chain.quality < free.chain.quality


def test_a_budget_below_every_member_is_refused() -> None:
    with pytest.raises(BadParameter, match="cheapest member's mean cost"):
        FrugalGPT(budget_usd=1e-9).fit(toy_table(), {}, np.random.default_rng(0))


def test_a_budget_in_usd_needs_outcomes_in_usd() -> None:
    rows = [
        {"query": f"q{i}", "model": m, "response": "x", "score": float(i % 2), "seconds": 1.0}
        for i in range(8)
        for m in ("a", "b")
    ]
    assert FrugalGPT().fit(Table.of(rows), {}, np.random.default_rng(0)).chain.unit == "seconds"
    with pytest.raises(BadParameter, match="cost_usd for every answer"):
        FrugalGPT(budget_usd=1.0).fit(Table.of(rows), {}, np.random.default_rng(0))


def test_scorer_and_thresholds_never_see_the_same_question() -> None:
    # The scorer learns from 45 % of 20 questions, 9; the search then sees the other 11: a mean score of a
    # single member is a multiple of 1/11.
    state = FrugalGPT(depth=1).fit(toy_table(20), {}, np.random.default_rng(0))
    assert state.chain.quality * 11 == pytest.approx(round(state.chain.quality * 11))


def test_the_state_survives_saving() -> None:
    state = FrugalGPT().fit(toy_table(), {}, np.random.default_rng(0))
    again = unpack(Frugal, *pack(state))
    assert again.chain == state.chain
    np.testing.assert_array_equal(again.scorer.weights, state.scorer.weights)


def test_the_worst_case_is_every_member_once() -> None:
    worst = FrugalGPT().worst(ASKED.but(max_tokens=7), POOL)
    assert worst == {name: Load(1, 1, 7) for name in POOL.names}
