"""`septet feedback`: how good an answer was; a method that learns while it serves learns from it."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from septet.cli._options import DEFAULT_CONFIG, AsJson, ConfigFile, Settings, open_house
from septet.cli._terminal import print_json
from septet.core.errors import ConfigError
from septet.core.types import Battle
from septet.engine.feedback import Taken
from septet.engine.house import House


def feedback(
    id: Annotated[str, typer.Argument(metavar="[ID]", help="The trace id of the rated answer.")] = "",
    config: ConfigFile = DEFAULT_CONFIG,
    score: Annotated[float | None, typer.Option(min=0, max=1, help="How good the answer was.")] = None,
    ensemble: Annotated[str, typer.Option("-e", help="For a comparison: the ensemble.")] = "",
    query: Annotated[str, typer.Option(help="For a comparison: the question.")] = "",
    winner: Annotated[str, typer.Option(help="For a comparison: the member that won.")] = "",
    loser: Annotated[str, typer.Option(help="For a comparison: the member that lost.")] = "",
    tie: Annotated[bool, typer.Option("--tie", help="For a comparison: the two were equally good.")] = False,
    settings: Settings = [],  # noqa: B006  # typer reads the default and never changes it
    json: AsJson = False,
) -> None:
    """Takes a score for a request, or a comparison of two members on a question."""
    rated, compared = bool(id) and score is not None, all((ensemble, query, winner, loser))
    if rated == compared:
        raise ConfigError(
            "give an ID and --score, or a comparison: -e ENSEMBLE --query TEXT --winner A --loser B [--tie]"
        )
    battle = Battle(query, winner, loser, "tie" if tie else winner)
    house = open_house(config, settings)
    taken = asyncio.run(_taken(house, id, score, ensemble, battle))
    if json:
        print_json({"ensemble": taken.ensemble, "member": taken.member, "version": taken.version})
    else:
        print(said(taken))


async def _taken(house: House, id: str, score: float | None, ensemble: str, battle: Battle) -> Taken:
    async with house:
        if score is not None:
            return await house.rate(id, score)
        return await house.compare(ensemble, battle)


def said(taken: Taken) -> str:
    """What became of it, in words."""
    kept = f"kept, about {taken.member} in {taken.ensemble}"
    if taken.version is None:
        return f"{kept}; the method does not learn while it serves"
    return f"{kept}; learned: the state is now version {taken.version}"
