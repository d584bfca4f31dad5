"""Capabilities as data: a backend states what it offers, a method what it needs, and one rule compares them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """What an actor can do (offered), or what a method asks of it (needed).

    text: complete a query · samples: n different answers to one query · seed: the same seed gives the
    same answer · continues: continue a partial answer (`Query.prefix`) · stream: answer in pieces ·
    tools: tool calls and response formats · logprobs: log-probability of its own tokens · topk: how many
    alternatives it reports per token through a session · full: the whole next-token distribution ·
    score: log-probability of a given text · prompt_scores: log-probability of the prompt itself ·
    fork: copy a session · hidden: hidden states · matrices: embedding matrices · embed, rate, compare,
    run: the abilities of encoders, reward models, rankers and executors · context: tokens of prompt and
    answer together (0: unknown).
    """

    text: bool = False
    samples: bool = False
    seed: bool = False
    continues: bool = False
    stream: bool = False
    tools: bool = False
    logprobs: bool = False
    topk: int = 0
    full: bool = False
    score: bool = False
    prompt_scores: bool = False
    fork: bool = False
    hidden: bool = False
    matrices: bool = False
    embed: bool = False
    rate: bool = False
    compare: bool = False
    run: bool = False
    context: int = 0

    def missing(self, offered: Caps, *, approximate: bool = False) -> list[str]:
        """What of these needs `offered` lacks, each as a phrase; empty when it fits.

        With `approximate`, a full distribution may be replaced by a top-k one.

        >>> Caps(text=True, topk=10).missing(Caps(text=True, topk=5))
        ['topk 10 (offers 5)']
        """
        lacks = []
        for field in fields(self):
            need, have = getattr(self, field.name), getattr(offered, field.name)
            if field.name == "context":
                if need and have and have < need:
                    lacks.append(f"context {need} (offers {have})")
            elif field.name == "topk":
                if need > have and not offered.full:
                    lacks.append(f"topk {need} (offers {have})" if have else f"topk {need}")
            elif field.name == "full":
                if need and not have and not (approximate and offered.topk):
                    lacks.append("full")
            elif need and not have:
                lacks.append(field.name)
        return lacks

    def __and__(self, other: Caps) -> Caps:
        """What both offer; a context of 0 is unknown and gives way to the known one."""
        both = {f.name: min(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        if not (self.context and other.context):
            both["context"] = max(self.context, other.context)
        return Caps(**both)

    def __or__(self, other: Caps) -> Caps:
        """What either asks for."""
        return Caps(**{f.name: max(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)})

    def named(self) -> list[str]:
        """The capabilities that are set, as words: what a card or a table shows."""
        words = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value:
                words.append(field.name if value is True else f"{field.name} {value}")
        return words


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRule:
    """How many members a method takes, of what kind and in what order."""

    at_least: int = 1
    at_most: int | None = None
    vocabulary: Literal["any", "same"] = "any"
    order: Literal["none", "cost", "primary-first", "weak-strong", "strong-weak"] = "none"
    priced: bool = False
