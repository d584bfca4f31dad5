"""Texts kept by the meaning of the question that they answered, each for one tenant only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from septet.core.errors import BadParameter
from septet.core.types import Floats


@dataclass(frozen=True)
class Hit:
    """A kept text, the question it belongs to, and how like that is to the one that was asked: a cosine."""

    question: str
    text: str
    similarity: float


@dataclass(frozen=True)
class SemanticCache:
    """n kept texts: `rows` (n, d), the embeddings of their `questions`, of length one; `texts` and `tenants` (n).

    A value: what changes it returns another one. Oldest first. A tenant is shown what was kept for that very
    tenant; "" is a tenant like any other, the one of requests that name none.
    """

    rows: Floats
    questions: tuple[str, ...]
    texts: tuple[str, ...]
    tenants: tuple[str, ...]

    @classmethod
    def empty(cls) -> SemanticCache:
        """Nothing kept yet."""
        return cls(np.empty((0, 0)), (), (), ())

    def __len__(self) -> int:
        return len(self.questions)

    def nearest(self, z: Floats, tenant: str, k: int = 1) -> list[Hit]:
        """The k texts of the tenant whose questions are most like z (d,), best first; of equals the latest first."""
        own = [i for i, owner in enumerate(self.tenants) if owner == tenant]
        if not own or not k:
            return []
        if self.rows.shape[1] != len(z):
            raise BadParameter(
                "embedder", len(z), f"must give {self.rows.shape[1]} numbers, as what is kept has"
            )
        cosines = self.rows[own] @ z
        ranked = sorted(range(len(own)), key=lambda i: (-cosines[i], -own[i]))[:k]
        return [Hit(self.questions[own[i]], self.texts[own[i]], float(cosines[i])) for i in ranked]

    def same(self, question: str, tenant: str) -> Hit | None:
        """What is kept of the tenant for this very question, letter for letter."""
        for i in reversed(range(len(self))):
            if (self.questions[i], self.tenants[i]) == (question, tenant):
                return Hit(question, self.texts[i], 1.0)
        return None

    def found(self, z: Floats, tenant: str, at_least: float) -> Hit | None:
        """The most alike text of the tenant, if its question's cosine with z (d,) is at least so much.

        >>> cache = SemanticCache.empty().keeping(np.array([0.6, 0.8]), "2+3?", "5", "ada")
        >>> cache.found(np.array([0.0, 1.0]), "ada", 0.8), cache.found(np.array([0.0, 1.0]), "bob", 0.8)
        (Hit(question='2+3?', text='5', similarity=0.8), None)
        """
        hits = self.nearest(z, tenant)
        return hits[0] if hits and hits[0].similarity >= at_least else None

    def keeping(
        self, z: Floats, question: str, text: str, tenant: str = "", capacity: int | None = None
    ) -> SemanticCache:
        """With one more text, in the place of what the tenant had for the same question.

        Beyond `capacity` the oldest of all is dropped, whosever it is: that is no more than not having kept it.
        """
        rest = [
            i
            for i, known in enumerate(zip(self.questions, self.tenants, strict=True))
            if known != (question, tenant)
        ]
        if capacity is not None:
            rest = rest[max(0, len(rest) + 1 - capacity) :]
        rows = self.rows[rest] if rest else np.empty((0, len(z)))
        return SemanticCache(
            np.vstack([rows, z[None]]),
            (*(self.questions[i] for i in rest), question),
            (*(self.texts[i] for i in rest), text),
            (*(self.tenants[i] for i in rest), tenant),
        )
