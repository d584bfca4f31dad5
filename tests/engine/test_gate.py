"""The gate: retries, deadline, budget, prices and the trace, on an actor whose failures are scripted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from septet.core.backend import Defaults, MemberSpec
from septet.core.caps import Caps
from septet.core.errors import BackendError, LimitReached
from septet.core.money import Price, Usage
from septet.core.prompt import Prompt
from septet.core.trace import CallEvent
from septet.core.types import Completion, Piece, Query
from septet.engine.config import Limits
from septet.engine.gate import BoundMember, Gate
from septet.engine.members import Member
from septet.engine.run import Run
from septet.engine.store import Store

QUERY = Query.of("Why?", max_tokens=10)


@dataclass
class Scripted:
    """Fails as its script says, then answers; its clock moves only when somebody waits."""

    script: list[Exception] = field(default_factory=list)
    after_piece: bool = False
    now: float = 100.0
    waited: list[float] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    name: str = "ada"
    caps: Caps = Caps(text=True)
    price: Price | None = Price(usd_per_mtok_in=1.0, usd_per_mtok_out=2.0)
    vocab: Any = None
    stop: tuple[str, ...] = ()

    async def complete(self, query: Query, *, n: int = 1, logprobs: int = 0) -> list[Completion]:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if self.script:
            raise self.script.pop(0)
        self.now += 1.0
        return [Completion(member="", text=f"yes {i}", usage=Usage(10, 5, 0, 15)) for i in range(n)]

    async def stream(self, query: Query) -> AsyncIterator[Piece | Completion]:
        if self.after_piece:
            yield Piece("ye")
        if self.script:
            raise self.script.pop(0)
        yield Piece("yes")
        yield Completion(member="", text="yes", usage=Usage(10, 5, 0, 15))

    async def sleep(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now += seconds


@dataclass
class Book:
    events: list[CallEvent] = field(default_factory=list)

    def call(self, event: CallEvent) -> None:
        self.events.append(event)


def bound(actor: Scripted, tmp_path: Path, **limits: Any) -> tuple[BoundMember, Book, Run]:
    book = Book()
    spec = MemberSpec(name="ada", prompt=Prompt(), defaults=Defaults())
    member = Member(name="ada", actor=actor, spec=spec, endpoint="ada", concurrency=2, identity="id")  # type: ignore[arg-type]
    gate = Gate(Store(str(tmp_path / "s.db")), clock=lambda: actor.now, sleep=actor.sleep)
    stated = Limits(**limits)
    run = Run(
        id="r1",
        path=("toys",),
        seed=0,
        limits=stated,
        began=actor.now,
        deadline=actor.now + stated.seconds,
        recorder=book,
        clock=lambda: actor.now,
    )
    return BoundMember(member, run, gate), book, run


async def test_a_failure_that_may_pass_is_tried_again_after_what_the_server_says(tmp_path: Path) -> None:
    actor = Scripted([BackendError("busy", status=429, retryable=True, retry_after=3.0)])
    member, book, run = bound(actor, tmp_path)
    (done,) = await member.do("complete", {"query": QUERY, "n": 1, "logprobs": 0}, "candidate")
    assert done.text == "yes 0"
    assert actor.waited == [3.0]
    assert book.events[0].retries == ("busy (waited 3 s)",)
    assert run.tally.calls == 1


async def test_without_retry_after_the_wait_doubles(tmp_path: Path) -> None:
    failures = [BackendError("down", status=503, retryable=True) for _ in range(2)]
    actor = Scripted(list(failures))
    member, _, _ = bound(actor, tmp_path)
    await member.do("complete", {"query": QUERY, "n": 1}, "candidate")
    assert actor.waited == [0.5, 1.0]


async def test_the_last_failure_is_raised_with_its_place_and_written_down(tmp_path: Path) -> None:
    actor = Scripted([BackendError("down", retryable=True) for _ in range(9)])
    member, book, _ = bound(actor, tmp_path, retries=1)
    with pytest.raises(BackendError, match=r"down \[member ada, method toys, request r1\]"):
        await member.do("complete", {"query": QUERY, "n": 1}, "candidate")
    assert len(actor.waited) == 1
    assert book.events[0].error.startswith("down")


async def test_a_refusal_is_not_tried_again(tmp_path: Path) -> None:
    actor = Scripted([BackendError("wrong key", status=401)])
    member, _, _ = bound(actor, tmp_path)
    with pytest.raises(BackendError, match="wrong key"):
        await member.do("complete", {"query": QUERY, "n": 1}, "candidate")
    assert actor.waited == []


async def test_nobody_waits_past_the_deadline(tmp_path: Path) -> None:
    actor = Scripted([BackendError("busy", retryable=True, retry_after=60.0)])
    member, _, _ = bound(actor, tmp_path, seconds=10)
    with pytest.raises(BackendError, match="busy"):
        await member.do("complete", {"query": QUERY, "n": 1}, "candidate")
    assert actor.waited == []


async def test_usd_is_price_times_tokens_and_the_seconds_are_shared_by_the_samples(tmp_path: Path) -> None:
    member, book, run = bound(Scripted(), tmp_path)
    done = await member.do("complete", {"query": QUERY, "n": 2}, "candidate")
    assert [c.usd for c in done] == [2e-5, 2e-5]  # (10·1 + 5·2) / 10^6
    assert [c.seconds for c in done] == [0.5, 0.5]
    assert run.tally.usd == book.events[0].usd == 4e-5
    assert run.tally.usage == book.events[0].usage == Usage(20, 10, 0, 30)


async def test_a_call_that_could_break_the_budget_is_not_made(tmp_path: Path) -> None:
    actor = Scripted()
    member, book, run = bound(actor, tmp_path, usd_per_request=1e-6)
    with pytest.raises(LimitReached, match="usd_per_request"):
        await member.do("complete", {"query": QUERY, "n": 1}, "candidate")
    assert (book.events, run.tally.calls, actor.most_at_once) == ([], 0, 0)


async def test_calls_at_once_never_reserve_more_than_the_budget(tmp_path: Path) -> None:
    # each call reserves about 6e-5 USD (prompt ≤ 40 tokens, answer 10 tokens at 2): three would be too many
    actor = Scripted()
    member, _, run = bound(actor, tmp_path, usd_per_request=1.5e-4)
    calls = (member.do("complete", {"query": QUERY, "n": 1}, "candidate") for _ in range(12))
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert any(isinstance(r, LimitReached) for r in results)
    assert run.tally.usd <= 1.5e-4
    assert run.tally.reserved == pytest.approx(0.0)


async def test_no_more_calls_run_at_once_than_the_endpoint_allows(tmp_path: Path) -> None:
    actor = Scripted()
    member, _, _ = bound(actor, tmp_path)
    await asyncio.gather(*(member.do("complete", {"query": QUERY, "n": 1}, "c") for _ in range(7)))
    assert actor.most_at_once == 2


async def test_a_child_run_spends_its_parents_budget(tmp_path: Path) -> None:
    actor = Scripted()
    member, _, run = bound(actor, tmp_path, calls=1)
    child = run.child("inner", Limits(), 0)
    inner = BoundMember(member.member, child, member.gate)
    await inner.do("complete", {"query": QUERY, "n": 1}, "candidate")
    assert (run.tally.calls, child.place) == (1, "toys/inner")
    with pytest.raises(LimitReached, match="calls"):
        await inner.do("complete", {"query": QUERY, "n": 1}, "candidate")


async def test_a_stream_is_tried_again_only_before_its_first_piece(tmp_path: Path) -> None:
    member, _, _ = bound(Scripted([BackendError("reset", retryable=True)]), tmp_path)
    items = [item async for item in member.stream(QUERY, "candidate")]
    assert isinstance(items[-1], Completion)
    late = Scripted([BackendError("reset", retryable=True)], after_piece=True)
    member, book, _ = bound(late, tmp_path)
    with pytest.raises(BackendError, match="reset"):
        async for _item in member.stream(QUERY, "candidate"):
            pass
    assert (late.waited, book.events[0].error[:5]) == ([], "reset")


async def test_a_slow_call_ends_at_the_deadline(tmp_path: Path) -> None:
    class Slow(Scripted):
        async def complete(self, query: Query, *, n: int = 1, logprobs: int = 0) -> list[Completion]:
            await asyncio.Event().wait()
            return []

    member, book, _ = bound(Slow(), tmp_path, seconds=0.05)
    with pytest.raises(LimitReached, match="seconds"):
        await member.do("complete", {"query": QUERY, "n": 1}, "candidate")
    assert "limit seconds" in book.events[0].error


async def test_a_cached_reply_costs_nothing_and_is_marked(tmp_path: Path) -> None:
    actor = Scripted()
    member, book, run = bound(actor, tmp_path)
    run.use_cache = True
    args = {"query": QUERY, "n": 1, "logprobs": 0}
    (first,) = await member.do("complete", args, "candidate")
    (again,) = await member.do("complete", args, "candidate")
    (other,) = await member.do("complete", {**args, "query": QUERY.but(seed=3)}, "candidate")
    assert (first.text, again.text) == ("yes 0", "yes 0")
    assert (again.cached, again.usd, other.cached) == (True, 0.0, False)
    assert [e.cached for e in book.events] == [False, True, False]
