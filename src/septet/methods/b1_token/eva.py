"""EVA: each assistant's next-token distribution is projected onto the first member's tokens by aligned embeddings,
and the members that agree with another are averaged."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from septet.core.caps import Caps, PoolRule
from septet.core.errors import RunError
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Card, method, param
from septet.core.session import Fused, View
from septet.core.types import Floats, Query, Tokens
from septet.methods.b1_token._embeddings import best_tokens, whole_vocabulary
from septet.methods.b1_token._family import TokenMethod
from septet.parts.decoding.projection import FORM, Progress, Projection, project_onto
from septet.parts.decoding.topk import top_k
from septet.parts.decoding.vocabulary import PackedVocab

CARD = Card(
    paper="2404.09492",
    title="Bridging the Gap between Different Vocabularies for LLM Ensemble",
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
        "the map between embeddings is our own, after the mathematics that VecMap's supervised mode documents;"
        " VecMap itself was not run beside it",
        "members of different widths meet in the smaller one; the released code has members of one width",
        "an assistant with the first member's vocabulary is not projected: its tokens are themselves",
        "strings are compared as exact bytes, and END of one member is END of the other and nothing else; the"
        " released code does this for ids 0, 1 and 2, whatever they are",
        "the mean is divided by its sum, so that it is a distribution; the most probable token stays what it is",
        "the winner's bytes are committed to every member by its commit rule; the released code appends a token's"
        " spelling as text to all prompts and reads them anew",
        "a token that is like none of the first member's loses its probability, as in the released code; an"
        " assistant all of whose tokens are such has no say",
        "`rows = normalised` is ours; ties go to the smaller id, then to the smaller bytes",
        "the released code's other mode, linear_sum, which gives the first member weight 0, is left out",
    ),
)

LONG = 10**12
"""Multiplications of a projection that are worth a warning: a minute or more."""

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Maps:
    """What is prepared: the first member's strings, and how the tokens of each of the others come to its tokens.

    The string of id j is packed[offsets[j]:offsets[j+1]]. With them the others go on when the first member has
    failed.
    """

    packed: NDArray[np.uint8]
    offsets: NDArray[np.integer[Any]]
    assistants: tuple[Projection, ...]

    @classmethod
    def of(cls, vocab: PackedVocab, assistants: Sequence[Projection]) -> Maps:
        """From the first member's vocabulary, and a projection onto it for each of the others."""
        arrays = vocab.arrays()
        return cls(arrays["packed"], arrays["offsets"], tuple(assistants))

    def string(self, token_id: int) -> bytes:
        """The bytes of one of the first member's ids; b"" for END."""
        return self.packed[self.offsets[token_id] : self.offsets[token_id + 1]].tobytes()


@method(CARD)
class Eva(TokenMethod):
    """Ensembling via vocabulary alignment (2404.09492, sections 3.1 and 3.2).

    S_i (V_i, V_1), sparse: of each token of member i its `nearest` ten tokens of member 1 by CSLS between output
    embeddings mapped into one space, those with a score ≥ `threshold`. q_1 = p_1, q_i = p_i S_i, (V_1,), from
    each member's `k` best tokens; member i stays if the best of q_i is among the `agree` best of some q_j, and
    p ∝ Σ_i q_i over those that stay, or over all where none does. Cost: one forward per member and piece; once,
    V_i·V_1·d multiplications, minutes for vocabularies of 49k and 262k. Fails where a score is no probability:
    a token with ten near ones counts for more than one with a single near one.

    >>> from septet.testing.scripted import view
    >>> main, aux = view({b"a": .5, b"b": .3, b"c": .2}), view({b"x": .6, b"y": .4})
    >>> x, y = [(1, .9), (2, .3)], [(3, .8)]                         # K8: x is like a and b, y like c
    >>> rows = Projection.of([[(0, 1.)], x, y] + [[]] * (aux.vocab.size - 3))
    >>> fused, _ = Eva().fuse([main, aux], Maps.of(main.vocab, [rows]))
    >>> {t.decode(): round(float(p), 3) for t, p in zip(fused.texts, fused.p)}      # (.52, .24, .26) / 1.02
    {'a': 0.51, 'b': 0.235, 'c': 0.255}
    """

    k: Annotated[int, param("Tokens that each member brings.", ge=1, le=10_000)] = 320
    agree: Annotated[
        int, param("A member stays if its best token is among this many best of another.", ge=1, le=1000)
    ] = 3
    nearest: Annotated[
        int, param("Tokens of the first member that a token of another can become.", ge=1, le=64)
    ] = 10
    threshold: Annotated[float, param("The least similarity score that counts.", ge=0, le=1)] = 0.1
    rows: Annotated[
        Literal["scores", "normalised"],
        param("Scores count as they are (the paper), or each token's are brought to sum one."),
    ] = "scores"

    prepared_type = Maps

    def needs(self) -> Caps:
        return Caps(text=True, continues=True, full=True, matrices=True)

    def prepared_key(self, pool: Any) -> str:
        parts = [f"{FORM} {self.nearest} {self.threshold}"]
        for member in pool.members:
            digest, rows = whole_vocabulary(member, self.name).digest, member.matrix("output")
            some = np.ascontiguousarray(rows[:: max(1, len(rows) // 64)])
            parts.append(f"{digest} {rows.shape} {sha256(some.tobytes()).hexdigest()}")
        return sha256("\n".join(parts).encode()).hexdigest()

    def prepare(self, pool: Any) -> Maps:
        main, *others = pool.members
        onto, columns = whole_vocabulary(main, self.name), main.matrix("output")
        found = []
        for member in others:
            of, rows = whole_vocabulary(member, self.name), member.matrix("output")
            if of.digest != onto.digest and of.size * onto.size * min(rows.shape[1], columns.shape[1]) > LONG:
                LOG.warning(
                    "eva compares %d tokens of %s with %d of %s: minutes, once for these members",
                    *(of.size, member.name, onto.size, main.name),
                )
            found.append(
                project_onto(
                    (of, rows),
                    (onto, columns),
                    keep=self.nearest,
                    threshold=self.threshold,
                    progress=_tenths(f"eva: tokens of {member.name} beside those of {main.name}"),
                )
            )
        return Maps.of(onto, found)

    def start(self, query: Query, prompts: Sequence[Tokens | None], prepared: Maps, state: Any) -> Maps:
        return prepared

    def fuse(self, views: Sequence[View | None], s: Maps) -> tuple[Fused, Maps]:
        seen = [None if v is None else self._projected(i, v, s) for i, v in enumerate(views)]
        texts = tuple(sorted(set().union(*(q for q in seen if q))))
        place = {piece: j for j, piece in enumerate(texts)}
        q = np.zeros((len(views), len(texts)))
        for row, own in zip(q, seen, strict=True):
            for piece, mass in (own or {}).items():
                row[place[piece]] = mass
        parts = q * self._stay(q)[:, None]
        total = parts.sum(axis=0)
        if not total.any():
            raise RunError(
                "no token that a member would write is like one of the first member's, which has failed"
            )
        shares = np.divide(parts, total, out=np.full_like(parts, 1 / len(views)), where=total > 0)
        return Fused(texts, total / total.sum(), shares.T, ordered=True), s

    def _projected(self, i: int, view: View, s: Maps) -> dict[bytes, float]:
        """What a member gives to each of the first member's strings."""
        ids, p = best_tokens(view, self.k)
        if i:
            ids, p = s.assistants[i - 1].project(ids, p, normalised=self.rows == "normalised")
        found: dict[bytes, float] = {}
        for token_id, mass in zip(ids.tolist(), p.tolist(), strict=True):
            piece = s.string(token_id)
            found[piece] = found.get(piece, 0.0) + mass
        return found

    def _stay(self, q: Floats) -> NDArray[np.bool_]:
        """(n_members,) whose best string is among the `agree` best of another; all where it is nobody's."""
        tops = [set(top_k(np.where(row > 0, row, -np.inf), self.agree).tolist()) for row in q]
        stay = np.zeros(len(q), dtype=np.bool_)
        for i, row in enumerate(q):
            stay[i] = bool(tops[i]) and any(int(row.argmax()) in top for j, top in enumerate(tops) if j != i)
        return stay if stay.any() else np.ones_like(stay)


def _tenths(what: str) -> Progress:
    """Logs every tenth of the way."""
    told = 0

    def tell(done: int, of: int) -> None:
        nonlocal told
        if done * 10 // of > told:
            told = done * 10 // of
            LOG.info("%s: %d of %d", what, done, of)

    return tell
