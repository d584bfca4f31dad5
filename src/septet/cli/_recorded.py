"""A stand-in before a member that answers from a trace and calls nothing."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from septet.core.actor import Actor
from septet.core.caps import Caps
from septet.core.errors import BackendError, ConfigError
from septet.core.money import Price
from septet.core.session import Vocab
from septet.core.types import Completion, Piece, Query
from septet.engine.wire import completion_of, query_json

ANSWERED = ("complete", "stream")
"""The abilities whose outputs a trace keeps whole; a session keeps its text but not its distributions."""


class Recording:
    """The recorded calls of one request by member and query; each answers once, in the order of the trace.

    `missed`: what was asked for and had not been asked then.
    """

    def __init__(self, calls: Sequence[Mapping[str, Any]]) -> None:
        self.missed: list[str] = []
        self._calls: dict[tuple[str, str], deque[Mapping[str, Any]]] = {}
        others = sorted({f"{c['do']} by {c['member']}" for c in calls if c["do"] not in ANSWERED})
        if others:
            raise ConfigError(
                f"the trace does not keep what these calls returned: {', '.join(others)};"
                " replay the request without --from-trace"
            )
        for call in calls:
            key = (call["member"], _canonical(call["input"]["query"]))
            self._calls.setdefault(key, deque()).append(call)

    def take(self, member: str, query: Query, logprobs: int) -> list[Completion]:
        """What this member answered to this query, or the error that it failed with."""
        waiting = self._calls.get((member, _canonical(query_json(query))))
        if not waiting:
            self.missed.append(f"{member}, asked {query.text[:60]!r} with seed {query.seed}")
            raise BackendError("this was not asked then, so the trace has no answer")
        call = waiting.popleft()
        if call["error"]:
            raise BackendError(f"failed then: {call['error']}")
        if logprobs:
            raise BackendError("the trace keeps no log-probabilities of single tokens")
        return [completion_of(c) for c in call["output"]["completions"]]


def _canonical(query: Mapping[str, Any]) -> str:
    return json.dumps(query, sort_keys=True)


class Recorded:
    """An actor with the facts of a real one, whose answers come from a recording."""

    def __init__(self, actor: Actor, recording: Recording) -> None:
        self._actor, self._recording = actor, recording

    @property
    def name(self) -> str:
        return self._actor.name

    @property
    def caps(self) -> Caps:
        return self._actor.caps

    @property
    def price(self) -> Price | None:
        return self._actor.price

    @property
    def vocab(self) -> Vocab | None:
        """None: reading the real one would load the model."""
        return None

    @property
    def stop(self) -> tuple[str, ...]:
        return self._actor.stop

    async def complete(self, query: Query, *, n: int = 1, logprobs: int = 0) -> list[Completion]:
        """The recorded answers."""
        return self._recording.take(self.name, query, logprobs)

    async def stream(self, query: Query) -> AsyncIterator[Piece | Completion]:
        """The recorded answer in one piece."""
        (completion,) = self._recording.take(self.name, query, 0)
        yield Piece(completion.text)
        yield completion

    def __getattr__(self, ability: str) -> Any:
        """Any other ability is refused by name."""
        if ability.startswith("_"):
            raise AttributeError(ability)

        async def refused(*args: Any, **named: Any) -> Any:
            raise BackendError(f"the trace keeps no output of {ability!r}, so it cannot answer for it")

        return refused
