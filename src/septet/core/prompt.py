"""Prompt templates: how a conversation becomes the text that a model is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from septet.core.types import Message, Query


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A prompt template.

    kind "chat": the model's own chat template renders the turns; `system` is put before them where the
    conversation has no system turn, and `suffix` is appended to the last user turn. kind "plain": for
    base models; each turn is rendered by its pattern ({text} is the turn), then `open` follows.
    `stop`: strings at which an answer in this format ends.
    """

    kind: Literal["chat", "plain"] = "chat"
    system: str = ""
    suffix: str = ""
    user: str = "Question: {text}\n"
    assistant: str = "Answer: {text}\n"
    open: str = "Answer:"
    stop: tuple[str, ...] = ()

    def turns(self, query: Query) -> tuple[Message, ...]:
        """The conversation with this template's system turn and suffix."""
        turns: list[Message] = list(query.messages)
        if self.suffix and turns:
            last = max((i for i, m in enumerate(turns) if m.role == "user"), default=len(turns) - 1)
            turns[last] = Message(turns[last].role, turns[last].content + self.suffix, turns[last].extra)
        if self.system and not any(m.role == "system" for m in turns):
            turns.insert(0, Message("system", self.system))
        return tuple(turns)

    def plain(self, query: Query) -> str:
        """The conversation as one text, up to where the answer begins.

        >>> BUILT_IN["qa"].plain(Query.of("Who wrote Faust?"))
        'Question: Who wrote Faust?\\nAnswer:'
        """
        patterns: Mapping[str, str] = {
            "user": self.user,
            "tool": self.user,
            "assistant": self.assistant,
        }
        parts = [
            patterns[m.role].replace("{text}", m.content) if m.role in patterns else m.content + "\n\n"
            for m in self.turns(query)
        ]
        return "".join(parts) + self.open


_STEPS = "\nThink step by step, then end with the line: Answer: <your answer>"

BUILT_IN: Mapping[str, Prompt] = {
    "chat": Prompt(),
    "cot": Prompt(suffix=_STEPS),
    "qa": Prompt(kind="plain", stop=("\nQuestion:", "\n\n")),
    "qa-cot": Prompt(kind="plain", suffix=_STEPS, stop=("\nQuestion:",)),
}
"""The templates that need no configuration."""


def stops(prompt: Prompt, query: Query, own: Sequence[str] = ()) -> tuple[str, ...]:
    """Every string that ends this answer: the query's, the template's, and the member's own."""
    return tuple(dict.fromkeys((*query.stop, *prompt.stop, *own)))
