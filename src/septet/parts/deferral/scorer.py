"""How likely a member's answer is right, as read from the question, the answer and the answer's probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import MissingExtra
from septet.core.types import Floats
from septet.parts.learning.tfidf import TfIdf

N_SIGNS = 3
"""Signs beside the words: mean log-probability per token, log length, and whether the end looks unfinished."""

_ENDS = (".", "!", "?", ")", '"', "'", "`", "}", "]", "。")


@dataclass(frozen=True)
class Given:
    """n answers to be scored: texts, the members (n,) that gave them, and their mean logp (n,), NaN unknown."""

    questions: Sequence[str]
    answers: Sequence[str]
    member: NDArray[np.int32]
    logp: Floats

    def signs(self) -> Floats:
        """(n, N_SIGNS); a short answer without a full stop is unfinished only if it is not one word."""
        length = [np.log1p(len(a)) for a in self.answers]
        open_ended = [len(a.split()) > 1 and not a.rstrip().endswith(_ENDS) for a in self.answers]
        return np.column_stack([self.logp, length, np.array(open_ended, dtype=np.float64)])

    def only(self, keep: NDArray[np.bool_]) -> Given:
        """The answers where `keep` (n,) is true."""
        index = np.flatnonzero(keep).tolist()
        return Given(
            [self.questions[i] for i in index],
            [self.answers[i] for i in index],
            self.member[index],
            self.logp[index],
        )

    def texts(self) -> list[str]:
        """What the words are taken from."""
        return [f"{q}\n{a}" for q, a in zip(self.questions, self.answers, strict=True)]


@dataclass(frozen=True)
class AnswerScorer:
    """One logistic model per member: `weights` (m, d + N_SIGNS), `bias` (m,); signs are standardised by
    `center` and `scale` (N_SIGNS,), and an unknown one counts as average."""

    featurizer: TfIdf
    weights: Floats
    bias: Floats
    center: Floats
    scale: Floats

    def p_right(self, given: Given) -> Floats:
        """(n,) probability that each answer is right."""
        d = len(self.featurizer.idf)
        rows = self.featurizer.rows(given.texts())
        row = np.repeat(np.arange(len(rows)), np.diff(rows.starts))
        words = np.bincount(
            row, rows.values * self.weights[given.member[row], rows.columns], minlength=len(rows)
        )
        signs = standardised(given.signs(), self.center, self.scale)
        logit = words + (signs * self.weights[given.member, d:]).sum(axis=1) + self.bias[given.member]
        p: Floats = 1 / (1 + np.exp(-np.clip(logit, -500, 500)))
        return p


def standardised(signs: Floats, center: Floats, scale: Floats) -> Floats:
    """(n, N_SIGNS) with mean 0 and deviation 1; zero where unknown."""
    return np.nan_to_num((signs - center) / scale, nan=0.0)


def fit_scorer(
    given: Given, right: NDArray[np.bool_], n_members: int, *, inverse_penalty: float
) -> AnswerScorer:
    """Fits one logistic regression per member on its own answers; `right` (n,).

    A member that was always or never right, or of which nothing is known, gets a constant: its share of
    right answers with one of each added.
    """
    try:
        from scipy.sparse import csr_matrix, hstack
        from sklearn.linear_model import LogisticRegression
    except ModuleNotFoundError:
        raise MissingExtra("scikit-learn", "fit") from None
    featurizer = TfIdf.of(given.texts())
    rows, signs = featurizer.rows(given.texts()), given.signs()
    center, scale = _moments(signs)
    words = csr_matrix((rows.values, rows.columns, rows.starts), shape=(len(rows), rows.width))
    x = hstack([words, csr_matrix(standardised(signs, center, scale))]).tocsr()
    weights, bias = np.zeros((n_members, rows.width + N_SIGNS)), np.zeros(n_members)
    for m in range(n_members):
        own = given.member == m
        share = (right[own].sum() + 1) / (own.sum() + 2)
        bias[m] = np.log(share / (1 - share))
        if 0 < right[own].sum() < own.sum():
            model = LogisticRegression(C=inverse_penalty, max_iter=1000).fit(x[own], right[own])
            weights[m], bias[m] = model.coef_[0], model.intercept_[0]
    return AnswerScorer(featurizer, weights, bias, center, scale)


def _moments(signs: Floats) -> tuple[Floats, Floats]:
    """Mean and deviation of each sign over the rows where it is known; 0 and 1 where it never varies."""
    known = ~np.isnan(signs)
    count = np.maximum(known.sum(axis=0), 1)
    center = np.where(known, signs, 0).sum(axis=0) / count
    spread = np.sqrt((np.where(known, signs - center, 0) ** 2).sum(axis=0) / count)
    return center, np.where(spread > 1e-9, spread, 1.0)
