"""What the published procedure costs: for every token, all that was written is read anew, by all members or by all but
the first."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import perf_counter

import numpy as np
from decoding import decode, measured
from figures import Section, Setting, figure

from septet.core.types import Query
from septet.engine.house import Asked

CONTEXT = 850
"""Tokens of the first member before the piece that is measured."""

STEPS, PIECES = 4, 30


def run(setting: Setting) -> Section:
    """A step of ours, of the naive loop, and of UniTE's, on one prompt."""
    return asyncio.run(_run(setting))


async def _run(setting: Setting) -> Section:
    context, steps, pieces = (120, 1, 6) if setting.quick else (CONTEXT, STEPS, PIECES)
    async with measured(setting.config, setting.ensemble) as asked:
        prompt = _prompt(asked, context)
        decoded = await decode(asked, Query(raw=prompt, max_tokens=pieces), in_turn=True)
        ours = float(np.median(decoded.seconds))
        text = prompt + decoded.text.decode(errors="ignore")
        every = [await _read_anew(asked, text, range(len(asked.ensemble.members))) for _ in range(steps)]
        others = [await _read_anew(asked, text, range(1, len(asked.ensemble.members))) for _ in range(steps)]
        first = float(np.median(decoded.forwards[:, 0]))
    return Section(
        "naive",
        f"{asked.ensemble.method.name}, members in turn, {context} tokens of context",
        (
            figure("a piece of ours", [ours * 1e3], unit="ms"),
            figure("a token of the naive loop", [s * 1e3 for s in every], unit="ms"),
            figure("ours ÷ naive", [ours / s for s in every], aim=0.01),
            figure(
                "a token where the first member keeps its cache",
                [(first + s) * 1e3 for s in others],
                unit="ms",
            ),
            figure("ours ÷ that", [ours / (first + s) for s in others], aim=0.025),
        ),
        ("The loop tokenises prompt and answer anew and feeds all of it; nothing else of it is counted.",),
    )


def _prompt(asked: Asked, n_tokens: int) -> str:
    """So many tokens of the first member, of running text."""
    vocab = asked.ensemble.members[0].actor.vocab
    assert vocab is not None
    text = (Path(__file__).parent.parent / "docs" / "guide" / "routing.md").read_text(encoding="utf-8")
    ids = vocab.tokenise(text.encode())[:n_tokens]
    return b"".join(vocab.bytes_of(i) for i in ids).decode(errors="ignore")


async def _read_anew(asked: Asked, text: str, members: range) -> float:
    """Seconds in which these members, in turn, read all of it and say what comes next."""
    began = perf_counter()
    for i in members:
        session = await asked.ensemble.members[i].actor.open(Query(raw=text))
        try:
            await session.next(10)
        finally:
            await session.close()
    return perf_counter() - began
