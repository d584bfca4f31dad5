"""Votes over classes of equal answers: who stands where, and how much stands behind each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from septet.core.types import Completion, Floats, Posterior
from septet.parts.answers.equality import same_answer
from septet.parts.answers.extract import final_answer

TRUNCATED, NO_ANSWER, FAILS = "(truncated)", "(no answer)", "(does not run)"
"""Outcomes of their own: a text that was cut off is never read as if it were whole."""

VOID = (TRUNCATED, NO_ANSWER, FAILS)
"""Outcomes that win only where there is no other."""

Equality = Literal["exact", "math"]
"""Whether two final answers are the same class: when written alike, or when equal as mathematics."""

Void = Literal["counted", "left-out"]
"""Whether candidates without an answer count in the denominator of the shares."""


def outcome(candidate: Completion) -> str:
    """The class of a candidate: its final answer, or why it has none."""
    if candidate.finish == "length":
        return TRUNCATED
    return final_answer(candidate.text) or NO_ANSWER


def outcomes(candidates: Sequence[Completion], equality: Equality = "exact") -> list[str]:
    """The class of each candidate. Under "math" an answer that equals an earlier one bears that one's name.

    >>> said = [Completion(member="a", text=t) for t in ("It is 0.5.", r"\\boxed{\\frac{1}{2}}", "1")]
    >>> outcomes(said), outcomes(said, "math")
    (['0.5', '1/2', '1'], ['0.5', '0.5', '1'])
    """
    found = [outcome(candidate) for candidate in candidates]
    if equality == "exact":
        return found
    names: dict[str, str] = {}
    for said in dict.fromkeys(found):
        alike = () if said in VOID else (n for n in names.values() if n not in VOID and same_answer(n, said))
        names[said] = next(iter(alike), said)
    return [names[said] for said in found]


def shares(outcomes: Sequence[str], weights: Floats, void: Void = "counted") -> Posterior:
    """The posterior of a weighted vote: p_c = Σ_{i in c} w_i / Σ_i w_i, classes (c,) in the order first seen.

    Weights (n,) that sum to zero count alike. With "left-out" the void outcomes have no share, unless all are void.

    >>> shares(["4", "5", "4"], np.ones(3)).p.round(2).tolist()
    [0.67, 0.33]
    """
    classes = tuple(dict.fromkeys(outcomes))
    of = tuple(classes.index(found) for found in outcomes)
    counted = weights if weights.sum() > 0 else np.ones(len(outcomes))
    whole = np.array([found not in VOID for found in outcomes])
    if void == "left-out" and whole.any():
        # an answer stands even where all the weight lay on candidates without one
        counted = np.where(whole, counted, 0.0) if counted[whole].sum() > 0 else whole.astype(np.float64)
    p = np.bincount(of, weights=counted, minlength=len(classes))
    return Posterior(classes=classes, p=p / p.sum(), of=of)


def winner(posterior: Posterior) -> int:
    """The index of the class with the largest share; ties → the first seen; a void class only if all are."""
    p = np.array(
        [-1.0 if name in VOID else share for name, share in zip(posterior.classes, posterior.p, strict=True)]
    )
    return int(p.argmax()) if p.max() >= 0 else int(posterior.p.argmax())
