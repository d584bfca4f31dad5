"""Agreement on bytes by hand: who waits, what is allowed, and the joint search against brute force."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from septet.parts.decoding.agreement import (
    WAIT,
    Found,
    Options,
    Side,
    Step,
    agreed,
    allowed,
    behind,
    compatible,
    joint_search,
    lead,
    normalised,
    total,
    waits,
)

# The toy tokenizers A and B of the check list, with their first distributions.
A = {b"": 0.05, b" the": 0.10, b" cat": 0.50, b"s": 0.25, b"\n": 0.10}
B = {b"": 0.10, b" the": 0.05, b" cat": 0.20, b" cats": 0.55, b"\n": 0.05, b"s": 0.05}
HALF = (0.5, 0.5)


def options(p: dict[bytes, float], whole: bool = True) -> Options:
    ranked = sorted(enumerate(p.items()), key=lambda item: (-item[1][1], item[1][0]))
    return Options(tuple(Step(piece, i, float(np.log(q))) for i, (piece, q) in ranked), whole)


def pairs(found: Found) -> list[tuple[bytes, bytes]]:
    return [(e.sides[0].text, e.sides[1].text) for e in found.best]


def test_k15_the_first_step_takes_the_pair_whose_bytes_agree_and_whose_sum_is_best() -> None:
    # (" cat", " cat"): (ln .5 + ln .2)/2 = −1.1513; (" cat", " cats"): (ln .5 + ln .55)/2 = −.6455
    found = joint_search([(Side(), Side())], [[options(A), options(B)]], HALF, n=2)
    assert pairs(found) == [(b" cat", b" cats"), (b" cat", b" cat")]
    assert [round(e.score, 4) for e in found.best] == [-0.6455, -1.1513]


def test_k15_no_prefix_relation_is_no_agreement() -> None:
    assert not compatible([Side(b" the"), Side(b" cats")])
    assert compatible([Side(b" cat"), Side(b" cats"), Side(b" c")])
    assert not compatible([Side(b" cat"), Side(b" cats"), Side(b" car")])


def test_k15_who_is_ahead_waits_and_who_is_behind_goes_along_it() -> None:
    sides = (Side(b" cat", -0.7, 1), Side(b" cats", -0.6, 1))
    assert waits(sides) == [False, True]
    assert behind(sides, 0) == b"s"
    assert [allowed(sides, 0, piece) for piece in (b"s", b"sup", b"x", b"")] == [True, True, False, False]


def test_k15_the_one_behind_may_draw_level_or_overtake() -> None:
    sides = (Side(b" cat", -0.7, 1), Side(b" cats", -0.6, 1))
    level = joint_search([sides], [[Options((Step(b"s", 7, -0.1),)), Options((WAIT,))]], HALF, n=1).best[0]
    assert waits(level.sides) == [False, False]
    ahead = joint_search([sides], [[Options((Step(b"sup", 8, -0.1),)), Options((WAIT,))]], HALF, n=1).best[0]
    assert waits(ahead.sides) == [True, False]
    assert behind(ahead.sides, 1) == b"up"
    assert (lead(ahead.sides), agreed(ahead.sides)) == (b" catsup", b" cats")


def test_a_member_that_waits_keeps_its_score_and_its_length() -> None:
    sides = (Side(b" cat", -0.6, 1), Side(b" cats", -0.4, 1))
    (step,) = joint_search([sides], [[Options((Step(b"s", 7, -0.2),)), Options((WAIT,))]], HALF, n=1).best
    # ½·(−.8/2) + ½·(−.4/1) = −.4
    assert step.score == pytest.approx(-0.4)
    assert (step.sides[1].n_tokens, step.sides[1].logp) == (1, -0.4)


def test_members_end_on_equal_bytes_only() -> None:
    assert compatible([Side(b"ab", ended=True), Side(b"ab", ended=True)])
    assert compatible([Side(b"ab", ended=True), Side(b"a")])
    assert not compatible([Side(b"a", ended=True), Side(b"ab")])
    assert not compatible([Side(b"ab", ended=True), Side(b"ac", ended=True)])


def test_nobody_goes_beyond_a_text_that_has_ended_nor_ends_before_it() -> None:
    sides = (Side(b"abc", -1.0, 2, ended=True), Side(b"a", -1.0, 1))
    assert waits(sides) == [True, False]
    assert [allowed(sides, 1, piece) for piece in (b"b", b"bc", b"bcd", b"")] == [True, True, False, False]
    level = (sides[0], Side(b"abc", -1.0, 2))
    assert waits(level) == [True, False]
    assert [allowed(level, 1, piece) for piece in (b"d", b"")] == [False, True]


def test_of_three_members_only_the_longest_waits() -> None:
    assert waits([Side(b"abc"), Side(b"a"), Side(b"ab")]) == [True, False, False]
    assert waits([Side(b"abc"), Side(b"abc"), Side(b"ab")]) == [True, True, False]
    assert waits([Side(b"abc"), Side(b"abc"), Side(b"abc")]) == [False, False, False]


@pytest.mark.parametrize("n_members", [1, 2, 3])
def test_the_search_finds_what_trying_every_combination_finds(n_members: int) -> None:
    rng = np.random.default_rng(n_members)
    pieces = [b"", b"a", b"b", b"ab", b"aba", b"ba"]
    for _ in range(40):
        weights = tuple(rng.dirichlet(np.ones(n_members)))
        hypotheses = [
            tuple(Side() for _ in range(n_members)),
            tuple(Side(b"x", -1.0, 1) for _ in range(n_members)),
        ]
        lists = [
            [options(dict(zip(pieces, rng.dirichlet(np.ones(6)), strict=True))) for _ in range(n_members)]
            for _ in hypotheses
        ]
        every = []
        for h, members in enumerate(lists):
            for steps in product(*(m.steps for m in members)):
                sides = tuple(s.after(t) for s, t in zip(hypotheses[h], steps, strict=True))
                every.append((-normalised(sides, weights), h, steps, sides))
        expected: list[tuple[int, tuple[Step, ...]]] = []
        floor, going = -1e9, 0
        for _, h, steps, sides in sorted(every, key=lambda state: state[0]):
            if total(sides, weights) < floor or not compatible(sides) or going == 4:
                continue
            expected.append((h, steps))
            if all(side.ended for side in sides):
                floor = max(floor, total(sides, weights))
            else:
                going += 1
        found = joint_search(hypotheses, lists, weights, n=4, n_ended=99, floor=-1e9)
        assert [(e.parent, e.steps) for e in found.best] == expected


def test_a_state_that_can_no_more_beat_a_whole_answer_is_given_up() -> None:
    a = Options((Step(b"", 0, -0.1), Step(b"x", 1, -2.5)))
    found = joint_search([(Side(),)], [[a]], (1.0,), n=2, n_ended=2)
    assert [e.ended for e in found.best] == [True]
    assert joint_search([(Side(),)], [[a]], (1.0,), n=2, n_ended=2, floor=-0.05).best == ()


def test_a_search_that_reads_a_list_to_its_end_says_whose() -> None:
    a, b = options(A), Options((Step(b" dog", 9, -0.1),), whole=False)
    found = joint_search([(Side(), Side())], [[a, b]], HALF, n=1)
    assert (found.best, found.short) == ((), (0, 1))


def test_the_number_of_states_is_bounded() -> None:
    many = [Options(tuple(Step(bytes([c, i]), i, -0.01 * i) for i in range(200))) for c in (65, 66)]
    found = joint_search([(Side(), Side())], [many], HALF, n=1, limit=500)
    assert found.best == ()
    assert 500 < found.n_visited <= 503


def test_equal_scores_go_to_the_smaller_bytes() -> None:
    a = Options((Step(b"y", 1, -1.0), Step(b"x", 2, -1.0)))
    found = joint_search([(Side(),)], [[a]], (1.0,), n=2)
    # the second is seen only after the first was taken, so here the order of the list stands
    assert [e.sides[0].text for e in found.best] == [b"y", b"x"]
    two = [Options((Step(b"y", 1, -1.0),))], [Options((Step(b"x", 2, -1.0),))]
    assert [e.sides[0].text for e in joint_search([(Side(),), (Side(),)], two, (1.0,), n=2).best] == [
        b"x",
        b"y",
    ]
