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
from septet.core.method import Asking, Seat
from septet.core.table import Table
from septet.core.types import Completion, Floats
from septet.parts.answers import certainty
from septet.parts.answers.vote import outcome
from septet.parts.deferral.supermodels import root
from septet.parts.learning.adam import sigmoid
from septet.parts.learning.features import Featurizer, Kind
from septet.parts.learning.linear import Linear, fit_logistic
from septet.parts.learning.rows import Features, Rows
from septet.parts.routing.plan import embedded
from septet.parts.routing.records import unit_cost

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
    return Read.of([[given[i] for i in ran] for given in answers]).inputs(logits, range(len(ran)))


@dataclass(frozen=True)
class Read:
    """What is read from n questions' answers by k members, once: `signs` (n, k, 4) and final answers `ends` (n, k)."""

    signs: Floats
    ends: NDArray[np.object_]

    @classmethod
    def of(cls, answers: Sequence[Sequence[Completion]]) -> Read:
        """Reads the answers (n, k)."""
        ends = np.array([[outcome(c) for c in row] for row in answers], dtype=object)
        return cls(np.array([[_signs(c) for c in row] for row in answers], dtype=np.float64), ends)

    def inputs(self, logits: Floats, ran: Sequence[int]) -> Floats:
        """(n, d) for those of the members that ran, the questions' logits being (n, m)."""
        some = list(ran)
        agree = [self.ends[:, a] == self.ends[:, b] for a, b in combinations(some, 2)]
        return np.column_stack([logits, self.signs[:, some].reshape(len(logits), -1), *agree]).astype(
            np.float64
        )


def _signs(completion: Completion) -> tuple[float, float, float, float]:
    """Mean log-probability, own confidence, log length, and whether the end looks unfinished; NaN unknown."""
    text = completion.text
    confidence = np.nan if completion.confidence is None else completion.confidence
    cut = completion.finish == "length" or (len(text.split()) > 1 and not text.rstrip().endswith(_ENDS))
    return mean_logp(completion), confidence, float(np.log1p(len(text))), float(cut)


def mean_logp(completion: Completion) -> float:
    """The mean log-probability per token of an answer, fresh or recorded; NaN where it is not known."""
    found = certainty.mean_logp(completion.tokens)
    return float(completion.extra.get("logp", np.nan)) if np.isnan(found) else found


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


@dataclass(frozen=True)
class Halves:
    """Which questions fit the estimates and which are held out, as rising indices, and the features (q, d) of all.

    The featurizer has seen only those of the first kind: features of known words would make the others look surer
    than a new question does, and a price that is fitted to them would be wrong.
    """

    fitted: NDArray[np.int64]
    held: NDArray[np.int64]
    featurizer: Featurizer
    x: Features


def halves(
    known: Known, kind: Kind, embedder: Sequence[Seat], rng: np.random.Generator, *, share: float
) -> Asking[Halves]:
    """A `share` of the questions, drawn at random, and the others; an embedder is asked for the features of all."""
    order, n = rng.permutation(len(known.questions)), round(share * len(known.questions))
    fitted, held = np.sort(order[:n]), np.sort(order[n:])
    if kind == "embedder":
        x = yield from embedded(known.questions, embedder)
        return Halves(fitted, held, Featurizer.unused(), x)
    some = fitted.tolist()
    featurizer = Featurizer.of(kind, [known.questions[i] for i in some], [known.tasks[i] for i in some])
    return Halves(fitted, held, featurizer, featurizer.rows(known.questions, known.tasks))


def learn(
    known: Known, parts: Halves, rng: np.random.Generator, *, depth: int, l2: float, logp: bool
) -> Learned:
    """Regressions on the questions that fit them, covariances on the others.

    `logp`: whether log-probabilities are read. The logits of a question that enter the regressions on answers
    come from a regression that has not seen it.
    """
    m = known.scores.shape[1]
    fitted, held, x = parts.fitted, parts.held, parts.x
    before = logistic(x[fitted], known.scores[fitted], l2)
    logits = before.outputs(x)
    folds = rng.permutation(len(fitted)) % FOLDS
    for k in range(FOLDS):
        inside = fitted[folds != k]
        logits[fitted[folds == k]] = logistic(x[inside], known.scores[inside], l2).outputs(
            x[fitted[folds == k]]
        )
    read = Read.of(known.answers if logp else [list(map(_without_logp, row)) for row in known.answers])
    everyone = tuple(range(m))
    lines: dict[tuple[int, ...], tuple[Linear, Floats, Floats]] = {}
    quality: dict[tuple[int, ...], Floats] = {(): sigmoid(logits[held])}
    for ran in dict.fromkeys([*sets_of(m, depth), everyone]):
        inputs = read.inputs(logits, ran)
        center, scale = _moments(inputs[fitted])
        z = np.nan_to_num((inputs - center) / scale, nan=0.0)
        line = newton(z[fitted], known.scores[fitted], l2)
        lines[ran] = (line, center, scale)
        quality[ran] = expected(line, z[held])
    low = {ran: root(_covariance(quality[ran] - quality[everyone])) for ran in quality}
    after = tuple(Ran(ran, *lines[ran], low[ran]) for ran in lines)
    return Learned(Estimates(parts.featurizer, before, low[()], after), held, quality)


def _without_logp(completion: Completion) -> Completion:
    return Completion(member=completion.member, text=completion.text, confidence=completion.confidence)


FEW = 512
"""Columns up to which Newton's method is the faster one."""


def logistic(x: Features, y: Floats, l2: float) -> Linear:
    """Logistic regressions of y (r, m), all known, on x (r, d)."""
    if isinstance(x, Rows) or x.shape[1] > FEW:
        return fit_logistic(x, y, l2=l2)
    return newton(x, y, l2)


def newton(x: Floats, y: Floats, l2: float) -> Linear:
    """As `fit_logistic`, without its patience: for x (r, d) with few columns, y (r, m) all known.

    Newton's method, each step halved until the loss falls: hundreds of these are fitted, one for each set.
    """
    rows = np.column_stack([x, np.ones(len(x))])  # (r, d + 1), the last column without a penalty
    ridge = np.append(np.full(x.shape[1], l2), 0.0)
    found = np.zeros((rows.shape[1], y.shape[1]))
    for j, target in enumerate(y.T):
        share = (target.sum() + 1) / (len(target) + 2)
        w = np.append(np.zeros(x.shape[1]), np.log(share / (1 - share)))
        if 0 < target.sum() < len(target):
            w = _descended(rows, target, ridge, w)
        found[:, j] = w
    return Linear(found[:-1], found[-1])


def _descended(rows: Floats, target: Floats, ridge: Floats, w: Floats) -> Floats:
    """(d,) the minimum of the logistic loss from w."""

    def loss(at: Floats) -> float:
        z = rows @ at
        return float((np.logaddexp(0, z) - target * z).sum() + 0.5 * (ridge * at * at).sum())

    now = loss(w)
    for _ in range(50):
        p = sigmoid(rows @ w)
        slope = rows.T @ (p - target) + ridge * w
        bend = (rows * (p * (1 - p))[:, None]).T @ rows + np.diag(ridge + 1e-9)
        step = np.linalg.solve(bend, slope)
        size = 1.0
        while loss(w - size * step) > now and size > 1e-6:
            size /= 2
        w = w - size * step
        before, now = now, loss(w)
        if before - now < 1e-9 * (1 + abs(now)):
            break
    return w


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
