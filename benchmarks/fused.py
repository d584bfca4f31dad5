"""What fusing costs: the time of a fused piece against the members' own forwards, of the same run."""

from __future__ import annotations

import asyncio

from decoding import Decoded, decode, measured
from figures import Figure, Section, Setting, figure

from septet.core.types import Query
from septet.engine.house import Asked

PIECES = 60

PROMPTS = (
    "The history of the city of Paris begins with a small settlement on an island in the river. In the first",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
    "Question: Why is the sky blue? Explain it to a child, step by step, in your own words.\nAnswer: The sky",
    "To bake a good loaf of bread you need flour, water, salt and yeast. First, mix the flour with",
    "Dear Sir or Madam, I am writing to you because the train that I took last Monday was",
    "There are several reasons why people learn a second language. One of them is that",
)


def run(setting: Setting) -> Section:
    """Members in turn, then in parallel, on each prompt."""
    return asyncio.run(_run(setting))


async def _run(setting: Setting) -> Section:
    prompts, pieces = (PROMPTS[:2], 6) if setting.quick else (PROMPTS, PIECES)
    async with measured(setting.config, setting.ensemble) as asked:
        runs = [await _both(asked, prompt, pieces) for prompt in prompts]
        names = [member.name for member in asked.ensemble.members]
        method = asked.ensemble.method.name
    in_turn, parallel = [turn for turn, _ in runs], [both for _, both in runs]
    return Section(
        "fused",
        f"{method} of {' and '.join(names)}, {len(prompts)} prompts of up to {pieces} pieces, greedy",
        (*_in_turn(in_turn), *_in_parallel(in_turn, parallel), *_forwards(in_turn, names)),
        ("forward: inside the backend's decode call until its top k is read.",),
    )


async def _both(asked: Asked, prompt: str, pieces: int) -> tuple[Decoded, Decoded]:
    """The same answer twice, one after the other, so that both see about the same machine."""
    query = Query(raw=prompt, max_tokens=pieces)
    return await decode(asked, query, in_turn=True), await decode(asked, query, in_turn=False)


def _in_turn(runs: list[Decoded]) -> tuple[Figure, ...]:
    overhead = [(d.seconds - sum(d.forwards)) / d.pieces * 1e3 for d in runs]
    return (
        figure(
            "in turn: time a piece ÷ sum of forwards", [d.seconds / sum(d.forwards) for d in runs], aim=1.05
        ),
        figure("in turn: time beyond the forwards", overhead, unit="ms a piece", aim=1.5),
    )


def _in_parallel(turns: list[Decoded], runs: list[Decoded]) -> tuple[Figure, ...]:
    gain = [t.seconds / t.pieces / (d.seconds / d.pieces) for t, d in zip(turns, runs, strict=True)]
    return (
        figure(
            "in parallel: time ÷ the slowest member's forwards", [d.seconds / max(d.forwards) for d in runs]
        ),
        figure("in turn ÷ in parallel", gain),
    )


def _forwards(runs: list[Decoded], names: list[str]) -> tuple[Figure, ...]:
    return tuple(
        figure(f"forward of {name}", [d.forwards[i] / d.pieces * 1e3 for d in runs], unit="ms a piece")
        for i, name in enumerate(names)
    )
