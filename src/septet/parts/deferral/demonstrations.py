"""A store of solved questions, the nearest of which are shown with a new one (2310.03046)."""

from __future__ import annotations

from collections.abc import Sequence

from septet.core.types import Floats
from septet.parts.deferral.semantic_cache import Hit, SemanticCache

DISTANCE = 0.5
"""A demonstration has to be nearer than this, 1 − cosine (2310.03046, code)."""


def nearby(store: SemanticCache, z: Floats, tenant: str, n: int = 1, distance: float = DISTANCE) -> list[Hit]:
    """The up to n stored solutions of the tenant nearest to z (d,), those with 1 − cosine < distance.

    >>> import numpy as np
    >>> east, north = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    >>> store = SemanticCache.empty().keeping(east, "2+3?", "print(2 + 3)")
    >>> [len(nearby(store, np.array([c, np.sqrt(1 - c * c)]), "")) for c in (0.6, 0.5)]  # .4 < .5; .5 is not
    [1, 0]
    """
    return [hit for hit in store.nearest(z, tenant, n) if 1 - hit.similarity < distance]


def shown(hits: Sequence[Hit], template: str) -> str:
    """The solutions as a text, nearest last, next to the question; `template` has {question} and {solution}.

    A text that holds braces is put in as it is.
    """
    return "\n\n".join(template.format(question=h.question, solution=h.text) for h in reversed(hits))
