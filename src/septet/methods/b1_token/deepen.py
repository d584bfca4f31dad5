"""DeePEn: members' next-token distributions meet in a space of anchor tokens, and one member's tokens are searched
for what comes nearest to their mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from septet.core.caps import Caps, PoolRule
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Card, method, param
from septet.core.session import END, Fused, Ids, View
from septet.core.types import Floats, Query, Tokens
from septet.methods.b1_token._embeddings import best_tokens, whole_vocabulary
from septet.methods.b1_token._family import TokenMethod
from septet.parts.decoding.aggregate import softmax
from septet.parts.decoding.relative import Relative, anchors_of, search
from septet.parts.decoding.weights import by_score

CARD = Card(
    paper="2404.12715",
    title="Ensemble Learning for Heterogeneous Large Language Models with Deep Parallel Collaboration",
    facets=Facets(
        family=Family.TOKEN,
        strategy=Strategy.AGGREGATION,
        granularity=Granularity.TOKEN,
        goal=Goal.PERFORMANCE,
        supervised=False,
    ),
    pool=PoolRule(at_least=2, order="primary-first"),
    permutes=False,
    differs=(
        "of the strings that all members have, `anchors` are used, those with the lowest ids; the paper uses all",
        "rows of the relative representation are made for the tokens of a step, not kept for the vocabulary",
        "only a member's best tokens count, up to `candidates` or all but `tail` of its probability; their"
        " probabilities are brought to sum one, and other tokens cannot be written",
        "strings are compared as exact bytes, all ids that end an answer are one END, and END is an anchor",
        "the winner's bytes are committed to every member by its commit rule; the released code appends a token's"
        " spelling as text",
        "where the mean is what the main member says already, its logits stay; the released code lets weight decay"
        " lead them off, and Adam make the way back a large step",
        "a member that fails leaves its weight to the others, and the next one takes the main member's place",
        "the released code's stop strings within a prompt format are the engine's stop strings here",
        "the weights that the paper takes from development results (Adapt) are given as `weights`; how it"
        " normalises them could not be verified",
        "whether rows of cosines are brought to length one is not said in the paper; `unit_rows` is the"
        " released code's rule",
    ),
)


@dataclass(frozen=True, eq=False)
class Represented:
    """What is prepared: the members' `names` and their tokens beside the anchors, in the pool's order."""

    names: tuple[str, ...]
    members: tuple[Relative, ...]


@dataclass(frozen=True, eq=False)
class Request:
    """The prepared tokens, and the members' weights (n_members,)."""

    members: tuple[Relative, ...]
    weights: Floats


@method(CARD)
class Deepen(TokenMethod):
    """Fusion in relative representations (2404.12715, sections 3.2 and 3.3).

    R_i = softmax over the anchors of 100·cos(E_i, E_i[A]), (V_i, |A|), from input embeddings E_i;
    r̄ = Σ_i w_i p_i R_i, (|A|,); then `steps` of AdamW at rate η on the first member's logits z lower
    KL(r̄ ‖ softmax(z) R_1), and softmax(z) is the fused distribution. Where the first member wants to end the
    answer, it does. Cost: one forward per member and piece, and k·|A|·d multiplications for each member's k
    candidates: .2 ms a token at 4,096 anchors on one core. Fails where a member's embeddings all point the same
    way, since then every token looks like every anchor; and since AdamW moves every logit by about η a step,
    a large η overshoots the mean and a small one does not reach it.

    >>> import numpy as np
    >>> from septet.testing.scripted import view
    >>> a, b = view({b"x": .6, b"y": .4}), view({b"x": .2, b"y": .8})
    >>> two = np.eye(2, dtype=np.float32)              # two anchors, which are the two tokens (K7)
    >>> rows = np.zeros((a.vocab.size, 2), dtype=np.float16)
    >>> rows[1:3] = two                                # ids 1 and 2 of both toy vocabularies
    >>> half = Request((Relative(rows, two),) * 2, np.array([.5, .5]))
    >>> fused, _ = Deepen().fuse([a, b], half)
    >>> {t.decode(): round(float(p), 4) for t, p in zip(fused.texts, fused.p)}
    {'x': 0.3304, 'y': 0.6696}
    """

    rate: Annotated[
        float,
        param("η, AdamW's learning rate in the first member's logits; 0: only that member.", ge=0, le=10),
    ] = 0.15
    steps: Annotated[int, param("Steps of the search.", ge=1, le=100)] = 5
    weights: Annotated[
        Mapping[str, float] | None,
        param("Each member's weight by name; equal where none is given.", min_length=1),
    ] = None
    anchors: Annotated[int, param("Strings that tokens are compared with, at most.", ge=2, le=65536)] = 4096
    candidates: Annotated[int, param("Tokens that each member brings, at most.", ge=1, le=4096)] = 128
    tail: Annotated[
        float, param("Probability that a member's least probable tokens may lose.", ge=0, lt=1)
    ] = 0.01
    unit_rows: Annotated[
        bool,
        param(
            "Whether a row of cosines is brought to length one before the softmax, as in the released code."
        ),
    ] = True

    def needs(self) -> Caps:
        return Caps(text=True, continues=True, full=True, matrices=True)

    def prepare(self, pool: Any) -> Represented:
        by_score(self.weights, pool.names, "deepen.weights")
        ids = anchors_of([whole_vocabulary(m, self.name) for m in pool.members], self.anchors)
        members = [Relative.of(m.matrix("input"), own) for m, own in zip(pool.members, ids, strict=True)]
        return Represented(pool.names, tuple(members))

    def start(
        self, query: Query, prompts: Sequence[Tokens | None], prepared: Represented, state: Any
    ) -> Request:
        return Request(prepared.members, by_score(self.weights, prepared.names, "deepen.weights"))

    def fuse(self, views: Sequence[View | None], s: Request) -> tuple[Fused, Request]:
        tops = {
            i: best_tokens(view, self.candidates, self.tail)
            for i, view in enumerate(views)
            if view is not None
        }
        main = min(tops)
        ids, p = tops[main]
        view = views[main]
        assert view is not None
        weights = np.array([s.weights[i] if i in tops else 0.0 for i in range(len(views))])
        ends = view.vocab.bytes_of(int(ids[0])) == END
        if ends or not self.rate or not weights[[i for i in tops if i != main]].any():
            weights = (np.arange(len(views)) == main).astype(np.float64)
        else:
            p = self._moved(main, tops, s.members, weights / weights.sum())
        return _fused(view, ids, p, views, weights), s

    def _moved(
        self, main: int, tops: Mapping[int, tuple[Ids, Floats]], members: Sequence[Relative], w: Floats
    ) -> Floats:
        """The main member's probabilities after the search."""
        rows = {i: members[i].represent(ids, normalised=self.unit_rows) for i, (ids, _) in tops.items()}
        target = np.sum([w[i] * (p @ rows[i]) for i, (_, p) in tops.items()], axis=0)
        return softmax(search(np.log(tops[main][1]), rows[main], target, rate=self.rate, steps=self.steps))


def _fused(view: View, ids: Ids, p: Floats, views: Sequence[View | None], weights: Floats) -> Fused:
    """The distribution over the strings of these ids, ids with equal bytes summed, with each member's share."""
    found: dict[bytes, float] = {}
    for token_id, mass in zip(ids.tolist(), p.tolist(), strict=True):
        piece = view.vocab.bytes_of(token_id)
        found[piece] = found.get(piece, 0.0) + mass
    texts = tuple(sorted(found))
    shares = np.zeros((len(texts), len(views)))
    for i, other in enumerate(views):
        if other is not None and weights[i]:
            known = [other.next.logp_of(piece) for piece in texts]
            shares[:, i] = weights[i] * np.exp([-np.inf if logp is None else logp for logp in known])
    total = shares.sum(axis=1, keepdims=True)
    shares = np.divide(shares, total, out=np.full_like(shares, 1 / len(views)), where=total > 0)
    return Fused(texts, np.array([found[piece] for piece in texts]), shares, ordered=True)
