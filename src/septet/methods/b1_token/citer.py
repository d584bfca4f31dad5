"""CITER: a small model writes, and the large one writes the tokens that a gate on its hidden state does not trust."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from septet.core.caps import Caps, PoolRule
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Asking, Card, Rng, Seat, method, param
from septet.core.session import END, Fused, Sampler, View
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
    best_in,
    of_member,
    opened,
    spelled,
)
from septet.parts.answers.extract import final_answer
from septet.parts.decoding.fuse import strings_of
from septet.parts.decoding.token_gate import Gate, fit_gate, single
from septet.parts.decoding.token_labels import Recorded, goes_on, may_write, recorded

CARD = Card(
    paper="2502.01976",
    title="CITER: Collaborative Inference for Efficient Large Language Model Decoding with Token-Level Routing",
    facets=Facets(
        family=Family.TOKEN,
        strategy=Strategy.SELECTION,
        granularity=Granularity.TOKEN,
        goal=Goal.PERFORMANCE,
        supervised=True,
    ),
    pool=PoolRule(at_least=2, at_most=2, order="weak-strong"),
    trained=True,
    permutes=False,
    differs=(
        "the members may have different tokenizers: a token counts as right where the recorded text goes on with"
        " its bytes, where the released code compares ids",
        "the recorded texts are right answers in the table of outcomes, the large model's before the small one's;"
        " the paper has gold rationales of its data sets",
        "a text is also labelled at its end, where the right token is the end of the answer",
        "at most `rollouts` positions are rolled out, drawn at random; the others that neither model has right are"
        " left out of the fit",
        "a roll-out is right where its final answer is that of the recorded text, as septet reads final answers",
        "batch normalisation uses the statistics of all training positions at the end, in place of running ones",
        "each iteration learns a new network; whether the released code goes on with the old one was not verified",
        "the learning rate is 1e-4 unless given: with the released script's 1e-7 a network hardly moves on some"
        " thousands of positions",
        "the large model reads the prompt when the answer begins, and the answer only where it is asked, from where it"
        " left off; the released router gives it the whole text anew each time",
        "no number of the paper was verified",
    ),
)


UNDECIDED = -1
"""The label of a position at which neither model's token is right, before a roll-out."""


@dataclass(frozen=True)
class Position:
    """A position of a recorded text, both by number: `place` counts the small model's tokens before it. `hidden`
    (d,) is the small model's state there; `label` is 1 where the small model may write, else 0, or UNDECIDED."""

    text: int
    place: int
    hidden: Floats
    label: int


@method(CARD)
class Citer(GatedMethod):
    """Token-level routing (2502.01976): members are the small model, then the large one.

    c = MLP(h), h (d,) the small model's hidden state before the token, the MLP d → 2d → d → 1 with a sigmoid;
    c ≥ τ: the small model's token, else the large model's. A fit walks recorded texts: 1 where the small model's
    greedy token is right, else 0 where the large one's is, else 1 where the small model alone comes to the right
    answer from there; in further iterations these are labelled by what the routed pair comes to after the small
    model's token. Cost: one forward of the small model per token, and of the large one per deferred token, with
    what it has missed; a fit is one request, in which every text and every roll-out opens a session of each, so
    `limits` may have to be raised for it. Fails where hidden states do not tell: then c is the share of ones.

    >>> from septet.core.session import View
    >>> from septet.parts.learning.mlp import Mlp
    >>> from septet.testing.scripted import view
    >>> gate = Gate(Mlp((1, 1), np.array([0.0, np.log(0.94 / 0.06)])), None)   # c = .94 everywhere
    >>> small, large = view({b" 4": .9, b" 5": .1}), view({b" 5": .8, b" 4": .2})
    >>> Citer().consult(replace(small.next, hidden=np.zeros(1)), Gated(gate))
    (0, 1)
    >>> fused, _ = Citer().fuse([small, large], Gated(gate))
    >>> {t.decode(): round(float(p), 3) for t, p in zip(fused.texts, fused.p)}
    {' 4': 0.2, ' 5': 0.8}
    """

    threshold: Annotated[
        float, param("τ: the small model writes where the gate says at least this.", ge=0, le=1)
    ] = 0.95
    k: Annotated[
        int, param("Strings of a member that may be drawn; greedy decoding needs one.", ge=1, le=1000)
    ] = 20
    iterations: Annotated[int, param("How often positions are labelled and learned.", ge=1, le=10)] = 2
    rollouts: Annotated[
        int, param("The most positions that are decided by writing on to the end.", ge=0, le=10_000_000)
    ] = 200
    rollout_tokens: Annotated[
        int, param("The most tokens that the small model writes in a roll-out.", ge=1, le=100_000)
    ] = 1000
    routed_tokens: Annotated[
        int, param("The most tokens that the routed pair writes in one.", ge=1, le=100_000)
    ] = 300
    texts: Texts = 1000
    positions: Positions = 100_000
    rate: LearningRate = 1e-4
    batch: Batch = 80
    epochs: Epochs = 1000
    patience: Patience = 5
    dropout: Dropout = 0.1

    def needs(self) -> Caps:
        return Caps(text=True, continues=True, topk=self.k, hidden=True)

    def needs_of(self, place: int, n_members: int) -> Caps:
        """Only the small model shows its hidden state."""
        return replace(self.needs(), hidden=place == 0)

    def defers(self, chance: float) -> bool:
        return chance < self.threshold

    def fuse(self, views: Sequence[View | None], s: Gated) -> tuple[Fused, Gated]:
        member = max(i for i, view in enumerate(views) if view is not None)
        view = views[member]
        assert view is not None
        found = strings_of(view, self.k)
        texts = tuple(sorted(found))
        p = np.exp(np.array([found[t] for t in texts]))
        return of_member(texts, p, member, len(views), ordered=True), s

    # --- the fit ----------------------------------------------------------------------------------

    def fit(self, table: Table, roles: Mapping[str, tuple[Seat, ...]], rng: Rng) -> Asking[Gate]:
        small, large = roles["members"]
        texts = recorded(table, (1, 0), self.texts, rng)
        found: list[Position] = []
        for number, text in enumerate(texts):
            found += yield from self._walked(small, large, number, text, self.positions - len(found))
        undecided = [i for i, p in enumerate(found) if p.label == UNDECIDED]
        chosen = sorted(rng.permutation(undecided)[: self.rollouts].tolist())
        for i in chosen:
            label = yield from self._alone(small, texts[found[i].text], found[i])
            found[i] = replace(found[i], label=label)
        gate = self._learned(found, rng)
        for _ in range(1, self.iterations if chosen else 1):
            for i in chosen:
                label = yield from self._routed(small, large, texts[found[i].text], found[i], gate)
                found[i] = replace(found[i], label=label)
            gate = self._learned(found, rng)
        return gate

    def _learned(self, found: Sequence[Position], rng: Rng) -> Gate:
        """The network on the positions that have a label."""
        known = [p for p in found if p.label != UNDECIDED]
        x = single([p.hidden for p in known])
        y = np.array([p.label for p in known], dtype=np.float64)
        width = x.shape[1] if known else 0
        return fit_gate(x, y, [p.text for p in known], (2 * width, width), self.course, rng)

    def _walked(
        self, small: Seat, large: Seat, number: int, text: Recorded, most: int
    ) -> Asking[list[Position]]:
        """The positions of a recorded text, at most `most`."""
        if most <= 0:
            return []
        whole = text.text.encode("utf-8", "replace")
        first = yield from opened(small, text.question, ())
        second = yield from opened(large, text.question, ())
        found, rest = list[Position](), whole
        pieces = spelled(first, whole)
        for place in range(min(len(pieces) + 1, most)):
            seen = yield from asked(first.next(1, hidden=True))
            mine, theirs = best_in(seen, first), b""
            if not goes_on(rest, mine):
                theirs = best_in((yield from asked(second.next(1))), second)
            label = may_write(rest, mine, theirs)
            found.append(Position(number, place, seen.hidden, UNDECIDED if label is None else label))
            if place < len(pieces):
                piece, token_id = pieces[place]
                rest = rest[len(piece) :]
                yield from asked(first.push(piece, id=token_id))
                yield from asked(second.push(piece))
        yield [first.close(), second.close()]
        return found

    def _alone(self, small: Seat, text: Recorded, at: Position) -> Asking[int]:
        """Whether the small model alone comes to the right answer from a position of the text on."""
        session = yield from opened(small, text.question, ())
        before = spelled(session, text.text.encode("utf-8", "replace"))[: at.place]
        for piece, token_id in before:
            yield from asked(session.push(piece, id=token_id))
        stop = [s.encode() for s in small.stop]
        draft = yield from asked(session.write(stop, self.rollout_tokens, Sampler()))
        yield [session.close()]
        return _agrees(text, b"".join(piece for piece, _ in before) + draft.text)

    def _routed(self, small: Seat, large: Seat, text: Recorded, at: Position, gate: Gate) -> Asking[int]:
        """Whether small and large, routed by the gate, come to the right answer after the small model's token."""
        first = yield from opened(small, text.question, ())
        before = spelled(first, text.text.encode("utf-8", "replace"))[: at.place]
        for piece, token_id in before:
            yield from asked(first.push(piece, id=token_id))
        second = yield from opened(large, text.question, [(piece, None) for piece, _ in before])
        written = b"".join(piece for piece, _ in before)
        began, stop = len(written), [s.encode() for s in small.stop]
        for step in range(self.routed_tokens):
            seen = yield from asked(first.next(1, hidden=True))
            piece = best_in(seen, first)
            if step and self.defers(gate.chance(seen.hidden)):
                piece = best_in((yield from asked(second.next(1))), second)
            if piece == END:
                break
            written += piece
            if any(s in written[began:] for s in stop):
                break
            yield from asked(first.push(piece))
            yield from asked(second.push(piece))
        yield [first.close(), second.close()]
        return _agrees(text, written)


def _agrees(text: Recorded, written: bytes) -> int:
    """1 where what was written comes to the final answer of the recorded text."""
    right = final_answer(text.text)
    return int(right is not None and final_answer(written.decode("utf-8", "replace")) == right)
