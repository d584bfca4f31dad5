"""Toy houses for methods over one vocabulary: a member beside copies of itself, and members that differ."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from septet.testing.toys import toy_config, toy_house

ANSWER = "Goethe, 😀\r\n\t歌德."
"""22 bytes, of at most 24 tokens."""

QUESTION = "Who wrote Faust?"


def of_copies(method: str, parameters: Mapping[str, Any], names: Sequence[str], folder: Path) -> str:
    """A configuration: the first member, and the others `like` it."""
    first, *others = names
    text = toy_config(
        method,
        parameters,
        members={first: {"tokenizer": "words", "answers": {"Faust": ANSWER}}},
        order=(first,),
        folder=folder,
    )
    copies = "\n".join(f'{name} = {{ like = "{first}" }}' for name in others)
    listed = ", ".join(f'"{name}"' for name in names)
    return text.replace(f'members = ["{first}"]', f"members = [{listed}]").replace(
        "[ensembles.toys]", f"{copies}\n\n[ensembles.toys]"
    )


def answers(text: str, *names: str, question: str = QUESTION) -> list[str]:
    """What each of these members or ensembles answers, greedily."""

    async def all_of_them() -> list[str]:
        async with toy_house(text) as house:
            return [(await house[name].ask(question, temperature=0.0)).text for name in names]

    return asyncio.run(all_of_them())
