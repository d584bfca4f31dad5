"""Answers of several members in numbered slots, so that a network can read them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from septet.core.types import Floats, Posterior

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""The slots of questions with options."""


def ranked(answers: Sequence[Sequence[str]], slots: int) -> list[str]:
    """The answers most given by members, each of whom has one vote in all; ties → the first seen.

    >>> ranked([["7", "7", "8"], ["8"], ["9"]], 2)  # 8: 1/3 + 1, 9: 1, 7: 2/3
    ['8', '9']
    """
    weight: dict[str, float] = {}
    for own in answers:
        for answer in own:
            weight[answer] = weight.get(answer, 0.0) + 1 / len(own)
    order = list(weight)
    return sorted(order, key=lambda a: (-round(weight[a], 9), order.index(a)))[:slots]


def shares_of(answers: Sequence[Sequence[str]], labels: Sequence[str], slots: int) -> Floats:
    """(m, slots) how often each member gave each label, as shares of its answers; what has no slot is nowhere.

    >>> shares_of([["A", "B"], ["C", "C"], []], ["A", "C"], 3).tolist()
    [[0.5, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    found = np.zeros((len(answers), slots))
    for row, own in zip(found, answers, strict=True):
        for answer in own:
            if answer in labels:
                row[labels.index(answer)] += 1 / len(own)
    return found


def posterior_of(outcomes: Sequence[str], labels: Sequence[str], p: Floats) -> Posterior:
    """Each distinct outcome with the probability p (slots,) of its slot; none where it has no slot."""
    names = tuple(dict.fromkeys(outcomes))
    share = np.array([p[labels.index(n)] if n in labels else 0.0 for n in names])
    return Posterior(classes=names, p=share / share.sum(), of=tuple(names.index(o) for o in outcomes))
