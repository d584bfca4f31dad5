"""A house served by uvicorn on loopback in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import openai
import uvicorn

from septet.engine.config import parse
from septet.engine.house import House
from septet.server import make_app


@dataclass
class Served:
    """A running server: where it is, the house behind it, and the official client for it."""

    house: House
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, key: str = "none") -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=30)

    def trace(self, request: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        return self.house.store.trace(request)


@contextmanager
def served(text: str, path: str = "septet.toml", **options: Any) -> Iterator[Served]:
    """Serves the configuration until the block ends; then the house is closed."""
    house = House(parse(text, path))
    config = uvicorn.Config(
        make_app(house, **options), host="127.0.0.1", port=0, log_level="critical", ws="none", lifespan="off"
    )
    server = uvicorn.Server(config)

    async def run() -> None:
        async with house:
            await server.serve()

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="served")
    thread.start()
    try:
        while not server.started and thread.is_alive():
            thread.join(0.01)
        yield Served(house, server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()


Serve = Callable[..., Served]
"""Serves a configuration for the length of a test."""
