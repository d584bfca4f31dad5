"""A local session: where a push is done, when the cache hears of a rollback, what is fed, what can go wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from threading import Event
from typing import cast

import numpy as np
import pytest

from septet.backends import _strand
from septet.backends._local import LocalActor, LocalSession
from septet.backends._toy_model import ToyRuntime
from septet.backends.toy import Toy
from septet.core.backend import MemberSpec, Place
from septet.core.errors import BackendError
from septet.core.prompt import BUILT_IN
from septet.core.session import Sampler
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


# --- what was tried is not fed twice ---------------------------------------------------------------


async def test_a_look_along_what_the_member_just_wrote_feeds_nothing(watched: Watched) -> None:
    session = await watched.opened()
    draft = await session.write((), 8, Sampler())
    assert (draft.text, draft.ended) == (b"aba", True)
    assert watched.calls == ["feed 1", "feed 1"]  # [ab], [a]
    seen = await session.look([b"ab", b"a"], None)
    assert watched.calls == ["feed 1", "feed 1"]
    fresh = await watched.opened()
    for following, piece in zip(seen, (b"ab", b"a", None), strict=True):
        assert np.array_equal(following.logp, (await fresh.next(None)).logp)
        if piece:
            await fresh.push(piece)


async def test_a_look_feeds_what_was_written_last_and_never_read(watched: Watched) -> None:
    session = await watched.opened()
    await session.write((), 2, Sampler())  # the second token is drawn, and nothing after it asked for
    assert watched.calls == ["feed 1"]
    await session.look([b"ab", b"a"], None)
    assert watched.calls == ["feed 1", "feed 1"]


async def test_pieces_that_were_looked_at_are_committed_without_a_forward(watched: Watched) -> None:
    session = await watched.opened()
    seen = await session.look([b"ab", b"a", b"c"], None)
    assert watched.calls == ["feed 3"]
    await session.push(b"ab")
    await session.push(b"a")
    following = await session.next(None)
    assert watched.calls == ["feed 3"]
    assert np.array_equal(following.logp, seen[2].logp)
    await session.push(b"a")  # other text than the draft's: only now its tail is cut off
    await session.next(None)
    assert watched.calls == ["feed 3", "cut", "feed 1"]
    assert session.meter.usage.fed_tokens == len(session._strand.ids) + 1 + session._strand.n_prompt


async def test_own_tokens_that_were_looked_at_are_still_own_when_they_are_pushed_together(
    watched: Watched,
) -> None:
    session = await watched.opened()
    (first,) = await session.look([], 1)
    best = session.vocab.bytes_of(int(first.ids[0]))
    after = (await session.look([best], 1))[1]
    second = session.vocab.bytes_of(int(after.ids[0]))
    await session.push(best)
    await session.push(second)  # no `next` between, but its ranking there is known
    assert session.ids == (int(first.ids[0]), int(after.ids[0]))


async def test_a_tail_whose_distributions_were_let_go_costs_one_token(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_strand, "KEPT_ROWS", 1)
    session = await watched.opened()
    seen = await session.look([b"ab", b"a", b"c"], None)
    await session.push(b"ab")
    following = await session.next(None)
    assert watched.calls == ["feed 3", "cut", "feed 1"]
    assert np.array_equal(following.logp, seen[1].logp)


async def test_a_long_draft_keeps_a_bounded_number_of_distributions(watched: Watched) -> None:
    session = await watched.opened()
    await session.look([b"a"] * 40, 1)
    assert len(session._strand._rows) == _strand.KEPT_ROWS


async def test_a_fork_after_a_look_has_the_text_and_not_the_draft(watched: Watched) -> None:
    session = await watched.opened()
    await session.push(b"a")
    await session.look([b"b", b"c"], None)
    fork = cast("LocalSession", await session.fork())
    await fork.push(b"c")
    await session.push(b"c")
    assert np.array_equal((await fork.next(None)).logp, (await session.next(None)).logp)


async def test_random_looks_writes_pushes_and_scores_leave_every_distribution_as_it_would_be(
    watched: Watched,
) -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        session = allow_hidden(await watched.opened())
        done = b""
        for _ in range(12):
            pieces = [
                bytes(rng.choice(list(b"abc"), size=int(n)).tolist()) for n in rng.integers(1, 4, size=3)
            ]
            kind = int(rng.integers(5))
            if kind == 0:
                await session.look(pieces, None)
            elif kind == 1:
                await session.write((), int(rng.integers(1, 5)), Sampler())
            elif kind == 2:
                await session.score(pieces[:1])
            elif kind == 3:
                await session.hidden()
            else:
                await session.look(pieces, None)
                for piece in pieces[: int(rng.integers(4))]:
                    await session.push(piece)
                    done += piece
            assert session.committed == done == session._strand.vocab.join(session.ids)
            # The toy's logits are a function of the bytes, so a session that did nothing else knows them.
            plain = await watched.opened()
            if done:
                await plain.push(done)
            assert np.array_equal((await session.next(None)).logp, (await plain.next(None)).logp)
            await plain.close()
        await session.close()


# --- hidden states ---------------------------------------------------------------------------------


def allow_hidden(session: LocalSession) -> LocalSession:
    session._caps = replace(session._caps, hidden=True)
    return session


async def test_a_hidden_state_beside_a_distribution_costs_no_forward_of_its_own(watched: Watched) -> None:
    session = allow_hidden(await watched.opened())
    first = await session.next(1, hidden=True)
    assert watched.calls == []  # the prompt's last token was the last to be fed
    await session.push(b"ab")
    second = await session.next(1, hidden=True)
    assert watched.calls == ["feed 1"]
    assert first.hidden is not None and second.hidden is not None
    assert not np.array_equal(first.hidden, second.hidden)
    assert np.array_equal(second.hidden, await session.hidden())
    assert watched.calls == ["feed 1"]


async def test_after_a_draft_the_hidden_state_is_again_that_of_the_committed_text(watched: Watched) -> None:
    session = allow_hidden(await watched.opened())
    await session.push(b"ab")
    expected = (await session.next(1, hidden=True)).hidden
    await session.look([b"a", b"c"], 1)
    assert np.array_equal((await session.next(1, hidden=True)).hidden, expected)  # type: ignore[arg-type]
    assert watched.calls == ["feed 1", "feed 2", "cut", "feed 1"]


# --- what can go wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda row: np.full_like(row, np.nan), "toy: the model's logits are not numbers"),
        (
            lambda row: np.where(np.arange(len(row)) == 3, np.inf, row),
            "are not numbers .their maximum is inf",
        ),
        (lambda row: np.full_like(row, -np.inf), "toy: the model gives no token any probability"),
    ],
)
async def test_logits_that_are_no_distribution_are_an_error_that_names_the_member(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, broken: Callable[[np.ndarray], np.ndarray], said: str
) -> None:
    session = await watched.opened()
    await session.push(b"a")
    before = await session.next(None)
    logits = ToyRuntime._logits
    monkeypatch.setattr(ToyRuntime, "_logits", lambda self, past: broken(logits(self, past)))
    await session.push(b"b")
    for call in (session.next(1), session.look([b"a"], 1), session.write((), 3, Sampler())):
        with pytest.raises(BackendError, match=said):
            await call
    monkeypatch.setattr(ToyRuntime, "_logits", logits)
    assert session.committed == b"ab"
    assert not np.array_equal((await session.next(None)).logp, before.logp)  # and it goes on


async def test_some_impossible_tokens_are_no_error(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = ToyRuntime._logits

    def only_a(self: ToyRuntime, past: list[int]) -> np.ndarray:
        row = np.full_like(logits(self, past), -np.inf)
        row[3] = 0.5  # "a"
        return row

    monkeypatch.setattr(ToyRuntime, "_logits", only_a)
    session = await watched.opened()
    following = await session.next(5)
    assert (following.ids.tolist(), following.logp.tolist()) == ([3], [0.0])
    assert following.logp_of(b"b") == -np.inf


async def test_a_member_at_its_end_says_so_in_every_draft_and_takes_more_text_all_the_same(
    watched: Watched,
) -> None:
    session = await watched.opened()
    await session.push(b"aba")
    assert (await session.next(1)).ids.tolist() == [0]  # END
    draft = await session.write((), 5, Sampler())
    assert (draft.text, draft.ended, len(draft.tokens)) == (b"", True, 1)
    with pytest.raises(BackendError, match="END ends an answer"):
        await session.push(b"")
    await session.push(b"c")
    assert session.committed == b"abac"


async def test_at_its_context_limit_a_session_refuses_what_does_not_fit_and_keeps_what_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    toy = Toy(tokenizer="pairs", answers={"letters": "aba"}, context=80)
    actor = cast("LocalActor", toy.connect(Place()).member(MemberSpec(name="toy", prompt=BUILT_IN["chat"])))
    session = cast("LocalSession", await actor.open(Query.of("Some letters")))
    room = session._strand.room
    for _ in range(room - 1):
        await session.push(b"b")
    with pytest.raises(BackendError, match="exceed its context of 80"):
        await session.look([b"b", b"b"], 1)
    draft = await session.write((), 9, Sampler())
    assert len(draft.tokens) <= 2
    assert len(await session.look([b"b"], 1)) == 2
    await session.push(b"b")
    assert (await session.next(1)).at == room
    await session.push(b"b")
    with pytest.raises(BackendError, match="exceed its context of 80"):
        await session.next(1)
    await actor.aclose()


async def test_a_fork_of_a_session_that_read_ahead_feeds_none_of_it_again(watched: Watched) -> None:
    session = await watched.opened()
    path = session.vocab.tokenise(b"aba")
    await session.after([path])
    watched.calls.clear()
    fork = await session.fork()
    further = [*path, *session.vocab.tokenise(b"c")]
    there = await fork.after([further])
    assert watched.calls == ["feed 1"]
    watched.calls.clear()
    here = await session.after([further])  # nor does the original feed what it holds
    assert watched.calls == ["feed 1"]
    assert np.array_equal(there[0].logp, here[0].logp)
    await fork.close()


async def test_a_score_of_one_token_after_a_look_forgets_what_it_cut_off(watched: Watched) -> None:
    session = await watched.opened()
    await session.look([b"ab", b"a"], None)  # both stay in the cache
    await session.score([b"ab"])  # one token: it feeds nothing, and cuts them off
    await session.push(b"ab")
    await session.push(b"a")
    found = await session.next(None)
    fresh = await watched.opened()
    await fresh.push(b"ab")
    await fresh.push(b"a")
    assert np.array_equal(found.logp, (await fresh.next(None)).logp)
    assert session.meter.usage.fed_tokens - fresh.meter.usage.fed_tokens == 2  # fed by the look, and again
