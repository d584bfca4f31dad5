"""What fusing costs: the time of a fused piece against the members' own forwards, of the same run."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np
from decoding import Decoded, decode, measured
from figures import Figure, Section, Setting, figure

from septet.core.types import Floats, Query
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
    return asyncio.run(section(setting, "fused", Aims(1.05, 1.5, 1.15)))


@dataclass(frozen=True)
class Aims:
    """The most that a piece should take: ÷ the sum of the forwards in turn, beyond it in ms, and ÷ the slowest
    forward in parallel."""

    in_turn: float
    beyond: float | None
    parallel: float


async def section(setting: Setting, name: str, aims: Aims) -> Section:
    """What fusing costs the ensemble of `setting`, in the section of this name."""
    prompts, pieces = (PROMPTS[:2], 6) if setting.quick else (PROMPTS, PIECES)
    async with measured(setting.config, setting.ensemble) as asked:
        runs = [await _both(asked, prompt, pieces) for prompt in prompts]
        names = [member.name for member in asked.ensemble.members]
        method = asked.ensemble.method.name
    in_turn, parallel = [turn for turn, _ in runs], [both for _, both in runs]
    return Section(
        name,
        f"{method} of {' and '.join(names)}, {len(prompts)} prompts of up to {pieces} pieces, greedy",
        (*_in_turn(in_turn, aims), *_in_parallel(in_turn, parallel, aims), *_forwards(in_turn, names)),
        (
            "Each figure: the median piece of an answer, then median, least and most over the prompts.",
            "forward: from the call of the backend's decode until its top k is read.",
        ),
    )


async def _both(asked: Asked, prompt: str, pieces: int) -> tuple[Decoded, Decoded]:
    """The same answer twice, one after the other, so that both see about the same machine."""
    query = Query(raw=prompt, max_tokens=pieces)
    return await decode(asked, query, in_turn=True), await decode(asked, query, in_turn=False)


def _in_turn(runs: list[Decoded], aims: Aims) -> tuple[Figure, ...]:
    """The aims hold for the median piece; whole answers add the moments in which the machine did other things."""
    ratios = [d.seconds / d.forwards.sum(axis=1) for d in runs]
    beyond = [(d.seconds - d.forwards.sum(axis=1)) * 1e3 for d in runs]
    whole = [float(d.seconds.sum() / d.forwards.sum()) for d in runs]
    return (
        figure("in turn: time a piece ÷ sum of forwards", medians(ratios), aim=aims.in_turn),
        figure("in turn: time beyond the forwards", medians(beyond), unit="ms a piece", aim=aims.beyond),
        figure("in turn: whole answer ÷ all its forwards", whole),
    )


def _in_parallel(turns: list[Decoded], runs: list[Decoded], aims: Aims) -> tuple[Figure, ...]:
    gain = [float(np.median(t.seconds) / np.median(d.seconds)) for t, d in zip(turns, runs, strict=True)]
    slowest = medians([d.seconds / d.forwards.max(axis=1) for d in runs])
    return (
        figure("in parallel: time a piece ÷ the slowest forward", slowest, aim=aims.parallel),
        figure("in turn ÷ in parallel", gain),
    )


def _forwards(runs: list[Decoded], names: list[str]) -> tuple[Figure, ...]:
    return tuple(
        figure(f"forward of {name}", medians([d.forwards[:, i] * 1e3 for d in runs]), unit="ms a piece")
        for i, name in enumerate(names)
    )


def medians(samples: list[Floats]) -> list[float]:
    """The median piece of each answer."""
    return [float(np.median(s)) for s in samples]
