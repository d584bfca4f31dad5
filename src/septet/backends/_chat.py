"""A model's own chat template: turns into special tokens and text, where nothing that a user typed is special."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from septet.core.errors import BackendError
from septet.core.types import Message

Render = Callable[[list[dict[str, str]], bool], str]
"""Messages (role, content) as one text; True: up to where an answer begins, False: as a closed conversation."""

_PROBE = "SEPTET-PROBE"


class ChatTemplate:
    """Renders turns with a Jinja template.

    `specials` maps the spelling of each special token to its id. The template may write them; where a turn
    holds one ("<|im_end|>" typed by a user), it is broken up before rendering and mended after, so that it
    stays plain text. The template sees everything else of a turn as it is, so its own tests on the content
    and its trimming work. `source` is the template's text, `refusals` what `render` raises where the
    template does not take a conversation.
    """

    def __init__(
        self,
        render: Render,
        source: str,
        specials: Mapping[str, int],
        *,
        model: str,
        refusals: tuple[type[Exception], ...],
    ) -> None:
        self._render, self._source, self._model, self._refusals = render, source, model, refusals
        self._specials = specials
        longest_first = sorted(specials, key=lambda text: (-len(text), text))
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def runs(self, turns: Sequence[Message]) -> list[int | str]:
        """The conversation up to where the answer begins: ids of special tokens, and the texts between them."""
        try:
            return self._rendered(turns, True)
        except self._refusals as error:
            raise BackendError(
                f"the chat template of {self._model} refuses this conversation: {error}", status=400
            ) from None

    def closing(self) -> int | None:
        """The special token that the template puts right behind an answer; None where it puts none."""
        turns = (Message("user", "Hello"), Message("assistant", _PROBE))
        try:
            runs = self._rendered(turns, False)
        except self._refusals:
            # A template that takes no such conversation says nothing about how answers end.
            return None
        for run, after in pairwise(runs):
            if isinstance(run, str) and run.endswith(_PROBE) and isinstance(after, int):
                return after
        return None

    def _rendered(self, turns: Sequence[Message], answer_follows: bool) -> list[int | str]:
        mark = _unused_mark(self._source, turns)
        messages = [
            {"role": self._broken_up(turn.role, mark), "content": self._broken_up(turn.content, mark)}
            for turn in turns
        ]
        text = self._render(messages, answer_follows)
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
