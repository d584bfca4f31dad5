"""What is written down about a request: itself, and every call of every actor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from septet.core.money import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEvent:
    """One call of one actor.

    `path`: ensemble names from the root. Times are seconds since the request began; a session is one
    event whose `steps` count its calls and forwards. `usd` is this call's own price; the sum over the
    events of a request is the request's.
    """

    request: str
    step: int
    path: str
    member: str
    do: str
    purpose: str
    input: Mapping[str, Any] = field(default_factory=dict)
    output: Mapping[str, Any] = field(default_factory=dict)
    usage: Usage = Usage()
    usd: float = 0.0
    queued: float = 0.0
    started: float = 0.0
    first_byte: float | None = None
    finished: float = 0.0
    retries: tuple[str, ...] = ()
    cached: bool = False
    error: str = ""
    steps: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestEvent:
    """One request: what was asked, what was answered and why. `status`: running, done, failed, cancelled."""

    id: str
    at: float
    ensemble: str
    method: str
    query: Mapping[str, Any]
    status: str = "running"
    answer: str = ""
    reason: str = ""
    verdict: Mapping[str, Any] = field(default_factory=dict)
    usage: Usage = Usage()
    usd: float = 0.0
    seconds: float = 0.0
    error: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceEvent:
    """One piece of an answer that members decode together: how it came about.

    `at`: bytes of the answer before it. `support`: each member's share in it. `candidates`: the best strings
    as (bytes, fused probability, {member: its own probability, None where it cannot know}). `asked`: the
    members whose distribution was read. `fed`: tokens fed for it, by member; `forward_seconds` likewise;
    `seconds`: from commit to commit. `drafted`: it was accepted from a draft.
    """

    request: str
    path: str
    number: int
    at: int
    piece: bytes
    logp: float
    support: Mapping[str, float]
    candidates: tuple[tuple[bytes, float, Mapping[str, float | None]], ...] = ()
    asked: tuple[str, ...] = ()
    fed: Mapping[str, int] = field(default_factory=dict)
    forward_seconds: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    drafted: bool = False
