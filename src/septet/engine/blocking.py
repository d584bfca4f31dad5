"""The one blocking door: the same house, driven by an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from septet.core.types import Answer, Piece, Query
from septet.engine.house import House, load

T = TypeVar("T")


def open_blocking(path: str | Path, *, set: Iterable[str] = ()) -> BlockingHouse:
    """A house without async: `with septet.open_blocking("septet.toml") as house: house["fused"].ask("…")`."""
    return BlockingHouse(load(path, set=set))


class BlockingHouse:
    """A context manager; `house[name]` can be asked, streamed and asked many."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="septet-loop", daemon=True)
        self._thread.start()

    def __getitem__(self, name: str) -> BlockingAsked:
        return BlockingAsked(self, name)

    def __enter__(self) -> BlockingHouse:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wait(self._house.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the house's loop and waits; Ctrl-C cancels it first."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise


class BlockingAsked:
    """One ensemble or member, asked without async."""

    def __init__(self, house: BlockingHouse, name: str) -> None:
        self._house, self._asked = house, house._house[name]

    def ask(self, query: Query | str, **fields: Any) -> Answer:
        """One answer."""
        return self._house.wait(self._asked.ask(query, **fields))

    def ask_many(self, queries: Sequence[Query | str], **options: Any) -> list[Answer]:
        """Answers in the order of the queries; the options of `ask_many` on the async door."""
        return self._house.wait(self._asked.ask_many(queries, **options))

    def stream(self, query: Query | str, **fields: Any) -> Iterator[Piece | Answer]:
        """Pieces as they come, then the answer."""
        stream = self._asked.stream(query, **fields)
        try:
            while True:
                try:
                    yield self._house.wait(anext(stream))
                except StopAsyncIteration:
                    return
        finally:
            self._house.wait(stream.aclose())
