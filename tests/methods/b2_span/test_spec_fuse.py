"""SpecFuse and SpecEM by hand: shares and weights, who leaves, drafts that end, and where a draft is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.method import Ask
from septet.core.types import Query, Tokens
from septet.methods.b2_span._together import Candidate, Scores
from septet.methods.b2_span.spec_fuse import SpecFuse
from septet.testing.contract import Check, check_method
from speaker import Speaker, together

CHECKS = [
    *check_method(SpecFuse),
    *check_method(SpecFuse, variant="spec-fuse", ended_wins=False, exit_floor=1.0),
]


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_spec_fuse_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    check(tmp_path)


def scores(*rows: tuple[float | None, ...]) -> Scores:
    """[verifier][candidate] tokens whose mean log-probability is the log of these numbers."""
    return [
        [None if p is None else Tokens((b"x", b"y"), np.array([np.log(p)] * 2)) for p in row] for row in rows
    ]


def own(*texts: bytes) -> list[Candidate]:
    """A candidate of each member."""
    return [Candidate(text, False, (i,), 1) for i, text in enumerate(texts)]


K21 = scores((0.5, 0.3, 0.2), (0.2, 0.5, 0.3), (0.4, 0.4, 0.2))  # rows that sum to one are their own shares


def test_k21_the_second_draft_wins_and_the_weights_follow_the_rewards() -> None:
    method = SpecFuse(eta=0.8)
    index, s = method.choose(own(b"a", b"b", b"c"), K21, method.standing(3))
    assert index == 1  # column sums 1.1, 1.2, .7
    grown = np.exp(0.8 * np.sqrt(1 / 3) / 1 * np.array([0.5, 0.75, 0.25]))
    np.testing.assert_allclose(s.w, grown / grown.sum())
    _, s = method.choose(own(b"a", b"b", b"c"), K21, s)
    grown *= np.exp(0.8 * np.sqrt(1 / 3) / 2 * np.array([0.5, 0.75, 0.25]))  # the second span counts half
    np.testing.assert_allclose(s.w, grown / grown.sum())


def test_weights_that_were_earned_decide() -> None:
    method, candidates = SpecFuse(), own(b"a", b"b")
    split = scores((0.6, 0.4), (0.3, 0.7))  # .45, .55
    fresh = method.standing(2)
    assert method.choose(candidates, split, fresh)[0] == 1
    trusted = fresh._replace(w=np.array([0.8, 0.2]))  # .54, .46
    assert method.choose(candidates, split, trusted)[0] == 0


def test_eta_zero_keeps_the_weights_equal_and_a_request_starts_anew() -> None:
    method = SpecFuse(eta=0.0)
    _, s = method.choose(own(b"a", b"b", b"c"), K21, method.standing(3))
    np.testing.assert_allclose(s.w, [1 / 3] * 3)
    np.testing.assert_allclose(SpecFuse().standing(3).w, [1 / 3] * 3)


def test_a_draft_of_two_members_earns_for_both() -> None:
    method = SpecFuse()
    candidates = [Candidate(b"a", False, (0, 2), 1), Candidate(b"b", False, (1,), 1)]
    table = scores((0.6, 0.4), (0.7, 0.3), (0.6, 0.4))
    # ada's and cyd's draft ties with itself and beats bob's with both others: 2 + 2 wins; bob's never: 1
    _, s = method.choose(candidates, table, method.standing(3))
    grown = np.exp(np.sqrt(1 / 3) * np.array([1.0, 0.25, 1.0]))
    np.testing.assert_allclose(s.w, grown / grown.sum())


def test_impossible_drafts_and_absent_verifiers_do_no_harm() -> None:
    method = SpecFuse()
    table = scores((0.5, 0.3), (None, None), (0.2, 0.2))
    table[2][0] = table[2][1] = Tokens((b"x",), np.array([-np.inf]))  # type: ignore[index]
    index, s = method.choose(
        [Candidate(b"a", False, (0,), 1), Candidate(b"b", False, (2,), 1)], table, method.standing(3)
    )
    assert index == 0
    assert np.isfinite(s.w).all()


def test_the_one_whose_drafts_are_liked_least_leaves_and_is_not_asked_again() -> None:
    ada = Speaker({}, always={b" good": 0.80, b" well": 0.15, b" bad": 0.05})
    bob = Speaker({}, always={b" good": 0.15, b" well": 0.80, b" bad": 0.05})
    cyd = Speaker({}, always={b" good": 0.10, b" well": 0.10, b" bad": 0.80})
    # mean scores .35, .35 and .30: cyd has less than an equal share after one span; the tie goes by bytes
    method = SpecFuse(variant="spec-fuse", window=1, exit_floor=1.0)
    verdict, _ = together(method, {"ada": ada, "bob": bob, "cyd": cyd}, Query.of("?", max_tokens=3))
    assert verdict.text == " good good good"
    assert verdict.reason == "3 spans, written by ada 100%, bob 0%, cyd 0%; left: cyd"
    assert cyd.asked == ["open", "write", "score", "push", "close"]
    assert bob.asked.count("score") == 3


def test_a_member_that_failed_does_not_count_among_the_two_that_stay() -> None:
    ada = Speaker({}, always={b" good": 0.9, b" bad": 0.1})
    bob = Speaker({}, always={b" good": 0.9, b" bad": 0.1}, fails="score")
    cyd = Speaker({}, always={b" bad": 0.9, b" good": 0.1})
    method = SpecFuse(variant="spec-fuse", window=1, exit_floor=1.0)
    verdict, _ = together(method, {"ada": ada, "bob": bob, "cyd": cyd}, Query.of("?", max_tokens=3))
    assert verdict.reason.endswith("; failed: bob cannot score; left: bob")
    assert cyd.asked[-1] == "push"


def test_a_draft_that_ends_is_taken_unless_it_has_to_compete() -> None:
    def speakers() -> dict[str, Any]:
        ada = Speaker({b"": {b" yes": 0.5, b" on": 0.4}, b" yes": {b"": 1.0}}, always={b" on": 0.9})
        return {"ada": ada, "bob": Speaker({b" yes": {b"": 1.0}}, always={b" on": 0.9, b" yes": 0.1})}

    verdict, yielded = together(SpecFuse(window=4), speakers())
    assert (verdict.text, verdict.finish) == (" yes", "stop")
    assert "score" not in {item.do for items in yielded for item in items if isinstance(item, Ask)}
    # the last word of a window is cut. ada: " yes" and END √.5 = .71, " on on on" (.4 · .9 · .9)^⅓ = .69: shares
    # .51 and .49; bob: √.1 = .32 and .9: .26 and .74
    verdict, _ = together(SpecFuse(window=4, ended_wins=False), speakers(), Query.of("?", max_tokens=8))
    assert verdict.text == " on" * 8


def test_of_several_drafts_that_end_the_best_is_taken() -> None:
    ada = Speaker({b"": {b" a": 0.6, b" b": 0.4}})
    bob = Speaker({b"": {b" b": 0.9, b" a": 0.1}})
    verdict, _ = together(SpecFuse(), {"ada": ada, "bob": bob})
    assert verdict.text == " b"  # √p: ada .77 and .63, bob .32 and .95


def test_drafts_have_the_papers_sampling_unless_the_query_says_otherwise() -> None:
    _, yielded = together(SpecFuse(), {"ada": Speaker({b"": {b" a": 1.0}})})
    write = yielded[1][0]
    assert (write.args["max_tokens"], write.args["sampler"].temperature, write.args["sampler"].top_p) == (
        10,
        0.6,
        0.9,
    )
    _, yielded = together(SpecFuse(), {"ada": Speaker({b"": {b" a": 1.0}})}, Query.of("?", temperature=0.0))
    assert yielded[1][0].args["sampler"].temperature == 0.0


def test_members_draw_by_their_names_and_anew_for_each_span() -> None:
    row = {b" a" * n: {b" a": 1.0} for n in range(40)}
    _, yielded = together(
        SpecFuse(window=2), {"ada": Speaker(row), "bob": Speaker(row)}, Query.of("?", max_tokens=4)
    )
    seeds = {
        i.args["sampler"].seed for items in yielded for i in items if isinstance(i, Ask) and i.do == "write"
    }
    assert len(seeds) == 2 * 4  # the second word of two is cut, so that there are four spans


def test_a_word_that_the_window_breaks_is_written_again() -> None:
    ada = Speaker({b"": {b" a": 0.9}, b" a": {b" won": 0.9}, b" a won": {b"der": 0.9}})
    verdict, yielded = together(SpecFuse(window=2), {"ada": ada})
    pushes = [i.args["piece"] for items in yielded for i in items if isinstance(i, Ask) and i.do == "push"]
    assert pushes == [b" a", b" won", b"der"]
    assert verdict.text == " a wonder"


def test_the_reason_shows_the_weights() -> None:
    verdict, _ = together(SpecFuse(), {"ada": Speaker({b"": {b" a": 1.0}})})
    assert verdict.reason == "1 spans, written by ada 100%; weights ada 1.00"
