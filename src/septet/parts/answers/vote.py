"""Votes over classes of equal answers: who stands where, and how much stands behind each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from septet.core.types import Completion, Floats, Posterior
from septet.parts.answers.extract import final_answer

TRUNCATED, NO_ANSWER, FAILS = "(truncated)", "(no answer)", "(does not run)"
"""Outcomes of their own: a text that was cut off is never read as if it were whole."""

VOID = (TRUNCATED, NO_ANSWER, FAILS)
"""Outcomes that win only where there is no other."""


def outcome(candidate: Completion) -> str:
    """The class of a candidate: its final answer, or why it has none."""
    if candidate.finish == "length":
        return TRUNCATED
    return final_answer(candidate.text) or NO_ANSWER


def shares(outcomes: Sequence[str], weights: Floats) -> Posterior:
    """The posterior of a weighted vote: p_c = Σ_{i in c} w_i / Σ_i w_i, classes (c,) in the order first seen.

    Weights (n,) that sum to zero count alike.

    >>> shares(["4", "5", "4"], np.ones(3)).p.round(2).tolist()
    [0.67, 0.33]
    """
    classes = tuple(dict.fromkeys(outcomes))
    of = tuple(classes.index(found) for found in outcomes)
    counted = weights if weights.sum() > 0 else np.ones(len(outcomes))
    p = np.bincount(of, weights=counted, minlength=len(classes))
    return Posterior(classes=classes, p=p / p.sum(), of=of)


def winner(posterior: Posterior) -> int:
    """The index of the class with the largest share; ties → the first seen; a void class only if all are."""
    p = np.array(
        [-1.0 if name in VOID else share for name, share in zip(posterior.classes, posterior.p, strict=True)]
    )
    return int(p.argmax()) if p.max() >= 0 else int(posterior.p.argmax())
