"""From questions to features: hashed words, what words mean together, what a text looks like, its task."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

import numpy as np

from septet.core.errors import MissingExtra
from septet.core.method import param
from septet.core.types import Floats
from septet.parts.learning.rows import Features, Rows
from septet.parts.learning.tfidf import TfIdf

Kind: TypeAlias = Literal["lsa", "tf-idf", "surface", "task", "embedder"]

FeatureKind: TypeAlias = Annotated[
    Kind,
    param(
        "lsa: hashed TF-IDF reduced to its main directions; tf-idf: the words themselves; surface: length,"
        " digits, code and the like; task: the query's task; embedder: embeddings by the role of that name."
    ),
]
"""The hyper-parameter `features` of every router that is fitted on questions."""

N_DIRECTIONS = 128
"""Directions that "lsa" keeps."""

N_BUCKETS = 2**13
"""Buckets of the words behind "lsa"; more than of "tf-idf", since only the directions are kept per question."""


@dataclass(frozen=True)
class Featurizer:
    """Turns questions into rows (n, d) of length one; fitted on the questions that are known.

    `words` weighs hashed words; `directions` (buckets, d) project them ("lsa"); `center` and `scale` (d,)
    standardise the signs of "surface"; `tasks` are the known tasks. A text that says nothing is a row of
    zeros. What a kind does not use is empty. Rows of kind "embedder" come from a role, not from here.
    """

    kind: Kind
    words: TfIdf
    directions: Floats
    center: Floats
    scale: Floats
    tasks: tuple[str, ...]

    @classmethod
    def unused(cls, kind: Kind = "embedder") -> Featurizer:
        """Stands in a state whose rows come from a role."""
        none = np.empty(0)
        return cls(kind, TfIdf.unused(), none, none, none, ())

    @classmethod
    def of(cls, kind: Kind, texts: Sequence[str], tasks: Sequence[str] = ()) -> Featurizer:
        """The featurizer that these questions, and their tasks, give."""
        none = np.empty(0)
        if kind == "tf-idf":
            return cls(kind, TfIdf.of(texts), none, none, none, ())
        if kind == "lsa":
            words = TfIdf.of(texts, N_BUCKETS)
            return cls(kind, words, _directions(words.rows(texts)), none, none, ())
        if kind == "surface":
            signs = surface(texts)
            scale = signs.std(axis=0)
            return cls(kind, TfIdf.unused(), none, signs.mean(axis=0), np.where(scale > 0, scale, 1.0), ())
        if kind == "task":
            return cls(kind, TfIdf.unused(), none, none, none, tuple(dict.fromkeys(tasks)))
        return cls.unused(kind)

    def rows(self, texts: Sequence[str], tasks: Sequence[str] = ()) -> Features:
        """(n, d) features of questions; an unknown task is a row of zeros."""
        if self.kind == "tf-idf":
            return self.words.rows(texts)
        if self.kind == "lsa":
            return unit(self.words.rows(texts).times(self.directions))
        if self.kind == "surface":
            return unit((surface(texts) - self.center) / self.scale)
        if self.kind == "task":
            place = {task: i for i, task in enumerate(self.tasks)}
            found = np.zeros((len(texts), len(self.tasks)))
            for row, task in zip(found, tasks, strict=True):
                if task in place:
                    row[place[task]] = 1.0
            return found
        raise ValueError(f"features of kind {self.kind} come from a role")


def unit(x: Floats) -> Floats:
    """Rows (n, d) of length one; rows of zeros stay.

    >>> unit(np.array([[3., 4.], [0., 0.]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    length = np.linalg.norm(x, axis=1, keepdims=True)
    rows: Floats = x / np.where(length > 0, length, 1.0)
    return rows


def _directions(rows: Rows) -> Floats:
    """(buckets, d) the main right singular vectors of the rows, signs fixed."""
    try:
        from scipy.sparse import csr_matrix
        from sklearn.utils.extmath import randomized_svd
    except ImportError:
        raise MissingExtra("scikit-learn", "fit") from None
    matrix = csr_matrix((rows.values, rows.columns, rows.starts), shape=rows.shape)
    n_directions = max(1, min(N_DIRECTIONS, len(rows) - 1))
    _, _, right = randomized_svd(matrix, n_directions, n_iter=4, random_state=0)
    directions: Floats = right.T.astype(np.float32).astype(np.float64)
    return directions


_SIGNS = (
    re.compile(r"\d"),
    re.compile(r"[A-Z]"),
    re.compile(r"[^\x00-\x7f]"),
    re.compile(r"[.,;:!?]"),
    re.compile(r"[=+\-*/^<>\\]"),
    re.compile(r"[(){}\[\]]"),
    re.compile(r"\n"),
)
"""Characters whose share of the text is a sign."""

_WORDS = (
    re.compile(r"```|\bdef |\bclass |\bimport |;\n"),
    re.compile(r"\?"),
    re.compile(r"(?m)^\s*\(?[A-J][.):]"),
    re.compile(r"(?i)\b(why|how|explain|prove|derive)\b"),
    re.compile(r"(?i)\b(write|summari[sz]e|translate|list)\b"),
)
"""What a text has or has not: code, a question, lettered choices, a demand for reasons, a demand for a text."""


def surface(texts: Sequence[str]) -> Floats:
    """(n, 14) what texts look like: log lengths, shares of kinds of characters, and what they hold."""
    found = []
    for text in texts:
        n = max(len(text), 1)
        shares = [len(sign.findall(text)) / n for sign in _SIGNS]
        held = [float(sign.search(text) is not None) for sign in _WORDS]
        found.append([np.log1p(len(text)), np.log1p(len(text.split())), *shares, *held])
    return np.array(found, dtype=np.float64).reshape(len(texts), 2 + len(_SIGNS) + len(_WORDS))
