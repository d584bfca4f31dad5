"""Local sessions and actors on the toy: what is fed, what is committed, what is given back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from septet.backends._local import LocalActor, LocalSession
from septet.backends._toy_model import ToyRuntime
from septet.backends.toy import Toy
from septet.core.backend import Defaults, MemberSpec, Place
from septet.core.errors import BackendError
from septet.core.prompt import BUILT_IN
from septet.core.session import Sampler
from septet.core.types import Completion, Piece, Query

Make = Callable[..., LocalActor]
PARIS = Query.of("What is the capital of France?")
ANSWERS = {"capital of France": "The answer is Paris.\nIt is a city in France."}


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[LocalActor] = []

    def actor(
        name: str = "toy", *, prompt: str = "chat", defaults: Defaults | None = None, **o: Any
    ) -> LocalActor:
        options = {"answers": ANSWERS, **o}
        spec = MemberSpec(name=name, prompt=BUILT_IN[prompt], defaults=defaults or Defaults())
        made.append(cast("LocalActor", Toy(**options).connect(Place()).member(spec)))
        return made[-1]

    yield actor
    for member in made:
        if member._endpoint.loaded:
            await member._endpoint.call(lambda: None)
            assert cast("ToyRuntime", member._endpoint.loaded).n_open == 0, "a sequence was not given back"
        await member.aclose()


async def opened(actor: LocalActor, query: Query = PARIS) -> LocalSession:
    return cast("LocalSession", await actor.open(query))


async def greedy(session: LocalSession, n: int = 200) -> bytes:
    """Follows the member's own best pieces."""
    for _ in range(n):
        piece = session.vocab.bytes_of(int((await session.next(1)).ids[0]))
        if not piece:
            break
        await session.push(piece)
    return session.committed


# --- completing -------------------------------------------------------------------------------------


async def test_an_answer_ends_by_itself_at_a_stop_string_after_an_until_string_or_at_the_limit(
    make: Make,
) -> None:
    toy = make()

    async def ask(**fields: Any) -> tuple[str, str]:
        (found,) = await toy.complete(PARIS.but(**fields))
        return found.text, found.finish

    assert await ask() == (ANSWERS["capital of France"], "stop")
    assert await ask(stop=("Paris",)) == ("The answer is ", "stop")
    assert await ask(stop=("is.\nIt",)) == ("The answer is Par", "stop")  # over three tokens
    assert await ask(until=("\n",)) == ("The answer is Paris.\n", "until")
    assert await ask(max_tokens=2) == ("The answer", "length")


async def test_the_members_own_stop_strings_apply_too(make: Make) -> None:
    toy = make(prompt="qa", defaults=Defaults(stop=("Paris",)))
    assert toy.stop == ("\nQuestion:", "\n\n", "Paris")
    (found,) = await toy.complete(PARIS)
    assert found.text == "The answer is "


async def test_the_answer_so_far_is_continued(make: Make) -> None:
    (found,) = await make().complete(PARIS.but(prefix="The answer is", until=("\n",)))
    assert found.text == " Paris.\n"


async def test_samples_differ_by_their_number_and_repeat_by_their_seed(make: Make) -> None:
    toy, query = make(), PARIS.but(temperature=1.0, seed=3)
    five = [c.text for c in await toy.complete(query, n=5)]
    assert len(set(five)) > 1
    assert [c.text for c in await toy.complete(query, n=5)] == five
    assert [c.text for c in await toy.complete(query, n=1)] == five[:1]
    assert [c.text for c in await toy.complete(query.but(seed=4), n=5)] != five


async def test_samples_feed_the_prompt_once_and_greedy_ones_are_made_once(make: Make) -> None:
    toy = make()
    (one,) = await toy.complete(PARIS)
    three = await toy.complete(PARIS, n=3)
    assert [c.text for c in three] == [one.text] * 3
    assert [c.usage.fed_tokens for c in three] == [one.usage.fed_tokens, 0, 0]
    drawn = await toy.complete(PARIS.but(temperature=1.0), n=3)
    assert sum(c.usage.prompt_tokens for c in drawn) == one.usage.prompt_tokens
    assert [c.sample for c in drawn] == [0, 1, 2]


async def test_top_p_of_nothing_is_greedy(make: Make) -> None:
    toy = make()
    (one,) = await toy.complete(PARIS)
    found = await toy.complete(PARIS.but(temperature=1.5, top_p=0.0), n=4)
    assert {c.text for c in found} == {one.text}


async def test_reported_tokens_spell_the_text_and_carry_the_best_alternatives(make: Make) -> None:
    (found,) = await make().complete(PARIS.but(stop=("aris",)), logprobs=2)
    assert found.tokens is not None
    assert found.tokens.top is not None
    assert b"".join(found.tokens.texts) == b"The answer is P" == found.text.encode()
    assert found.tokens.top[0][0] == (b"The", pytest.approx(found.tokens.logp[0]))
    assert all(len(top) == 2 and top[0][1] >= top[1][1] for top in found.tokens.top)


async def test_the_end_counts_as_one_token_whichever_id_spells_it(make: Make) -> None:
    session = await opened(make(answers={"capital": "Yes"}), PARIS.but(prefix="Yes"))
    now = await session.next(1)
    # Two END ids share logit 12; alone each would have half of what the class has.
    assert now.logp_of(b"") == float(now.logp[0])
    assert float(now.logp[0]) > -0.02
    await session.close()


async def test_a_prompt_beyond_the_context_is_refused_before_anything_is_fed(make: Make) -> None:
    toy = make("short", context=20)
    with pytest.raises(BackendError, match=r"short: the prompt has \d+ tokens, and a context of 20"):
        await toy.complete(Query.of("word " * 30))
    assert cast("ToyRuntime", toy._endpoint.loaded).n_fed == 0


async def test_an_answer_that_reaches_the_context_is_truncated_and_a_session_says_so(make: Make) -> None:
    toy = make(context=24)
    (found,) = await toy.complete(PARIS)
    assert found.finish == "length"
    assert found.usage.prompt_tokens + found.usage.completion_tokens == 25
    session = await opened(toy)
    with pytest.raises(BackendError, match="exceed its context of 24"):
        await greedy(session)
    await session.close()


# --- streaming --------------------------------------------------------------------------------------


async def streamed(toy: LocalActor, query: Query) -> tuple[list[str], Completion]:
    items = [item async for item in toy.stream(query)]
    assert isinstance(items[-1], Completion)
    assert all(isinstance(item, Piece) for item in items[:-1])
    return [item.text for item in items[:-1]], items[-1]


async def test_a_stream_is_the_same_answer_in_pieces_then_one_completion(make: Make) -> None:
    toy = make()
    pieces, last = await streamed(toy, PARIS)
    assert len(pieces) > 5
    assert "".join(pieces) == last.text == (await toy.complete(PARIS))[0].text


async def test_what_could_begin_a_stop_string_is_held_back_until_it_is_certain(make: Make) -> None:
    pieces, last = await streamed(make(), PARIS.but(stop=("Paris in spring", "city in")))
    assert "".join(pieces) == last.text == "The answer is Paris.\nIt is a "
    assert " Paris.\n" in "".join(pieces[3:])


async def test_only_complete_characters_are_streamed(make: Make) -> None:
    toy = make(tokenizer="bytes", answers={"capital": "né 👍 日本"})
    pieces, last = await streamed(toy, PARIS)
    assert pieces == list("né 👍 日本")
    assert last.text == "né 👍 日本"
    (cut,) = await toy.complete(PARIS.but(max_tokens=2))
    assert (cut.text, cut.finish) == ("n", "length")


async def test_a_stream_that_is_left_gives_its_sequence_back(make: Make) -> None:
    toy = make()
    stream = toy.stream(PARIS)
    assert isinstance(await anext(stream), Piece)
    await stream.aclose()  # type: ignore[attr-defined]


async def test_a_cancelled_answer_gives_its_sequence_back(make: Make) -> None:
    toy = make(answers={"capital": "word " * 2000})
    task = asyncio.create_task(toy.complete(PARIS.but(max_tokens=5000)))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# --- sessions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokenizer", ["words", "bytes"])
async def test_a_session_that_follows_its_best_pieces_is_the_members_own_answer(
    make: Make, tokenizer: str
) -> None:
    answer = "Yes, é 日本 👍\r\n\tif a  and b:\n\n    so  \n"
    toy = make(tokenizer=tokenizer, answers={"capital": answer})
    session = await opened(toy)
    assert (await greedy(session)).decode() == answer == (await toy.complete(PARIS))[0].text
    await session.close()


async def test_nothing_is_fed_twice_on_the_members_own_path(make: Make) -> None:
    toy = make()
    session = await opened(toy)
    await greedy(session)
    usage = session.meter.usage
    assert usage.fed_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.completion_tokens == len(session.ids)
    assert session.meter.rollbacks == 0
    await session.close()


async def test_a_foreign_piece_crops_one_token_and_feeds_one(make: Make) -> None:
    # K23: "ab" is [ab]; with a foreign "c" it is [abc], so one token is cropped and one is fed.
    session = await opened(make(tokenizer="pairs", answers={"capital": "aba"}), PARIS)
    await session.push(b"ab")
    assert session.vocab.bytes_of(session.ids[0]) == b"ab"
    assert session.vocab.bytes_of(int((await session.next(1)).ids[0])) == b"a"
    before = session.meter.usage.fed_tokens
    await session.push(b"c")
    await session.next(1)
    assert [session.vocab.bytes_of(i) for i in session.ids] == [b"abc"]
    assert (session.meter.rollbacks, session.meter.usage.fed_tokens - before) == (1, 1)
    await session.close()


async def test_the_members_own_piece_is_appended_although_the_tokenizer_reads_otherwise(make: Make) -> None:
    for rule, expected in (("own", [b"ab", b"c"]), ("canonical", [b"abc"])):
        session = await opened(make(tokenizer="pairs", answers={"capital": "abc"}))
        session.commit_rule = rule  # type: ignore[assignment]
        ab, c = session.vocab.ids_of(b"ab")[0], session.vocab.ids_of(b"c")[0]
        await session.push(b"ab", id=ab)
        assert int((await session.next(1)).ids[0]) == c
        await session.push(b"c")
        assert [session.vocab.bytes_of(i) for i in session.ids] == expected
        assert session.committed == b"abc"
        await session.close()


@pytest.mark.parametrize("rule", ["own", "canonical"])
async def test_after_random_commits_bytes_and_distributions_are_those_of_a_replay(
    make: Make, rule: str
) -> None:
    rng = np.random.default_rng(23)
    toy = make(tokenizer="pairs", answers={"capital": "abcabcab", "France": "cab"})
    for _ in range(6):
        session, pushed = await opened(toy), b""
        session.commit_rule = rule  # type: ignore[assignment]
        for _ in range(10):
            if rng.random() < 0.7:
                await session.next(3)
            piece = session.vocab.bytes_of(int(rng.choice([3, 4, 5, 6, 7])))
            await session.push(piece)
            pushed += piece
            assert b"".join(map(session.vocab.bytes_of, session.ids)) == pushed == session.committed
        if rule == "canonical":
            assert list(session.ids) == session.vocab.tokenise(pushed)
        replay = await opened(toy)
        for token_id in session.ids:
            await replay.push(replay.vocab.bytes_of(token_id), id=token_id)
        assert np.array_equal((await session.next(None)).logp, (await replay.next(None)).logp)
        await session.close()
        await replay.close()


async def test_two_requests_at_once_answer_as_each_alone(make: Make) -> None:
    toy = make(answers={"France": "The answer is Paris.", "2": "x" * 40})
    queries = [PARIS, Query.of("What is 2?"), PARIS.but(temperature=1.0, seed=5)]
    alone = [(await toy.complete(query))[0].text for query in queries]
    session = await opened(toy)
    *together, written = await asyncio.gather(*(toy.complete(query) for query in queries), greedy(session))
    await session.close()
    assert [cast("list[Completion]", found)[0].text for found in together] == alone
    assert cast("bytes", written).decode() == alone[0]


async def test_a_full_distribution_is_in_id_order_and_sums_to_one(make: Make) -> None:
    session = await opened(make())
    full, top = await session.next(None), await session.next(5)
    assert full.full
    assert full.ids.tolist() == list(range(session.vocab.size))
    assert np.exp(full.logp.astype(np.float64)).sum() == pytest.approx(1, abs=1e-5)
    assert top.logp.tolist() == sorted(full.logp.tolist(), reverse=True)[:5]
    await session.close()


async def test_a_lookup_reads_the_kept_row_even_after_the_session_went_on(make: Make) -> None:
    session = await opened(make())
    full, now = await session.next(None), await session.next(2)
    await session.push(b"The")
    await session.next(2)
    digits = [int(i) for i in session.vocab.ids_of(b"7")]
    assert len(digits) == 2  # a digit and a byte piece: their masses are summed
    expected = np.log(np.exp(full.logp[digits].astype(np.float64)).sum())
    assert now.logp_of(b"7") == pytest.approx(expected, abs=1e-5)
    assert now.logp_of(b"no such token") == -np.inf
    assert now.logp_of(b"The answer", first=True) == now.logp_of(b"The")
    await session.close()


async def test_agreeing_keeps_prefixes_and_extensions_only(make: Make) -> None:
    session = await opened(make())
    pieces = {session.vocab.bytes_of(int(i)) for i in (await session.next(100, agreeing=b" th")).ids}
    assert (
        pieces
        == {b" ", b" the", b" they", b" this", b" three", b" that", b" then", b" think", b" th"} & pieces
    )
    assert {b" ", b" the", b" this"} <= pieces
    await session.close()


@pytest.mark.parametrize(
    "pieces",
    [
        [b"The", b" answer", b" is", b" Paris"],  # the member's own path
        [b"Th", b"e", b" ans", b"wer is"],  # pieces that join tokens or are several
        [b" d", b"o", b" \xf0\x9f", b"\x91\x8d", b"."],  # a character in two pieces
        [b"a", b"b", b"c", b"a", b"b"],
        [],
    ],
)
@pytest.mark.parametrize("waiting", [b"", b"The"])
async def test_looking_along_pieces_is_what_pushing_them_one_by_one_gives(
    make: Make, pieces: list[bytes], waiting: bytes
) -> None:
    for tokenizer in ("words", "pairs") if all(p in b"abc" for p in pieces) and not waiting else ("words",):
        toy = make(tokenizer=tokenizer)
        looked, pushed = await opened(toy), await opened(toy)
        if waiting:
            await looked.push(waiting)
            await pushed.push(waiting)
        ids = looked.ids
        seen = await looked.look(pieces, None)
        assert (looked.committed, looked.ids) == (waiting, ids)
        for number, now in enumerate(seen):
            if number:
                await pushed.push(pieces[number - 1])
            then = await pushed.next(None)
            assert now.at == then.at
            assert np.array_equal(now.logp, then.logp)
        for piece in pieces:
            await looked.next(1)
            await looked.push(piece)
        assert looked.ids == pushed.ids
        await looked.close()
        await pushed.close()


async def test_looking_along_whole_tokens_is_one_forward(make: Make) -> None:
    session = await opened(make())
    await session.push(b"The")
    before = session.meter.forwards
    await session.look([b" answer", b" is", b" Paris"], 3)
    assert session.meter.forwards == before + 1
    await session.next(3)
    assert session.meter.forwards == before + 1  # coming back costs none
    await session.close()


async def test_waiting_tokens_are_fed_in_groups_that_the_model_allows(make: Make) -> None:
    toy = make()
    session, other = await opened(toy), await opened(toy)
    runtime = cast("ToyRuntime", toy._endpoint.loaded)
    runtime.group = 2
    before = session.meter.forwards
    for piece in (b"The", b" answer", b" is", b" Paris", b"."):
        await session.push(piece)
    grouped = (await session.next(None)).logp
    assert session.meter.forwards == before + 3  # 2 + 2 + 1
    seen = await session.look([b"\n", b"It", b" is"], None)
    runtime.group = 0
    for piece in (b"The", b" answer", b" is", b" Paris", b"."):
        await other.push(piece)
    assert np.array_equal((await other.next(None)).logp, grouped)
    assert [n.logp.tolist() for n in await other.look([b"\n", b"It", b" is"], None)] == [
        n.logp.tolist() for n in seen
    ]
    await session.close()
    await other.close()


async def test_a_long_prompt_is_fed_in_equal_chunks_and_others_get_their_turn(make: Make) -> None:
    toy = make(tokenizer="bytes", answers={"capital": "Yes", "long": "No"})
    long = Query.of("long " * 300)
    first, second = await asyncio.gather(toy.complete(long), toy.complete(PARIS))
    assert (first[0].text, second[0].text) == ("No", "Yes")
    session = await opened(toy, long)
    assert session.meter.forwards == 3  # 1,506 bytes and a control token: 512 + 512 + the rest
    await session.close()


async def test_a_draft_is_written_and_nothing_is_committed(make: Make) -> None:
    session = await opened(make())
    await session.push(b"The")
    draft = await session.write([b"is"], 20, Sampler())
    assert (draft.text, draft.ended, draft.hit) == (b" answer is", False, "is")
    assert b"".join(draft.tokens.texts) == draft.text
    assert session.committed == b"The"
    whole = await session.write([], 100, Sampler())
    assert whole.ended
    assert whole.tokens.texts[-1] == b""
    assert session.meter.usage.completion_tokens == 1
    assert (await session.write([], 3, Sampler())).text == b" answer is Paris"
    await session.close()


async def test_spans_are_scored_after_what_is_committed(make: Make) -> None:
    session = await opened(make())
    await session.push(b"The")
    before = (await session.next(None)).logp
    tokens, nothing = await session.score([b" answer is", b""])
    assert tokens.texts == (b" answer", b" is")
    first = session.vocab.ids_of(b" answer")[0]
    assert tokens.logp[0] == pytest.approx(float(before[first]))
    second = (await session.look([b" answer"], 1))[1]
    assert tokens.logp[1] == pytest.approx(float(second.logp[0]))
    assert len(nothing) == 0
    assert np.array_equal((await session.next(None)).logp, before)
    await session.close()


async def test_an_actor_scores_texts_like_a_session_and_feeds_the_prompt_once(make: Make) -> None:
    toy = make()
    found = await toy.score(PARIS, ["The answer", "Yes"])
    session = await opened(toy)
    again = await session.score([b"The answer", b"Yes"])
    assert [t.texts for t in found.value] == [t.texts for t in again]
    assert [t.logp.tolist() for t in found.value] == [t.logp.tolist() for t in again]
    tokens = sum(map(len, again))
    assert found.usage.prompt_tokens == session.meter.usage.prompt_tokens + tokens
    await session.close()


async def test_a_fork_goes_its_own_way(make: Make) -> None:
    session = await opened(make())
    await session.push(b"The")
    copy = cast("LocalSession", await session.fork())
    await copy.push(b" river")
    assert (session.committed, copy.committed) == (b"The", b"The river")
    assert copy.meter.usage.prompt_tokens == 0
    assert await greedy(session) == ANSWERS["capital of France"].encode()
    await copy.close()
    await session.close()
    await session.close()


async def test_a_scored_prompt_gives_its_own_tokens_and_the_first_has_no_condition(make: Make) -> None:
    toy = make()
    session = await toy.open(PARIS, scored=True)
    assert session.prompt is not None
    assert b"".join(session.prompt.texts).startswith(b"user: What is the capital")
    assert np.isnan(session.prompt.logp[0])
    assert (session.prompt.logp[1:] < 0).all()
    plain = await toy.open(PARIS)
    assert np.array_equal((await session.next(None)).logp, (await plain.next(None)).logp)
    await session.close()
    await plain.close()


async def test_hidden_states_are_those_of_the_last_committed_place(make: Make) -> None:
    toy = make()
    await toy.ready()
    session = await opened(toy)
    session._caps = replace(session._caps, hidden=True)
    start = await session.hidden()
    await session.push(b"The")
    later = await session.hidden()
    assert not np.array_equal(start, later)
    await session.write([], 5, Sampler())
    await session.look([b" answer"], 1)
    assert np.array_equal(await session.hidden(), later)
    assert int((await session.next(1)).ids[0]) in session.vocab.ids_of(b" answer")
    await session.close()


async def test_the_end_cannot_be_committed_and_a_closed_session_says_so(make: Make) -> None:
    session = await opened(make())
    with pytest.raises(BackendError, match="END ends an answer"):
        await session.push(b"")
    await session.push(b"The")
    await session.close()
    with pytest.raises(BackendError, match="the session is closed"):
        await session.next(1)


async def test_a_closed_member_answers_no_more(make: Make) -> None:
    toy = make()
    session = await opened(toy)
    await session.close()
    await toy.aclose()
    await session.close()
    with pytest.raises(BackendError, match="was closed"):
        await toy.complete(PARIS)


async def test_concurrent_calls_on_one_session_run_one_after_the_other(make: Make) -> None:
    session = await opened(make())
    draft, scored, now = await asyncio.gather(
        session.write([], 50, Sampler()), session.score([b"The"]), session.next(1)
    )
    assert draft.text == ANSWERS["capital of France"].encode()
    assert scored[0].logp[0] == pytest.approx(float(now.logp[0]))
    await session.close()
