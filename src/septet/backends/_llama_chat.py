"""A GGUF's own chat template: turns into special tokens and text, where nothing that a user typed is special."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from septet.core.backend import need
from septet.core.errors import BackendError, ConfigError
from septet.core.types import Message

_PROBE = "SEPTET-PROBE"


class ChatTemplate:
    """Renders turns with the file's Jinja template, in the sandbox that llama-cpp-python uses.

    `specials` maps the spelling of each special token to its id. The template may write them; where a turn
    holds one ("<|im_end|>" typed by a user), it is broken up before rendering and mended after, so that it
    stays plain text. The template sees everything else of a turn as it is, so its own tests on the content
    and its trimming work.
    """

    def __init__(self, source: str, specials: Mapping[str, int], bos: str, eos: str, model: str) -> None:
        import jinja2  # a dependency of llama-cpp-python

        self._source, self._model = source, model
        self._errors = (jinja2.TemplateError, ValueError, TypeError)
        self._specials = specials
        longest_first = sorted(specials, key=lambda text: (-len(text), text))
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        formatter = need("llama_cpp.llama_chat_format", extra="llamacpp").Jinja2ChatFormatter
        try:
            self._open = formatter(source, eos, bos)
            self._closed = formatter(source, eos, bos, add_generation_prompt=False)
        except jinja2.TemplateError as error:
            raise ConfigError(f"the chat template of {model} cannot be read: {error}") from None

    def runs(self, turns: Sequence[Message]) -> list[int | str]:
        """The conversation up to where the answer begins: ids of special tokens, and the texts between them."""
        try:
            return self._rendered(self._open, turns)
        except self._errors as error:
            raise BackendError(
                f"the chat template of {self._model} refuses this conversation: {error}", status=400
            ) from None

    def closing(self) -> int | None:
        """The special token that the template puts right behind an answer; None where it puts none."""
        turns = (Message("user", "Hello"), Message("assistant", _PROBE))
        try:
            runs = self._rendered(self._closed, turns)
        except self._errors:
            # A template that takes no such conversation says nothing about how answers end.
            return None
        for run, after in pairwise(runs):
            if isinstance(run, str) and run.endswith(_PROBE) and isinstance(after, int):
                return after
        return None

    def _rendered(self, formatter: Any, turns: Sequence[Message]) -> list[int | str]:
        mark = _unused_mark(self._source, turns)
        messages = [
            {"role": self._broken_up(turn.role, mark), "content": self._broken_up(turn.content, mark)}
            for turn in turns
        ]
        text: str = formatter(messages=messages).prompt
        runs: list[int | str] = []
        at = 0
        for found in self._pattern.finditer(text):
            runs += [text[at : found.start()].replace(mark, ""), self._specials[found.group()]]
            at = found.end()
        return [run for run in (*runs, text[at:].replace(mark, "")) if run != ""]

    def _broken_up(self, text: str, mark: str) -> str:
        return self._pattern.sub(lambda found: found.group()[0] + mark + found.group()[1:], text)


def _unused_mark(source: str, turns: Sequence[Message]) -> str:
    """A private-use character that neither the template nor a turn holds."""
    used = {*source, *(c for turn in turns for c in turn.role + turn.content)}
    return next(chr(c) for c in range(0xE000, 0xF900) if chr(c) not in used)
