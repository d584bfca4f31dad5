"""Which of two answers to a question is better: a pair of them as one text, as features, and as what is learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import BadParameter
from septet.core.table import Table
from septet.core.types import Floats
from septet.parts.learning.features import Featurizer, surface
from septet.parts.learning.rows import dense
from septet.parts.learning.targets import Targets, fit_head

_PER_TOKEN = 4
"""Characters of a token, roughly: an encoder's share of a text is cut by it."""


def joined(question: str, first: str, second: str, n_tokens: int) -> str:
    """The question and both answers as one text of about `n_tokens`, of which each has a third.

    >>> joined("2+3?", "5", "6", 90)
    '2+3?\\n\\n[1] 5\\n\\n[2] 6'
    """
    most = n_tokens * _PER_TOKEN // 3
    return f"{question[:most]}\n\n[1] {first[:most]}\n\n[2] {second[:most]}"


@dataclass(frozen=True)
class Pairs:
    """p pairs of answers of which the one is better. `question` (p,) indexes `questions`, `first` and `second` (p,)
    the `answers`; `first_wins` (p,) is 1 or 0. Each pair stands here in one order."""

    questions: tuple[str, ...]
    answers: tuple[str, ...]
    question: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    first_wins: Floats

    @classmethod
    def of(cls, table: Table, most: int, rng: np.random.Generator) -> Pairs:
        """Pairs of answers whose scores differ: all of a question, or `most` of them, drawn; so is their order."""
        rows: dict[int, list[int]] = {}
        for r in np.lexsort((table.sample, table.member, table.query)).tolist():
            if table.text[r] and not np.isnan(table.score[r]):
                rows.setdefault(int(table.query[r]), []).append(r)
        found: list[tuple[int, int, int, float]] = []
        for q, of_query in rows.items():
            apart = [(i, j) for i, j in combinations(of_query, 2) if table.score[i] != table.score[j]]
            if len(apart) > most:
                apart = [apart[k] for k in sorted(rng.choice(len(apart), most, replace=False).tolist())]
            for i, j in apart:
                a, b = (i, j) if rng.random() < 0.5 else (j, i)
                found.append((q, a, b, float(table.score[a] > table.score[b])))
        if not found:
            raise BadParameter(
                "table", len(table), "must hold answers in words to one question whose scores differ"
            )
        question, first, second, wins = (np.array(column) for column in zip(*found, strict=True))
        texts = tuple("" if text is None else str(text) for text in table.text)
        questions = tuple(q or name for q, name in zip(table.questions, table.queries, strict=True))
        return cls(questions, texts, question, first, second, wins.astype(np.float64))

    def __len__(self) -> int:
        return len(self.first_wins)

    def texts(self, n_tokens: int) -> list[str]:
        """Each pair as one text, in its order."""
        return [
            joined(self.questions[q], self.answers[i], self.answers[j], n_tokens)
            for q, i, j in zip(self.question, self.first, self.second, strict=True)
        ]

    def held_out(self, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
        """(p,) true for the pairs of the questions that are kept from a fit."""
        known = np.unique(self.question)
        n_kept = min(max(1, round(share * len(known))), len(known) - 1)
        return np.isin(self.question, rng.permutation(known)[:n_kept])


@dataclass(frozen=True)
class LinearRanker:
    """The logit that answer i beats j is (x_i − x_j)·`weights` (d,); x are features of an answer with its question,
    standardised by `center` and `scale` (d,)."""

    featurizer: Featurizer
    center: Floats
    scale: Floats
    weights: Floats

    @classmethod
    def unused(cls) -> LinearRanker:
        """Stands in the state of a ranker that is a role."""
        none = np.empty(0)
        return cls(Featurizer.unused(), none, none, none)

    def worth(self, question: str, answers: Sequence[str]) -> Floats:
        """(n,) x·weights: the logit of i over j is worth_i − worth_j."""
        x = (_read(self.featurizer, [question] * len(answers), answers) - self.center) / self.scale
        found: Floats = x @ self.weights
        return found


def fit_linear(pairs: Pairs, l2: float) -> LinearRanker:
    """A logistic regression on the differences of features, without a bias: no place is better than the other."""
    used = np.unique(np.concatenate([pairs.first, pairs.second]))
    place = np.full(len(pairs.answers), -1)
    place[used] = np.arange(len(used))
    of = np.empty(len(pairs.answers), dtype=np.int64)
    of[pairs.first] = of[pairs.second] = pairs.question
    asked, said = [pairs.questions[q] for q in of[used]], [pairs.answers[i] for i in used]
    featurizer = Featurizer.of("lsa", [f"{q}\n{a}" for q, a in zip(asked, said, strict=True)])
    x = _read(featurizer, asked, said)
    center, spread = x.mean(axis=0), x.std(axis=0)
    scale = np.where(spread > 1e-9, spread, 1.0)
    x = (x - center) / scale
    apart = x[place[pairs.first]] - x[place[pairs.second]]
    # both orders of each pair: then the bias that is fitted along is zero
    y = np.concatenate([pairs.first_wins, 1 - pairs.first_wins])[:, None]
    weights, _ = fit_head(np.concatenate([apart, -apart]), Targets.even(y, "bce"), l2)
    return LinearRanker(featurizer, center, scale, weights[:, 0])


def _read(featurizer: Featurizer, questions: Sequence[str], answers: Sequence[str]) -> Floats:
    """(n, d): what the words of question and answer mean, what the answer looks like, its share of the question's
    words."""
    words = dense(featurizer.rows([f"{q}\n{a}" for q, a in zip(questions, answers, strict=True)]))
    shared = [_shared(q, a) for q, a in zip(questions, answers, strict=True)]
    return np.column_stack([words, surface(list(answers)), np.array(shared)])


def _shared(question: str, answer: str) -> float:
    """The share of the question's words that stand in the answer, too."""
    wanted = set(question.lower().split())
    return len(wanted & set(answer.lower().split())) / len(wanted) if wanted else 0.0
