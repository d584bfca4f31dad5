"""MoRE: several specialised experts answer, a random forest says how likely each is right, and none may be enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from septet.core.caps import PoolRule
from septet.core.errors import BadParameter
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Card, Rng, Seat, SeatPool, method, param
from septet.core.table import Table
from septet.core.types import Completion, Floats, Query, Verdict
from septet.methods.c1_noncascade._family import NonCascadeMethod
from septet.parts.answers.certainty import mean_logp
from septet.parts.answers.experts import Said, features
from septet.parts.answers.extract import canonical, final_answer
from septet.parts.answers.forest import Forest, fit_forest
from septet.parts.answers.vote import VOID, outcome, shares

CARD = Card(
    paper="2305.14628",
    title="Getting MoRE out of Mixture of Language Model Reasoning Experts",
    facets=Facets(
        family=Family.NONCASCADE,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.PERFORMANCE,
        supervised=True,
    ),
    pool=PoolRule(at_least=2),
    trained=True,
    differs=(
        "the experts are the members, each with a prompt of its own (`like` and `prompt` in the configuration); the"
        " paper's are one Codex model with four prompts",
        "members have no retrieval of their own, so the features of retrieved passages and generated knowledge are left"
        " out; the text around an answer stands for the rationale",
        "the share of experts that gave the same answer is added, since one may be missing",
        "the forest's size and depth could not be verified: 100 trees and scikit-learn's defaults, two rows at a leaf",
        "a score of at least .5 counts as right",
        "ties of the score go to the answer that more experts gave, then to the first expert by name",
    ),
)


@dataclass(frozen=True)
class Trusted:
    """What was learned: the forest, and the experts that its features are about, by name."""

    forest: Forest
    experts: tuple[str, ...]


@method(CARD)
class More(NonCascadeMethod):
    """Mixture of reasoning experts (2305.14628, section 4).

    g(features(q, a_i; a_1 … a_n)) ∈ [0, 1], a random forest's share of trees' votes, is the probability that expert i
    is right; argmax_i g is given, and nothing where max g < abstain_below. Features (n, 2n + 19): who, the question's
    words and kind, the answer's length, numbers and probability, and how far the experts agree.
    Cost: n answers. Fails where all experts share a mistake, and on questions unlike those of the fit.

    >>> from septet.testing.scripted import drive, seat
    >>> int32 = lambda *a: np.array(a, np.int32)
    >>> same = 19  # for two experts the feature: how many gave this answer
    >>> forest = Forest(int32(0), int32(same, -1, -1), np.array([1.5, 0, 0]), int32(1, 1, 2), int32(2, 1, 2),
    ...     np.array([.5, .2, .9]))
    >>> pool = SeatPool((seat("facts"), seat("maths")))
    >>> method, state = More(abstain_below=.5), Trusted(forest, ("facts", "maths"))
    >>> def asked(said):
    ...     plan = method.plan(Query.of("Capital?"), pool, state, np.random.default_rng(0))
    ...     return drive(plan, said)[0]
    >>> asked({"facts": "Paris", "maths": "It is paris."}).reason
    'facts is right with probability 0.20, less than 0.50: no answer is trusted'
    >>> asked({"facts": "Paris", "maths": "The answer is Paris."}).reason
    'facts is right with probability 0.90, the highest of 2'
    """

    abstain_below: Annotated[
        float,
        param(
            "No answer where no expert is right with at least this probability; 0: always one.", ge=0, le=1
        ),
    ] = 0.0
    agree: Annotated[bool, param("Whether the features compare the experts' answers.")] = True
    read_logp: Annotated[
        bool, param("Whether the answers' probabilities are read; all members must offer them.")
    ] = False
    trees: Annotated[int, param("Trees of the forest.", ge=1, le=2000)] = 100
    least: Annotated[int, param("Rows at a leaf, at least.", ge=1, le=1000)] = 2

    state_type = Trusted

    @property
    def logprobs(self) -> int:  # type: ignore[override]
        """One alternative per token, where the answers' probabilities are read."""
        return int(self.read_logp)

    def fit(self, table: Table, roles: Mapping[str, tuple[Seat, ...]], rng: Rng) -> Trusted:
        """The forest, from each expert's first answer to each question and its score."""
        experts = tuple(sorted(table.members))
        place = [experts.index(m) for m in table.members]
        said: list[list[Said | None]] = [[None] * len(experts) for _ in table.queries]
        score = np.full((len(table.queries), len(experts)), np.nan)
        for r in np.lexsort((table.sample, table.member, table.query)).tolist():
            q, i = int(table.query[r]), place[int(table.member[r])]
            one = self._recorded(table.text[r], table.answer[r], float(table.logp[r]))
            if one is not None and said[q][i] is None:
                said[q][i], score[q, i] = one, table.score[r]
        rows = [features(t, s, agree=self.agree) for t, s in zip(table.questions, said, strict=True)]
        known = ~np.isnan(score)
        if not known.any():
            raise BadParameter("table", len(table), "must hold answers with their scores")
        x: Floats = np.concatenate([row[k] for row, k in zip(rows, known, strict=True)])
        return Trusted(fit_forest(x, score[known] >= 0.5, rng, trees=self.trees, least=self.least), experts)

    def _recorded(self, text: object, answer: object, logp: float) -> Said | None:
        """A row of a table; None where it says nothing."""
        whole = str(text or "")
        short = final_answer(whole) if whole else canonical(str(answer or ""))
        return Said(short, whole, float(np.exp(logp)) if self.read_logp else float("nan")) if short else None

    def _said(self, candidate: Completion) -> Said | None:
        if outcome(candidate) in VOID:
            return None
        logp = mean_logp(candidate.tokens) if self.read_logp else float("nan")
        return Said(final_answer(candidate.text) or "", candidate.text, float(np.exp(logp)))

    def trust(self, question: str, said: Sequence[Said | None], state: Trusted) -> Floats:
        """(n,) the probability that each expert, in the order of the state, is right; NaN where it said nothing."""
        rows = features(question, said, agree=self.agree)
        silent = np.array([s is None for s in said])
        found: Floats = np.where(silent, np.nan, state.forest.p_positive(rows))
        return found

    def combine(
        self, query: Query, candidates: Sequence[Completion], pool: SeatPool, state: Trusted, rng: Rng
    ) -> Verdict:
        given = {c.member: self._said(c) for c in candidates}
        said = [given.get(name) for name in state.experts]
        if not any(said):
            return Verdict(chosen=0, reason="no answer is whole, so the first is taken")
        trust = dict(zip(state.experts, self.trust(query.text, said, state), strict=True))
        p = np.nan_to_num(np.array([trust[c.member] for c in candidates]), nan=-1.0)
        outcomes = [outcome(c) for c in candidates]
        order = sorted(
            range(len(candidates)),
            key=lambda i: (-p[i].round(12), -outcomes.count(outcomes[i]), candidates[i].member),
        )
        best = order[0]
        held = f"{candidates[best].member} is right with probability {p[best]:.2f}"
        posterior = shares(outcomes, np.maximum(p, 0.0))
        if p[best] < self.abstain_below:
            reason = f"{held}, less than {self.abstain_below:.2f}: no answer is trusted"
            return Verdict(abstained=True, posterior=posterior, confidence=float(p[best]), reason=reason)
        return Verdict(
            chosen=best,
            posterior=posterior,
            weights=np.maximum(p, 0.0),
            confidence=float(p[best]),
            reason=f"{held}, the highest of {len(candidates)}",
        )
