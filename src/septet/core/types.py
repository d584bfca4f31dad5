"""What goes in and what comes out: a query, a completion, a verdict, an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import BadParameter
from septet.core.money import Usage

Floats = NDArray[np.float64]
"""An array of float64; its shape is said where it is born."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. `extra` carries what else the wire format holds (tool calls, images)."""

    role: str
    content: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is asked: a conversation (`messages`) or a bare prompt (`raw`), and how to sample.

    A sampling field of None means the method's default, else the member's. `prefix` is the answer so
    far, to be continued. `stop` ends the answer before the string, `until` after it. `task` is a group
    label, `prefer` the price of cost λ (quality units per USD) for this request; None: the one that the
    router was calibrated to, else 0. `tenant`: on whose behalf it is asked; what an ensemble keeps of one tenant's
    questions is never shown to another's. `extra` holds tools, response formats and images: they go to the one
    member that answers, or the request is refused.
    """

    messages: tuple[Message, ...] = ()
    raw: str | None = None
    prefix: str = ""
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    until: tuple[str, ...] = ()
    task: str = ""
    prefer: float | None = None
    tenant: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if bool(self.messages) == (self.raw is not None):
            raise BadParameter("query", self.raw, "must be either messages or a raw prompt")
        if not self.text.strip():
            raise BadParameter("question", self.text, "must not be empty")
        for name, value, low, high in (
            ("temperature", self.temperature, 0.0, 2.0),
            ("top_p", self.top_p, 0.0, 1.0),
            ("max_tokens", self.max_tokens, 1, 1_000_000),
            ("prefer", self.prefer, 0.0, float("inf")),
        ):
            if value is not None and not low <= value <= high:
                raise BadParameter(name, value, f"must be in [{low}, {high}]")
        if any(not s for s in self.stop + self.until):
            raise BadParameter("stop", "", "must not be an empty string")

    @classmethod
    def of(cls, text: str, *, system: str = "", **fields: Any) -> Query:
        """A query of one user turn.

        >>> Query.of("What is 2+3?", max_tokens=5).text
        'What is 2+3?'
        """
        turns = (Message("system", system),) if system else ()
        return cls(messages=(*turns, Message("user", text)), **fields)

    @property
    def text(self) -> str:
        """The question: the raw prompt, or the last user turn."""
        if self.raw is not None:
            return self.raw
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")

    def but(self, **changes: Any) -> Query:
        """The same query with other fields."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a text as one member reads it.

    `texts` are the exact bytes of each token, (t,); `logp` their natural log-probabilities over the full
    vocabulary, (t,); `top`, where asked for, the best alternatives per position as (bytes, logp) pairs.
    A first token without a condition has logp NaN.
    """

    texts: tuple[bytes, ...]
    logp: Floats
    top: tuple[tuple[tuple[bytes, float], ...], ...] | None = None

    def __len__(self) -> int:
        return len(self.texts)


Finish = Literal["stop", "until", "length", "tool_calls", "error", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One complete text by one member.

    `finish`: stop (END or a stop string) · until · length (truncated: an outcome of its own) · tool_calls.
    `usd` and `seconds` are the gate's; a nested ensemble's are the sums of its run. `weight` and
    `confidence` are set by methods. `extra` carries tool calls back.
    """

    member: str
    text: str
    finish: Finish = "stop"
    usage: Usage = Usage()
    usd: float = 0.0
    seconds: float = 0.0
    weight: float = 1.0
    confidence: float | None = None
    tokens: Tokens | None = None
    sample: int = 0
    cached: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Piece:
    """One streamed bit of text; `support` is each member's share in it, `logp` its log-probability (NaN: unknown)."""

    text: str
    support: Mapping[str, float] = field(default_factory=dict)
    logp: float = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Posterior:
    """Candidates in classes of equal answers: `classes` (c,), `p` (c,), and the class of each candidate `of` (n,)."""

    classes: tuple[str, ...]
    p: Floats
    of: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a method decides. `chosen` indexes the candidates; `text` is given where it is a new text.

    `weights` are per member or per candidate, as the family says; `reason` is one plain sentence; `finish`
    is given by methods that write the text themselves.
    """

    text: str | None = None
    chosen: int | None = None
    weights: Floats | None = None
    posterior: Posterior | None = None
    confidence: float | None = None
    reason: str = ""
    abstained: bool = False
    finish: Finish | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the user gets; only the engine makes it."""

    text: str
    verdict: Verdict
    candidates: tuple[Completion, ...] = ()
    pieces: tuple[Piece, ...] = ()
    finish: Finish = "stop"
    usage: Usage = Usage()
    usd: float = 0.0
    seconds: float = 0.0
    trace_id: str = ""
    ensemble: str = ""
    tokens: Tokens | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Metered(Generic[T]):
    """A value and what it took to make it: what score, embed, rate, compare and run return to the gate."""

    value: T
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Run:
    """What an executor saw when it ran a piece of code."""

    ok: bool
    output: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Battle:
    """One comparison of two members on one query; `winner` is a's name, b's name or "tie"."""

    query: str
    a: str
    b: str
    winner: str


@dataclass(frozen=True, slots=True)
class Decision:
    """One routing decision that was carried out, and how well it went.

    `weights` over members, `member` who was asked, `propensity` the probability with which it was;
    `spent` in USD, `seconds`, and `score` in 0..1 as the user or a judge gave it; NaN: nobody said.
    """

    query: str
    weights: Mapping[str, float]
    propensity: float
    spent: float = 0.0
    member: str = ""
    score: float = float("nan")
    seconds: float = float("nan")
    task: str = ""
