"""`septet ask`: one question, one answer; or one from each of several ensembles."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer

from septet.cli._answer import interrupted, request_of, show, whole
from septet.cli._options import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    EnsembleNames,
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
from septet.core.types import Query
from septet.engine.house import House, Request
from septet.engine.wire import answer_json


class Show(StrEnum):
    """What is printed of an answer."""

    ANSWER = "answer"
    PIECES = "pieces"


def ask(
    text: Annotated[str, typer.Argument(metavar="QUESTION", help='The question; "-" reads standard input.')],
    config: ConfigFile = DEFAULT_CONFIG,
    ensembles: EnsembleNames = [],  # noqa: B006  # typer reads the default and never changes it
    json: AsJson = False,
    settings: Settings = [],  # noqa: B006
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    seed: Seed = None,
    stop: Stop = [],  # noqa: B006
    task: Task = "",
    system: System = "",
    stream: Stream = True,
    what: Annotated[
        Show,
        typer.Option(
            "--show",
            help="pieces: who supported which piece, as blended colours on a terminal, else in lines.",
        ),
    ] = Show.ANSWER,
) -> int:
    """Asks, prints the answer, and says who contributed what."""
    sampling = query_fields(
        max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed, stop=stop, task=task
    )
    query = question(text, system, sampling)
    house = open_house(config, settings)
    names = ensembles or [asked_name(house, "")]
    for name in names:  # a name or a pool that is wrong is said before the first is asked
        house[name]
    begun: list[Request] = []
    try:
        asyncio.run(_answered(house, names, query, json, stream, what, begun))
    except KeyboardInterrupt:
        say_error("Interrupted", interrupted(begun[-1]), json, request=begun[-1].run.id, exit_code=130)
        return 130
    return 0


async def _answered(
    house: House,
    names: Sequence[str],
    query: Query,
    json: bool,
    stream: bool,
    what: Show,
    begun: list[Request],
) -> None:
    """Asks one after the other; `begun` holds the requests so far, for what is said after Ctrl-C."""
    async with house:
        for name in names:
            if begun and not json:
                print(flush=True)
            begun.append(request_of(house[name], query, stream=stream and not json))
            if json:
                print_json(answer_json(await whole(begun[-1])))
            else:
                await show(begun[-1], stream=stream, pieces=what is Show.PIECES)
