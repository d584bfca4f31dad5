"""Contrastive decoding: of what an expert finds plausible, the string that an amateur would say least."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np

from septet.core.caps import PoolRule
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Card, method, param
from septet.core.session import Fused, View
from septet.methods.b1_token._same_vocabulary import Listed, SameVocabulary
from septet.parts.decoding.aggregate import geometric, plausible, possible

CARD = Card(
    paper="2210.15097",
    title="Contrastive Decoding: Open-ended Text Generation as Optimization",
    facets=Facets(
        family=Family.TOKEN,
        strategy=Strategy.AGGREGATION,
        granularity=Granularity.TOKEN,
        goal=Goal.PERFORMANCE,
        supervised=False,
    ),
    pool=PoolRule(at_least=2, at_most=2, vocabulary="same", order="primary-first"),
    permutes=False,
    differs=(
        "the score is made a distribution by a softmax; a beam adds up its logarithms, where the paper's search (five"
        " beams in the released code) adds up the scores themselves",
        "the amateur reads its own prompt and the whole answer; an option of the released code that hides the prefix"
        " from it was not looked into",
        "ids with equal bytes, and all ids that end an answer, are one string, summed before the rule",
        "with `approximate = true`, a string that one of the two has no token for, or does not report, is impossible,"
        " and plausibility is measured against the best of the others",
        "temperature ½ and coefficient 1 are the released code's example; α = .1 was not verified",
    ),
)


@method(CARD)
class ContrastiveDecoding(SameVocabulary):
    """Contrastive decoding (2210.15097, section 3): members are the expert, then the amateur.

    V_head = {x : p_expert(x) ≥ α·max p_expert}; for x in V_head, log p(x) = log p_expert(x) −
    c·log softmax(log p_amateur/τ)(x) + const, and p = 0 outside. The softmax's own sum is a constant, so τ
    only scales: the amateur's weight is −c/τ. Cost: one forward of both per piece.
    Fails without the mask (α = 0), where an unlikely string wins by being even less likely for the amateur, and
    where the amateur is right. With the mask most texts are impossible, so a given text is then scored
    along the pieces that the ensemble itself prefers.

    >>> from septet.testing.scripted import view
    >>> expert = view({b"a": .6, b"b": .35, b"c": .05})
    >>> amateur = view({b"a": .5, b"b": .3, b"c": .001, b"d": .199})
    >>> contrast = ContrastiveDecoding(amateur_temperature=1.0)     # ratios 1.2, 1.167 and 50; c is not plausible
    >>> fused, _ = contrast.fuse([expert, amateur], Listed(("large", "small"), None))
    >>> {t.decode(): round(float(p), 3) for t, p in zip(fused.texts, fused.p)}
    {'a': 0.507, 'b': 0.493, 'c': 0.0, 'd': 0.0}
    """

    parts = ("expert", "amateur")

    plausibility: Annotated[
        float,
        param(
            "α: strings below this share of the expert's best probability are out; 0: no mask.", ge=0, le=1
        ),
    ] = 0.1
    amateur_temperature: Annotated[
        float, param("τ: the amateur's log-probabilities are divided by it.", gt=0, le=100)
    ] = 0.5
    coefficient: Annotated[float, param("c: how much the amateur counts.", ge=0, le=100)] = 1.0

    @property
    def complete(self) -> bool:
        return self.plausibility == 0

    def fuse(self, views: Sequence[View | None], s: Listed) -> tuple[Fused, Listed]:
        weights = np.array([1.0, -self.coefficient / self.amateur_temperature])
        seen = self.seen(views, s, weights)
        expert = np.where(possible(seen.logp, weights), seen.logp[0], -np.inf)
        score = np.where(plausible(expert, self.plausibility), seen.logp, -np.inf)
        return seen.fused(geometric(score, weights), weights), s
