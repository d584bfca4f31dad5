"""Texts that went on after their answer: a made-up next turn is cut off, and a line said over and over is said once."""

from __future__ import annotations

import re

_NEXT_TURN = re.compile(
    r"\n[ \t]*(?:#{1,4}[ \t]*|\*\*[ \t]*)?(?:question|q|user|human|instruction|problem)"
    r"[ \t]*(?:\d+[ \t]*)?(?:\*\*[ \t]*)?:"
    r"|<\|(?:im_start|im_end|eot_id|start_header_id|endoftext|user|end)\|>|<(?:start|end)_of_turn>|</s>|\[INST\]",
    re.IGNORECASE,
)
REPEATS = 3
"""A line or a sentence that stands so often in a row is a loop; twice may be meant."""


def trimmed(text: str) -> str:
    """The text up to where its writer began another turn, and without loops; never empty where the text is not.

    A new turn is a line that begins "Question:", "User:" and the like, or a mark of a chat template, after some text.
    Of a line, or a sentence within a line, that is repeated three times or more in a row, one is kept.

    >>> trimmed("It is 5.\\n\\nQuestion: And 3+4?\\nIt is 7."), trimmed("I am. I am. I am. I am. So.")
    ('It is 5.', 'I am. So.')
    """
    start = len(text) - len(text.lstrip())
    turn = next((m for m in _NEXT_TURN.finditer(text, start) if text[: m.start()].strip()), None)
    kept = text[: turn.start()] if turn else text
    lines = _once(kept.split("\n"))
    return "\n".join(" ".join(_once(re.split(r"(?<=[.!?]) ", line))) for line in lines).strip()


def _once(parts: list[str]) -> list[str]:
    """The parts, with one of each run of `REPEATS` or more that are alike; blank ones are left as they are."""
    found: list[str] = []
    place = 0
    while place < len(parts):
        end = place
        while end < len(parts) and parts[end] == parts[place]:
            end += 1
        run = end - place
        found += parts[place : place + 1] if run >= REPEATS and parts[place].strip() else parts[place:end]
        place = end
    return found
