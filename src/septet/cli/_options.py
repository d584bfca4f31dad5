"""Options that several verbs share, and what they stand for."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from septet.core.errors import ConfigError
from septet.core.types import Query
from septet.engine.config import parse, read
from septet.engine.house import House, load

DEFAULT_CONFIG = Path("septet.toml")

ConfigFile = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")]
Settings = Annotated[
    list[str], typer.Option("--set", help="section.name.key=value on top of the file; may be repeated.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
EnsembleName = Annotated[
    str, typer.Option("--ensemble", "-e", help="An ensemble or a member; may be left out if there is one.")
]
EnsembleNames = Annotated[
    list[str],
    typer.Option("--ensemble", "-e", help="An ensemble or a member; repeat it to ask several, one by one."),
]
MaxTokens = Annotated[int | None, typer.Option(help="The longest answer, in tokens.")]
Temperature = Annotated[float | None, typer.Option(help="0 is greedy; at most 2.")]
TopP = Annotated[float | None, typer.Option(help="Nucleus sampling, from 0 to 1.")]
Seed = Annotated[int | None, typer.Option(help="Fixes every draw of the house.")]
Stop = Annotated[list[str], typer.Option(help="End the answer before this text; may be repeated.")]
Task = Annotated[str, typer.Option(help="The group of questions that this one belongs to.")]
System = Annotated[str, typer.Option(help="A system turn before the question.")]
Stream = Annotated[bool, typer.Option("--stream/--no-stream", help="Print the answer as it is written.")]


def open_house(config: Path, settings: list[str]) -> House:
    """The house of a file; nothing is loaded or called."""
    return load(config, set=settings)


def asked_name(house: House, name: str) -> str:
    """The given name, or the only one that the file has."""
    if name:
        return name
    ensembles = list(house.config.ensembles) or list(house.config.members)
    if len(ensembles) == 1:
        return ensembles[0]
    raise ConfigError(f"say with -e which one to ask: {', '.join(house.names) or 'the file has none'}")


def store_path(config: Path | None) -> str:
    """The store of a file; without a file, that of septet.toml here if there is one, else the user's own."""
    if config is None and not DEFAULT_CONFIG.exists():
        return parse("", str(DEFAULT_CONFIG)).store
    return read(config or DEFAULT_CONFIG).store


def given_text(text: str) -> str:
    """The question: as given, or from standard input for "-". Bytes that are not UTF-8 are replaced."""
    if text == "-":
        return sys.stdin.buffer.read().decode("utf-8", "replace")
    return os.fsencode(text).decode("utf-8", "replace")


def query_fields(
    *,
    max_tokens: int | None,
    temperature: float | None,
    top_p: float | None,
    seed: int | None,
    stop: list[str] | None = None,
    task: str = "",
) -> dict[str, Any]:
    """The sampling options as fields of a query."""
    return {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "seed": seed,
        "stop": tuple(stop or ()),
        "task": task,
    }


def question(text: str, system: str, fields: dict[str, Any]) -> Query:
    """A query of one turn; an empty question raises."""
    return Query.of(given_text(text), system=system, **fields)
