"""The house over HTTP in OpenAI's wire format: every ensemble and member is a model name."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from septet.core.backend import need
from septet.core.errors import ConfigError
from septet.engine.house import House

if TYPE_CHECKING:
    from starlette.applications import Starlette


def make_app(house: House, *, key: str = "", ping_seconds: float = 10.0) -> Starlette:
    """An ASGI app that answers with this house; it neither opens nor closes the house.

    `key`: callers must send it as a bearer token ("" = anyone may ask). `ping_seconds`: how long a stream
    may be silent before a comment line says that the answer is still being worked on.
    """
    need("starlette", extra="server")
    from septet.server.app import app_of

    return app_of(house, key, ping_seconds)


async def serve(house: House, *, host: str = "127.0.0.1", port: int = 8000, key: str = "") -> None:
    """Serves until SIGINT or SIGTERM; requests under way get ten seconds to end.

    An address that others can reach is refused without a key.
    """
    if not (is_loopback(host) or key):
        raise ConfigError(f"serving on {host} lets others ask; give a key, or stay on 127.0.0.1")
    uvicorn = need("uvicorn", extra="server")
    config = uvicorn.Config(
        make_app(house, key=key),
        host=host,
        port=port,
        log_level="warning",
        timeout_graceful_shutdown=10,
    )
    await uvicorn.Server(config).serve()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0"), is_loopback("example.org")
    (True, True, False, False)
    """
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
