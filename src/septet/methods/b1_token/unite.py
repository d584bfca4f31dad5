"""UniTE: members vote on the union of their top-k next tokens, as byte strings, so any tokenizers go together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np

from septet.core.caps import Caps
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Asking, Card, method, param
from septet.core.session import Fused, Next, View
from septet.core.types import Floats, Query, Tokens
from septet.methods.b1_token._family import TokenMethod
from septet.parts.decoding.fuse import logp_table, mixture, renormalised, strings_of, union
from septet.parts.decoding.weights import by_score

CARD = Card(
    paper="2410.03777",
    title="Determine-Then-Ensemble: Necessity of Top-k Union for Large Language Model Ensembling",
    facets=Facets(
        family=Family.TOKEN,
        strategy=Strategy.AGGREGATION,
        granularity=Granularity.TOKEN,
        goal=Goal.PERFORMANCE,
        supervised=False,
    ),
    differs=(
        "strings are compared as exact bytes, where the released code rewrites token spellings",
        "the winner's bytes are committed to every member; the released code gives the first model the first"
        " sub-token of a winner that it lacks (K5)",
        "all ids that end an answer are one END, which may win; the released code has no stop test",
        "`missing = zero` and `exact` are ours; `first` is the paper's rule",
        "ties go to the smaller bytes, not to the first model",
    ),
)


@method(CARD)
class Unite(TokenMethod):
    """Union top-k ensembling (2410.03777, section 4).

    U = ∪_i top-k(p_i); p̂_i = softmax over U of member i's log-probabilities, (n_members, |U|);
    p = Σ_i w_i p̂_i. Cost: one forward per member and piece, and |U| ≤ n·k look-ups.
    Fails when members differ much in quality (the paper: more than ten points), and on long answers, where
    one foreign piece leads a member off its own path.

    >>> import numpy as np
    >>> from septet.testing.scripted import view
    >>> a = view({b" cat": .5, b"s": .25, b" the": .1})    # what member A thinks comes next
    >>> b = view({b" cats": .55, b" cat": .2, b"s": .05})
    >>> fused, _ = Unite(k=2, missing="zero").fuse([a, b], np.array([.5, .5]))
    >>> {t.decode(): round(float(p), 3) for t, p in zip(fused.texts, fused.p)}
    {' cat': 0.458, ' cats': 0.344, 's': 0.198}
    """

    k: Annotated[int, param("Candidates that each member brings.", ge=1, le=1000)] = 10
    weights: Annotated[
        Mapping[str, float] | None,
        param("Each member's weight by name; equal where none is given.", min_length=1),
    ] = None
    missing: Annotated[
        Literal["first", "zero", "exact"],
        param(
            "A string that a member has no token for counts as its first sub-token (the paper), as impossible,"
            " or as the product of its sub-tokens (one more forward)."
        ),
    ] = "first"

    def needs(self) -> Caps:
        return Caps(text=True, continues=True, topk=self.k, score=self.missing == "exact")

    def start(self, query: Query, prompts: Sequence[Tokens | None], prepared: Any, state: Any) -> Floats:
        return self.weights_of(prepared)

    def prepare(self, pool: Any) -> tuple[str, ...]:
        names: tuple[str, ...] = pool.names
        self.weights_of(names)
        return names

    def weights_of(self, names: Sequence[str]) -> Floats:
        """(n_members,) weights in the pool's order, summing to one."""
        return by_score(self.weights, names, "unite.weights")

    def fuse(self, views: Sequence[View | None], s: Floats) -> Any:
        tops = [{} if v is None else strings_of(v, self.k) for v in views]
        if self.missing == "exact":
            return self._fuse_exactly(views, tops, s)
        return self._fused(views, tops, {}, s)

    def _fused(
        self,
        views: Sequence[View | None],
        tops: Sequence[dict[bytes, float]],
        exact: Mapping[tuple[int, bytes], float],
        s: Floats,
    ) -> tuple[Fused, Floats]:
        texts = union(tops)

        def missing(i: int, following: Next, piece: bytes) -> float:
            if (i, piece) in exact:
                return exact[i, piece]
            logp = following.logp_of(piece)
            if self.missing == "first" and piece and logp in (None, -np.inf):
                logp = following.logp_of(piece, first=True)
            # a server that reports only its top k cannot know: the string counts as impossible
            return -np.inf if logp is None else logp

        p = renormalised(logp_table(views, tops, texts, missing))
        mean, share = mixture(p, s)
        return Fused(texts, mean, share), s

    def _fuse_exactly(
        self, views: Sequence[View | None], tops: Sequence[dict[bytes, float]], s: Floats
    ) -> Asking[tuple[Fused, Floats]]:
        """The third rule: a string without a token of its own is scored as the member would spell it."""
        texts, asks, lacking = union(tops), [], []
        for i, view in enumerate(views):
            if view is None:
                continue
            absent = [t for t in texts if t and t not in tops[i] and not view.vocab.ids_of(t)]
            if absent:
                asks.append(view.session.score(absent))
                lacking.append((i, absent))
        exact: dict[tuple[int, bytes], float] = {}
        if asks:
            replies = yield asks
            for (i, absent), reply in zip(lacking, replies, strict=True):
                for piece, tokens in zip(absent, reply.value, strict=True):
                    exact[i, piece] = float(tokens.logp.sum())
        return self._fused(views, tops, exact, s)
