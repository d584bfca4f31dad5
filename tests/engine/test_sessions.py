"""Sessions of one answer are opened and closed together; a caller who leaves leaves none of them open."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from septet.core.errors import BackendError
from septet.core.session import Session
from septet.engine.sessions import close_all, opened


class Fake:
    """A session that takes a moment to open and to close."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.is_open, self.was_opened = seconds, False, asyncio.Event()

    async def open(self) -> Session:
        await asyncio.sleep(self.seconds)
        self.is_open = True
        self.was_opened.set()
        return cast(Session, self)

    async def close(self) -> None:
        await asyncio.sleep(self.seconds)
        self.is_open = False


async def test_each_call_gives_a_session_or_its_error() -> None:
    good = Fake()

    async def fails() -> Session:
        raise BackendError("no room")

    first, second = await opened([good.open(), fails()])
    assert cast(Any, first) is good and good.is_open
    assert isinstance(second, BackendError)


async def test_a_caller_who_leaves_while_one_opens_leaves_the_other_closed() -> None:
    quick, slow = Fake(), Fake(60.0)
    leaving = asyncio.create_task(opened([quick.open(), slow.open()]))
    await quick.was_opened.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert not quick.is_open and not slow.is_open


async def test_a_caller_who_leaves_twice_still_leaves_none_open() -> None:
    quick, slow = Fake(0.01), Fake(60.0)
    leaving = asyncio.create_task(opened([quick.open(), slow.open()]))
    await quick.was_opened.wait()
    leaving.cancel()
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await asyncio.sleep(0.05)
    assert not quick.is_open


async def test_closing_goes_on_where_the_caller_leaves() -> None:
    made = [Fake(0.01), Fake(0.02)]
    for fake in made:
        await fake.open()
    leaving = asyncio.create_task(close_all(cast("list[Session]", made)))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await asyncio.sleep(0.05)
    assert not any(fake.is_open for fake in made)
