"""A local session's push: where it is done, and when the cache hears of a rollback."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from threading import Event
from typing import cast

import pytest

from septet.backends._local import LocalActor, LocalSession
from septet.backends._toy_model import ToyRuntime
from septet.backends.toy import Toy
from septet.core.backend import MemberSpec, Place
from septet.core.prompt import BUILT_IN
from septet.core.types import Query


class Watched:
    """A toy that spells "ab" and "abc", and the calls that its model gets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        toy = Toy(tokenizer="pairs", answers={"letters": "aba"})
        spec = MemberSpec(name="toy", prompt=BUILT_IN["chat"])
        self.actor = cast("LocalActor", toy.connect(Place()).member(spec))
        self.calls: list[str] = []
        self.feeding, self.go_on = Event(), Event()
        self.go_on.set()
        feed, cut = ToyRuntime.feed, ToyRuntime.cut

        def fed(runtime: ToyRuntime, seq: int, ids: Sequence[int], rows: str) -> object:
            self.feeding.set()
            self.go_on.wait(10)
            self.calls.append(f"feed {len(ids)}")
            return feed(runtime, seq, ids, rows)

        def was_cut(runtime: ToyRuntime, seq: int, keep: int) -> None:
            self.calls.append("cut")
            cut(runtime, seq, keep)

        monkeypatch.setattr(ToyRuntime, "feed", fed)
        monkeypatch.setattr(ToyRuntime, "cut", was_cut)

    async def opened(self) -> LocalSession:
        session = cast("LocalSession", await self.actor.open(Query.of("Some letters")))
        self.calls.clear()
        return session


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    made = Watched(monkeypatch)
    yield made
    asyncio.run(made.actor.aclose())


async def test_a_push_calls_no_model_and_a_rollback_is_cut_with_the_next_forward(watched: Watched) -> None:
    session = await watched.opened()
    await session.push(b"ab")
    await session.next(1)
    await session.push(b"c")  # makes [ab] into [abc]
    assert watched.calls == ["feed 1"]
    await session.next(1)
    assert watched.calls == ["feed 1", "cut", "feed 1"]


async def test_what_was_rolled_back_is_not_part_of_a_fork(watched: Watched) -> None:
    session = await watched.opened()
    await session.push(b"ab")
    await session.next(1)
    await session.push(b"c")
    fork = cast("LocalSession", await session.fork())
    there, here = await fork.next(None), await session.next(None)
    assert (there.logp == here.logp).all()
    assert fork.committed == b"abc"


async def test_a_push_after_a_cancelled_call_waits_for_the_work_that_goes_on(watched: Watched) -> None:
    session = await watched.opened()
    await session.push(b"ab")
    watched.feeding.clear()
    watched.go_on.clear()
    left = asyncio.create_task(session.next(1))
    await asyncio.to_thread(watched.feeding.wait, 10)
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    pushing = asyncio.create_task(session.push(b"c"))
    await asyncio.sleep(0.05)
    assert not pushing.done()
    assert session.committed == b"ab"
    watched.go_on.set()
    await pushing
    assert session.committed == b"abc"
    assert session.meter.rollbacks == 1
