"""Identities between aggregators that hold for all inputs: T1 to T5, T7 and T8 of the dossier.

T6, cascade routing and its special cases, is in tests/parts/deferral/test_supermodels.py.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from septet.bench.duplicates import OF_ANSWERS, Answers
from septet.core.method import Ask, SeatPool
from septet.core.table import Table
from septet.core.types import Completion, Floats, Query, Tokens
from septet.methods.c1_noncascade.agent_forest import AgentForest
from septet.methods.c1_noncascade.llm_peer_review import ROUNDS, LlmPeerReview
from septet.methods.c1_noncascade.self_certainty import SelfCertainty
from septet.parts.answers.aggregate import borda
from septet.parts.answers.centroid import distances, errors, triplets
from septet.parts.answers.crowd import Labels, dawid_skene, glad
from septet.parts.answers.reliability import log_odds
from septet.parts.answers.similarity import cosines, mean_of_others
from septet.parts.answers.vote import shares
from septet.parts.deferral.confidence import mean_similarity
from septet.testing.scripted import drive, seat

seeds = st.integers(0, 2**31)
few = settings(max_examples=40, deadline=None)


@few
@given(st.integers(3, 6), seeds)
def test_t1_errors_by_all_triplets_are_the_closed_form_in_the_distance_to_the_centroid(
    m: int, seed: int
) -> None:
    z = np.random.default_rng(seed).normal(size=(7, m, 4))
    squared = ((z[:, :, None] - z[:, None]) ** 2).sum(axis=3).mean(axis=0)
    np.testing.assert_allclose(errors(distances(z)), triplets(squared), atol=1e-9)


@few
@given(st.integers(3, 6), seeds)
def test_t2_for_rows_of_length_one_the_nearest_to_the_centroid_is_cosine_mbr_s(m: int, seed: int) -> None:
    z = np.random.default_rng(seed).normal(size=(m, 4))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    assert (
        distances(z[None]).argmin() == mean_of_others(cosines(z)).argmax() == cosines(z).sum(axis=1).argmax()
    )


@few
@given(st.integers(2, 6), st.integers(2, 4), st.floats(0.6, 0.95), seeds)
def test_t3_votes_of_equal_accuracies_are_plurality(m: int, k: int, x: float, seed: int) -> None:
    said = [str(c) for c in np.random.default_rng(seed).integers(0, k, m)]
    np.testing.assert_allclose(
        shares(said, log_odds(np.full(m, x), k)).p, shares(said, np.ones(m)).p, atol=1e-12
    )


# --- T4: peer review, weighted, is Dawid–Skene ---------------------------------------------------------


class Panel:
    """Judges by name who give answer i of question q the level that they hold it for, more or less at each place."""

    def __init__(self, seed: int, n_questions: int, n_answers: int, n_judges: int, levels: int) -> None:
        rng = np.random.default_rng(seed)
        self.levels = levels
        self.judges = [f"judge{j}" for j in range(n_judges)]
        worth = rng.integers(1, levels + 1, (n_questions, n_answers))
        error = rng.integers(-1, 2, (n_judges, n_questions, n_answers))
        self.held = worth + error  # (j, q, n)
        self.bias = rng.integers(-1, 2, (n_judges, 3))  # by place
        self.texts = [[f"reply-{q}-{i}" for i in range(n_answers)] for q in range(n_questions)]

    def level(self, judge: int, q: int, i: int, place: int) -> int:
        return int(np.clip(self.held[judge, q, i] + self.bias[judge, place], 1, self.levels))

    def __call__(self, ask: Ask) -> Any:
        if ask.purpose != "judgement":
            q = int(ask.args["query"].text.split()[-1])
            return [Completion(member=ask.to.name, text=self.texts[q][int(ask.to.name[1:])])]
        judge = self.judges.index(ask.to.name)
        shown = re.findall(r"reply-(\d+)-(\d+)", ask.args["query"].text)
        said = {
            str(place + 1): self.level(judge, int(q), int(i), place) for place, (q, i) in enumerate(shown)
        }
        return [Completion(member=ask.to.name, text=str(said).replace("'", '"'))]

    def floored(self) -> Floats:
        """(q, n, j) ⌊mean level⌋: in flipped triples each answer is equally often at each of the three places."""
        places = np.clip(self.held[..., None] + self.bias[:, None, None], 1, self.levels)  # (j, q, n, 3)
        found: Floats = np.floor(places.mean(axis=3) + 1e-9).transpose(1, 2, 0)
        return found


def as_the_paper_states_it(labels: Floats, levels: int, rounds: int) -> Floats:
    """(n, k) T of labels (n, j) from 1, loop by loop: T from vote shares; π^j_kl = Σ T_k 1[l] / Σ T_k; T_k ∝ Π_j π."""
    n, m = labels.shape
    t = np.array([[np.mean(row == k) for k in range(1, levels + 1)] for row in labels])
    for _ in range(rounds):
        pi = np.zeros((m, levels, levels))
        for j in range(m):
            for k in range(levels):
                for i in range(n):
                    pi[j, k, int(labels[i, j]) - 1] += t[i, k]
                pi[j, k] = np.maximum(pi[j, k], 1e-10)  # of a level that no answer has, nothing is known
                pi[j, k] /= pi[j, k].sum()
        for i in range(n):
            product = np.ones(levels)
            for j in range(m):
                product = product * np.maximum(
                    pi[j, :, int(labels[i, j]) - 1], 1e-10
                )  # nothing is impossible
            t[i] = product / product.sum()
    return t


@settings(max_examples=12, deadline=None)
@given(st.integers(3, 4), st.integers(2, 4), st.sampled_from([3, 5]), seeds)
def test_t4_weighted_peer_review_is_dawid_skene_on_floored_levels(
    n_answers: int, n_judges: int, levels: int, seed: int
) -> None:
    n_questions = 7
    panel = Panel(seed, n_questions, n_answers, n_judges, levels)
    members = tuple(seat(f"m{i}") for i in range(n_answers))
    pool = SeatPool(members, {"judge": tuple(seat(name) for name in panel.judges)})
    review = LlmPeerReview(aggregate="weighted", scoring="triple", levels=levels, labels="floor")
    rng = np.random.default_rng(seed)
    rows = [
        {"query_id": f"q{q}", "query": f"Question {q}", "model": f"m{i}", "response": panel.texts[q][i]}
        for q in range(n_questions)
        for i in range(n_answers)
    ]
    state, _ = drive(review.fit(Table.of(rows), pool.roles, rng), panel)

    labels = Labels.of(panel.floored().reshape(-1, n_judges) - 1, levels)
    t, workers = dawid_skene(labels, prior="uniform", smoothing=0.0, rounds=ROUNDS)
    np.testing.assert_allclose(state.matrix, workers.matrix, atol=1e-12)
    expected = (t @ np.arange(1.0, levels + 1)).reshape(n_questions, n_answers)
    for q in range(n_questions):
        verdict, _ = drive(review.plan(Query.of(f"Question {q}"), pool, state, rng), panel)
        assert verdict.chosen is not None and verdict.confidence is not None
        assert expected[q, verdict.chosen] > expected[q].max() - 1e-6  # a tie is drawn
        np.testing.assert_allclose(verdict.confidence, (expected[q].max() - 1) / (levels - 1), atol=1e-9)
        above = expected[q] - 1
        if above.sum() > 1e-6:
            assert verdict.posterior is not None
            np.testing.assert_allclose(verdict.posterior.p, above / above.sum(), atol=1e-9)


@settings(max_examples=12, deadline=None)
@given(st.integers(2, 4), st.sampled_from([3, 5]), seeds)
def test_t4_dawid_skene_without_a_prior_is_the_em_that_the_paper_states(
    n_judges: int, levels: int, seed: int
) -> None:
    floored = Panel(seed, 7, 4, n_judges, levels).floored().reshape(-1, n_judges)
    ours, _ = dawid_skene(
        Labels.of(floored - 1, levels), prior="uniform", smoothing=0.0, rounds=ROUNDS, tolerance=0.0
    )
    np.testing.assert_allclose(ours, as_the_paper_states_it(floored, levels, ROUNDS), atol=1e-8)


# --- T5: Borda without power is plurality --------------------------------------------------------------


@few
@given(st.integers(1, 9), st.integers(1, 4), seeds)
def test_t5_borda_votes_of_power_0_are_plurality(n: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    said = [str(c) for c in rng.integers(0, k, n)]
    scores = np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n).round(1))  # unknown ones and ties, too
    np.testing.assert_array_equal(borda(scores, 0.0), np.ones(n))
    np.testing.assert_allclose(shares(said, borda(scores, 0.0)).p, shares(said, np.ones(n)).p, atol=1e-12)


@few
@given(st.integers(2, 6), seeds)
def test_t5_self_certainty_of_power_0_has_the_posterior_of_a_vote(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)

    def said(number: int, p: float) -> Completion:
        top = ((b"x", float(np.log(p))), (b"y", float(np.log((1 - p) / 2))))
        return Completion(member="ada", text=f"It is {number}.", tokens=Tokens((b"x",), np.log([p]), (top,)))

    pool, asked = SeatPool((seat("ada"),)), Query.of("How many?")
    numbers, certain = rng.integers(0, 3, n), rng.uniform(0.4, 0.9, n)
    answers = [said(int(c), float(p)) for c, p in zip(numbers, certain, strict=True)]
    found, _ = drive(SelfCertainty(samples=n, power=0.0).plan(asked, pool, None, rng), {"ada": answers})
    voted, _ = drive(AgentForest(samples=n).plan(asked, pool, None, rng), {"ada": answers})
    assert found.posterior is not None and voted.posterior is not None
    assert found.chosen is not None and voted.chosen is not None
    assert found.posterior.classes == voted.posterior.classes
    np.testing.assert_allclose(found.posterior.p, voted.posterior.p, atol=1e-12)
    # which answer of the class is given differs: there the most certain one, here the first
    assert found.posterior.of[found.chosen] == voted.posterior.of[voted.chosen]


# --- T7, T8 --------------------------------------------------------------------------------------------


@few
@given(st.integers(2, 8), seeds)
def test_t7_agreement_is_closeness_to_the_centroid(m: int, seed: int) -> None:
    # s_i = (m⟨z_i, c⟩ − 1)/(m − 1) for rows of length one
    z = np.random.default_rng(seed).normal(size=(m, 5))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    agree = mean_similarity(cosines(z))
    np.testing.assert_allclose(agree, (m * z @ z.mean(axis=0) - 1) / (m - 1), atol=1e-12)
    if m > 2:  # two agree equally with one another
        assert agree.argmax() == distances(z[None]).argmin()


SEARCHES = ("ow-l", "glad")
"""Those that search for an optimum: where answers are noise there are several, and the order may decide which."""


@few
@given(seeds)
def test_t8_the_order_of_voters_moves_no_posterior(seed: int) -> None:
    rng = np.random.default_rng(seed)
    answers, turned = rng.integers(0, 3, (8, 4)), rng.permutation(4)
    for name in [name for name in OF_ANSWERS if name not in SEARCHES]:
        before, after = OF_ANSWERS[name](answers, 3), OF_ANSWERS[name](answers[:, turned], 3)
        np.testing.assert_allclose(after, before, atol=1e-8, err_msg=name)


@settings(max_examples=12, deadline=None)
@given(seeds)
def test_t8_nor_that_of_those_who_search_where_voters_know_something(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, x, turned = rng.integers(0, 3, 40), rng.uniform(0.6, 0.9, 4), rng.permutation(4)
    wrong = (truth[:, None] + rng.integers(1, 3, (40, 4))) % 3
    answers = np.where(rng.random((40, 4)) < x, truth[:, None], wrong)

    def glad_to_the_end(answers: Answers) -> Floats:
        labels = Labels.of(answers.astype(float), 3)
        return glad(labels, rounds=300, tolerance=1e-9, steps=500, settled=1e-15)[0]

    np.testing.assert_allclose(glad_to_the_end(answers[:, turned]), glad_to_the_end(answers), atol=1e-5)
    from_agreement = OF_ANSWERS["ow-l"]
    np.testing.assert_allclose(from_agreement(answers[:, turned], 3), from_agreement(answers, 3), atol=1e-5)
