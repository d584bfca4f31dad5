"""What schedules save: forwards of the verifiers under `draft`, forwards a piece under `mixture`."""

from __future__ import annotations

import asyncio
import tomllib
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from decoding import measured, written
from figures import Section, Setting, figure

from septet.core.types import Query
from septet.engine.house import Asked

PIECES = 80

PROMPTS = (
    "The history of the city of Paris begins with a small settlement on an island in the river. In the first",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
    "Question: Why is the sky blue? Explain it to a child, step by step, in your own words.\nAnswer: The sky",
    "To bake a good loaf of bread you need flour, water, salt and yeast. First, mix the flour with",
)


@dataclass(frozen=True)
class Counted:
    """One answer: its bytes, pieces and seconds, and each member's forwards and tokens fed, the prompt apart."""

    text: bytes
    pieces: int
    seconds: float
    forwards: tuple[int, ...]
    fed: tuple[int, ...]


def run(setting: Setting) -> Section:
    """Each prompt under every schedule."""
    return asyncio.run(_run(setting))


async def _run(setting: Setting) -> Section:
    prompts, pieces = (PROMPTS[:2], 8) if setting.quick else (PROMPTS, PIECES)
    config, name = tomllib.loads(setting.config.read_text(encoding="utf-8")), setting.ensemble
    # a draft is compared byte for byte, so logits must not depend on how many tokens are fed at once
    steady = [
        f"members.{m}.deterministic=true"
        for m, t in config["members"].items()
        if t.get("backend") == "llamacpp"
    ]
    members = config["ensembles"][name]["members"]
    mean = [
        "ensembles.mean.method=gac",
        f"ensembles.mean.members={members}",
        "ensembles.mean.schedule=mixture",
    ]
    draft = [f"ensembles.{name}.schedule=draft"]
    straight = await _answers(setting.config, name, steady, prompts, pieces)
    drafted = await _answers(setting.config, name, [*steady, *draft], prompts, pieces)
    mixed = await _answers(setting.config, "mean", [*steady, *mean], prompts, pieces, temperature=1.0)
    same = sum(s.text == d.text for s, d in zip(straight, drafted, strict=True))
    pairs = list(zip(straight, drafted, strict=True))
    return Section(
        "schedules",
        f"{' and '.join(members)}, {len(prompts)} prompts of up to {pieces} pieces; draft: greedy,"
        f" {members[0]} writes 5 pieces ahead; mixture: gac at temperature 1",
        (
            figure("draft: forwards of the verifiers ÷ every", [_others(d, s) for s, d in pairs], aim=0.65),
            figure("draft: tokens fed to the verifiers ÷ every", [_fed(d, s) for s, d in pairs]),
            figure("draft: seconds ÷ every", [d.seconds / s.seconds for s, d in pairs]),
            figure("mixture: forwards ÷ pieces", [sum(m.forwards) / m.pieces for m in mixed], aim=1.0),
        ),
        (
            f"draft and every wrote the same bytes for {same} of {len(prompts)} prompts.",
            "On a processor a forward of several tokens takes about as long as as many forwards of one, so fewer"
            " forwards save no time here; they do where a forward is bound by memory, or by a network.",
        ),
    )


async def _answers(
    config: Path, ensemble: str, settings: list[str], prompts: tuple[str, ...], pieces: int, **fields: float
) -> list[Counted]:
    async with measured(config, ensemble, settings) as asked:
        return [await _counted(asked, Query(raw=p, max_tokens=pieces, seed=1, **fields)) for p in prompts]  # type: ignore[arg-type]


async def _counted(asked: Asked, query: Query) -> Counted:
    async with written(asked, query) as (session, answer):
        before = [(s.meter.forwards, s.meter.usage.fed_tokens) for s in session.members]
        began = perf_counter()
        done = await answer()
        seconds = perf_counter() - began
        after = [(s.meter.forwards, s.meter.usage.fed_tokens) for s in session.members]
    gained = np.subtract(after, before).T.tolist()
    n = len(done.tokens) + (done.finish == "stop")
    return Counted(done.text, n, seconds, tuple(gained[0]), tuple(gained[1]))


def _others(drafted: Counted, straight: Counted) -> float:
    return sum(drafted.forwards[1:]) / max(sum(straight.forwards[1:]), 1)


def _fed(drafted: Counted, straight: Counted) -> float:
    return sum(drafted.fed[1:]) / max(sum(straight.fed[1:]), 1)
