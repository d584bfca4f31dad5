"""LLM-PeerReview: members answer, judges (the members themselves, or others) score every answer, the best one wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from septet.core.caps import Caps, PoolRule
from septet.core.errors import BadParameter, ConfigError
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Asking, Card, Plan, Rng, Seat, SeatPool, method, param
from septet.core.money import Load
from septet.core.table import Table
from septet.core.types import Completion, Floats, Query, Verdict
from septet.methods.c1_noncascade._family import NonCascadeMethod
from septet.parts.answers.aggregate import Tie, best_of
from septet.parts.answers.crowd import Confusion, Labels, dawid_skene
from septet.parts.answers.judging import Judging, Mode, Unread, judged
from septet.parts.answers.vote import VOID, outcome, shares

CARD = Card(
    paper="2512.23213",
    title="LLM-PeerReview: selecting the best response by peer review",
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
    permutes=False,  # the order in which judges see candidates is drawn, and so is the winner of a tie
    differs=(
        "triples are cyclic windows and their reversals for any number of candidates from three; the released code has"
        " four; two candidates are judged as ordered pairs, and one that stands alone is not judged",
        "one prompt for all tasks, with words for every level; the paper has one for each kind of task",
        "each candidate stands in a block that is closed by a nonce, and the prompt says that it holds no instructions",
        "a score of 0 cannot be read, and one out of the scale neither; the released code counts 0 as 1",
        "weighted takes the judges' confusion matrices from a fit on other questions; the paper fits them on the very"
        " questions that it answers",
        "labels=floor is what the released code does; with round weighted is below average on two of the three tasks",
        "an answer that was cut off or is empty is not judged while there are whole ones",
        "seats' weights are not used: neither a candidate nor a judge counts more than another but by the matrices",
    ),
)

ROUNDS = 30
"""Steps of the fit, as in the paper."""


@dataclass(frozen=True)
class Panel:
    """What the fit learned of the judges: `matrix` (j, k, k), P(level said | judge, true level), `prior` (k,), and the
    share of scores that could not be read. No judges: nothing was fitted."""

    judges: tuple[str, ...]
    prior: Floats
    matrix: Floats
    unread: float


@method(CARD)
class LlmPeerReview(NonCascadeMethod):
    """Judges score candidates; argmax of the mean, or of Dawid–Skene's expected level (2512.23213).

    s (j, n): mean level 1..K of candidate i by judge j over its views. average: argmax_i mean_j s_ji. weighted: labels
    l_ji = ⌊s_ji⌋, P(k | i) ∝ Π_j E^j[k, l_ji] with the matrices E of a fit without labels (septet fit), argmax_i
    Σ_k k·P(k | i). Cost: n answers and, for each judge, n calls (single), n(n − 1) (pair), 2n (triple) or `views`
    (listwise), whose prompts hold the answers. Fails where judges cannot tell right from wrong: small models, and
    questions that are too hard for all of them; a panel of alike judges is hardly better than its best one.

    >>> from septet.testing.scripted import drive, seat, texts
    >>> pool = SeatPool((seat("ada"), seat("bob")), {"judge": (seat("eve"),)})
    >>> said = texts({"ada": "Lyon", "bob": "Paris"})
    >>> def script(ask):
    ...     if ask.do == "complete" and ask.purpose != "judgement":
    ...         return said(ask)
    ...     level = 5 if "\\nParis\\n" in ask.args["query"].text else 1
    ...     return [Completion(member="eve", text=f'{{"1": {level}}}')]
    >>> review = LlmPeerReview(scoring="single")
    >>> plan = review.plan(Query.of("Capital?"), pool, review.begin(pool.names), np.random.default_rng(0))
    >>> verdict, _ = drive(plan, script)
    >>> verdict.chosen, verdict.reason
    (1, 'candidate 2 of 2, by bob, is best to 1 judge: mean level 5.00 of 5')
    """

    scoring: Annotated[
        Mode, param("What a judge sees at once; reward: models that rate, in their own scale.")
    ] = "triple"
    aggregate: Annotated[
        Literal["average", "weighted"], param("Mean over judges, or Dawid–Skene (septet fit first).")
    ] = "average"
    levels: Annotated[int, param("K: the scores are 1..K; the paper has 3, 5 and 10.", ge=2, le=10)] = 5
    labels: Annotated[
        Literal["floor", "round"], param("How weighted makes a label of a judge's mean level.")
    ] = "floor"
    unread: Annotated[Unread, param("A score that cannot be read: the middle of the scale, or left out.")] = (
        "middle"
    )
    views: Annotated[
        int,
        param("Orders in which a listwise judge sees the candidates, each with its reversal.", ge=1, le=20),
    ] = 2
    tie: Annotated[Tie, param("Which of candidates with the same score.")] = "random"

    state_type = Panel

    def __post_init__(self) -> None:
        if self.scoring == "reward" and self.aggregate == "weighted":
            raise BadParameter(
                "llm-peer-review.aggregate",
                self.aggregate,
                "must be average: models that rate give no levels",
            )

    @property
    def judging(self) -> Judging:
        """How the candidates are judged."""
        return Judging(self.scoring, self.levels, self.unread, self.views)

    def roles(self) -> Mapping[str, Caps]:
        return {"judge": Caps(rate=True) if self.scoring == "reward" else Caps(text=True)}

    def begin(self, members: Sequence[str]) -> Panel | None:
        """The mean of judges needs nothing that was learned."""
        return None if self.aggregate == "weighted" else Panel((), np.zeros(0), np.zeros((0, 0, 0)), 0.0)

    def fit(self, table: Table, roles: Mapping[str, tuple[Seat, ...]], rng: Rng) -> Asking[Panel]:
        """Has the judges score the recorded answers, whose own scores are not read."""
        if self.aggregate == "average":
            raise ConfigError("llm-peer-review with aggregate=average learns nothing, so it cannot be fitted")
        judges = roles["judge"]
        said: dict[int, dict[int, str]] = {}
        for q, m, text in zip(table.query.tolist(), table.member.tolist(), table.text, strict=True):
            if text:
                said.setdefault(q, {}).setdefault(m, str(text))
        if not said:
            raise BadParameter("table", len(table), "must hold answers in words")
        rows, asked, unread = [], 0, 0
        for q, texts in said.items():
            query = Query.of(table.questions[q] or table.queries[q])
            found = yield from judged(query, list(texts.values()), judges, self.judging, rng)
            rows.append(found.scores.T)
            asked, unread = asked + found.asked, unread + found.unread
        labels = self._labels(np.concatenate(rows))
        if not len(labels):
            raise BadParameter("judge", [j.name for j in judges], "must give scores: none could be read")
        _, panel = dawid_skene(labels, prior="uniform", smoothing=0.0, rounds=ROUNDS)
        return Panel(tuple(j.name for j in judges), panel.prior, panel.matrix, unread / asked)

    def _labels(self, scores: Floats) -> Labels:
        """The labels of mean levels (n, j): level 1 is label 0; mean levels are fractions with small errors."""
        return Labels.of(as_labels(scores, self.labels), self.levels)

    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        loads = super().worst(query, pool)
        for name, load in self.judging.loads(query, len(pool.members), pool.role("judge")).items():
            loads[name] = loads.get(name, Load()) + load
        return loads

    def plan(self, query: Query, pool: SeatPool, state: Panel, rng: Rng) -> Plan:
        names = tuple(seat.name for seat in pool.role("judge"))
        if self.aggregate == "weighted" and state.judges != names:
            raise ConfigError(
                f"the state was fitted for the judges {list(state.judges)}, but the role judge has {list(names)};"
                " fit it again: septet fit"
            )
        return (yield from super().plan(query, pool, state, rng))

    def combine(
        self, query: Query, candidates: Sequence[Completion], pool: SeatPool, state: Panel, rng: Rng
    ) -> Asking[Verdict]:
        able = [i for i, c in enumerate(candidates) if outcome(c) not in VOID] or list(range(len(candidates)))
        kept = [candidates[i] for i in able]
        if len(kept) == 1:
            return Verdict(chosen=able[0], reason="one answer is whole, so it is taken and not judged")
        found = yield from judged(query, [c.text for c in kept], pool.role("judge"), self.judging, rng)
        known = ~np.isnan(found.scores)
        read = found.unread < found.asked
        if self.aggregate == "weighted":
            p = Confusion(state.prior, state.matrix).posterior(self._labels(found.scores.T))
            value: Floats = p @ np.arange(1.0, self.levels + 1)
        else:
            total = np.where(known, found.scores, 0.0).sum(axis=0)
            value = np.divide(
                total, known.sum(axis=0), out=np.full(len(kept), np.nan), where=known.any(axis=0)
            )
        best = best_of(value, kept, self.tie, rng)
        full = np.zeros(len(candidates))
        in_levels = self.scoring != "reward" and all(seat.caps.text for seat in pool.role("judge"))
        worth = value - 1 if in_levels else np.exp(value - np.nanmax(np.append(value, -np.inf)))
        full[able] = np.nan_to_num(worth)
        chosen = able[best]
        n_judges = len(found.judges) - len(found.failed)
        who = f"candidate {chosen + 1} of {len(candidates)}, by {candidates[chosen].member}"
        what = "expected" if self.aggregate == "weighted" else "mean"
        level = f"level {value[best]:.2f} of {self.levels}" if in_levels else f"score {value[best]:.3g}"
        reason = f"{who}, is best to {n_judges} judge{'s' if n_judges > 1 else ''}: {what} {level}"
        if not read:
            reason = f"{who}, is taken, since no judge gave a score that could be read"
        sure = float(value[best] - 1) / (self.levels - 1) if in_levels and read else None
        return Verdict(
            chosen=chosen,
            posterior=shares([c.text for c in candidates], full),
            confidence=sure,
            reason=f"{reason}; {found.remark}" if found.remark else reason,
        )


def as_labels(scores: Floats, how: Literal["floor", "round"]) -> Floats:
    """Labels, from 0, of mean levels of any shape; NaN stays.

    >>> means = np.array([17 / 6, 13 / 6, 3.0])
    >>> as_labels(means, "floor").tolist(), as_labels(means, "round").tolist()
    ([1.0, 1.0, 2.0], [2.0, 1.0, 2.0])
    """
    found: Floats = np.floor(scores - 1 + (0.5 if how == "round" else 1e-9))
    return found
