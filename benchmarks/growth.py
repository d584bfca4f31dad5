"""Whether what is ours in a piece grows with the prompt or with the answer: it must not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
from decoding import Decoded, decode, measured
from figures import Section, Setting, figure

from septet.core.types import Floats, Query
from septet.engine.house import Asked

SHORT, LONG = 200, 2000
"""Tokens of the first member, of the prompt or of the answer."""

PIECES = 40

COUNTING = (
    "All whole numbers in order: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,"
)


def run(setting: Setting) -> Section:
    """A short and a long prompt, then one long answer."""
    return asyncio.run(_run(setting))


async def _run(setting: Setting) -> Section:
    long, pieces = (400, 8) if setting.quick else (LONG, PIECES)
    async with measured(setting.config, setting.ensemble, ["limits.seconds=3600"]) as asked:
        brief, wordy = [await _answered(asked, n, pieces) for n in (SHORT, long)]
        answer = await decode(asked, Query(raw=COUNTING, max_tokens=long), in_turn=True)
        method = asked.ensemble.method.name
    ours = beyond(answer)
    edge = min(100, len(ours) // 4)
    early, late = ours[edge // 2 : edge + edge // 2], ours[-edge:]
    return Section(
        "growth",
        f"{method}, members in turn: time beyond the forwards, median piece",
        (
            figure(f"prompt of {SHORT} tokens", [median(beyond(brief))], unit="ms"),
            figure(f"prompt of {long} tokens", [median(beyond(wordy))], unit="ms"),
            figure("long prompt ÷ short", [median(beyond(wordy)) / median(beyond(brief))], aim=1.25),
            figure(f"around piece {edge} of an answer", [median(early)], unit="ms"),
            figure(f"around piece {len(ours) - edge // 2} of it", [median(late)], unit="ms"),
            figure("late ÷ early", [median(late) / median(early)], aim=1.25),
        ),
        (f"The answer counts: {len(ours) + 1} pieces.",),
    )


async def _answered(asked: Asked, n_tokens: int, pieces: int) -> Decoded:
    """An answer to a prompt of so many tokens of the first member, taken from our own guide."""
    vocab = asked.ensemble.members[0].actor.vocab
    assert vocab is not None
    guide = (Path(__file__).parent.parent / "docs" / "guide").glob("*.md")
    text = "\n\n".join(page.read_text(encoding="utf-8") for page in sorted(guide))
    ids = vocab.tokenise(text.encode())[:n_tokens]
    prompt = b"".join(vocab.bytes_of(i) for i in ids).decode(errors="ignore")
    return await decode(asked, Query(raw=prompt, max_tokens=pieces), in_turn=True)


def beyond(decoded: Decoded) -> Floats:
    """(n,) milliseconds of each piece that no forward took."""
    return np.asarray((decoded.seconds - decoded.forwards.sum(axis=1)) * 1e3)


def median(values: Floats) -> float:
    """Of the pieces."""
    return float(np.median(values))
