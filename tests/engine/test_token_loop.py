"""The token loop: fusing, committing, looking ahead, scoring, nested, with members that fail."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from tabled import Counting, Mean, Tabled, always, hashed, together

from septet.core.errors import NoCandidate, RunError
from septet.core.method import Asking
from septet.core.session import END, Fused, Sampler, View
from septet.core.types import Query
from septet.engine.decode import answer_with
from septet.engine.scoring import ONE_PATH, SUMMED, scored

A = {END: 0.05, b" the": 0.10, b" cat": 0.50, b"s": 0.25, b"\n": 0.10}
B = {END: 0.10, b" the": 0.05, b" cat": 0.20, b" cats": 0.55, b"\n": 0.05, b"s": 0.05}
SYLLABLES_A = (b"a", b"b", b"ab", b"aba")
SYLLABLES_B = (b"a", b"b", b"ba", b"bab")


def rng_of(step: int) -> np.random.Generator:
    return np.random.default_rng([1, step])


async def quiet(piece: bytes, support: Mapping[str, float], logp: float) -> None:
    """Nobody listens."""


def pair(*, fails_at: int | None = None) -> list[Tabled]:
    a = Tabled(always(A), [t for t in A if t])
    return [a, Tabled(always(B), [t for t in B if t], fails_at=fails_at)]


def syllables(seed: int = 0) -> list[Tabled]:
    return [
        Tabled(hashed(SYLLABLES_A, 10 + seed), SYLLABLES_A),
        Tabled(hashed(SYLLABLES_B, 20 + seed), SYLLABLES_B),
    ]


async def test_k1_one_token_s_mean_is_committed_to_all_and_reported_by_its_shares() -> None:
    # mean: END .075, the .075, cat .35, cats .275, s .15, newline .075; half each
    members = pair()
    session = together(Mean([0.5, 0.5], members), members)
    fused = await session.distribution()
    got = dict(zip(fused.texts, fused.p.round(3).tolist(), strict=True))
    want = {END: 0.075, b"\n": 0.075, b" cat": 0.35, b" cats": 0.275, b" the": 0.075, b"s": 0.15}
    assert {t: p for t, p in got.items() if p} == want
    await session.push(b" cat")
    assert [m.text for m in members] == [b" cat", b" cat"]
    assert fused.support[list(fused.texts).index(b" cat")].round(3).tolist() == [0.714, 0.286]


async def test_an_answer_that_ends_at_once_is_empty_and_complete() -> None:
    members = [Tabled(always({END: 0.9, b"x": 0.1}), [b"x"])]
    written = await answer_with(together(Mean([1.0], members), members), Query.of("?"), (), rng_of, quiet)
    assert (written.text, written.finish, len(written.tokens)) == (b"", "stop", 0)


async def test_an_answer_may_begin_with_a_space() -> None:
    said = b" yes."
    members = [Tabled(lambda t: {said[len(t) : len(t) + 1]: 1.0}, [bytes([c]) for c in set(said)])]
    written = await answer_with(together(Mean([1.0], members), members), Query.of("?"), (), rng_of, quiet)
    assert (written.text, written.finish) == (b" yes.", "stop")


async def test_a_stop_string_is_found_across_pieces_and_nothing_of_it_is_passed_on() -> None:
    passed: list[bytes] = []

    async def emit(piece: bytes, support: Mapping[str, float], logp: float) -> None:
        passed.append(piece)

    pieces = [b"Yes", b". ", b"Que", b"stion", b": Why"]
    after = {b"".join(pieces[:n]): pieces[n] for n in range(5)}
    members = [Tabled(lambda t: {after[t]: 0.9, END: 0.1}, pieces)]
    session = together(Mean([1.0], members), members)
    written = await answer_with(session, Query.of("?"), ("Question:",), rng_of, emit)
    assert (written.text, written.finish) == (b"Yes. ", "stop")
    assert b"".join(passed) == b"Yes. "


async def test_the_limit_on_pieces_cuts_an_answer_off() -> None:
    members = pair()
    query = Query.of("?", max_tokens=3)
    written = await answer_with(together(Mean([0.5, 0.5], members), members), query, (), rng_of, quiet)
    assert (written.text, written.finish, len(written.tokens)) == (b" cat cat cat", "length", 3)


async def test_a_member_that_fails_in_the_middle_leaves_the_answer_to_the_others() -> None:
    # b fails after 4 bytes: then a alone goes on, whose best is " cat" as well
    members = pair(fails_at=4)
    session = together(Mean([0.5, 0.5], members), members)
    written = await answer_with(session, Query.of("?", max_tokens=3), (), rng_of, quiet)
    assert written.text == b" cat cat cat"
    assert session.together.errors and "the table ends here" in session.together.errors[0]
    assert members[1].closed
    assert written.shares.round(3).tolist() == [round((0.7142857 + 2) / 3, 3), round(0.2857143 / 3, 3)]


async def test_where_every_member_fails_the_error_says_why() -> None:
    members = [Tabled(always(A), [t for t in A if t], fails_at=0)]
    with pytest.raises(NoCandidate, match="the table ends here"):
        await together(Mean([1.0], members), members).distribution()


class Broken(Mean):
    """A rule that comes to no distribution."""

    def fuse(self, views: Sequence[View | None], s: Any) -> tuple[Fused, Any]:
        return Fused((b"x",), np.array([np.nan]), np.ones((1, 1))), s


async def test_a_rule_that_comes_to_no_distribution_is_an_error_and_no_answer() -> None:
    members = [Tabled(always(A), [t for t in A if t])]
    with pytest.raises(RunError, match="sum to nan"):
        await together(Broken([1.0], members), members).distribution()


class Asks(Mean):
    """Asks the second member for its next distribution again before it fuses."""

    def fuse(self, views: Sequence[View | None], s: Any) -> Any:
        return self._asked(views, s)

    def _asked(self, views: Sequence[View | None], s: Any) -> Asking[tuple[Fused, Any]]:
        second = views[1]
        if second is not None:
            (reply,) = yield [second.session.score([b"s"])]
            assert reply.value
        return super().fuse(views, s)


async def test_a_member_that_fails_when_the_method_asks_it_leaves_and_the_rest_is_fused() -> None:
    members = pair()
    session = together(Asks([0.5, 0.5], members), members)
    fused = await session.distribution()
    assert dict(zip(fused.texts, fused.p.round(2).tolist(), strict=True))[b" cat"] == 0.5
    assert session.together.sessions[1] is None


# --- looking ahead --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [Mean, Counting])
async def test_a_look_sees_what_pushing_one_by_one_would_and_asks_each_member_once(
    method: type[Mean],
) -> None:
    pieces = [b"ab", b"a", b"ba", b"b"]
    ahead, one_by_one = syllables(), syllables()
    looker = together(method([0.5, 0.5], ahead), ahead, s=0)
    walker = together(method([0.5, 0.5], one_by_one), one_by_one, s=0)
    seen = await looker.look(pieces, 20)
    for n, following in enumerate(seen):
        expected = await walker.next(20)
        assert following.at == expected.at
        for piece in (END, b"a", b"b", b"ab", b"ba", b"aba"):
            assert following.logp_of(piece) == pytest.approx(expected.logp_of(piece))
        if n < len(pieces):
            await walker.push(pieces[n])
    assert [m.looked for m in ahead] == [[4], [4]]
    assert all(m.text == b"" for m in ahead)


async def test_pushes_along_a_look_need_no_forward_and_keep_the_method_s_value() -> None:
    members = syllables()
    session = together(Counting([0.5, 0.5], members), members, s=0)
    await session.look([b"ab", b"a"], 5)
    before = [m.meter.forwards for m in members]
    await session.push(b"ab")
    await session.push(b"a")
    await session.distribution()
    assert [m.meter.forwards for m in members] == before
    assert session.s == 2
    await session.push(b"b")
    assert session.s == 3


async def test_another_piece_than_the_one_looked_at_is_read_anew() -> None:
    members, fresh = syllables(), syllables()
    session, other = (together(Mean([0.5, 0.5], m), m) for m in (members, fresh))
    await session.look([b"ab", b"a"], 5)
    for s in (session, other):
        await s.push(b"b")
    np.testing.assert_array_equal((await session.distribution()).p, (await other.distribution()).p)


# --- nested ---------------------------------------------------------------------------------------------


async def test_an_ensemble_inside_another_takes_part_as_a_member() -> None:
    # inside: the mean of A and B as above; outside: that and A, half each: " cat" (.35 + .5) / 2 = .425
    inner_members = pair()
    inner = together(Mean([0.5, 0.5], inner_members), inner_members)
    a = Tabled(always(A), [t for t in A if t])

    class Outer(Mean):
        def __init__(self) -> None:
            self.weights, self.union = np.array([0.5, 0.5]), None  # type: ignore[assignment]

    outer = together(Outer(), [inner, a])  # type: ignore[list-item]
    outer.together.ks = (20, 20)
    fused = await outer.distribution()
    got = dict(zip(fused.texts, fused.p.round(4).tolist(), strict=True))
    assert got[b" cat"] == 0.425
    assert got[b" cats"] == 0.1375
    await outer.push(b" cat")
    assert [m.text for m in (*inner_members, a)] == [b" cat"] * 3
    (tokens,) = await outer.score([b" cats"])  # members that show their best k only: one path, not the sum
    assert tokens.texts == (b" cat", b"s")
    twin = await outer.fork()
    await twin.push(b"s")
    assert a.text == b" cat"
    await twin.close()
    draft = await outer.write((), 2, Sampler())
    assert draft.text == b" cat cat"
    assert a.live == [1] and inner_members[0].live == [1]


# --- scores ---------------------------------------------------------------------------------------------


def segmentations(text: bytes, pieces: Sequence[bytes]) -> list[tuple[bytes, ...]]:
    """Every way to cut a text into pieces."""
    if not text:
        return [()]
    return [
        (piece, *rest)
        for piece in dict.fromkeys(pieces)
        if text.startswith(piece)
        for rest in segmentations(text[len(piece) :], pieces)
    ]


async def exhaustive(text: bytes, end: bool, seed: int = 0) -> float:
    """The sum over all segmentations, each as a product of fused probabilities."""
    total = 0.0
    for cut in segmentations(text, (*SYLLABLES_A, *SYLLABLES_B)):
        members = syllables(seed)
        session, p = together(Mean([0.5, 0.5], members), members), 1.0
        for piece in (*cut, *([END] if end else [])):
            fused = await session.distribution()
            p *= float(fused.p[list(fused.texts).index(piece)])
            if piece:
                await session.push(piece)
        total += p
    return total


@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize("text", [b"a", b"ab", b"aba", b"babab", b"abaabba"])
async def test_a_score_is_the_sum_over_all_segmentations(text: bytes, end: bool) -> None:
    members = syllables()
    session = together(Mean([0.5, 0.5], members), members)
    tokens = await scored(session, text, end, negligible=0.0)
    assert b"".join(tokens.texts) == text
    assert (tokens.texts[-1] == END) == end
    assert tokens.logp.sum() == pytest.approx(np.log(await exhaustive(text, end)), abs=1e-6)


async def test_a_score_by_hand() -> None:
    # tokens a, b, ab with p .2, .3, .4: "ab" is .2 · .3 + .4 = .46, "abab" .46² = .2116, with END .1 at the end
    members = [Tabled(always({END: 0.1, b"a": 0.2, b"b": 0.3, b"ab": 0.4}), [b"a", b"b", b"ab"])]
    session = together(Mean([1.0], members), members)
    tokens = await session.score([b"ab", b"abab"])
    assert [np.exp(t.logp.sum()) for t in tokens] == pytest.approx([0.46, 0.2116])
    assert tokens[1].texts == (b"ab", b"ab")
    (with_end,) = await session.score([b"abab"], end=True)
    assert np.exp(with_end.logp).tolist() == pytest.approx([0.46, 0.46, 0.1])


async def test_a_score_agrees_with_how_often_the_ensemble_says_the_text() -> None:
    members = syllables(seed=3)
    (tokens,) = await together(Mean([0.5, 0.5], members), members).score([b"ab"], end=True)
    n, hits = 1500, 0
    for sample in range(n):
        fresh = [await m.fork() for m in members]
        session = together(Mean([0.5, 0.5], fresh), fresh)
        query = Query.of("?", max_tokens=3, temperature=1.0)  # longer answers are not "ab" with END
        written = await answer_with(
            session, query, (), lambda step, j=sample: np.random.default_rng([j, step]), quiet
        )
        hits += written.text == b"ab" and written.finish == "stop"
    p = float(np.exp(tokens.logp.sum()))
    assert abs(hits / n - p) < 4 * np.sqrt(p * (1 - p) / n), (hits / n, p)


async def test_a_text_that_cannot_be_said_has_the_score_minus_infinity() -> None:
    members = syllables()
    for method in (Mean, Counting):
        (tokens,) = await together(method([0.5, 0.5], members), members, s=0).score([b"abc"])
        assert tokens.logp.sum() == -np.inf
        assert b"".join(tokens.texts) == b"abc"


async def test_places_where_nearly_nothing_stops_are_passed_over() -> None:
    # " c|at" has .001 of the mass: with negligible = .01 only " cat" counts, and there is one forward less
    p = {END: 0.1, b" cat": 0.899, b" c": 0.0005, b"at": 0.0005}
    members = [Tabled(always(p), [t for t in p if t])]
    session = together(Mean([1.0], members), members)
    exact = await scored(session, b" cat", negligible=0.0)
    rough = await scored(session, b" cat", negligible=0.01)
    assert np.exp(exact.logp.sum()) == pytest.approx(0.899 + 0.0005**2)
    assert np.exp(rough.logp.sum()) == pytest.approx(0.899)


async def test_other_methods_score_the_path_of_their_own_pieces_and_say_so() -> None:
    notes: list[str] = []
    members = [Tabled(always({END: 0.1, b"a": 0.2, b"b": 0.3, b"ab": 0.4}), [b"a", b"b", b"ab"])]
    session = together(Counting([1.0], members), members, s=0, note=notes.append)
    (tokens,) = await session.score([b"abab"], end=True)
    assert tokens.texts == (b"ab", b"ab", END)
    assert np.exp(tokens.logp).tolist() == pytest.approx([0.4, 0.4, 0.1])
    assert notes == [ONE_PATH]
    await together(Mean([1.0], members), members, note=notes.append).score([b"a"])
    assert notes == [ONE_PATH, SUMMED]


async def test_scoring_costs_its_own_tokens_only_and_leaves_nothing_behind() -> None:
    members = syllables()
    session = together(Mean([0.5, 0.5], members), members)
    for piece in (b"ab", b"ba", b"a"):
        await session.distribution()
        await session.push(piece)
    await session.distribution()
    texts, fed = [m.text for m in members], [m.meter.usage.fed_tokens for m in members]
    forks: list[Tabled] = []
    for m in members:
        fork = m.fork

        async def kept(fork: Any = fork) -> Tabled:
            forks.append(await fork())
            return forks[-1]

        m.fork = kept  # type: ignore[method-assign]
    await session.score([b"ab", b"bab"])
    assert [m.text for m in members] == texts and [m.meter.usage.fed_tokens for m in members] == fed
    assert [m.live for m in members] == [[1], [1]]
    # two texts of 2 and 3 bytes, of which the first place is known: at most one token fed for each other place
    assert [f.meter.usage.fed_tokens for f in forks] == [1, 1, 2, 2]


def test_every_way_to_cut_is_found() -> None:
    assert list(itertools.islice(sorted(segmentations(b"aba", SYLLABLES_A)), 3)) == [
        (b"a", b"b", b"a"),
        (b"ab", b"a"),
        (b"aba",),
    ]


async def test_a_cancelled_score_closes_its_forks() -> None:
    members = syllables()
    session = together(Mean([0.5, 0.5], members), members)
    slow = asyncio.Event()

    async def wait(k: Any, **_: Any) -> Any:
        await slow.wait()

    real = members[0].fork

    async def fork() -> Tabled:
        twin = await real()
        twin.next = wait  # type: ignore[method-assign]
        return twin

    members[0].fork = fork  # type: ignore[method-assign]
    scoring = asyncio.create_task(session.score([b"abab"]))
    await asyncio.sleep(0.01)
    scoring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await scoring
    assert [m.live for m in members] == [[1], [1]]
