"""Members and roles: whatever can answer, score, embed, rate, compare or run, and a pool of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from septet.core.caps import Caps
from septet.core.errors import UnknownName
from septet.core.money import Price
from septet.core.session import Session, Vocab
from septet.core.types import Completion, Floats, Metered, Piece, Query, Run, Tokens


@runtime_checkable
class Actor(Protocol):
    """A member or a role. It has the abilities that its caps name; calling another raises BackendError."""

    @property
    def name(self) -> str: ...
    @property
    def caps(self) -> Caps: ...
    @property
    def price(self) -> Price | None: ...
    @property
    def vocab(self) -> Vocab | None: ...
    @property
    def stop(self) -> tuple[str, ...]:
        """Strings at which an answer in this member's prompt format ends."""

    async def complete(self, query: Query, *, n: int = 1, logprobs: int = 0) -> list[Completion]:
        """n answers; `logprobs` > 0 also reports the answer's tokens with that many alternatives."""

    def stream(self, query: Query) -> AsyncIterator[Piece | Completion]:
        """The answer in pieces, then exactly one Completion."""

    async def open(self, query: Query, *, scored: bool = False) -> Session:
        """A session after the query's prompt; `scored` also gives the prompt's own tokens."""

    async def score(self, query: Query, texts: Sequence[str]) -> Metered[list[Tokens]]:
        """Log-probabilities of each text as the answer to the query."""

    async def embed(self, texts: Sequence[str]) -> Metered[Floats]:
        """(n, d) rows of length one."""

    async def rate(self, query: Query, texts: Sequence[str]) -> Metered[Floats]:
        """(n, c): reward, process reward, class or entailment scores of each text as an answer."""

    async def compare(self, query: Query, texts: Sequence[str]) -> Metered[Floats]:
        """(n, n): how much better text i is than text j."""

    async def run(self, code: str) -> Metered[Run]:
        """Runs code in isolation."""

    def matrix(self, side: Literal["input", "output"]) -> NDArray[np.float32]:
        """(V, d) token embeddings, to be read only; the member has to be loaded."""

    async def aclose(self) -> None:
        """Give back connections, models and threads."""


@dataclass(frozen=True)
class Pool:
    """The members of an ensemble in their declared order, and the actors of each role."""

    members: tuple[Actor, ...]
    roles: Mapping[str, tuple[Actor, ...]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The members' names, in order."""
        return tuple(m.name for m in self.members)

    def index(self, name: str) -> int:
        """The position of a member."""
        try:
            return self.names.index(name)
        except ValueError:
            raise UnknownName("member", name, self.names) from None
