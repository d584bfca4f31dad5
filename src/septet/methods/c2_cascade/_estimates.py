"""What is expected of every member: from the question alone, and from the answers of those that ran already.

Estimates are logistic regressions, one for every member and every set of members that may have run (2410.10347); how
far those of a set are from the estimates after everybody ran is their covariance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import BadParameter
from septet.core.table import Table
from septet.core.types import Completion, Floats
from septet.parts.answers.vote import outcome
from septet.parts.deferral.supermodels import root
from septet.parts.routing.adam import sigmoid
from septet.parts.routing.features import Featurizer
from septet.parts.routing.linear import Linear, fit_logistic
from septet.parts.routing.records import unit_cost
from septet.parts.routing.rows import Features

FOLDS = 5
"""Parts of the questions, each of which is estimated from the others, when answers are learned from."""

MOST_SETS = 2_000
"""Sets of members that estimates are fitted for, at most."""

_ENDS = (".", "!", "?", ")", '"', "'", "`", "}", "]", "。")


@dataclass(frozen=True)
class Known:
    """q questions that all m members have answered: `answers`, `scores` and `cost` (q, m), the last in `unit`."""

    questions: tuple[str, ...]
    tasks: tuple[str, ...]
    answers: Sequence[Sequence[Completion]]
    scores: Floats
    cost: Floats
    unit: str

    @classmethod
    def of(cls, table: Table) -> Known:
        """The first sample of every member, where it has a score, and a text or at least an answer."""
        unit, spent = unit_cost(table)
        m = len(table.members)
        found: dict[int, dict[int, int]] = {}
        for row in np.lexsort((table.sample, table.member, table.query)).tolist():
            said = table.text[row] is not None or table.answer[row] is not None
            if said and not np.isnan(table.score[row]):
                found.setdefault(int(table.query[row]), {}).setdefault(int(table.member[row]), row)
        whole = {q: [rows[i] for i in range(m)] for q, rows in found.items() if len(rows) == m}
        if len(whole) < 2 * FOLDS:
            raise BadParameter(
                "table", len(whole), f"must hold at least {2 * FOLDS} questions that every member answered"
            )
        rows = np.array(list(whole.values()))  # (q, m)
        return cls(
            tuple(table.questions[q] for q in whole),
            tuple(table.tasks[q] for q in whole),
            [[_completion(table, row) for row in of_query] for of_query in rows.tolist()],
            table.score[rows],
            spent[rows],
            unit,
        )


def _completion(table: Table, row: int) -> Completion:
    said = table.text[row] if table.text[row] is not None else table.answer[row]
    confidence, logp = float(table.confidence[row]), float(table.logp[row])
    return Completion(
        member=table.members[int(table.member[row])],
        text=str(said),
        confidence=None if np.isnan(confidence) else confidence,
        extra={} if np.isnan(logp) else {"logp": logp},
    )


# --- the state -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    """The estimates once `members` ran: logits (m,) of inputs (d,), standardised by `center` and `scale`; `low`
    (m, m): root of the covariance with the estimates after everybody ran."""

    members: tuple[int, ...]
    line: Linear
    center: Floats
    scale: Floats
    low: Floats

    def quality(self, inputs: Floats) -> Floats:
        """(n, m) expected scores for inputs (n, d); an unknown input counts as average."""
        return expected(self.line, np.nan_to_num((inputs - self.center) / self.scale, nan=0.0))


@dataclass(frozen=True)
class Estimates:
    """`before`: from features of the question alone, `low` its covariance's root; `after`: one for each set."""

    featurizer: Featurizer
    before: Linear
    low: Floats
    after: tuple[Ran, ...]

    def logits(self, x: Features) -> Floats:
        """(n, m) from the questions' features (n, d)."""
        return self.before.outputs(x)

    def once(self, ran: Sequence[int]) -> Ran:
        """The estimates after these members ran."""
        key = tuple(sorted(ran))
        found = next((r for r in self.after if r.members == key), None)
        if found is None:
            raise BadParameter("members", key, "were never run together in the fit")
        return found

    def quality(self, logits: Floats, answers: Mapping[int, Completion]) -> tuple[Floats, Floats]:
        """(m,) expected scores and the root (m, m) of their covariance, given the answers so far."""
        if not answers:
            return sigmoid(logits), self.low
        ran = self.once(tuple(answers))
        inputs = inputs_of(logits[None], ran.members, [answers])
        return ran.quality(inputs)[0], ran.low


def expected(line: Linear, x: Features) -> Floats:
    """(n, m) probabilities of being right."""
    return sigmoid(line.outputs(x))


def inputs_of(logits: Floats, ran: Sequence[int], answers: Sequence[Mapping[int, Completion]]) -> Floats:
    """(n, d) what is read from the answers of those that ran: the question's logits (m), four signs of each answer, and
    whether each two of them end in the same answer."""
    rows = []
    for given in answers:
        said = [given[i] for i in ran]
        signs = [sign for completion in said for sign in _signs(completion)]
        ends = [outcome(completion) for completion in said]
        rows.append([*signs, *(float(a == b) for a, b in combinations(ends, 2))])
    return np.hstack([logits, np.array(rows, dtype=np.float64).reshape(len(answers), -1)])


def _signs(completion: Completion) -> tuple[float, float, float, float]:
    """Mean log-probability, own confidence, log length, and whether the end looks unfinished; NaN unknown."""
    text = completion.text
    confidence = np.nan if completion.confidence is None else completion.confidence
    cut = completion.finish == "length" or (len(text.split()) > 1 and not text.rstrip().endswith(_ENDS))
    return mean_logp(completion), confidence, float(np.log1p(len(text))), float(cut)


def mean_logp(completion: Completion) -> float:
    """The mean log-probability per token of an answer, fresh or recorded; NaN where it is not known."""
    known = completion.tokens.logp[~np.isnan(completion.tokens.logp)] if completion.tokens else np.empty(0)
    return float(known.mean()) if len(known) else float(completion.extra.get("logp", np.nan))


# --- the fit -------------------------------------------------------------------------------------------


def sets_of(n_members: int, depth: int) -> list[tuple[int, ...]]:
    """The sets that may have run, of at most `depth` members, smaller ones first."""
    found = [s for k in range(1, min(depth, n_members) + 1) for s in combinations(range(n_members), k)]
    if len(found) > MOST_SETS:
        raise BadParameter(
            "depth", depth, f"makes {len(found):,} sets of {n_members} members, more than {MOST_SETS:,}"
        )
    return found


@dataclass(frozen=True)
class Learned:
    """What a fit hands on: the estimates, and on the questions that were held out the expected scores for every set
    that may have run, the empty one included, (q, m) each."""

    estimates: Estimates
    held_out: NDArray[np.int64]
    quality: Mapping[tuple[int, ...], Floats]

    def low(self) -> Mapping[tuple[int, ...], Floats]:
        """The roots by set."""
        return {(): self.estimates.low} | {ran.members: ran.low for ran in self.estimates.after}


def learn(
    known: Known,
    featurizer: Featurizer,
    x: Features,
    rng: np.random.Generator,
    *,
    depth: int,
    share: float,
    l2: float,
    logp: bool,
) -> Learned:
    """Regressions on a `share` of the questions, covariances on the others; x (q, d) their features.

    `logp`: whether log-probabilities are read. The logits of a question that enter the regressions on answers
    come from a regression that has not seen it.
    """
    q, m = known.scores.shape
    order = rng.permutation(q)
    fitted, held = np.sort(order[: round(share * q)]), np.sort(order[round(share * q) :])
    before = fit_logistic(x[fitted], known.scores[fitted], l2=l2)
    logits = before.outputs(x)
    folds = rng.permutation(len(fitted)) % FOLDS
    for k in range(FOLDS):
        inside = fitted[folds != k]
        logits[fitted[folds == k]] = fit_logistic(x[inside], known.scores[inside], l2=l2).outputs(
            x[fitted[folds == k]]
        )
    answers = [dict(enumerate(row if logp else map(_without_logp, row))) for row in known.answers]
    everyone = tuple(range(m))
    lines: dict[tuple[int, ...], tuple[Linear, Floats, Floats]] = {}
    quality: dict[tuple[int, ...], Floats] = {(): sigmoid(logits[held])}
    for ran in dict.fromkeys([*sets_of(m, depth), everyone]):
        inputs = inputs_of(logits, ran, answers)
        center, scale = _moments(inputs[fitted])
        z = np.nan_to_num((inputs - center) / scale, nan=0.0)
        line = fit_logistic(z[fitted], known.scores[fitted], l2=l2)
        lines[ran] = (line, center, scale)
        quality[ran] = expected(line, z[held])
    low = {ran: root(_covariance(quality[ran] - quality[everyone])) for ran in quality}
    after = tuple(Ran(ran, *lines[ran], low[ran]) for ran in lines)
    return Learned(Estimates(featurizer, before, low[()], after), held, quality)


def _without_logp(completion: Completion) -> Completion:
    return Completion(member=completion.member, text=completion.text, confidence=completion.confidence)


def _covariance(error: Floats) -> Floats:
    """(m, m) of errors (q, m)."""
    centred = error - error.mean(axis=0)
    found: Floats = centred.T @ centred / max(len(error) - 1, 1)
    return found


def _moments(inputs: Floats) -> tuple[Floats, Floats]:
    """Mean and deviation (d,) of what is known; 0 and 1 where it never varies."""
    known = ~np.isnan(inputs)
    count = np.maximum(known.sum(axis=0), 1)
    center = np.where(known, inputs, 0).sum(axis=0) / count
    spread = np.sqrt((np.where(known, inputs - center, 0) ** 2).sum(axis=0) / count)
    return center, np.where(spread > 1e-9, spread, 1.0)
