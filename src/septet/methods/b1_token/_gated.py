"""What methods share that choose the member of every token by a gate on the first member's hidden state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeAlias

import numpy as np

from septet.core.errors import RunError
from septet.core.method import Ask, Asking, Seat, param
from septet.core.session import END, Fused, Next, Vocab
from septet.core.types import Floats, Query, Tokens
from septet.methods.b1_token._family import TokenMethod
from septet.parts.decoding.token_gate import Course, Gate

Texts: TypeAlias = Annotated[
    int, param("The most recorded texts, one a question, that a fit reads.", ge=3, le=1_000_000)
]
Positions: TypeAlias = Annotated[
    int, param("The most positions of these texts that a fit labels.", ge=3, le=100_000_000)
]
LearningRate: TypeAlias = Annotated[float, param("The step of Adam.", gt=0, le=1)]
Batch: TypeAlias = Annotated[int, param("Positions in one step.", ge=2, le=65_536)]
Epochs: TypeAlias = Annotated[int, param("The most passes over the positions.", ge=1, le=100_000)]
Patience: TypeAlias = Annotated[
    int, param("Passes without a lower held-out loss after which a fit ends.", ge=1, le=100_000)
]
Dropout: TypeAlias = Annotated[
    float, param("The chance that a unit is left out of a training step.", ge=0, lt=1)
]


@dataclass(frozen=True)
class Gated:
    """A request's value: the fitted gate, and what the method has prepared."""

    gate: Gate
    prepared: Any = None


class GatedMethod(TokenMethod):
    """The first member is asked for every token, and the gate reads its hidden state; the second one is asked,
    and fed what it has missed, only where `defers` says so. A second one that has failed is done without; where
    the first one has failed, the second one writes alone."""

    consults: ClassVar[bool] = True
    state_type = Gate

    texts: Texts
    positions: Positions
    rate: LearningRate
    batch: Batch
    epochs: Epochs
    patience: Patience
    dropout: Dropout

    def defers(self, chance: float) -> bool:
        """Whether the second member writes the next token, by what the gate says."""
        raise NotImplementedError

    @property
    def course(self) -> Course:
        """How the gate is learned."""
        return Course(self.rate, self.batch, self.epochs, self.patience, self.dropout)

    def hidden_of(self, n_members: int) -> Sequence[int]:
        return (0,)

    def start(self, query: Query, prompts: Sequence[Tokens | None], prepared: Any, state: Gate) -> Gated:
        return Gated(state, prepared)

    def consult(self, first: Next, s: Gated) -> Sequence[int]:
        return (0, 1) if self.defers(s.gate.chance(first.hidden)) else (0,)


def asked(ask: Ask) -> Asking[Any]:
    """The value of one ask, in a generator of asks; a failed one raises its error."""
    (reply,) = yield [ask]
    return reply.value


def best_of(following: Next, vocab: Vocab) -> bytes:
    """The bytes of a member's most probable token, b"" for END; the distribution is no full one."""
    return vocab.bytes_of(int(following.ids[0]))


def best_in(following: Next, session: Seat) -> bytes:
    """The same of what a session has replied."""
    assert session.vocab is not None
    return best_of(following, session.vocab)


def of_member(texts: Sequence[bytes], p: Floats, member: int, n_members: int, *, ordered: bool) -> Fused:
    """One member's own distribution over these strings, p (t,) in any scale, as the fused one."""
    total = p.sum()
    if not total > 0:
        raise RunError("none of the member's strings has a probability")
    share = np.broadcast_to(np.eye(n_members)[member], (len(texts), n_members))
    return Fused(texts, p / total, share, ordered=ordered)


def opened(member: Seat, question: str, pieces: Sequence[tuple[bytes, int | None]]) -> Asking[Seat]:
    """A session of a member after the question and these pieces of an answer; the pieces are fed when it is first
    asked."""
    session: Seat = yield from asked(member.open(Query.of(question)))
    for piece, token_id in pieces:
        yield from asked(session.push(piece, id=token_id))
    return session


def spelled(session: Seat, text: bytes) -> list[tuple[bytes, int]]:
    """A text as the member's own tokens, with their ids; those without bytes are left out."""
    assert session.vocab is not None
    found = [(session.vocab.bytes_of(i), i) for i in session.vocab.tokenise(text)]
    return [(piece, i) for piece, i in found if piece != END]
