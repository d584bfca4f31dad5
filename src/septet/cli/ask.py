"""`septet ask`: one question, one answer."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from septet.cli._answer import Interruptible, show
from septet.cli._options import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    EnsembleName,
    MaxTokens,
    Seed,
    Settings,
    Stop,
    Stream,
    System,
    Task,
    Temperature,
    TopP,
    asked_name,
    open_house,
    query_fields,
    question,
)
from septet.cli._run import say_error
from septet.cli._terminal import print_json, waiting
from septet.core.types import Query
from septet.engine.house import House
from septet.engine.wire import answer_json


def ask(
    text: Annotated[str, typer.Argument(metavar="QUESTION", help='The question; "-" reads standard input.')],
    config: ConfigFile = DEFAULT_CONFIG,
    ensemble: EnsembleName = "",
    json: AsJson = False,
    settings: Settings = [],  # noqa: B006  # typer reads the default and never changes it
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    seed: Seed = None,
    stop: Stop = [],  # noqa: B006
    task: Task = "",
    system: System = "",
    stream: Stream = True,
) -> int:
    """Asks, prints the answer, and says who contributed what."""
    query = question(text, system, query_fields(max_tokens, temperature, top_p, seed, stop, task))
    house = open_house(config, settings)
    name = asked_name(house, ensemble)
    watch = Interruptible(house, name, query)
    try:
        asyncio.run(_answered(house, name, query, watch, json, stream))
    except KeyboardInterrupt:
        say_error("Interrupted", watch.message, json, request=watch.trace_id, exit_code=130)
        return 130
    return 0


async def _answered(
    house: House, name: str, query: Query, watch: Interruptible, json: bool, stream: bool
) -> None:
    async with house:
        with watch:
            if not json:
                await show(house, name, query, stream=stream)
                return
            with waiting(f"{name} …"):
                answer = await house[name].ask(query)
            print_json(answer_json(answer))
