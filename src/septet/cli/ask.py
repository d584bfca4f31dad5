"""`septet ask`: one question, one answer."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from septet.cli._answer import interrupted, request_of, show, whole
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
from septet.cli._terminal import print_json
from septet.engine.house import House, Request
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
    sampling = query_fields(
        max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed, stop=stop, task=task
    )
    query = question(text, system, sampling)
    house = open_house(config, settings)
    request = request_of(house[asked_name(house, ensemble)], query, stream=stream and not json)
    try:
        asyncio.run(_answered(house, request, json, stream))
    except KeyboardInterrupt:
        say_error("Interrupted", interrupted(request), json, request=request.run.id, exit_code=130)
        return 130
    return 0


async def _answered(house: House, request: Request, json: bool, stream: bool) -> None:
    async with house:
        if json:
            print_json(answer_json(await whole(request)))
        else:
            await show(request, stream=stream)
