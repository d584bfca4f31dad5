"""DeRa: a fine-tuned model and its aligned descendant, mixed to any strength of alignment, without training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np

from septet.core.caps import PoolRule
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Card, method, param
from septet.core.session import Fused, View
from septet.methods.b1_token._same_vocabulary import Listed, SameVocabulary
from septet.parts.decoding.aggregate import geometric

CARD = Card(
    paper="2402.02992",
    title="Decoding-time Realignment of Language Models",
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
        "the members are any two of one vocabulary; that the second is the first one, aligned, is not checked",
        "ids with equal bytes, and all ids that end an answer, are one string, summed before the rule",
        "with `approximate = true`, a string that one of the two has no token for, or does not report, is impossible",
        "the default λ = ½ is ours: the paper sweeps it",
        "the released notebook was not read, and no number of the paper was verified",
    ),
)


@method(CARD)
class Dera(SameVocabulary):
    """Decoding-time realignment (2402.02992): members are the fine-tuned model, then its aligned descendant.

    log p = (1 − λ)·log p_sft + λ·log p_aligned + const, over strings (t,). λ = β/β′ stands for a training
    with KL strength β′ where the aligned member was trained with β: 0 is the first member, 1 the second,
    between them it interpolates, beyond them it extrapolates. Cost: one forward of both per piece.
    Fails for large λ, where the ratio of two small probabilities decides.

    >>> from septet.testing.scripted import view
    >>> sft, aligned = view({b" yes": .5, b" no": .5}), view({b" yes": .8, b" no": .2})
    >>> fused, _ = Dera(strength=2.0).fuse([sft, aligned], Listed(("sft", "dpo"), None))
    >>> {t.decode(): round(float(p), 4) for t, p in zip(fused.texts, fused.p)}
    {' no': 0.0588, ' yes': 0.9412}
    """

    parts = ("fine-tuned member", "aligned member")

    strength: Annotated[
        float,
        param("λ, any number: 0 is the first member, 1 the second, more goes beyond it.", ge=-100, le=100),
    ] = 0.5

    @property
    def complete(self) -> bool:
        return True

    def fuse(self, views: Sequence[View | None], s: Listed) -> tuple[Fused, Listed]:
        weights = np.array([1.0 - self.strength, self.strength])
        seen = self.seen(views, s, weights)
        return seen.fused(geometric(seen.logp, weights), weights), s
