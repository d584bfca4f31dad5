"""Whether an aggregator is moved by a voter that only repeats another: identity T9, measured on small fixed cases.

Every aggregator stands here as a function of *who votes*: the places of the voters of a fixed case, of which one may
stand twice. What a whole method makes of a member that is there twice is measured in `repeats`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from septet.core.types import Floats
from septet.methods.c1_noncascade.ow_isp import advantage
from septet.parts.answers.aggregate import borda, pooled
from septet.parts.answers.centroid import distances, truth
from septet.parts.answers.crowd import Labels, dawid_skene, glad, mace, one_coin
from septet.parts.answers.ranking import bradley_terry, max_logits, max_wins
from septet.parts.answers.relations import classes
from septet.parts.answers.reliability import (
    accuracies,
    agreement,
    effective_votes,
    entropy_weights,
    log_odds,
    powers,
)
from septet.parts.answers.similarity import mean_of_others
from septet.parts.answers.vote import shares

Answers = NDArray[np.int64]
"""(n, m): the class, from 0, that each of m voters gives to each of n questions."""

Aggregate = Callable[[Answers, int], Floats]
"""Answers (n, m) among k classes → the posterior over the classes of each question (n, k)."""

Trial = Callable[[Sequence[int]], Floats]
"""Places of voters → the posterior that they come to, of the same shape however often a place stands there."""

TOLERANCE = 1e-6


@dataclass(frozen=True)
class Aggregator:
    """An aggregator on its cases: `repeated` says who is there twice; a case has so many voters and its trial."""

    repeated: str
    cases: tuple[tuple[int, Trial], ...]


def duplicate_safe(aggregator: Aggregator) -> bool:
    """Whether no posterior of any case changes by more than `TOLERANCE` when any one voter is there twice.

    >>> duplicate_safe(AGGREGATORS["plurality"])
    False
    """
    for n_voters, posterior in aggregator.cases:
        everyone = list(range(n_voters))
        before = posterior(everyone)
        for voter in everyone:
            if np.abs(posterior([*everyone, voter]) - before).max() > TOLERANCE:
                return False
    return True


# --- answers alone -------------------------------------------------------------------------------------

CASES: tuple[tuple[Answers, int], ...] = (
    (np.array([[0, 0, 1], [0, 1, 1], [1, 0, 0], [2, 2, 0], [0, 1, 2], [1, 1, 1]]), 3),
    (np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1], [0, 0, 1], [1, 0, 1]]), 2),
    (np.array([[0, 1, 1, 0], [1, 1, 0, 1], [0, 0, 0, 1], [1, 0, 1, 1], [0, 1, 0, 0]]), 2),
)
"""Voters that differ, one that contradicts the others, and ties."""

ACCURACY = np.array([0.8, 0.6, 0.7, 0.55])
"""What is known of the voters of `CASES` where accuracies are given."""


def on_answers(aggregate: Aggregate) -> Aggregator:
    """An aggregator that needs nothing but the answers, on `CASES`."""

    def trial(answers: Answers, k: int) -> Trial:
        return lambda places: aggregate(answers[:, list(places)], k)

    return Aggregator("voter", tuple((answers.shape[1], trial(answers, k)) for answers, k in CASES))


def with_accuracies(weigh: Callable[[Floats, int], Floats]) -> Aggregator:
    """A vote with weights (m,) from the voters' accuracies and the number of classes, on `CASES`."""

    def trial(answers: Answers, k: int) -> Trial:
        return lambda places: _weighed(answers[:, list(places)], k, weigh(ACCURACY[list(places)], k))

    return Aggregator("voter", tuple((answers.shape[1], trial(answers, k)) for answers, k in CASES))


def plurality(answers: Answers, k: int) -> Floats:
    """Each class's share of the voters."""
    return _weighed(answers, k, np.ones(answers.shape[1]))


def from_agreement(answers: Answers, k: int) -> Floats:
    """OW-L: log-odds of the accuracies that the agreement of pairs fits best."""
    return _weighed(answers, k, np.maximum(log_odds(accuracies(agreement(answers), k), k), 0.0))


def surprising(answers: Answers, k: int) -> Floats:
    """ISP: exp of how much more popular each class is than the others' answers foretell, scaled."""
    agree = agreement(answers)
    return np.array([_scaled(np.exp(advantage(row, agree, k))) for row in answers])


def worth(answers: Answers, k: int) -> Floats:
    """MBR with equality as utility: a class has the worth of its answers, each as it is supported by the others."""
    return np.array([_by_class(row, k, mean_of_others((row[:, None] == row) * 1.0)) for row in answers])


def nearness(answers: Answers, k: int) -> Floats:
    """Smoothie, local: closeness 1 − r to the centroid of each question's answers, one axis for a class."""
    z = np.eye(k)[answers]
    away = np.array([distances(one[None]) for one in z])
    return np.array([_by_class(row, k, np.maximum(1 - r, 0.0)) for row, r in zip(answers, away, strict=True)])


def nearness_of_all(answers: Answers, k: int) -> Floats:
    """Smoothie, global: closeness 1 − r to the centroid, the mean over all questions."""
    return _weighed(answers, k, np.maximum(1 - distances(np.eye(k)[answers]), 0.0))


def hidden(answers: Answers, k: int) -> Floats:
    """RASA: the hidden embedding of each question, one axis for a class, hence a vote with RASA's weights."""
    return truth(np.eye(k)[answers])[0]


def effective(answers: Answers, k: int) -> Floats:
    """Log-odds of equal accuracies .7, scaled by n_eff/n: ρ̄ is the mean correlation of who says what.

    p_c ∝ exp(n_eff/n · Σ_i ω 1[a_i = c]); a ρ̄ below 0 counts as 0, and one voter is one vote.
    """
    n_voters = answers.shape[1]
    said = np.eye(k)[answers].transpose(1, 0, 2).reshape(n_voters, -1)
    said = said - said.mean(axis=1, keepdims=True)
    said /= np.linalg.norm(said, axis=1, keepdims=True)
    pairs = (said @ said.T)[np.triu_indices(n_voters, 1)]
    scale = effective_votes(n_voters, max(float(pairs.mean()), 0.0)) / n_voters
    omega = float(log_odds(np.array([0.7]), k)[0])
    counts = np.eye(k)[answers].sum(axis=1)
    return np.array([_scaled(np.exp(scale * omega * row)) for row in counts])


OF_ANSWERS: Mapping[str, Aggregate] = {
    "plurality": plurality,
    "ow-l": from_agreement,
    "isp": surprising,
    "mbr": worth,
    "smoothie, local": nearness,
    "smoothie, global": nearness_of_all,
    "rasa": hidden,
    "n-eff": effective,
    "dawid-skene": lambda answers, k: dawid_skene(Labels.of(answers.astype(float), k))[0],
    "one-coin": lambda answers, k: one_coin(Labels.of(answers.astype(float), k))[0],
    "glad": lambda answers, k: glad(Labels.of(answers.astype(float), k))[0],
    "mace": lambda answers, k: mace(Labels.of(answers.astype(float), k))[0],
}
"""Those that need nothing but the answers."""


# --- certainties and distributions ---------------------------------------------------------------------

SAID, CERTAIN = np.array([0, 1, 0, 1, 2]), np.array([0.5, 0.9, 0.6, 0.8, 0.1])
"""The class of each of five samples, and how certain the model was of it."""

LIKE = np.array([[1, 0.9, 0.2, 0.1], [0.9, 1, 0.3, 0.1], [0.2, 0.3, 1, 0.8], [0.1, 0.1, 0.8, 1]])
"""(n, n) how much four samples entail one another; the first two mean the same, and the last two."""

LIKELY = np.array([0.5, 0.2, 0.4, 0.6])
"""The likelihood per token of these four."""

DISTRIBUTIONS = np.array([[0.8, 0.2, 0.0], [0.3, 0.3, 0.4], [0.1, 0.6, 0.3]])
"""(m, c) what three members believe of one question."""


def by_certainty(places: Sequence[int]) -> Floats:
    """Self-certainty's Borda votes of power ½."""
    at = list(places)
    return _by_class(SAID[at], 3, borda(CERTAIN[at], 0.5))


def by_meaning(places: Sequence[int]) -> Floats:
    """Semantic entropy's classes, by likelihood, as the shares of the two meanings."""
    at = list(places)
    of = np.array(classes(LIKE[np.ix_(at, at)]))
    mass = np.bincount(of, weights=LIKELY[at])
    # a class is found again by whom it holds, since numbers go by who is seen first
    found: Floats = np.array([mass[of[at.index(0)]], mass[of[at.index(2)]]])
    return _scaled(found)


def by_entropy(places: Sequence[int]) -> Floats:
    """SCoOP: the mean of the distributions, weighted by 1/entropy."""
    p = DISTRIBUTIONS[list(places)]
    return pooled(p, entropy_weights(p), "linear")


def in_pool(kind: Literal["linear", "log"]) -> Trial:
    """All members of one weight."""

    def found(places: Sequence[int]) -> Floats:
        p = DISTRIBUTIONS[list(places)]
        return pooled(p, np.full(len(p), 1 / len(p)), kind)

    return found


# --- judges and comparisons ----------------------------------------------------------------------------

LEVELS = np.array([[3, 2, 3], [1, 2, 2], [2, 3, 1], [1, 1, 2], [3, 3, 2], [2, 1, 1]], dtype=np.float64)
"""(6, 3) levels 1 to 3 by three judges, of three candidates each for two questions."""

BETTER = np.array(
    [
        [[0.5, 0.9, 0.6], [0.1, 0.5, 0.3], [0.4, 0.7, 0.5]],
        [[0.5, 0.6, 0.2], [0.4, 0.5, 0.4], [0.8, 0.6, 0.5]],
        [[0.5, 0.7, 0.8], [0.3, 0.5, 0.1], [0.2, 0.9, 0.5]],
    ]
)
"""(j, n, n) how probable it is to each of three judges that one of three candidates is better than another."""


def mean_level(levels: Floats) -> Floats:
    """(n,) LLM-PeerReview, average: the mean over judges of levels (n, j), from 0."""
    found: Floats = levels.mean(axis=1) - 1
    return found


def expected_level(levels: Floats) -> Floats:
    """(n,) LLM-PeerReview, weighted: Dawid–Skene's expected level, from 0."""
    p, _ = dawid_skene(Labels.of(levels - 1, 3), prior="uniform", smoothing=0.0)
    found: Floats = p @ np.arange(3.0)
    return found


def reviewed(value: Callable[[Floats], Floats]) -> tuple[Aggregator, Aggregator]:
    """A value (n,) of levels (n, j): once with a judge, once with a candidate of each question twice."""

    def by_judges(places: Sequence[int]) -> Floats:
        found = value(LEVELS[:, list(places)])
        return np.array([_scaled(found[:3]), _scaled(found[3:])])

    def of_candidates(places: Sequence[int]) -> Floats:
        at = np.array(places)
        found = value(LEVELS[np.concatenate([at, at + 3])])
        halves = np.split(found, 2)
        return np.array([_by_class(at, 3, half) for half in halves])

    return Aggregator("judge", ((3, by_judges),)), Aggregator("candidate", ((3, of_candidates),))


def compared(value: Callable[[Floats], Floats]) -> tuple[Aggregator, Aggregator]:
    """A value (n,) of comparisons (n, n), as shares by softmax: once with a judge, once with a candidate twice."""

    def by_judges(places: Sequence[int]) -> Floats:
        return _scaled(np.exp(value(BETTER[list(places)].sum(axis=0))))

    def of_candidates(places: Sequence[int]) -> Floats:
        at = np.array(places)
        return _by_class(at, 3, np.exp(value(BETTER.mean(axis=0)[np.ix_(at, at)])))

    return Aggregator("judge", ((3, by_judges),)), Aggregator("candidate", ((3, of_candidates),))


def _both(name: str, two: tuple[Aggregator, Aggregator]) -> dict[str, Aggregator]:
    return {f"{name}, {one.repeated}s": one for one in two}


AGGREGATORS: Mapping[str, Aggregator] = {
    **{name: on_answers(aggregate) for name, aggregate in OF_ANSWERS.items()},
    "ow, known accuracies": with_accuracies(lambda x, k: np.maximum(log_odds(x, k), 0.0)),
    "exp(γ·accuracy)": with_accuracies(lambda x, k: powers(x, 5.0)),
    "entropy-weighted": Aggregator("member", ((3, by_entropy),)),
    "linear pool": Aggregator("member", ((3, in_pool("linear")),)),
    "log pool": Aggregator("member", ((3, in_pool("log")),)),
    "self-certainty borda": Aggregator("sample", ((5, by_certainty),)),
    "semantic-entropy": Aggregator("sample", ((4, by_meaning),)),
    **_both("peer review, average", reviewed(mean_level)),
    **_both("peer review, weighted", reviewed(expected_level)),
    **_both("bradley-terry", compared(bradley_terry)),
    **_both("max-logits", compared(max_logits)),
    **_both("max-wins", compared(lambda better: max_wins(better, even=float(better[0, 0])))),
}
"""Every aggregator of `parts.answers` on its cases."""


def _weighed(answers: Answers, k: int, weights: Floats) -> Floats:
    return np.array([_by_class(row, k, weights) for row in answers])


def _scaled(values: Floats) -> Floats:
    """(k,) values that sum to one."""
    found: Floats = values / values.sum()
    return found


def _by_class(row: Answers, k: int, values: Floats) -> Floats:
    """(k,) shares of the classes in values (m,) of their voters."""
    posterior = shares([str(c) for c in row.tolist()], values)
    found = np.zeros(k)
    for name, p in zip(posterior.classes, posterior.p, strict=True):
        found[int(name)] = p
    return found
