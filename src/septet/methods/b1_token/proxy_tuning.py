"""Proxy tuning: what tuning changed in a small model is added to a large one, token by token."""

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
    paper="2401.08565",
    title="Tuning Language Models by Proxy",
    facets=Facets(
        family=Family.TOKEN,
        strategy=Strategy.AGGREGATION,
        granularity=Granularity.TOKEN,
        goal=Goal.PERFORMANCE,
        supervised=False,
    ),
    pool=PoolRule(at_least=3, at_most=3, vocabulary="same", order="primary-first"),
    permutes=False,
    differs=(
        "strings are compared as bytes; the released code cuts the expert's logits to the base model's length",
        "ids with equal bytes, and all ids that end an answer, are one string, summed before the rule",
        "with `approximate = true`, a string that one of the three has no token for, or does not report, is"
        " impossible; the paper's experiment with five reported log-probabilities was not looked into",
        "each member's prompt format is its own to set; in the released code only the expert may have a template",
    ),
)


@method(CARD)
class ProxyTuning(SameVocabulary):
    """Proxy tuning (2401.08565; DExperts, 2105.03023): members are base, expert, anti-expert, in this order.

    log p = log p_base + α·(log p_expert − log p_anti) + const, over strings (t,). The expert is a small tuned
    model, the anti-expert the same one before it was tuned. Temperature and top-p come after the fusion.
    Cost: one forward of all three per piece. Fails where the small models are wrong about what tuning
    should change, and where the anti-expert gives a string next to nothing, so that the ratio decides.

    >>> from septet.testing.scripted import view
    >>> base, expert = view({b"a": .5, b"b": .5}), view({b"a": .8, b"b": .2})
    >>> anti = view({b"a": .6, b"b": .4})
    >>> fused, _ = ProxyTuning().fuse([base, expert, anti], Listed(("large", "tuned", "plain"), None))
    >>> {t.decode(): round(float(p), 4) for t, p in zip(fused.texts, fused.p)}
    {'a': 0.7273, 'b': 0.2727}
    """

    parts = ("base", "expert", "anti-expert")

    alpha: Annotated[
        float, param("How much of the difference between expert and anti-expert is added.", ge=-10, le=10)
    ] = 1.0

    @property
    def complete(self) -> bool:
        return True

    def fuse(self, views: Sequence[View | None], s: Listed) -> tuple[Fused, Listed]:
        weights = np.array([1.0, self.alpha, -self.alpha])
        seen = self.seen(views, s, weights)
        return seen.fused(geometric(seen.logp, weights), weights), s
