"""One member's side of a shared answer. What is shared is bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from septet.core.money import Usage
from septet.core.types import Floats, Tokens

Ids = NDArray[np.int32]

END = b""
"""The end of the answer: every id with which a member may end is this one, empty, byte string."""


class Vocab(Protocol):
    """A member's tokens as exact bytes. END ids have the bytes b""; other empty or special rows are masked."""

    @property
    def size(self) -> int: ...
    @property
    def end_ids(self) -> tuple[int, ...]: ...
    @property
    def digest(self) -> str:
        """Equal for equal vocabularies, whoever holds them; "" where only some of its ids are known."""

    def bytes_of(self, token_id: int) -> bytes:
        """The exact bytes of an id; b"" for an END id."""

    def ids_of(self, piece: bytes) -> tuple[int, ...]:
        """Every unmasked id with exactly these bytes, the tokenizer's own first; b"" gives the END ids."""

    def tokenise(self, text: bytes) -> list[int]:
        """The tokenizer's own reading of a text that stands in the middle of an answer."""


@dataclass(frozen=True, slots=True)
class Next:
    """A next-token distribution.

    `at` counts committed bytes. `ids` (k,) and `logp` (k,) are sorted by descending logp; for the full
    distribution they are (V,) in id order, never sorted, and `full` is True. logp is natural, float32,
    over the full vocabulary, with all END ids summed into the first of them.
    """

    at: int
    ids: Ids
    logp: NDArray[np.float32]
    lookup: Callable[[bytes, bool], float | None]
    full: bool = False
    hidden: Floats | None = None

    def logp_of(self, piece: bytes, *, first: bool = False) -> float | None:
        """The log-probability of a piece as one token, duplicates summed, without a new forward.

        −inf: surely no such token. None: the backend cannot know. `first`: of the first token of the
        member's own reading of the piece (UniTE's rule for strings that it lacks).
        """
        return self.lookup(piece, first)


@dataclass(frozen=True, slots=True)
class Draft:
    """A member's own continuation, not committed: its bytes, its tokens with log-probabilities, and how it ended."""

    text: bytes
    tokens: Tokens
    ended: bool
    hit: str = ""


@dataclass(frozen=True, slots=True)
class Sampler:
    """How a member draws its own tokens: greedy at temperature 0."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: tuple[int, ...] = (0,)


@dataclass(slots=True)
class Meter:
    """What a session has used so far; the gate books the difference after each call."""

    usage: Usage = field(default_factory=Usage)
    forwards: int = 0
    forward_seconds: float = 0.0
    rollbacks: int = 0


@runtime_checkable
class Session(Protocol):
    """One member's side of one answer. Invariant: token bytes after the prompt equal the committed bytes."""

    @property
    def vocab(self) -> Vocab: ...
    @property
    def meter(self) -> Meter: ...
    @property
    def prompt(self) -> Tokens | None: ...

    async def next(self, k: int | None, *, agreeing: bytes = b"", hidden: bool = False) -> Next:
        """The distribution after what is committed; `agreeing` keeps only tokens that are a prefix of
        these bytes or extend them. k=None: the full one. `hidden`: with the hidden state, (d,)."""

    async def push(self, piece: bytes, *, id: int | None = None) -> None:
        """Commit a piece by the session's commit rule; lazy: fed with the next forward. `id`: exactly this id."""

    async def look(self, pieces: Sequence[bytes], k: int | None) -> list[Next]:
        """len(pieces)+1 distributions: now and after each successive push; one forward, nothing committed."""

    async def after(self, paths: Sequence[Sequence[int]]) -> list[Next]:
        """The full distribution after the prompt and exactly these ids of an answer, one for each path,
        whatever is committed; nothing is committed. What paths share is fed once."""

    async def write(self, until: Sequence[bytes], max_tokens: int, sampler: Sampler) -> Draft:
        """The member's own continuation; nothing committed."""

    async def score(self, spans: Sequence[bytes]) -> list[Tokens]:
        """Log-probabilities of each span after the committed text; nothing committed."""

    async def hidden(self) -> Floats:
        """The hidden state at the last committed position, (d,)."""

    async def fork(self) -> Session:
        """An independent copy that shares what is committed so far."""

    async def close(self) -> None:
        """Give back what the session holds; closing twice is allowed."""


@dataclass(frozen=True, slots=True)
class View:
    """One member's next distribution as a token method sees it. `session` is a seat: its calls are asks.
    `text`: what is committed so far."""

    next: Next
    vocab: Vocab
    session: Any
    text: bytes = b""


class Support(Protocol):
    """Each member's share in each string: [j] is (n_members,). An array (t, n_members), or what works a row
    out only when it is read."""

    def __getitem__(self, j: int, /) -> Floats: ...


@dataclass(frozen=True, slots=True)
class Fused:
    """A distribution over byte strings: `texts` (t,), each once, b"" = END; `p` (t,) probabilities;
    `support` each member's share in a string. `ordered`: the strings are in byte order already."""

    texts: Sequence[bytes]
    p: Floats
    support: Support
    ordered: bool = False
