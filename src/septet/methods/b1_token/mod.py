"""MOD: models that were aligned to different rewards pursue all of these at once, by weights given at the request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np

from septet.core.caps import PoolRule
from septet.core.errors import BadParameter, RunError
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Card, method, param
from septet.core.session import Fused, View
from septet.core.types import Floats, Query, Tokens
from septet.methods.b1_token._same_vocabulary import TOP_K, Listed, SameVocabulary
from septet.parts.decoding.aggregate import geometric, harmonic, power
from septet.parts.decoding.common import common

CARD = Card(
    paper="2406.18853",
    title="Decoding-Time Language Model Alignment with Multiple Objectives",
    facets=Facets(
        family=Family.TOKEN,
        strategy=Strategy.AGGREGATION,
        granularity=Granularity.TOKEN,
        goal=Goal.PERFORMANCE,
        supervised=False,
    ),
    pool=PoolRule(at_least=2, vocabulary="same"),
    differs=(
        "the rule is applied to each next token; the released greedy and beam search apply it to the sum of each"
        " member's log-probabilities so far, which is the same for `reverse-kl` and not for the others",
        "the reference model, and the constant that normalises the exact optimum inside the inverse of f′, are left"
        " out for `forward-kl` and `alpha`, as in the released code",
        "`alpha` takes the root 1/α of the power mean, which the released code leaves out; the order of strings is"
        " the same, probabilities differ",
        "Jensen-Shannon divergence is not offered by name: the released code treats it as `reverse-kl`",
        "weights are divided by their sum; the released code takes them as they are",
        "that the members were aligned from one reference, with one strength and divergence, is not checked",
        "ids with equal bytes, and all ids that end an answer, are one string, summed before the rule",
        "with `approximate = true`, a string that a member with a weight has no token for, or does not report, is"
        " impossible",
        "the default α = ½ is ours; no number of the paper was verified",
    ),
)


@method(CARD)
class Mod(SameVocabulary):
    """Multi-objective decoding (2406.18853): one member per objective, weights w (n_members,) that sum to one.

    reverse-kl: p ∝ Π_i p_i^{w_i}. forward-kl: p ∝ (Σ_i w_i/p_i)⁻¹. alpha: p ∝ (Σ_i w_i p_i^{−α})^{−1/α},
    which lies between the two. Each over strings (t,), named by the divergence that the members' alignment
    was regularised with. Cost: one forward of every member per piece. A member that fails leaves its weight to
    the others, so that its objective is no longer pursued. Fails where members contradict each other: what is
    likely for all of them may be what none wants.

    >>> from septet.testing.scripted import view
    >>> helpful, brief = view({b"a": .9, b"b": .1}), view({b"a": .2, b"b": .8})
    >>> s = Listed(("helpful", "brief"), None), np.array([.5, .5])
    >>> fused, _ = Mod(divergence="forward-kl").fuse([helpful, brief], s)
    >>> {t.decode(): round(float(p), 3) for t, p in zip(fused.texts, fused.p)}
    {'a': 0.648, 'b': 0.352}
    """

    weights: Annotated[
        Mapping[str, float] | None,
        param("Each objective's weight by its member's name; equal where none is given.", min_length=1),
    ] = None
    divergence: Annotated[
        Literal["reverse-kl", "forward-kl", "alpha"],
        param("What the members' alignment was regularised with: it decides the kind of mean."),
    ] = "reverse-kl"
    alpha: Annotated[
        float, param("Of the α-divergence: near 0 as reverse-kl, 1 as forward-kl.", gt=0, le=1)
    ] = 0.5

    @property
    def complete(self) -> bool:
        return True

    def prepared_key(self, pool: Any) -> str:
        self.weights_of(pool.names)  # a wrong name is an error before a prepared table is looked for
        return super().prepared_key(pool)

    def start(self, query: Query, prompts: Sequence[Tokens | None], prepared: Listed, state: Any) -> Any:
        return prepared, self.weights_of(prepared.names)

    def weights_of(self, names: Sequence[str]) -> Floats:
        """(n_members,) weights in the pool's order, summing to one; negative ones with `reverse-kl` only."""
        if self.weights is None:
            return np.full(len(names), 1.0 / len(names))
        w = np.array([self.weights.get(name, 0.0) for name in names])
        unknown = [name for name in self.weights if name not in names]
        negative = self.divergence != "reverse-kl" and (w < 0).any()
        if unknown or negative or not np.isfinite(w).all() or w.sum() <= 0:
            rule = f"must give finite numbers with a sum above 0 to members of {list(names)}"
            rule += "" if self.divergence == "reverse-kl" else f", none below 0 with {self.divergence}"
            raise BadParameter("mod.weights", dict(self.weights), rule)
        return w / w.sum()  # type: ignore[no-any-return]

    def fuse(self, views: Sequence[View | None], s: tuple[Listed, Floats]) -> tuple[Fused, Any]:
        listed, weights = s
        w = np.where([v is not None for v in views], weights, 0.0)
        if w.sum() <= 0:
            lost = [name for name, v in zip(listed.names, views, strict=True) if v is None]
            raise RunError(f"no objective with a weight above 0 is left: {', '.join(lost)} failed")
        w /= w.sum()
        seen = common(views, listed.table, TOP_K)
        return seen.fused(self._mean(seen.logp, w), w), s

    def _mean(self, logp: Any, weights: Floats) -> Floats:
        if self.divergence == "reverse-kl":
            return geometric(logp, weights)
        if self.divergence == "forward-kl":
            return harmonic(logp, weights)
        return power(logp, weights, -self.alpha)
