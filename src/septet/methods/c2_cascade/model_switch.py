"""ModelSwitch: sample the strongest member first, and switch to the next as long as the samples disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from septet.core.caps import Caps, PoolRule
from septet.core.errors import BadParameter
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Card, Rng, Seat, SeatPool, method, param
from septet.core.money import Load
from septet.core.table import Table
from septet.core.types import Floats, Query
from septet.methods.c2_cascade._family import Cascade, Run, Stop, Tried, comparison
from septet.methods.c2_cascade._outcomes import Cell, cells_of
from septet.methods.c2_cascade._sampled import Sample, nobody, samples_of, voted
from septet.parts.answers.vote import VOID, outcome
from septet.parts.deferral.consistency import agreed, inner_weight

CARD = Card(
    paper="2504.00762",
    title="Do We Truly Need So Many Samples? Multi-LLM Repeated Sampling Efficiently Scales Test-Time Compute",
    facets=Facets(
        family=Family.CASCADE,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.COST,
        supervised=False,
        efficiency_aware=True,
    ),
    pool=PoolRule(at_least=2, order="strong-weak"),
    permutes=False,
    differs=(
        "the weights are those of the released analysis script; that the paper's are the same could not be verified",
        "the released main script takes a plain plurality (vote = plurality has it)",
        "external weights are 1 before a fit; a fit tries the integers 1 to 4 on labelled questions beforehand, member"
        " by member, where the released code searches all combinations on the questions that it reports",
        "answers that were cut off or could not be read count as disagreement, and not in the vote",
        "members are asked in the pool's order, which is taken to be strongest first and never sorted",
    ),
)

MOST = 4
"""External weights are integers from 1 to this."""


@dataclass(frozen=True)
class Trust:
    """External weights `beta` (n_members,)."""

    beta: Floats


@method(CARD)
class ModelSwitch(Cascade):
    """Switching on inconsistency (2504.00762, algorithm 1).

    Member m gives n_m samples; if the share of its most frequent answer is ≥ threshold it is the last one asked.
    score(a) = Σ_m W_β(m)·W_α(m)·count_m(a), W_α = b + (1 − b)·(1 − H_m/log₂ D_m), b = 1/n_m, H_m the entropy in
    bits of m's answers and D_m the number of distinct ones. The largest score wins; ties → the earliest answer.
    Cost: between n and n·n_members samples. Fails where a member makes the same mistake every time.

    >>> from numpy.random import default_rng
    >>> from septet.testing.scripted import drive, seat
    >>> pool = SeatPool((seat("one"), seat("two")))
    >>> said = {"one": ["7", "7", "7", "5", "7"], "two": ["5"] * 5}  # 7: 4·.4225, 5: .4225 + 5·1
    >>> verdict, _ = drive(ModelSwitch(samples=5).plan(Query.of("?"), pool, None, default_rng(0)), said)
    >>> verdict.chosen, verdict.reason
    (3, "agreement 0.80 < 1.00 of one, so two was asked; 1.00 ≥ 1.00 of two; '5' has the largest weight")
    """

    samples: Annotated[int, param("Answers of each member that is asked.", ge=1, le=100)] = 5
    temperature: Annotated[float, param("Temperature of the samples.", ge=0, le=2)] = 1.0
    threshold: Annotated[float, param("Share of equal answers that ends the search.", gt=0, le=1)] = 1.0
    vote: Annotated[
        Literal["weighted", "plurality"],
        param("weighted: by consistency and external weights; plurality: every answer counts 1."),
    ] = "weighted"

    state_type = Trust

    def needs(self) -> Caps:
        return Caps(text=True, samples=self.samples > 1)

    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        """All samples of all members; an ensemble gives its samples one by one."""
        n = self.samples
        return {m.name: Load(n, n, n * (query.max_tokens or 0)) for m in pool.members}

    # --- external weights -------------------------------------------------------------------------

    def begin(self, members: Sequence[str]) -> Trust:
        """All 1."""
        return Trust(np.ones(len(members)))

    def fit(self, table: Table, roles: Mapping[str, tuple[Seat, ...]], rng: Rng) -> Trust:
        """The integers with the best mean score of the answer that wins, switching as when serving.

        Members are gone through in order, each at its best weight given the others', until nothing changes; of
        equals the smaller weight.
        """
        asked = [a for row in cells_of(table) if (a := self._asked(row))]
        if not asked or np.isnan(table.score).all():
            raise BadParameter("table", len(table), "must hold answers with a score")
        m = len(table.members)
        n_classes = max(len(score) for _, score in asked)
        support, score = np.zeros((len(asked), n_classes, m)), np.zeros((len(asked), n_classes))
        for i, (of_class, scores) in enumerate(asked):
            support[i, : len(scores)], score[i, : len(scores)] = of_class, scores

        def quality(beta: Floats) -> float:
            votes = support @ beta  # (q, n_classes)
            won = (votes >= votes.max(axis=1, keepdims=True) - 1e-9).argmax(axis=1)
            return float(score[np.arange(len(score)), won].mean())

        beta, best = np.ones(m), -np.inf
        while (now := quality(beta)) > best + 1e-12:
            best = now
            for i in range(m):
                tried = [quality(np.where(np.arange(m) == i, w, beta)) for w in range(1, MOST + 1)]
                beta[i] = 1 + int(np.argmax(np.round(tried, 12)))
        return Trust(beta)

    def _asked(self, row: Sequence[Cell]) -> tuple[Floats, Floats] | None:
        """Of one question: weight per answer and member (c, m), β being 1, and the answers' scores (c,)."""
        parts: list[tuple[int, str, float, float]] = []
        for i, cell in enumerate(row):
            whole = [(o, s) for o, s in zip(cell.outcomes, cell.scores, strict=True) if o not in VOID]
            alpha = self._alpha([o for o, _ in whole]) if whole else 0.0
            parts += [(i, o, s, alpha) for o, s in whole]
            if cell.outcomes and agreed(cell.outcomes, VOID).share >= self.threshold:
                break
        if not parts:
            return None
        classes = list(dict.fromkeys(o for _, o, _, _ in parts))
        support, scores = np.zeros((len(classes), len(row))), [list[float]() for _ in classes]
        for i, o, s, alpha in parts:
            support[classes.index(o), i] += alpha
            scores[classes.index(o)].append(s)
        means = [np.nanmean(s) if not np.isnan(s).all() else 0.0 for s in scores]
        return support, np.array(means)

    def _alpha(self, outcomes: Sequence[str]) -> float:
        return inner_weight(outcomes) if self.vote == "weighted" else 1.0

    # --- the decision -----------------------------------------------------------------------------

    def confidence(self, query: Query, so_far: Sequence[Tried], pool: SeatPool, state: Trust) -> float:
        """The share of the most frequent answer among all samples of the last member."""
        return agreed([outcome(c) for c in so_far[-1].samples], VOID).share

    def next_step(
        self, query: Query, so_far: Sequence[Tried], pool: SeatPool, state: Trust | None, rng: Rng
    ) -> Stop | Run:
        sure = bool(so_far) and so_far[-1].completion is not None and so_far[-1].confidence >= self.threshold
        if not sure and len(so_far) < len(pool.members):
            return Run(len(so_far), samples=self.samples, temperature=self.temperature)
        samples = samples_of(so_far)
        if not samples:
            raise nobody(so_far, pool)
        beta = np.ones(len(pool.members)) if state is None or self.vote == "plurality" else state.beta
        parts = []
        for i, tried in enumerate(so_far):
            following = f", so {pool.names[so_far[i + 1].member]} was asked" if i + 1 < len(so_far) else ""
            if tried.completion is None:
                parts.append(f"{pool.names[tried.member]} failed{following}")
            else:
                said = "" if parts else "agreement "
                compared = comparison(tried.confidence, self.threshold)
                parts.append(f"{said}{compared} of {pool.names[tried.member]}{following}")
        ends = "{answer} has the largest weight" if self.vote == "weighted" else "{answer} is said most often"
        return voted(samples, self._weights(samples, so_far, beta), "; ".join([*parts, ends]))

    def _weights(self, samples: Sequence[Sample], so_far: Sequence[Tried], beta: Floats) -> list[float]:
        """W_β·W_α of each sample's member; 0 for one that could not be read."""
        alpha = []
        for i in range(len(so_far)):
            whole = [s.outcome for s in samples if s.index == i and s.outcome not in VOID]
            alpha.append(self._alpha(whole) if whole else 0.0)
        return [
            0.0 if s.outcome in VOID else alpha[s.index] * float(beta[so_far[s.index].member])
            for s in samples
        ]
