"""Purifying ensemble: a small clean model holds back what a large, untrusted one should not have learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np

from septet.core.caps import PoolRule
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Card, method, param
from septet.core.session import Fused, View
from septet.methods.b1_token._same_vocabulary import Listed, SameVocabulary
from septet.parts.decoding.aggregate import geometric, minimum

CARD = Card(
    paper="2402.14845",
    title="Purifying Large Language Models by Ensembling a Small Language Model",
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
        "`min` is the other rule of CP-Δ (2302.10870), which the paper builds on; the paper uses the geometric one",
        "the defaults α = β = ½ are the rule of CP-Δ; the paper's own values per model were not verified",
        "the paper's common temperature is the request's own, applied after the fusion",
        "ids with equal bytes, and all ids that end an answer, are one string, summed before the rule",
        "with `approximate = true`, a string that one of the two has no token for, or does not report, is impossible",
        "no code was released; summaries of the paper were read, and its abstract, not the paper itself",
    ),
)


@method(CARD)
class PurifyingEnsemble(SameVocabulary):
    """Purifying by a small model (2402.14845, from CP-Δ, 2302.10870): members are the large, then the clean one.

    geometric: log p = α·log p_large + β·log p_clean + const, over strings (t,); α and β are taken as they
    are: a sum above one also sharpens, below one flattens. min: p ∝ min(p_large, p_clean), whatever α and β.
    Either way a string is likely only where the clean member thinks so too; without the clean member there is no
    answer. Cost: one forward of both per piece. Fails where the clean model is too weak to write well.

    >>> from septet.testing.scripted import view
    >>> large, clean = view({b"a": .7, b"b": .2, b"c": .1}), view({b"a": .1, b"b": .8, b"c": .1})
    >>> fused, _ = PurifyingEnsemble(rule="min").fuse([large, clean], Listed(("large", "clean"), None))
    >>> {t.decode(): round(float(p), 4) for t, p in zip(fused.texts, fused.p)}
    {'a': 0.25, 'b': 0.5, 'c': 0.25}
    """

    parts = ("large member", "clean member")

    alpha: Annotated[float, param("Weight of the large member's log-probabilities.", ge=0, le=100)] = 0.5
    beta: Annotated[float, param("Weight of the clean member's log-probabilities.", gt=0, le=100)] = 0.5
    rule: Annotated[
        Literal["geometric", "min"],
        param("Weigh the log-probabilities, or take the smaller probability."),
    ] = "geometric"

    @property
    def complete(self) -> bool:
        return True

    def fuse(self, views: Sequence[View | None], s: Listed) -> tuple[Fused, Listed]:
        weights = np.ones(2) if self.rule == "min" else np.array([self.alpha, self.beta])
        seen = self.seen(views, s, weights)
        p = minimum(seen.logp) if self.rule == "min" else geometric(seen.logp, weights)
        return seen.fused(p, weights), s
