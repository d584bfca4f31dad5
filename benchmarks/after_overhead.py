"""What septet itself takes for one answer of an ensemble whose three members answer at once.

A request goes all the way: the plan, the gate with its limits and prices, threads, the trace in a store on disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

from figures import Figure, Section, Setting, figure

from septet.backends.toy import ToyActor, ToyEndpoint
from septet.core.money import Usage
from septet.core.types import Completion, Piece, Query
from septet.engine.config import parse
from septet.engine.house import House

AIM_MS = 6.0

MEMBERS = ("ada", "bob", "cyd")

METHODS = {"agent-forest": "samples = 1", "mbr": "samples = 1"}
"""A vote of final answers, and a comparison of all texts; neither has a role, so that only members are asked."""

WARM = 20
"""Requests that are not counted: imports, the first pages of the store."""


class Instant(ToyActor):
    """A toy that has its answer ready and generates nothing."""

    async def complete(self, query: Query, *, n: int = 1, logprobs: int = 0) -> list[Completion]:
        usage = Usage(prompt_tokens=8, completion_tokens=4)
        return [
            Completion(member=self.name, text=f"The answer is {len(query.text) % 3}.", usage=usage, sample=i)
            for i in range(n)
        ]

    async def stream(self, query: Query) -> AsyncIterator[Piece | Completion]:
        (done,) = await self.complete(query)
        yield Piece(done.text)
        yield done


def run(setting: Setting) -> Section:
    """Milliseconds of a request, the median over many."""
    n = 20 if setting.quick else 400
    found = asyncio.run(_measured(n))
    return Section(
        "after_overhead",
        f"{len(MEMBERS)} members that answer at once, {n} requests one after the other, {WARM} before them",
        tuple(found),
        ("a member alone is a request through the same gate and store, without a plan",),
    )


async def _measured(n: int) -> list[Figure]:
    figures = []
    for method, options in METHODS.items():
        taken, busy = await _times(method, options, n)
        figures.append(figure(f"{method} of three", taken, unit="ms", aim=AIM_MS))
        figures.append(figure(f"{method} of three, processor time", [busy], unit="ms"))
    taken, busy = await _times("", "", n)
    figures.append(figure("a member alone", taken, unit="ms"))
    figures.append(figure("a member alone, processor time", [busy], unit="ms"))
    return figures


async def _times(method: str, options: str, n: int) -> tuple[Sequence[float], float]:
    """Milliseconds of each request, and of all threads' processor time on average, which others' work leaves alone."""
    with TemporaryDirectory() as folder:
        lines = ["[members]", *(f'{name} = {{ backend = "toy" }}' for name in MEMBERS)]
        lines += ["[store]", f'path = "{folder}/bench.db"']
        if method:
            lines += ["[ensembles.three]", f'method = "{method}"', f"members = {list(MEMBERS)}", options]
        house = House(parse("\n".join(lines), environment={}))
        for name in MEMBERS:
            member = house.builder.member(name)
            endpoint = house.builder.endpoints[member.endpoint]
            assert isinstance(endpoint, ToyEndpoint)
            house.builder.members[name] = replace(member, actor=Instant(endpoint, member.spec))
        async with house:
            asked = house["three" if method else "ada"]
            taken, busy = list[float](), 0.0
            for i in range(WARM + n):
                busy = process_time() if i == WARM else busy
                query = Query.of(f"What is {i} plus {i * 7 % 100}?")
                began = perf_counter()
                answer = await asked.ask(query, seed=i)
                taken.append(1e3 * (perf_counter() - began))
                assert len(answer.candidates) == (len(MEMBERS) if method else 1), answer.candidates
            busy = process_time() - busy
        return taken[WARM:], 1e3 * busy / n
