"""An actor that reads and writes nothing: what encoders and reward models have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from septet.backends._unable import Unable
from septet.core.backend import MemberSpec
from septet.core.money import Price
from septet.core.session import Session, Vocab
from septet.core.types import Completion, Metered, Piece, Query, Tokens


class Silent(Unable):
    """A member without a vocabulary: every ability of a text model is a BackendError."""

    def __init__(self, spec: MemberSpec) -> None:
        self._spec = spec

    @property
    def name(self) -> str:
        return self._spec.name

    @property
    def price(self) -> Price | None:
        return self._spec.price

    @property
    def vocab(self) -> Vocab | None:
        return None

    @property
    def stop(self) -> tuple[str, ...]:
        return ()

    async def complete(self, query: Query, *, n: int = 1, logprobs: int = 0) -> list[Completion]:
        """Not offered by a model that only reads."""
        raise self._lacks("text")

    async def stream(self, query: Query) -> AsyncIterator[Piece | Completion]:
        """Not offered by a model that only reads."""
        raise self._lacks("stream")
        yield  # makes it an async generator, as `Actor` states it

    async def open(self, query: Query, *, scored: bool = False) -> Session:
        """Not offered by a model that only reads."""
        raise self._lacks("topk")

    async def score(self, query: Query, texts: Sequence[str]) -> Metered[list[Tokens]]:
        """Not offered by a model that only reads."""
        raise self._lacks("score")
