"""PackLLM: members are weighed by how well they read the prompt, then multiply their next-token distributions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any, Literal

import numpy as np

from septet.core.caps import Caps
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Card, method, param
from septet.core.session import Fused, View, Vocab
from septet.core.types import Floats, Query, Tokens
from septet.methods.b1_token._family import TokenMethod
from septet.parts.decoding.aggregate import geometric
from septet.parts.decoding.common import Common, common
from septet.parts.decoding.edit_distance import Reference, references
from septet.parts.decoding.union import UnionTable, union_key
from septet.parts.decoding.weights import by_greedy_search, by_loss, by_score, read, uniform, whole_loss

CARD = Card(
    paper="2404.11531",
    title="Pack of LLMs: Model Fusion at Test-Time via Perplexity Optimization",
    facets=Facets(
        family=Family.TOKEN,
        strategy=Strategy.AGGREGATION,
        granularity=Granularity.TOKEN,
        goal=Goal.PERFORMANCE,
        supervised=False,
    ),
    differs=(
        "weights are found once, on the prompt, and then stay; the released forward finds them anew on the whole"
        " sequence that it scores",
        "the loss is taken over the question as it stands in each member's own prompt, between the first and the"
        " last place where the tokens of all end; over the whole prompts where there are no two such places",
        "`opt` minimises the loss of the members' arithmetic mixture over the segments that all their tokens"
        " share, since a session reports the log-probabilities of the prompt's tokens and not its logits; the"
        " paper minimises that of the mixed logits. Without such segments it is `sim`",
        "`alignment = bytes` is ours, and the default: a string counts where it has the same bytes, and is"
        " impossible for a member with a weight that has no such token",
        "`edit-distance` is the paper's; distances count characters of the exact spelling, of several equally near"
        " tokens the longest beginning or end of the string is taken, and a string that no token is nearer to"
        " than the empty one is impossible for that member",
        "members read the answer by their own tokenizers; the released code feeds each member the reference's"
        " tokens, mapped one by one",
        "all ids that end an answer are one END, which maps to END only",
        "log-probabilities take the place of logits: their weighted sums give the same distribution",
        "with `approximate = true`, a string that a member lacks or does not report counts as the least probable"
        " one of those that it reports",
    ),
)

TOP_K = 100
"""Strings that a member brings where one of them reports no whole distribution (`approximate = true`)."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """`names` of the members in order; for `bytes` the `table` of all strings, for `edit-distance` one reference
    per member. Neither where a vocabulary is not known as a whole."""

    names: tuple[str, ...]
    table: UnionTable | None
    references: tuple[Reference, ...]


@dataclass(frozen=True, eq=False)
class Packed:
    """A request: `weights` (n_members,), and the place of the member whose tokens the others' are mapped to."""

    prepared: Prepared
    weights: Floats
    reference: int


@method(CARD)
class Packllm(TokenMethod):
    """Fusion by prompt perplexity (2404.11531).

    L_i: member i's mean negative log-probability of the prompt's tokens. `sim`: w = softmax(−L/τ). `opt`: from
    the lowest L on, each member joins with the weight that lowers the mixture's loss most. Then
    p(x) ∝ Π_i p_i(x)^{w_i} over the strings (t,), with p_i (n_members, t). Cost: one forward per member and
    piece; every row of the prompt's logits is read once; `edit-distance` maps n·(n−1) vocabularies once, which
    is kept on disk (49k and 262k entries: under a minute of one core). Fails on short prompts, and where the member
    that reads best answers badly; the losses of different tokenizers are per token of their own, so that
    coarser tokens look worse than they are.

    >>> import numpy as np
    >>> from septet.testing.scripted import view
    >>> s = Packed(Prepared(("a", "b"), None, ()), np.array([.5, .5]), 0)
    >>> fused, _ = Packllm().fuse([view({b"x": .9, b"y": .1}), view({b"x": .2, b"y": .8})], s)
    >>> {t.decode(): round(float(p), 3) for t, p in zip(fused.texts, fused.p)}
    {'x': 0.6, 'y': 0.4}
    """

    prepared_type = Prepared

    by: Annotated[
        Literal["sim", "opt"],
        param("Weights by a softmax of the prompt's losses, or by a greedy search for the lowest loss."),
    ] = "sim"
    tau: Annotated[float, param("Temperature of the softmax, in nats per token.", gt=0)] = 1.0
    alignment: Annotated[
        Literal["bytes", "edit-distance"],
        param(
            "Strings of two vocabularies meet when they are equal, or when one is the nearest to the other."
        ),
    ] = "bytes"
    weights: Annotated[
        Mapping[str, float] | None,
        param("Each member's weight by name, in place of the prompt's.", min_length=1),
    ] = None

    @property
    def complete(self) -> bool:
        return True

    def needs(self) -> Caps:
        return Caps(text=True, continues=True, full=True, prompt_scores=self._reads_prompt)

    @property
    def _reads_prompt(self) -> bool:
        """Given weights leave nothing to read it for, but the choice of the reference."""
        return self.weights is None or self.alignment == "edit-distance"

    # --- what depends on the members ---------------------------------------------------------------

    def prepare(self, pool: Any) -> Prepared:
        vocabs: list[Vocab] = [m.vocab for m in pool.members]
        if not union_key(vocabs):
            return Prepared(pool.names, None, ())
        if self.alignment == "bytes":
            return Prepared(pool.names, UnionTable.of(vocabs), ())
        return Prepared(pool.names, None, references(vocabs))

    def prepared_key(self, pool: Any) -> str:
        if self.weights is not None:  # a wrong name is an error before anything prepared is looked for
            by_score(self.weights, pool.names, "packllm.weights")
        key = union_key([m.vocab for m in pool.members])
        return sha256(f"{key} {pool.names} {self.alignment}".encode()).hexdigest() if key else ""

    # --- what depends on the prompt ----------------------------------------------------------------

    def start(self, query: Query, prompts: Sequence[Tokens | None], prepared: Prepared, state: Any) -> Packed:
        shared = read(prompts, query.text.strip().encode("utf-8", "surrogatepass"))
        loss = whole_loss(prompts) if shared is None else shared.loss
        known = ~np.isnan(loss)
        if self.weights is not None:
            weights = by_score(self.weights, prepared.names, "packllm.weights")
        elif not known.any():  # a prompt of one token, before which nothing comes
            weights = uniform(len(loss))
        elif self.by == "opt" and shared is not None:
            weights = by_greedy_search(loss, shared.mixed)
        else:
            weights = by_loss(loss, self.tau)
        return Packed(prepared, weights, int(np.nanargmin(loss)) if known.any() else 0)

    # --- each piece --------------------------------------------------------------------------------

    def fuse(self, views: Sequence[View | None], s: Packed) -> tuple[Fused, Packed]:
        seen = self._aligned(views, s) if s.prepared.references else common(views, s.prepared.table, TOP_K)
        logp = seen.logp if seen.whole else _floored(seen.logp)
        live = np.where(seen.present, s.weights, 0.0)
        weights = live / (
            live.sum() or 1.0
        )  # what is absent leaves its weight, or the rest would be too flat
        return seen.fused(geometric(logp, weights), weights), s

    def _aligned(self, views: Sequence[View | None], s: Packed) -> Common:
        reference = s.prepared.references[s.reference]
        logp = np.full((len(views), len(reference.table.strings)), -np.inf, dtype=np.float32)
        for i, view in enumerate(views):
            if view is not None:
                own = s.prepared.references[i].table.gather(0, view.next.logp)
                logp[i] = reference.mapped(i, own)
        return Common(reference.table.strings, logp, whole=True)


def _floored(logp: Any) -> Floats:
    """What is not reported is as likely as the least that is; the row of an absent member stays."""
    least = np.where(np.isneginf(logp), np.inf, logp).min(axis=1, keepdims=True)
    return np.asarray(np.where(np.isinf(least), logp, np.maximum(logp, least)))
