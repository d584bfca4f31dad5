"""Agent-Forest: sample several answers from every member and keep the one that the others agree with most."""

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
from septet.parts.answers.bleu import bleu_matrix
from septet.parts.answers.extract import code_of
from septet.parts.answers.vote import FAILS, VOID, outcomes, shares, winner

CARD = Card(
    paper="2402.05120",
    title="More Agents Is All You Need",
    facets=Facets(
        family=Family.NONCASCADE,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.PERFORMANCE,
        supervised=False,
    ),
    differs=(
        "a truncated answer is an outcome of its own and never wins against a whole one",
        "one extractor for all tasks, and for MATH math-verify's equality of formulas in place of the authors' own",
        "votes are weighted by the members' seats where a router gives weights; all 1 otherwise",
        "the filter of runnable code needs the role `executor` and is off by default",
    ),
)


@method(CARD)
class AgentForest(NonCascadeMethod):
    """Sampling and voting (2402.05120, section 3).

    Of n = n_members · samples candidates, `exact` returns the first one of argmax_c Σ_{i in c} w_i, where c are classes
    of equal final answers, and `math` the same with answers that are equal as mathematics; `bleu` returns
    argmax_i Σ_{j≠i} w_j·BLEU(y_i, y_j) from an (n, n) matrix, hypothesis i against reference j, lower-cased. Ties → the
    first seen: member order, then sample.
    Cost: n answers, nothing else; `bleu` compares n² pairs. Gains flatten at 15 to 40 samples (the paper).
    Fails where members make the same mistake, and `exact` where answers have no comparable end.

    >>> from septet.testing.scripted import drive, seat
    >>> pool = SeatPool((seat("ada"), seat("bob")))
    >>> plan = AgentForest(samples=2).plan(Query.of("6 times 7?"), pool, None, np.random.default_rng(0))
    >>> verdict, _ = drive(plan, {"ada": ["It is 41.", "The answer is 42."], "bob": ["42", "I say 42.0"]})
    >>> verdict.chosen, verdict.confidence, verdict.reason
    (1, 0.75, "3 of 4 candidates say '42'")
    """

    samples: Annotated[int, param("Answers that each member gives.", ge=1, le=100)] = 5
    temperature: Annotated[float, param("Temperature of the samples.", ge=0, le=2)] = 1.0
    similarity: Annotated[
        Literal["exact", "math", "bleu"],
        param(
            "Count final answers that are written alike or equal as formulas, or compare whole texts by BLEU."
        ),
    ] = "exact"
    execute: Annotated[bool, param("Only code that runs without an error competes, where there is any.")] = (
        False
    )

    def roles(self) -> Mapping[str, Caps]:
        return {"executor": Caps(run=True)} if self.execute else {}

    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        loads = super().worst(query, pool)
        if self.execute:
            executor = pool.role("executor")[0].name
            loads[executor] = loads.get(executor, Load()) + Load(self.samples * len(pool.members))
        return loads

    def combine(
        self, query: Query, candidates: Sequence[Completion], pool: SeatPool, state: Any, rng: Rng
    ) -> Asking[Verdict]:
        found = outcomes(candidates, "math" if self.similarity == "math" else "exact")
        if self.execute:
            executor = pool.role("executor")[0]
            runs = yield [executor.run(code_of(c.text)) for c in candidates]
            ran = [run.value.ok for run in runs]
            if any(ran):
                found = [o if ok else FAILS for o, ok in zip(found, ran, strict=True)]
        return (self._most_agreed if self.similarity == "bleu" else self._most_said)(candidates, found)

    def _most_said(self, candidates: Sequence[Completion], found: Sequence[str]) -> Verdict:
        posterior = shares(found, np.array([c.weight for c in candidates]))
        best = winner(posterior)
        return Verdict(
            chosen=posterior.of.index(best),
            posterior=posterior,
            confidence=float(posterior.p[best]),
            reason=f"{posterior.of.count(best)} of {len(candidates)} candidates say {posterior.classes[best]!r}",
        )

    def _most_agreed(self, candidates: Sequence[Completion], found: Sequence[str]) -> Verdict:
        everyone = range(len(candidates))
        whole = [i for i in everyone if found[i] not in VOID] or list(everyone)
        weights = np.array([candidates[i].weight for i in whole])
        support = bleu_matrix([candidates[i].text for i in whole]) @ weights  # (n_whole,)
        chosen = whole[int(support.argmax())]
        posterior = _by_text([c.text for c in candidates], whole, support)
        return Verdict(
            chosen=chosen,
            posterior=posterior,
            confidence=float(posterior.p[posterior.of[chosen]]),
            reason=f"candidate {chosen + 1} of {len(candidates)} is the most like the others:"
            f" BLEU sum {support.max():.3f}",
        )


def _by_text(texts: Sequence[str], whole: Sequence[int], support: Floats) -> Posterior:
    """Each distinct text's share in the support of all; candidates that do not compete have none."""
    full = np.zeros(len(texts))
    full[list(whole)] = support if support.sum() else 1.0
    return shares(texts, full)
