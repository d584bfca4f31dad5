"""OW and ISP: a vote in which members count by how often they are right, worked out from how often they agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from septet.core.caps import PoolRule
from septet.core.errors import BadParameter
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Card, Rng, Seat, SeatPool, method, param
from septet.core.table import Table
from septet.core.types import Completion, Floats, Posterior, Query, Verdict
from septet.methods.c1_noncascade._family import NonCascadeMethod
from septet.parts.answers.extract import final_answer
from septet.parts.answers.reliability import accuracies, agreement, log_odds
from septet.parts.answers.vote import VOID, outcome, shares, winner

CARD = Card(
    paper="2510.01499",
    title="Beyond Majority Voting: LLM Aggregation by Leveraging Higher-Order Information",
    facets=Facets(
        family=Family.NONCASCADE,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.PERFORMANCE,
        supervised=False,
    ),
    pool=PoolRule(at_least=2),
    trained=True,
    labels="none",
    differs=(
        "answers are classes of equal final answers; the paper's questions have K options, shuffled per query",
        "the averaging constants of ISP could not be verified: here the mean over ordered pairs of members, and over"
        " the K − 1 answers that the other one did not give",
        "P(A_i = s | A_j = t) is taken from pair agreement alone: s = t with their agreement, the rest split evenly",
        "OW-L is least squares on pair agreement; the paper's own objective could not be verified",
        "an answer that was cut off, or has no final answer, is no vote",
        "with two members agreement cannot tell them apart, so both count alike",
    ),
)


@dataclass(frozen=True)
class Votes:
    """What was learned of m members: `accuracy` (m,) and pair `agreement` (m, m), over `k` classes."""

    accuracy: Floats
    agreement: Floats
    k: int


@method(CARD)
class OwIsp(NonCascadeMethod):
    """Optimal weights and inverse surprising popularity (2510.01499).

    ow-l, ow-i: answer argmax_s Σ_i ω_i 1[a_i = s] with ω_i = log[(K−1) x_i / (1 − x_i)], which is Bayes-optimal for
    independent members whose errors are uniform; a member at chance or below has no weight. x (m,) fits pair agreement
    x_i x_j + (1−x_i)(1−x_j)/(K−1) by least squares (ow-l), or is each member's agreement with ISP's answers (ow-i).
    isp: argmax_s mean_i (1[a_i = s] − mean_{j≠i} mean_{t≠a_j} P(A_i = s | A_j = t)).
    Cost: one answer per member. Fails where members share mistakes: agreement is then taken for accuracy.

    >>> from septet.testing.scripted import drive, seat
    >>> pool = SeatPool((seat("ada"), seat("bob"), seat("cyd")))
    >>> state = Votes(np.array([.9, .6, .6]), np.ones((3, 3)), 2)
    >>> plan = OwIsp().plan(Query.of("Even or odd?"), pool, state, np.random.default_rng(0))
    >>> verdict, _ = drive(plan, {"ada": "even", "bob": "odd", "cyd": "odd"})
    >>> verdict.chosen, verdict.reason
    (0, "'even' has 2.20 of 3.01 weight: ada")
    """

    rule: Annotated[
        Literal["ow-l", "ow-i", "isp"],
        param("Weights by accuracies that fit agreement, by agreement with ISP's answers; or ISP itself."),
    ] = "ow-l"
    options: Annotated[
        int, param("K: how many answers there are to choose from; 0: the mean number seen in the fit.", ge=0)
    ] = 0

    state_type = Votes

    def fit(self, table: Table, roles: Mapping[str, tuple[Seat, ...]], rng: Rng) -> Votes:
        """Agreement of the recorded answers, whose scores are not read."""
        answers = _classes(table)
        if not len(answers):
            raise BadParameter(
                "table", len(table), "must hold questions that two members or more have answered"
            )
        agree = agreement(answers)
        k = self.options or max(2, round(float(np.mean(answers.max(axis=1) + 1))))
        if self.rule == "ow-i":
            chosen = np.array([int(advantage(row, agree, k).argmax()) for row in answers])
            right = np.where(answers >= 0, answers == chosen[:, None], np.nan)
            x: Floats = np.nan_to_num(np.nanmean(right, axis=0), nan=1 / k)
        else:
            x = accuracies(agree, k)
        return Votes(x, agree, k)

    def combine(
        self, query: Query, candidates: Sequence[Completion], pool: SeatPool, state: Votes, rng: Rng
    ) -> Verdict:
        outcomes = [outcome(c) for c in candidates]
        voting = [i for i, o in enumerate(outcomes) if o not in VOID]
        names = list(dict.fromkeys(outcomes[i] for i in voting))
        k = max(state.k, len(names), 2)
        members = np.array([pool.names.index(candidates[i].member) for i in voting], dtype=np.int64)
        if self.rule == "isp" and voting:
            said = np.array([names.index(outcomes[i]) for i in voting])
            adv = advantage(said, state.agreement[np.ix_(members, members)], k)[: len(names)]
            best = names[int(np.argmax(adv.round(12)))]
            posterior = _posterior(outcomes, names, np.exp(adv - adv.max()))
            return Verdict(
                chosen=outcomes.index(best),
                posterior=posterior,
                confidence=float(posterior.p[posterior.classes.index(best)]),
                reason=f"{best!r} is more popular than the members' answers foretell, by {adv.max():.2f}",
            )
        weights = np.zeros(len(candidates))
        worth = np.maximum(log_odds(state.accuracy[members], k), 0.0)
        weights[voting] = worth * [candidates[i].weight for i in voting]
        posterior = shares(outcomes, weights)
        place = winner(posterior)
        backing = [i for i, c in enumerate(posterior.of) if c == place]
        backers = ", ".join(dict.fromkeys(candidates[i].member for i in backing))
        share = f"{weights[backing].sum():.2f} of {weights.sum():.2f}"
        return Verdict(
            chosen=backing[0],
            posterior=posterior,
            weights=weights,
            confidence=float(posterior.p[place]),
            reason=f"{posterior.classes[place]!r} has {share} weight: {backers}",
        )


def _posterior(outcomes: Sequence[str], names: Sequence[str], p: Floats) -> Posterior:
    """Classes of votes with p (c,) scaled to sum to one; what is no vote has a class without any."""
    void = [o for o in dict.fromkeys(outcomes) if o not in names]
    classes = (*names, *void)
    full = np.concatenate([p, np.zeros(len(void))])
    return Posterior(classes=classes, p=full / full.sum(), of=tuple(classes.index(o) for o in outcomes))


def advantage(said: NDArray[np.int64], agree: Floats, k: int) -> Floats:
    """(k,) ISP's advantage of each class: its share less what the members' answers foretell of each other.

    `said` (m,) the class of each member, −1: none; `agree` (m, m).

    >>> advantage(np.array([0, 0, 1]), np.full((3, 3), .6), 2).round(4).tolist()
    [0.2, -0.2]
    """
    voting = np.flatnonzero(said >= 0)
    found = np.zeros(k)
    for i in voting:
        found[said[i]] += 1 / len(voting)
        others = [j for j in voting if j != i]
        for j in others:
            a = 0.5 if np.isnan(agree[i, j]) else agree[i, j]
            told = np.zeros(k)
            for t in range(k):
                if t != said[j]:
                    told += np.where(np.arange(k) == t, a, (1 - a) / max(k - 1, 1)) / max(k - 1, 1)
            found -= told / (len(others) * len(voting))
    return found


def _classes(table: Table) -> NDArray[np.int64]:
    """(q, m) the class of each member's first answer within its question, −1 where there is none."""
    found = np.full((len(table.queries), len(table.members)), -1, dtype=np.int64)
    names: list[dict[str, int]] = [{} for _ in table.queries]
    for q, m, answer, text in zip(
        table.query.tolist(), table.member.tolist(), table.answer, table.text, strict=True
    ):
        if found[q, m] >= 0:
            continue
        said = answer if isinstance(answer, str) and answer else final_answer(str(text)) if text else None
        if said is not None:
            found[q, m] = names[q].setdefault(said, len(names[q]))
    kept: NDArray[np.int64] = found[(found >= 0).sum(axis=1) >= 2]
    return kept
