"""A member as the engine holds it: an actor, and what the gate has to know about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from septet.core.actor import Actor
from septet.core.backend import MemberSpec
from septet.core.caps import Caps
from septet.core.money import Price


@dataclass(frozen=True, kw_only=True)
class Member:
    """`endpoint` names the loaded model or the server it shares; `concurrency` is that endpoint's limit
    (0: the house's); `identity` is what the exact cache knows it by; `described` gives what
    `vocabulary` says."""

    name: str
    actor: Actor
    spec: MemberSpec
    endpoint: str
    concurrency: int = 0
    identity: str = ""
    described: Callable[[], str] = lambda: ""
    backend: str = field(default="")

    @property
    def vocabulary(self) -> str:
        """The endpoint's `vocabulary`, "" where it is not known before the model is loaded. Read when asked
        for, since a tokenizer's description can be large."""
        return self.described()

    @property
    def caps(self) -> Caps:
        return self.actor.caps

    @property
    def price(self) -> Price | None:
        return self.actor.price

    @property
    def stop(self) -> tuple[str, ...]:
        return self.actor.stop

    @property
    def max_tokens(self) -> int:
        return self.spec.defaults.max_tokens
