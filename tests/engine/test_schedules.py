"""Schedules and beams: what they cost changes, what they say does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare
from tabled import Counting, Mean, Tabled, Unsure, always, hashed, together

from septet.core.errors import BadParameter
from septet.core.session import END, Fused, Next
from septet.core.trace import PieceEvent
from septet.core.types import Query
from septet.engine.beam import beam
from septet.engine.decode import Steps, Written, answer_with
from septet.engine.draft import draft
from septet.engine.drawing import Sampling, residual, shaped
from septet.engine.mixture import mixture
from septet.engine.pieces import Schedule, Task
from septet.engine.schedules import every

PIECES_A = (b"a", b"b", b" c", b"ab", b" cat")
PIECES_B = (b"a", b"b", b" c", b"bab", b"at")
SAMPLES, FEWER = 10_000, 800


def pool(seed: int, end: float = 0.05) -> list[Tabled]:
    """Two members with other vocabularies, the second fairly near the first."""
    first = hashed(PIECES_A, seed, end)
    noise = hashed(PIECES_B, seed + 1000, end)

    def second(text: bytes) -> dict[bytes, float]:
        p, q = first(text), noise(text)
        return {t: 0.6 * p.get(t, 0.0) + 0.4 * q.get(t, 0.0) for t in {*p, *q} if t != b"ab" and t != b" cat"}

    def normal(text: bytes) -> dict[bytes, float]:
        p = second(text)
        total = sum(p.values())
        return {t: x / total for t, x in p.items()}

    return [Tabled(first, PIECES_A), Tabled(normal, PIECES_B)]


async def quiet(piece: bytes, support: Mapping[str, float], logp: float) -> None:
    """Nobody listens."""


async def said(
    members: Sequence[Tabled], schedule: Schedule, method: type[Mean] = Mean, seed: int = 0, **query: Any
) -> Written:
    session = together(method([0.5, 0.5][: len(members)], members), members, s=0)
    return await answer_with(
        session,
        Query.of("?", **{"max_tokens": 12, **query}),
        (),
        lambda step: np.random.default_rng([seed, step]),
        quiet,
        schedule=schedule,
    )


# --- draft ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [Mean, Counting, Unsure])
@pytest.mark.parametrize("gamma", [1, 3, 5])
async def test_a_draft_writes_the_greedy_answer_of_every(method: type[Mean], gamma: int) -> None:
    for seed in range(25):
        straight = await said(pool(seed), every, method)
        drafted = await said(pool(seed), partial(draft, gamma=gamma), method)
        assert drafted.tokens.texts == straight.tokens.texts
        assert (drafted.text, drafted.finish) == (straight.text, straight.finish)
        np.testing.assert_array_equal(drafted.tokens.logp, straight.tokens.logp)
        np.testing.assert_allclose(drafted.shares, straight.shares)


async def test_a_draft_that_stays_costs_the_verifier_one_forward_for_six_pieces() -> None:
    # twins agree: each draft of 5 stays, and the fused distribution behind it gives a sixth
    table = hashed(PIECES_A, 3, end=0.001)
    members = [Tabled(table, PIECES_A), Tabled(table, PIECES_A)]
    written = await said(members, partial(draft, gamma=5), max_tokens=18)
    assert len(written.tokens) == 18
    assert members[1].looked == [5, 5, 5]
    assert members[1].meter.forwards == 3


async def test_a_rejected_draft_is_replaced_by_the_fused_winner_and_the_rest_dropped() -> None:
    # a: "x" .6; b: "y" .9, so the mean prefers "y" (.55 against .35) at every place; the draft never stays
    p, q = {END: 0.1, b"x": 0.6, b"y": 0.3}, {b"x": 0.1, b"y": 0.9}
    members = [Tabled(always(p), [b"x", b"y"]), Tabled(always(q), [b"x", b"y"])]
    written = await said(members, partial(draft, gamma=3), max_tokens=4)
    assert written.text == b"yyyy"
    assert [m.text for m in members] == [b"yyyy"] * 2
    assert members[1].looked == [3, 2, 1]  # the last piece needs no draft


async def test_a_drafted_end_ends_the_answer_where_the_others_agree() -> None:
    def table(text: bytes) -> dict[bytes, float]:
        return {END: 0.9, b"x": 0.1} if len(text) >= 2 else {END: 0.1, b"x": 0.9}

    members = [Tabled(table, [b"x"]), Tabled(table, [b"x"])]
    written = await said(members, partial(draft, gamma=5))
    assert (written.text, written.finish) == (b"xx", "stop")
    assert members[1].looked == [2]


async def test_only_who_is_consulted_looks_along_a_draft() -> None:
    # the first member is sure everywhere, so nobody else is asked at all
    members = [Tabled(always({b"x": 0.95, END: 0.05}), [b"x"]), Tabled(always({b"x": 1.0}), [b"x"])]
    written = await said(members, partial(draft, gamma=4), Unsure, max_tokens=5)
    assert written.text == b"xxxxx"
    assert members[1].looked == [] and members[1].meter.forwards == 0
    assert members[1].text == b"xxxxx"


async def test_a_verifier_takes_over_its_own_ids_along_a_draft() -> None:
    # where its own best token spells the drafted piece, that very id is committed, as `every` would have done
    members = pool(4, end=0.01)
    await said(members, partial(draft, gamma=4))
    own = members[1]
    for n, (piece, token_id) in enumerate(own.pushes):
        text = b"".join(p for p, _ in own.pushes[:n])
        best = max(own.table(text).items(), key=lambda item: item[1])[0]
        assert token_id == (own.vocab.ids_of(piece)[0] if best == piece else None)


async def test_a_verifier_that_cannot_follow_the_whole_draft_goes_on_as_long_as_it_can() -> None:
    # its context ends after 4 bytes: `every` keeps it for the pieces before that, and so does the draft
    for seed in range(10):
        straight, drafted = pool(seed, end=0.001), pool(seed, end=0.001)
        straight[1].fails_at = drafted[1].fails_at = 4
        first = await said(straight, every)
        second = await said(drafted, partial(draft, gamma=5))
        assert first.tokens.texts == second.tokens.texts


async def test_a_drafter_that_fails_leaves_the_next_member_to_draft() -> None:
    for seed in range(10):
        straight, drafted = pool(seed, end=0.001), pool(seed, end=0.001)
        straight[0].fails_at = drafted[0].fails_at = 3
        first = await said(straight, every)
        second = await said(drafted, partial(draft, gamma=5))
        assert first.tokens.texts == second.tokens.texts
        assert drafted[1].looked


def test_k19_a_proposal_is_accepted_so_that_the_result_is_the_target() -> None:
    # q (.6, .4), r (.4, .6): token 1 stands with probability 2/3, token 2 always; together .4 + .4 = .8, and what
    # is rejected becomes token 2: the residual is (0, 1)
    r = Fused((b"1", b"2"), np.array([0.4, 0.6]), np.ones((2, 1)), ordered=True)
    q = {b"1": 0.6, b"2": 0.4}
    sampling = Sampling(1.0, 1.0, lambda step: np.random.default_rng([9, step]))
    proposals = np.random.default_rng(1).choice([b"1", b"2"], size=SAMPLES, p=[0.6, 0.4]).tolist()
    results = [sampling.verify(r, step, x, q.__getitem__) for step, x in enumerate(proposals)]
    ones = [stands for x, (_, _, stands) in zip(proposals, results, strict=True) if x == b"1"]
    twos = [stands for x, (_, _, stands) in zip(proposals, results, strict=True) if x == b"2"]
    assert abs(np.mean(ones) - 2 / 3) < 0.02
    assert all(twos)
    assert abs(np.mean([stands for _, _, stands in results]) - 0.8) < 0.015
    assert {i for i, _, stands in results if not stands} == {1}
    assert abs(np.mean([i for i, _, _ in results]) - 0.6) < 0.015


def test_k19_greedily_a_proposal_stands_while_it_is_the_fused_winner() -> None:
    r = Fused((b"1", b"2"), np.array([0.4, 0.6]), np.ones((2, 1)), ordered=True)
    sampling = Sampling(0.0, 1.0, lambda step: np.random.default_rng(0))
    assert sampling.verify(r, 0, b"2", {}.__getitem__)[::2] == (1, True)
    assert sampling.verify(r, 0, b"1", {}.__getitem__)[::2] == (1, False)
    assert sampling.verify(r, 0, b"3", {}.__getitem__)[::2] == (1, False)


def test_k19_a_residual_of_three_strings() -> None:
    # r − q = (−.3, .1, .2) → (0, 1/3, 2/3)
    r = Fused((b"a", b"b", b"c"), np.array([0.2, 0.4, 0.4]), np.ones((3, 1)), ordered=True)
    q, rng = {b"a": 0.5, b"b": 0.3, b"c": 0.2}, np.random.default_rng(3)
    drawn = Counter(residual(r, r.p, q.__getitem__, rng) for _ in range(6000))
    assert drawn[0] == 0
    assert abs(drawn[2] / 6000 - 2 / 3) < 0.025


def test_a_residual_of_equal_distributions_does_not_go_on_for_ever() -> None:
    r = Fused((b"a", b"b"), np.array([0.5, 0.5]), np.ones((2, 1)), ordered=True)
    assert residual(r, r.p, lambda piece: 0.5, np.random.default_rng(0)) in (0, 1)


async def exact(
    members: Sequence[Tabled], n: int, temperature: float = 1.0
) -> dict[tuple[bytes, ...], float]:
    """The probability of every beginning of n pieces (END last where it comes earlier), from `every`'s own
    distributions."""
    found: dict[tuple[bytes, ...], float] = {}

    async def walk(pieces: tuple[bytes, ...], p: float) -> None:
        if len(pieces) == n or (pieces and pieces[-1] == END):
            found[pieces] = found.get(pieces, 0.0) + p
            return
        forks = [await m.fork() for m in members]
        session = together(Mean([0.5, 0.5], forks), forks)
        for piece in pieces:
            await session.push(piece)
        fused = await session.distribution()
        for piece, q in zip(fused.texts, shaped(fused.p, temperature, 1.0).tolist(), strict=True):
            if q > 0:
                await walk((*pieces, piece), p * q)

    await walk((), 1.0)
    return found


EXPECTED: dict[float, dict[tuple[bytes, ...], float]] = {}
"""What `exact` gives for the pool of `p_value`, by temperature."""


async def p_value(schedule: Schedule, samples: int, *, temperature: float = 1.0, knows: bool = True) -> float:
    """χ² of the first three pieces of many answers against their exact probabilities."""
    members = pool(77, end=0.1)
    if temperature not in EXPECTED:
        EXPECTED[temperature] = await exact(members, 3, temperature)
    expected = EXPECTED[temperature]
    counts: Counter[tuple[bytes, ...]] = Counter()
    for sample in range(samples):
        forks = [await m.fork() for m in members]
        session = together(Mean([0.5, 0.5], forks), forks)
        if not knows:
            session.together.full = (False, False)
        sampling = Sampling(temperature, 1.0, lambda step, j=sample: np.random.default_rng([5, j, step]))
        pieces = list[bytes]()
        async with aclosing(schedule(session, Task(sampling, 3))) as decided:
            async for one in decided:
                pieces.append(one.piece)
                if one.piece == END:
                    break
        counts[tuple(pieces)] += 1
    assert set(counts) <= set(expected)
    common = [pieces for pieces, p in expected.items() if p * samples >= 10]
    observed = [counts[pieces] for pieces in common]
    wanted = [expected[pieces] * samples for pieces in common]
    observed.append(samples - sum(observed))
    wanted.append(samples - sum(wanted))
    return float(chisquare(observed, wanted).pvalue)


async def test_every_draws_what_it_says() -> None:
    assert await p_value(every, FEWER) > 0.001


async def test_a_draft_samples_exactly_as_every_does() -> None:
    assert await p_value(partial(draft, gamma=2), FEWER) > 0.001


async def test_a_draft_samples_exactly_at_another_temperature() -> None:
    assert await p_value(partial(draft, gamma=2), FEWER, temperature=0.6) > 0.001


async def test_a_draft_by_a_member_that_does_not_know_its_distribution_samples_exactly() -> None:
    assert await p_value(partial(draft, gamma=2), FEWER, knows=False) > 0.001


# --- mixture --------------------------------------------------------------------------------------------


async def test_a_mixture_of_drawn_members_is_the_mean_of_their_distributions() -> None:
    assert await p_value(mixture, SAMPLES) > 0.001


async def test_members_that_only_write_take_part_in_a_mixture_too() -> None:
    assert await p_value(mixture, FEWER, knows=False) > 0.001


def test_k18_a_temperature_on_each_member_is_not_one_on_their_mean() -> None:
    # w ½, p (.9, .1) and (.2, .8): .55 at T = 1. At T = .5 each member on its own: (.81/.82 + .04/.68)/2 = .523;
    # on the mean: .55²/(.55² + .45²) = .599
    a, b = np.array([0.9, 0.1]), np.array([0.2, 0.8])
    assert ((shaped(a, 1.0, 1.0) + shaped(b, 1.0, 1.0)) / 2)[0] == pytest.approx(0.55)
    assert ((shaped(a, 0.5, 1.0) + shaped(b, 0.5, 1.0)) / 2)[0] == pytest.approx(0.523, abs=5e-4)
    assert shaped((a + b) / 2, 0.5, 1.0)[0] == pytest.approx(0.599, abs=5e-4)


async def test_k18_draws_have_the_mean_s_share() -> None:
    members = [
        Tabled(always({b"x": 0.9, b"y": 0.1}), [b"x", b"y"]),
        Tabled(always({b"x": 0.2, b"y": 0.8}), [b"x", b"y"]),
    ]
    written = await said(members, mixture, max_tokens=FEWER, temperature=1.0)
    share = written.tokens.texts.count(b"x") / FEWER
    assert abs(share - 0.55) < 4 * np.sqrt(0.55 * 0.45 / FEWER)


async def test_k18_a_member_is_fed_what_it_has_not_seen_when_its_turn_comes() -> None:
    # draws 1,1,2,2,2,1: member 1 is fed nothing and 1, member 2 then 2, 1, 1, and member 1 at the end 4
    members = [Tabled(always({b"x": 1.0}), [b"x"]), Tabled(always({b"x": 1.0}), [b"x"])]
    session, order, fed = together(Mean([0.5, 0.5], members), members), iter([0, 0, 1, 1, 1, 0]), []
    weights = np.zeros(2)

    def in_turn(s: Any) -> Any:
        return weights

    session.together.method.mixture = in_turn  # type: ignore[method-assign]

    def rng_of(step: int) -> np.random.Generator:
        weights[:] = 0.0
        weights[next(order)] = 1.0
        fed.append(tuple(m.meter.usage.fed_tokens for m in members))
        return np.random.default_rng(step)

    weights[0] = 1.0
    query = Query.of("?", max_tokens=6, temperature=1.0)
    await answer_with(session, query, (), rng_of, quiet, schedule=mixture)
    fed.append(tuple(m.meter.usage.fed_tokens for m in members))
    steps = np.diff(np.array(fed), axis=0).tolist()
    assert steps == [[0, 0], [1, 0], [0, 2], [0, 1], [0, 1], [4, 0]]


async def test_a_mixture_makes_one_forward_a_piece() -> None:
    members = pool(5, end=0.001)
    written = await said(members, mixture, max_tokens=40, temperature=1.0, seed=3)
    forwards = sum(m.meter.forwards for m in members)
    assert len(written.tokens) == 40
    assert forwards <= 40  # the first distribution of each came with the prompt
    assert forwards >= 38


async def test_a_member_that_fails_loses_its_weight_to_the_others_of_a_mixture() -> None:
    members = pool(5, end=0.001)
    members[1].fails_at = 3
    written = await said(members, mixture, temperature=1.0, seed=2)
    assert len(written.tokens) == 12
    assert members[1].closed


@pytest.mark.parametrize(
    ("query", "said_"),
    [({}, "temperature 0"), ({"temperature": 0.5}, "0.5"), ({"temperature": 1.0, "top_p": 0.9}, "top_p 0.9")],
)
async def test_a_mixture_is_refused_where_it_would_change_the_result(
    query: dict[str, Any], said_: str
) -> None:
    with pytest.raises(BadParameter, match=said_):
        await said(pool(1), mixture, **query)


async def test_a_mixture_is_refused_for_a_method_that_is_no_mean() -> None:
    with pytest.raises(BadParameter, match="constant weights"):
        await said(pool(1), mixture, Counting, temperature=1.0)


# --- beam -----------------------------------------------------------------------------------------------


async def test_a_beam_of_one_is_greedy() -> None:
    for seed in range(10):
        straight = await said(pool(seed), every)
        searched = await said(pool(seed), partial(beam, width=1))
        assert searched.tokens.texts == straight.tokens.texts
        np.testing.assert_array_equal(searched.tokens.logp, straight.tokens.logp)


async def test_a_beam_finds_what_greedy_passes_by() -> None:
    # greedy: "a" (.6) then "x" (.5) → .30; the better way is "b" (.4) then "y" (.99) → .396; END is certain then
    def table(text: bytes) -> dict[bytes, float]:
        return {
            b"": {b"a": 0.6, b"b": 0.4},
            b"a": {b"x": 0.5, b"y": 0.5},
            b"b": {b"y": 0.99, b"x": 0.01},
        }.get(text, {END: 1.0})

    members = [Tabled(table, [b"a", b"b", b"x", b"y"])]
    assert (await said(members, every)).text == b"ax"
    members = [Tabled(table, [b"a", b"b", b"x", b"y"])]
    written = await said(members, partial(beam, width=2))
    assert (written.text, written.finish) == (b"by", "stop")
    assert np.exp(written.tokens.logp).tolist() == pytest.approx([0.4, 0.99])


async def test_a_beam_as_wide_as_all_ways_finds_the_best_mean_of_all() -> None:
    members = pool(11, end=0.2)
    every_way = await exact(members, 3)
    mean = {pieces: np.log(p) / len(pieces) for pieces, p in every_way.items()}
    written = await said(members, partial(beam, width=600), max_tokens=3)
    found = (*written.tokens.texts, *([END] if written.finish == "stop" else []))
    assert mean[found] == pytest.approx(max(mean.values()))


async def test_forks_of_a_beam_are_closed_and_each_member_feeds_only_new_pieces() -> None:
    members = pool(12)
    live = [m.live for m in members]
    await said(members, partial(beam, width=4))
    assert live == [[1], [1]] or all(n[0] <= 1 for n in live)


async def test_a_beam_keeps_the_method_s_value_apart_in_every_fork() -> None:
    # with a beam of 3, the chosen answer's log-probabilities are those of walking it alone
    members = pool(13)
    written = await said(members, partial(beam, width=3), Counting)
    fresh = pool(13)
    session = together(Counting([0.5, 0.5], fresh), fresh, s=0)
    for piece, logp in zip(written.tokens.texts, written.tokens.logp, strict=True):
        fused = await session.distribution()
        assert np.log(fused.p[list(fused.texts).index(piece)]) == pytest.approx(logp)
        await session.push(piece)


async def test_a_stop_string_ends_a_way_of_a_beam() -> None:
    members = [Tabled(always({b"x": 0.5, b"y": 0.4, END: 0.1}), [b"x", b"y"])]
    session = together(Mean([1.0], members), members)
    query = Query.of("?", max_tokens=6)
    written = await answer_with(
        session,
        query,
        ("xx",),
        lambda step: np.random.default_rng(step),
        quiet,
        schedule=partial(beam, width=2),
    )
    assert written.finish == "stop" and b"xx" not in written.text


# --- how pieces came about --------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [every, partial(draft, gamma=3), partial(beam, width=2)])
async def test_every_piece_says_how_it_came_about(schedule: Schedule) -> None:
    events: list[PieceEvent] = []
    members = pool(21)
    ticks = iter(range(1000))
    session = together(Mean([0.5, 0.5], members), members)
    steps = Steps(events.append, "r1", "fused", lambda: float(next(ticks)))
    query = Query.of("?", max_tokens=8)
    written = await answer_with(
        session, query, (), lambda step: np.random.default_rng(step), quiet, schedule=schedule, steps=steps
    )
    said_ = [e for e in events if e.piece]
    assert tuple(e.piece for e in said_) == written.tokens.texts
    assert [e.at for e in said_] == np.cumsum([0, *map(len, written.tokens.texts)])[:-1].tolist()
    assert [e.number for e in events] == list(range(len(events)))
    first = events[0]
    assert (first.request, first.path, first.asked) == ("r1", "fused", ("a", "b"))
    assert len(first.candidates) == 5
    for piece, p, own in first.candidates:
        a, b = (m.table(b"").get(piece, 0.0) for m in pool(21))
        assert p == pytest.approx((a + b) / 2, abs=1e-6)
        assert own == pytest.approx({"a": a, "b": b}, abs=1e-6)
    assert first.candidates[0][0] == max(first.candidates, key=lambda c: c[1])[0]
    assert sum(first.support.values()) == pytest.approx(1.0)
    assert all(e.seconds >= 1.0 for e in events)
    if schedule is not every:
        return
    fed = {n: sum(e.fed[n] for e in events) for n in ("a", "b")}
    assert fed == {"a": members[0].meter.usage.fed_tokens, "b": members[1].meter.usage.fed_tokens}


async def test_accepted_pieces_are_marked_as_drafted() -> None:
    events: list[PieceEvent] = []
    table = hashed(PIECES_A, 3, end=0.001)
    members = [Tabled(table, PIECES_A), Tabled(table, PIECES_A)]
    session = together(Mean([0.5, 0.5], members), members)
    await answer_with(
        session,
        Query.of("?", max_tokens=6),
        (),
        lambda step: np.random.default_rng(step),
        quiet,
        schedule=partial(draft, gamma=2),
        steps=Steps(events.append, "r", "p"),
    )
    assert [e.drafted for e in events] == [True, True, False, True, True, False]
    # a look feeds its 2 pieces; the next one feeds the 3 that were committed since, and its own 2
    assert [e.fed["b"] for e in events] == [2, 0, 0, 5, 0, 0]


async def test_a_chosen_piece_that_is_none_of_the_best_is_shown_as_well() -> None:
    events: list[PieceEvent] = []
    letters = [bytes([c]) for c in b"abcdefghij"]
    members = [Tabled(always(dict.fromkeys(letters, 0.1)), letters)]
    session = together(Mean([1.0], members), members)
    await answer_with(
        session,
        Query.of("?", max_tokens=30, temperature=1.0),
        (),
        lambda step: np.random.default_rng(step),
        quiet,
        steps=Steps(events.append, "r", "p"),
    )
    assert all(e.piece in [piece for piece, _, _ in e.candidates] for e in events)
    assert {len(e.candidates) for e in events} == {5, 6}


def test_a_next_without_a_known_probability_stays_unknown() -> None:
    following = Next(
        0, np.array([0], dtype=np.int32), np.zeros(1, dtype=np.float32), lambda piece, first: None
    )
    assert following.logp_of(b"x") is None
