"""`septet serve`: the ensembles and members of a file over an OpenAI-compatible API."""

from __future__ import annotations

import asyncio
import ipaddress
import os
from typing import Annotated

import typer

from septet import server
from septet.cli._options import DEFAULT_CONFIG, ConfigFile, Settings, open_house
from septet.core.errors import BadParameter, ConfigError


def serve(
    config: ConfigFile = DEFAULT_CONFIG,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port.")] = 8000,
    key_env: Annotated[
        str, typer.Option(help="The environment variable that holds the key which clients must send.")
    ] = "",
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Listen on an address that others can reach.")
    ] = False,
    settings: Settings = [],  # noqa: B006  # typer reads the default and never changes it
) -> None:
    """Serves until it is stopped."""
    key = key_of(key_env)
    refuse_open_door(host, key, allow_remote)
    house = open_house(config, settings)
    for name in house.config.ensembles:
        house[name]  # an ensemble that does not fit is refused now, not at its first request
    with asyncio.Runner() as runner:
        try:
            typer.echo(f"serving {', '.join(house.names)} on http://{host}:{port}/v1", err=True)
            runner.run(server.serve(house, host=host, port=port, key=key))
        except KeyboardInterrupt:
            # how a server is stopped; uvicorn has ended the requests under way
            typer.echo("stopped", err=True)
        finally:
            runner.run(house.close())


def key_of(variable: str) -> str:
    """The key in a variable of the environment; "" where none is named."""
    if not variable:
        return ""
    key = os.environ.get(variable, "")
    if not key:
        raise ConfigError(f"the environment variable {variable}, named by --key-env, is empty or not set")
    return key


def refuse_open_door(host: str, key: str, allow_remote: bool) -> None:
    """Refuses an address that others can reach, unless that is said and a key is asked for."""
    if is_loopback(host) or (allow_remote and key):
        return
    raise BadParameter(
        "--host", host, "must be a loopback address, unless --allow-remote and --key-env NAME are given"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0"), is_loopback("example.org")
    (True, True, False, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
