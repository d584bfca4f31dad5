"""GaC: every next token is a vote of all members over the union of their vocabularies, each string one class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Annotated, Any, Literal

import numpy as np

from septet.core.caps import Caps
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Card, method, param
from septet.core.session import Fused, Next, View
from septet.core.types import Floats, Query, Tokens
from septet.methods.b1_token._family import TokenMethod
from septet.methods.b1_token._same_vocabulary import TOP_K, Listed
from septet.parts.decoding.aggregate import arithmetic
from septet.parts.decoding.common import common, whole_mean
from septet.parts.decoding.union import UnionTable, union_key
from septet.parts.decoding.weights import by_score

CARD = Card(
    paper="2406.12585",
    title="Breaking the Ceiling of the LLM Community by Treating Token Generation as a Classification for"
    " Ensembling",
    facets=Facets(
        family=Family.TOKEN,
        strategy=Strategy.AGGREGATION,
        granularity=Granularity.TOKEN,
        goal=Goal.PERFORMANCE,
        supervised=False,
    ),
    differs=(
        "strings are compared as exact bytes; the released code rewrites token spellings, by which most"
        " characters beyond ASCII of two tokenizer families never meet",
        "all ids that end an answer are one END, whose mass is summed over members; the released code keeps their"
        " spellings apart, and ends when the winner is one of a list",
        "the winner's bytes are committed to every member by the house's commit rule, and no cache is thrown"
        " away; the released code appends the winner's tokens and feeds the prompt anew where these are several",
        "in the thresholded mode the other members are asked after the primary; the released code asks all at"
        " once and cancels",
        "a primary whose weight is 0 is never taken alone, as in the released code, which scales both sides",
        "the threshold 0.5 was taken from a summary of the paper; the released example has 1.0",
        "with `approximate = true`, a string that a member does not report is impossible for it",
        "ties go to the smaller bytes",
    ),
)


@method(CARD)
class Gac(TokenMethod):
    """Generation as classification (2406.12585).

    U: the strings of all vocabularies, (t,); p_i: member i's whole next-token distribution laid out on U,
    (n_members, t); p = Σ_i w_i p_i. `thresholded`: the first member is the primary, and where its best
    token has more than `threshold` it is taken alone. Cost: one forward per member and piece, and a gather of
    t numbers each; thresholded, often the primary's forward only. Fails when a weak member has a weight, and
    where tokenizers cut words differently: the mass that one gives to " cat" and the other to " cats" does
    not meet.

    >>> import numpy as np
    >>> from septet.testing.scripted import view
    >>> a = view({b" cat": .5, b"s": .25, b" the": .25})
    >>> b = view({b" cats": .55, b" cat": .2, b"s": .25})
    >>> s = Listed(("a", "b"), None), np.array([.5, .5])
    >>> fused, _ = Gac().fuse([a, b], s)
    >>> {t.decode(): round(float(p), 3) for t, p in zip(fused.texts, fused.p)}
    {' cat': 0.35, ' cats': 0.275, ' the': 0.125, 's': 0.25}
    """

    prepared_type = Listed

    mode: Annotated[
        Literal["every", "thresholded"],
        param("Ask all members for every token, or only where the first, the primary, is not sure."),
    ] = "every"
    threshold: Annotated[
        float, param("Thresholded: the primary is taken alone above this probability.", ge=0, le=1)
    ] = 0.5
    weights: Annotated[
        Mapping[str, float] | None,
        param(
            "Each member's score by name; it counts in proportion. Equal where none is given.", min_length=1
        ),
    ] = None

    @property
    def consults(self) -> bool:  # type: ignore[override]  # a fact of the mode, not of the class
        return self.mode == "thresholded"

    @property
    def complete(self) -> bool:
        return self.mode == "every"

    def mixture(self, s: tuple[Listed, Floats]) -> Floats | None:
        return s[1] if self.mode == "every" else None

    def needs(self) -> Caps:
        return Caps(text=True, continues=True, full=True)

    def prepare(self, pool: Any) -> Listed:
        vocabs = [m.vocab for m in pool.members]
        return Listed(pool.names, UnionTable.of(vocabs) if union_key(vocabs) else None)

    def prepared_key(self, pool: Any) -> str:
        self.weights_of(pool.names)  # a wrong name is an error before a prepared table is looked for
        key = union_key([m.vocab for m in pool.members])
        return sha256(f"{key} {pool.names}".encode()).hexdigest() if key else ""

    def weights_of(self, names: Sequence[str]) -> Floats:
        """(n_members,) weights in the pool's order, summing to one."""
        return by_score(self.weights, names, "gac.weights")

    def start(self, query: Query, prompts: Sequence[Tokens | None], prepared: Listed, state: Any) -> Any:
        return prepared, self.weights_of(prepared.names)

    def consult(self, first: Next, s: tuple[Listed, Floats]) -> Sequence[int]:
        weights = s[1]
        sure = weights[0] > 0 and np.exp(first.logp.max()) > self.threshold
        return [0] if sure else range(len(weights))

    def fuse(self, views: Sequence[View | None], s: tuple[Listed, Floats]) -> tuple[Fused, Any]:
        listed, weights = s
        if (mean := whole_mean(views, listed.table, weights)) is not None:
            return mean, s
        seen = common(views, listed.table, TOP_K)
        return seen.fused(arithmetic(seen.logp, weights), weights), s
