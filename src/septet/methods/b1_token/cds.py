"""CDS: an aligned model writes in its own manner, and the pretrained one writes the tokens that facts hang on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from septet.core.caps import Caps, PoolRule
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Asking, Card, Rng, Seat, method, param
from septet.core.session import Fused, View
from septet.core.table import Table
from septet.core.types import Floats
from septet.methods.b1_token._gated import (
    Batch,
    Dropout,
    Epochs,
    Gated,
    GatedMethod,
    LearningRate,
    Patience,
    Positions,
    Texts,
    asked,
    best_of,
    of_member,
    opened,
    spelled,
)
from septet.parts.decoding.common import common
from septet.parts.decoding.token_gate import Gate, fit_gate, single
from septet.parts.decoding.token_labels import critical, recorded
from septet.parts.decoding.union import UnionTable, union_key

CARD = Card(
    paper="2402.17982",
    title="Collaborative Decoding of Critical Tokens for Boosting Factuality of Large Language Models",
    facets=Facets(
        family=Family.TOKEN,
        strategy=Strategy.SELECTION,
        granularity=Granularity.TOKEN,
        goal=Goal.PERFORMANCE,
        supervised=True,
    ),
    pool=PoolRule(at_least=2, at_most=2, order="primary-first"),
    trained=True,
    permutes=False,
    differs=(
        "the classifier is a small network on the aligned model's hidden state; the paper's architecture could not"
        " be verified, so its layers and all constants of its training are ours",
        "what is critical in the training texts is found by a rule of ours, digits, dates and capitalised words"
        " within a sentence; the paper has a set that was annotated for it",
        "the training texts are right answers in the table of outcomes, the aligned model's before the other's",
        "the members may have different tokenizers; the paper's main experiments have one",
        "a token is judged critical before it is chosen, from what stands before it",
        "no number of the paper was verified, and no code was read",
    ),
)

SHOWN = 1000
"""Strings of the aligned model that may be drawn where its vocabulary is not known as a whole."""


@dataclass(frozen=True, eq=False)
class Own:
    """What is prepared: the strings of the aligned model's vocabulary; None where it is not known as a whole."""

    table: UnionTable | None


@method(CARD)
class Cds(GatedMethod):
    """Collaborative decoding of critical tokens (2402.17982): members are the aligned model, then the pretrained one.

    c = MLP(h), h (d,) the aligned model's hidden state before the token, is the chance that a critical token
    comes: a number, a date, a name. c ≥ threshold: the pretrained model's most probable token, with probability 1,
    so that no temperature moves it; else the aligned model's whole distribution (t,), from which the request's own
    temperature and top_p draw. Cost: one forward of the aligned model per token, and of the pretrained one per
    critical token, with what it has missed; a fit is one request with a session per text, so `limits` may have to be
    raised for it. Fails where the pretrained model does not follow the conversation, and
    where hidden states do not tell that a fact is due.

    >>> from septet.parts.learning.mlp import Mlp
    >>> from septet.testing.scripted import view
    >>> aligned, pretrained = view({b" 1808": .6, b" 1810": .4}), view({b" 1806": .7, b" 1808": .3})
    >>> s = Gated(Gate(Mlp((1, 1), np.zeros(2)), None), Own(None))
    >>> Cds().fuse([aligned, pretrained], s)[0].texts, Cds().fuse([aligned, None], s)[0].texts
    ((b' 1806',), (b' 1808', b' 1810'))
    """

    prepared_type = Own

    threshold: Annotated[
        float, param("The pretrained model writes where the gate says at least this.", ge=0, le=1)
    ] = 0.5
    width: Annotated[int, param("Units of the classifier's one hidden layer.", ge=1, le=65_536)] = 256
    texts: Texts = 1000
    positions: Positions = 100_000
    rate: LearningRate = 1e-3
    batch: Batch = 80
    epochs: Epochs = 200
    patience: Patience = 5
    dropout: Dropout = 0.1

    def needs(self) -> Caps:
        return Caps(text=True, continues=True, full=True, hidden=True)

    def needs_of(self, place: int, n_members: int) -> Caps:
        """Of the pretrained model only its best token is seen."""
        return self.needs() if place == 0 else Caps(text=True, continues=True, topk=1)

    def prepare(self, pool: Any) -> Own:
        vocab = pool.members[0].vocab
        return Own(UnionTable.of([vocab]) if union_key([vocab]) else None)

    def prepared_key(self, pool: Any) -> str:
        return union_key([pool.members[0].vocab])

    def defers(self, chance: float) -> bool:
        return chance >= self.threshold

    def fuse(self, views: Sequence[View | None], s: Gated) -> tuple[Fused, Gated]:
        aligned, pretrained = views
        if pretrained is not None:
            best = best_of(pretrained.next, pretrained.vocab)
            return of_member((best,), np.ones(1), 1, 2, ordered=True), s
        seen = common([aligned], s.prepared.table, SHOWN)
        p = np.exp(np.asarray(seen.logp[0], dtype=np.float64))
        return of_member(seen.texts, p, 0, 2, ordered=True), s

    # --- the fit ----------------------------------------------------------------------------------

    def fit(self, table: Table, roles: Mapping[str, tuple[Seat, ...]], rng: Rng) -> Asking[Gate]:
        aligned = roles["members"][0]
        hidden, labels, groups = list[Floats](), list[float](), list[int]()
        for number, text in enumerate(recorded(table, (0, 1), self.texts, rng)):
            if len(labels) >= self.positions:
                break
            mask, at = critical(text.text), 0
            session = yield from opened(aligned, text.question, ())
            whole = text.text.encode("utf-8", "replace")
            for piece, token_id in spelled(session, whole)[: self.positions - len(labels)]:
                seen = yield from asked(session.next(1, hidden=True))
                hidden.append(seen.hidden)
                labels.append(float(mask[at : at + len(piece)].any()))
                groups.append(number)
                at += len(piece)
                yield from asked(session.push(piece, id=token_id))
            yield [session.close()]
        x, y = single(hidden), np.array(labels)
        return fit_gate(x, y, groups, (self.width,), self.course, rng)
