"""MBR: keep the candidate that is worth most on average, if any of the others were the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np

from septet.core.caps import Caps
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Asking, Card, Rng, SeatPool, method, param
from septet.core.money import Load
from septet.core.types import Completion, Query, Verdict
from septet.methods.c1_noncascade._family import NonCascadeMethod
from septet.parts.answers.aggregate import Tie, best_of
from septet.parts.answers.relations import related
from septet.parts.answers.similarity import mean_of_others
from septet.parts.answers.vote import VOID, outcome, shares

CARD = Card(
    paper="2108.04718",
    title="Understanding the Properties of Minimum Bayes Risk Decoding in Neural Machine Translation",
    facets=Facets(
        family=Family.NONCASCADE,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.PERFORMANCE,
        supervised=False,
    ),
    differs=(
        "hypotheses and references are the same candidates, and none supports itself",
        "learned utilities (COMET, BLEURT, BERTScore) are not among ours; cosine and nli take a model in a role",
        "references count by the weights of their members' seats; all 1 otherwise",
        "a candidate that was cut off or is empty is no hypothesis and no reference while there are whole ones",
        "confidence is the share in the sum of utilities, not a probability",
    ),
)


@method(CARD)
class Mbr(NonCascadeMethod):
    """Minimum Bayes risk: argmax_i Σ_{j≠i} w_j u(y_i, y_j) / Σ_{j≠i} w_j over n candidates, u in an (n, n) matrix.

    Cost: n answers, and n² comparisons of texts; cosine one call of the embedder, nli one of the classifier per text.
    Fails where the most usual answer is wrong, and with utilities that only see words, where phrasing differs.

    >>> from septet.testing.scripted import drive, seat
    >>> pool = SeatPool((seat("ada"), seat("bob"), seat("cyd")))
    >>> said = {"ada": "the cat sat", "bob": "the cat sat down", "cyd": "a dog"}
    >>> plan = Mbr(samples=1).plan(Query.of("What happened?"), pool, None, np.random.default_rng(0))
    >>> verdict, _ = drive(plan, said)
    >>> verdict.chosen, verdict.reason
    (0, 'candidate 1 of 3 is worth most to the others: mean token-f1 0.40')
    """

    samples: Annotated[int, param("Answers that each member gives.", ge=1, le=100)] = 4
    temperature: Annotated[float, param("Temperature of the samples.", ge=0, le=2)] = 1.0
    utility: Annotated[
        Literal["token-f1", "bleu", "chrf", "rouge-l", "cosine", "nli"],
        param("How much a candidate is worth if another is right; cosine and nli need a role."),
    ] = "token-f1"
    tie: Annotated[Tie, param("Which of candidates that are worth the same.")] = "first"

    def roles(self) -> Mapping[str, Caps]:
        if self.utility == "cosine":
            return {"embedder": Caps(embed=True)}
        return {"nli": Caps(rate=True)} if self.utility == "nli" else {}

    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        loads = super().worst(query, pool)
        calls = self.samples * len(pool.members) if self.utility == "nli" else 1
        for role in self.roles():
            name = pool.role(role)[0].name
            loads[name] = loads.get(name, Load()) + Load(calls, calls, 0)
        return loads

    def combine(
        self, query: Query, candidates: Sequence[Completion], pool: SeatPool, state: Any, rng: Rng
    ) -> Asking[Verdict]:
        able = [i for i, c in enumerate(candidates) if outcome(c) not in VOID] or list(range(len(candidates)))
        kept = [candidates[i] for i in able]
        if len(kept) == 1:
            return Verdict(chosen=able[0], reason="one answer is whole, so it is taken")
        u = yield from related(self.utility, query, [c.text for c in kept], pool)
        worth = mean_of_others(u, np.array([c.weight for c in kept]))
        chosen = able[best_of(worth, kept, self.tie, rng)]
        full = np.zeros(len(candidates))
        full[able] = np.maximum(worth, 0.0)
        posterior = shares([c.text for c in candidates], full)
        return Verdict(
            chosen=chosen,
            posterior=posterior,
            confidence=float(posterior.p[posterior.of[chosen]]),
            reason=f"candidate {chosen + 1} of {len(candidates)} is worth most to the others:"
            f" mean {self.utility} {worth.max():.2f}",
        )
