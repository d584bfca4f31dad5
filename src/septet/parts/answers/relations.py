"""How candidates relate: similarity by text, by embedding or by entailment, and classes of those that mean the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from septet.core.errors import ConfigError
from septet.core.method import Asking, SeatPool
from septet.core.types import Floats, Query
from septet.parts.answers.similarity import Measure, cosines, similarity

Relation = Literal["exact", "bleu", "chrf", "token-f1", "rouge-l", "cosine", "nli"]
"""A measure of texts; cosine of embeddings (role `embedder`); nli: the probability that i entails j (role `nli`)."""

Rule = Literal["lenient", "strict"]
"""strict: each entails the other · lenient: neither contradicts the other, and not both are neutral (2302.09664)."""

CONTRADICTS, NEUTRAL, ENTAILS = 0, 1, 2
"""The columns of a classifier in the role `nli`: rate(premise, [hypotheses]) → (n, 3)."""


def related(relation: Relation, query: Query, texts: Sequence[str], pool: SeatPool) -> Asking[Floats]:
    """(n, n) how much text i says what text j says, in 0..1 (cosine: −1..1); the diagonal is 1."""
    if relation in get_args(Measure):
        return similarity(relation, texts)  # type: ignore[arg-type]
    if relation == "cosine":
        (reply,) = yield [pool.role("embedder")[0].embed(list(texts))]
        return cosines(np.asarray(reply.value, dtype=np.float64))
    logits = yield from entailment(query, texts, pool)
    found: Floats = logits[:, :, ENTAILS]
    np.fill_diagonal(found, 1.0)
    return found


def entailment(query: Query, texts: Sequence[str], pool: SeatPool) -> Asking[Floats]:
    """(n, n, 3) probabilities that text i, after the question, contradicts, leaves open or entails text j.

    One call for each premise. Rows of scores that do not sum to one are scaled; what is below zero counts as none.
    """
    seat = pool.role("nli")[0]
    said = [f"{query.text}\n{text}" for text in texts]
    replies = yield [seat.rate(Query.of(premise), said) for premise in said]
    rows = np.array([np.asarray(reply.value, dtype=np.float64) for reply in replies])
    if rows.ndim != 3 or rows.shape[2] != 3:
        n_columns = rows.shape[-1] if rows.ndim == 3 else 0
        raise ConfigError(
            f"{seat.name} rates {n_columns} classes; the role nli needs three: contradiction, neutral, entailment"
        )
    rows = np.maximum(rows, 0.0)
    total = rows.sum(axis=2, keepdims=True)
    found: Floats = np.where(total > 0, rows / np.where(total > 0, total, 1), 1 / 3)
    return found


def equivalent(p: Floats, rule: Rule = "lenient") -> Floats:
    """(n, n) 1 where two texts mean the same, from entailment (n, n, 3), in both directions.

    >>> p = np.zeros((2, 2, 3)); p[..., 2] = 1; p[1, 0] = [0, 1, 0]
    >>> float(equivalent(p)[0, 1]), float(equivalent(p, "strict")[0, 1])
    (1.0, 0.0)
    """
    verdict = p.argmax(axis=2)
    back = verdict.T
    if rule == "strict":
        same = (verdict == ENTAILS) & (back == ENTAILS)
    else:
        contradicts = (verdict == CONTRADICTS) | (back == CONTRADICTS)
        same = ~contradicts & ~((verdict == NEUTRAL) & (back == NEUTRAL))
    found: Floats = same.astype(np.float64)
    np.fill_diagonal(found, 1.0)
    return found


def classes(
    s: Floats, threshold: float = 0.5, how: Literal["first", "components"] = "first"
) -> tuple[int, ...]:
    """(n,) the class of each text, numbered as first seen; s (n, n) at or above the threshold is alike.

    first: a text joins the first class whose first member it is alike to, in both directions (semantic entropy's way);
    components: whoever is connected by a chain of likeness.

    >>> s = np.array([[1, .9, .1], [.9, 1, .9], [.1, .9, 1]])
    >>> classes(s), classes(s, how="components")
    ((0, 0, 1), (0, 0, 0))
    """
    alike = np.minimum(s, s.T) >= threshold
    n = len(s)
    of = list(range(n))
    if how == "first":
        founders: list[int] = []
        for i in range(n):
            home = next((c for c, f in enumerate(founders) if alike[f, i]), None)
            if home is None:
                founders.append(i)
            of[i] = len(founders) - 1 if home is None else home
        return tuple(of)
    for i in range(n):
        for j in range(i):
            if alike[i, j] and of[i] != of[j]:
                low, high = sorted((of[i], of[j]))
                of = [low if c == high else c for c in of]
    names = list(dict.fromkeys(of))
    return tuple(names.index(c) for c in of)
