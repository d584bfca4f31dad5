"""Semantic entropy: group samples by meaning, answer from the likeliest meaning, and doubt where they scatter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np

from septet.core.caps import Caps
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Asking, Card, Rng, SeatPool, method, param
from septet.core.money import Load
from septet.core.types import Completion, Floats, Posterior, Query, Verdict
from septet.methods.c1_noncascade._family import NonCascadeMethod
from septet.parts.answers.certainty import mean_logp
from septet.parts.answers.relations import Rule, classes, entailment, equivalent
from septet.parts.answers.vote import VOID, outcome, outcomes
from septet.parts.deferral.confidence import entropy

CARD = Card(
    paper="2302.09664",
    title="Semantic Uncertainty: Linguistic Invariances for Uncertainty Estimation in Natural Language Generation",
    facets=Facets(
        family=Family.NONCASCADE,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.PERFORMANCE,
        supervised=False,
    ),
    differs=(
        "the paper measures doubt and answers by a separate decoding; here the likeliest class also gives the answer",
        "by default classes are equal final answers, without a classifier; relation = nli is the paper's way",
        "likelihoods are per token (the released code's length normalisation), and their sum over all samples is one",
        "an answer without known log-probabilities counts like the mean of the others; without any all count alike",
        "samples may come from several members, whose likelihoods are compared as they are; the paper has one model",
        "an answer that was cut off or is empty is no sample while there are whole ones",
        "confidence is 1 − SE / ln n over the n whole answers, which is not a probability",
    ),
)


@method(CARD)
class SemanticEntropy(NonCascadeMethod):
    """Clusters of equal meaning and their entropy (2302.09664, section 4; 10.1038/s41586-024-07421-0).

    n answers y_i with w_i ∝ exp(mean_t log p(y_it)) (`likelihood`) or 1/n (`counts`), times the seats' weights.
    Greedily, y_i joins the first class whose first member it means the same as; p_c = Σ_{i in c} w_i (c,) and
    SE = −Σ_c p_c ln p_c nats, 0 ≤ SE ≤ ln n. The class with the greatest p_c wins (ties → the first seen), and in it
    the likeliest or the first answer. Cost: n answers; nli: one call of the classifier for each distinct text, each
    of which reads all of them. Fails where a model is wrong in the same way every time: then SE is 0.

    >>> from septet.testing.scripted import drive, seat
    >>> pool = SeatPool((seat("ada"),))
    >>> method = SemanticEntropy(samples=5, weights="counts", representative="first")
    >>> plan = method.plan(Query.of("Capital?"), pool, None, np.random.default_rng(0))
    >>> verdict, _ = drive(plan, {"ada": ["Lyon", "Paris", "It is Paris.", "The answer is Paris.", "lyon"]})
    >>> verdict.chosen, verdict.reason  # "It is Paris." is written otherwise, and only a classifier would know
    (0, '2 of 5 answers are alike (40 % of the weight), in 3 classes: semantic entropy 1.05')
    """

    samples: Annotated[int, param("Answers that each member gives.", ge=1, le=100)] = 10
    temperature: Annotated[float, param("Temperature of the samples.", ge=0, le=2)] = 1.0
    relation: Annotated[
        Literal["exact", "math", "nli"],
        param("What makes a class: equal final answers, equal as mathematics, or entailment (role nli)."),
    ] = "exact"
    rule: Annotated[
        Rule,
        param("With nli: strict, each entails the other; lenient, none contradicts, not both are neutral."),
    ] = "lenient"
    weights: Annotated[
        Literal["likelihood", "counts"], param("Whether an answer counts by its likelihood, or as one.")
    ] = "likelihood"
    representative: Annotated[
        Literal["likelihood", "first"],
        param("Which answer of the class is given: the likeliest, or the first."),
    ] = "likelihood"

    @property
    def logprobs(self) -> int:  # type: ignore[override]
        """One alternative per token, where a likelihood is read."""
        return int("likelihood" in (self.weights, self.representative))

    def roles(self) -> Mapping[str, Caps]:
        return {"nli": Caps(rate=True)} if self.relation == "nli" else {}

    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        loads = super().worst(query, pool)
        if self.relation == "nli":
            calls, name = self.samples * len(pool.members), pool.role("nli")[0].name
            loads[name] = loads.get(name, Load()) + Load(calls, calls, 0)
        return loads

    def combine(
        self, query: Query, candidates: Sequence[Completion], pool: SeatPool, state: Any, rng: Rng
    ) -> Asking[Verdict]:
        able = [i for i, c in enumerate(candidates) if outcome(c) not in VOID]
        if not able:
            return Verdict(chosen=0, reason="no answer is whole, so the first is taken")
        kept = [candidates[i] for i in able]
        of = yield from self._classes(query, kept, pool)
        logp = np.array([mean_logp(c.tokens) for c in kept]) if self.logprobs else np.full(len(kept), np.nan)
        w = np.array([c.weight for c in kept]) * (_likely(logp) if self.weights == "likelihood" else 1.0)
        p = np.bincount(of, weights=w if w.sum() > 0 else np.ones(len(kept)))
        p = p / p.sum()
        best = int(p.round(12).argmax())
        alike = [i for i, c in enumerate(of) if c == best]
        rank = np.nan_to_num(logp[alike], nan=-np.inf)
        chosen = alike[int(rank.argmax()) if self.representative == "likelihood" else 0]
        doubt = float(entropy(p))
        return Verdict(
            chosen=able[chosen],
            posterior=_posterior(candidates, able, of, p),
            confidence=1 - doubt / float(np.log(len(kept))) if len(kept) > 1 else None,
            reason=f"{len(alike)} of {len(kept)} answers are alike ({100 * p[best]:.0f} % of the weight), in"
            f" {len(p)} class{'es' if len(p) > 1 else ''}: semantic entropy {doubt:.2f}",
        )

    def _classes(self, query: Query, kept: Sequence[Completion], pool: SeatPool) -> Asking[tuple[int, ...]]:
        """(n,) the class of each answer, numbered as first seen."""
        if self.relation == "nli":
            texts = list(dict.fromkeys(c.text for c in kept))
            if len(texts) == 1:
                return (0,) * len(kept)
            p = yield from entailment(query, texts, pool)
            of = classes(equivalent(p, self.rule))
            return tuple(of[texts.index(c.text)] for c in kept)
        found = outcomes(kept, self.relation)
        names = list(dict.fromkeys(found))
        return tuple(names.index(name) for name in found)


def _likely(logp: Floats) -> Floats:
    """(n,) likelihoods per token from their logarithms, up to a factor; an unknown one is the mean of the known."""
    known = ~np.isnan(logp)
    if not known.any():
        return np.ones(len(logp))
    found: Floats = np.exp(np.where(known, logp, 0.0) - logp[known].max())
    found[~known] = found[known].mean()
    return found


def _posterior(
    candidates: Sequence[Completion], able: Sequence[int], of: Sequence[int], p: Floats
) -> Posterior:
    """The classes by the first text of each; what is no sample has a class without any share."""
    names = [candidates[able[of.index(c)]].text for c in range(len(p))]
    void = list(dict.fromkeys(outcome(c) for i, c in enumerate(candidates) if i not in able))
    place = dict(zip(able, of, strict=True))
    return Posterior(
        classes=(*names, *void),
        p=np.concatenate([p, np.zeros(len(void))]),
        of=tuple(
            place[i] if i in place else len(p) + void.index(outcome(c)) for i, c in enumerate(candidates)
        ),
    )
