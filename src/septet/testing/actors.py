"""The contract of an actor: its caps are the truth, and its sessions keep their promises."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np

from septet.core.actor import Actor
from septet.core.errors import BackendError
from septet.core.session import END, Sampler, Session
from septet.core.types import Completion, Piece, Query

Promise = Callable[[], Awaitable[None]]

TEXTS = (" Paris", " It is blue.")


def check_backend(actor: Actor, question: str = "What is the capital of France?") -> list[Promise]:
    """Every promise that applies to this actor's caps, each to be awaited on its own."""
    found = _Promises(actor, Query.of(question, max_tokens=8))
    named = inspect.getmembers(found, inspect.iscoroutinefunction)
    return [work for name, work in named if not name.startswith("_") and found._applies(work)]


def _when(*caps: str) -> Callable[[Any], Any]:
    def mark(work: Any) -> Any:
        work.caps = caps
        return work

    return mark


class _Promises:
    def __init__(self, actor: Actor, query: Query) -> None:
        self.actor, self.query = actor, query

    def _applies(self, work: Any) -> bool:
        return all(getattr(self.actor.caps, cap) for cap in getattr(work, "caps", ()))

    async def what_is_not_offered_is_refused(self) -> None:
        """An ability outside the caps raises a BackendError, it does not guess."""
        a, q, caps = self.actor, self.query, self.actor.caps
        abilities: dict[str, Callable[[], Awaitable[Any]]] = {
            "score": lambda: a.score(q, TEXTS),
            "embed": lambda: a.embed(TEXTS),
            "rate": lambda: a.rate(q, TEXTS),
            "compare": lambda: a.compare(q, TEXTS),
            "run": lambda: a.run("1+1"),
            "continues": lambda: a.complete(q.but(prefix="It is")),
            "samples": lambda: a.complete(q, n=2),
            "logprobs": lambda: a.complete(q, logprobs=2),
            "prompt_scores": lambda: a.open(q, scored=True),
        }
        for cap, call in abilities.items():
            if getattr(caps, cap):
                continue
            try:
                await call()
            except BackendError:
                continue
            raise AssertionError(f"{a.name} does not offer {cap}, but did not refuse it")

    @_when("text")
    async def a_stream_is_pieces_and_then_one_completion(self) -> None:
        items = [item async for item in self.actor.stream(self.query.but(temperature=0.0))]
        assert isinstance(items[-1], Completion)
        assert all(isinstance(item, Piece) for item in items[:-1])
        assert "".join(i.text for i in items if isinstance(i, Piece)) == items[-1].text

    @_when("text", "samples")
    async def n_samples_are_n_completions(self) -> None:
        done = await self.actor.complete(self.query.but(temperature=1.0, seed=3), n=3)
        assert [c.sample for c in done] == [0, 1, 2]
        assert all(c.usage.completion_tokens > 0 for c in done)

    @_when("text", "seed")
    async def the_same_seed_gives_the_same_answer(self) -> None:
        query = self.query.but(temperature=1.0, seed=11)
        first, again = [(await self.actor.complete(query))[0].text for _ in range(2)]
        assert first == again

    @_when("text")
    async def a_long_answer_is_cut_at_max_tokens_and_says_so(self) -> None:
        (done,) = await self.actor.complete(self.query.but(max_tokens=1, temperature=0.0))
        assert done.finish in ("length", "stop")
        assert done.usage.completion_tokens <= 1 + (done.finish == "stop")

    @_when("score", "logprobs")
    async def a_text_scores_what_its_tokens_were_given(self) -> None:
        (done,) = await self.actor.complete(self.query.but(temperature=0.0), logprobs=1)
        assert done.tokens is not None
        said = b"".join(done.tokens.texts)
        (scored,) = (await self.actor.score(self.query, [said.decode("utf-8", "ignore")])).value
        if b"".join(scored.texts) == said and scored.texts == tuple(t for t in done.tokens.texts if t):
            own = [x for x, t in zip(done.tokens.logp, done.tokens.texts, strict=True) if t]
            np.testing.assert_allclose(scored.logp, own, atol=0.3)

    @_when("embed")
    async def embeddings_have_length_one(self) -> None:
        rows = (await self.actor.embed(TEXTS)).value
        assert rows.shape[0] == len(TEXTS)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)

    @_when("compare")
    async def comparing_is_a_square(self) -> None:
        assert (await self.actor.compare(self.query, TEXTS)).value.shape == (2, 2)

    @_when("topk", "continues")
    async def a_greedy_session_writes_the_member_s_own_answer(self) -> None:
        query = self.query.but(temperature=0.0)
        (own,) = await self.actor.complete(query)
        session, text = await self.actor.open(query), b""
        try:
            for _ in range(8):
                best = session.vocab.bytes_of(int((await session.next(1)).ids[0]))
                if best == END:
                    break
                text += best
                await session.push(best)
        finally:
            await session.close()
        assert text.decode("utf-8", "replace").startswith(own.text)

    @_when("topk", "continues")
    async def looking_ahead_and_writing_commit_nothing(self) -> None:
        session = await self.actor.open(self.query)
        try:
            before = await session.next(3)
            await session.write((), 4, Sampler())
            seen = await session.look([session.vocab.bytes_of(int(before.ids[0])) or b"."], 3)
            after = await session.next(3)
        finally:
            await session.close()
        assert len(seen) == 2
        _same(before, after)
        _same(before, seen[0])

    @_when("topk", "continues", "fork")
    async def a_fork_and_its_parent_go_their_own_ways(self) -> None:
        session = await self.actor.open(self.query)
        twin: Session | None = None
        try:
            await session.push(b"The")
            twin = await session.fork()
            await twin.push(b" cat")
            mine = await session.next(3)
            await session.push(b" dog")
            assert twin is not session
        finally:
            if twin is not None:
                await twin.close()
            await session.close()
        fresh = await self.actor.open(self.query)
        try:
            await fresh.push(b"The")
            _same(mine, await fresh.next(3))
        finally:
            await fresh.close()
            await fresh.close()  # closing twice is allowed


def _same(a: Any, b: Any) -> None:
    np.testing.assert_array_equal(a.ids, b.ids)
    np.testing.assert_allclose(a.logp, b.logp, atol=0.05)
