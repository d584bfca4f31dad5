"""When which member makes a forward: schedules change what an answer costs, never the declared result.

`every`: all members at every piece. `draft`: the first member writes a few pieces ahead, the others read them in
one forward, and the fused distribution decides at every boundary. `mixture`: where the fused distribution is a
mean, one member is drawn by its weight for each piece, and only that one makes a forward.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Any

from septet.core.method import Fuses, parameters_of
from septet.engine.beam import beam
from septet.engine.config import EnsembleConfig
from septet.engine.draft import draft
from septet.engine.mixture import mixture
from septet.engine.pieces import Decided, Schedule, Task
from septet.engine.token_loop import FusedSession
from septet.methods.b1_token._family import TokenMethod


async def every(session: FusedSession, task: Task) -> AsyncGenerator[Decided, None]:
    """All members make a forward for every piece."""
    for step in range(task.limit):
        place = await session.place()
        i, p = task.sampling.pick(place.fused, step)
        yield Decided(place, i, float(p[i]))
        await session.push(place.fused.texts[i])


def schedule_problems(config: EnsembleConfig, method: Any, names: Sequence[str]) -> list[str]:
    """Why this method or these members do not go with the configured schedule or beam."""
    own = {p.name for p in parameters_of(type(method))}
    width = 1 if "beam" in own else config.beam
    if config.schedule == "every" and width == 1:
        return []
    asked = f"schedule = {config.schedule}" if config.schedule != "every" else f"beam = {width}"
    name, kind = method.name, type(method)
    if not isinstance(method, Fuses):
        return [f"{asked} is for methods whose members decode one answer together, piece by piece"]
    found = []
    if config.schedule != "every" and width > 1:
        found.append(f"beam = {width} goes with schedule = every only, not {config.schedule}")
    if config.schedule == "draft" and method.asks:
        found.append(f"{asked} does not go with {name}, which reads its members in its own order")
    reads = [names[i] for i in method.hidden_of(len(names))]
    if config.schedule == "draft" and reads:
        found.append(f"it reads hidden states of {', '.join(reads)}, which no look along a draft gives")
    if config.schedule == "mixture" and kind.mixture is TokenMethod.mixture:
        found.append(f"schedule = mixture is for means of the members' distributions, not for {name}")
    return found


def schedule_of(name: str, gamma: int, width: int) -> Schedule:
    """The schedule of an ensemble's configuration: `schedule`, `draft`, `beam`."""
    if width > 1:
        return partial(beam, width=width)
    named: dict[str, Schedule] = {"every": every, "draft": partial(draft, gamma=gamma), "mixture": mixture}
    return named[name]
