"""What scoring candidates costs: their own tokens, and never the prefix that they share."""

from __future__ import annotations

import asyncio
from pathlib import Path

from decoding import measured
from figures import Figure, Section, Setting, figure

from septet.core.types import Query
from septet.engine.members import Member

PREFIX = 700
"""Tokens of the member."""

SPANS = (
    b" a method is a frozen record of parameters and one decision",
    b" every member answers in full, and one of the answers is taken",
    b" the cheapest member is asked first, and the next only where it is not sure",
    b" nothing is asked before the pool has been looked at",
    b" words",
    b" \xf0\x9f\x98\x80 and then, with a line of its own:\n\n    return x",
)


def run(setting: Setting) -> Section:
    """Six candidates after one long prefix, for each member."""
    return asyncio.run(_run(setting))


async def _run(setting: Setting) -> Section:
    async with measured(setting.config, setting.ensemble) as asked:
        found = [f for member in asked.ensemble.members for f in await _scored(member)]
    return Section(
        "candidates", f"{len(SPANS)} candidates after a prefix of {PREFIX} tokens", tuple(found),
        ("Below 1: the last token of a candidate need not be fed, since nothing is asked after it.",),
    )  # fmt: skip


async def _scored(member: Member) -> list[Figure]:
    vocab = member.actor.vocab
    assert vocab is not None
    text = (Path(__file__).parent.parent / "docs" / "guide" / "routing.md").read_text(encoding="utf-8")
    ids = vocab.tokenise(text.encode())[:PREFIX]
    prefix = b"".join(vocab.bytes_of(i) for i in ids).decode(errors="ignore")
    session = await member.actor.open(Query(raw=prefix))
    try:
        before = session.meter.usage.fed_tokens
        tokens = await session.score(SPANS)
        fed = session.meter.usage.fed_tokens - before
    finally:
        await session.close()
    own = sum(len(t) for t in tokens)
    return [
        figure(f"{member.name}: tokens fed ÷ tokens of the candidates", [fed / own], aim=1.0),
        figure(f"{member.name}: tokens of the candidates", [float(own)]),
        figure(f"{member.name}: tokens of the prefix", [float(before)]),
    ]
