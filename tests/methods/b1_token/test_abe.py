"""ABE by hand: K15, twins against the model's own greedy and beam search, who waits, how answers end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from scripted_members import Language, Member, ask, says

from septet.core.errors import BadParameter, NoCandidate
from septet.core.session import END
from septet.core.types import Query
from septet.methods.b1_token.abe import Abe
from septet.testing.contract import Check, check_method
from septet.testing.toys import toy_config, toy_house

LETTERS = [b"a", b"b", b"c"]
# The two toy tokenizers of the check list, after nothing was written.
A = {b"": 0.05, b" the": 0.10, b" cat": 0.50, b"s": 0.25, b"\n": 0.10}
B = {b"": 0.10, b" the": 0.05, b" cat": 0.20, b" cats": 0.55, b"\n": 0.05, b"s": 0.05}


@pytest.mark.parametrize("check", check_method(Abe), ids=str)
def test_abe_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    check(tmp_path)


@pytest.mark.parametrize("check", check_method(Abe, beam=1, k=3), ids=str)
def test_abe_keeps_the_contract_with_a_beam_of_one_and_few_candidates(check: Check, tmp_path: Path) -> None:
    check(tmp_path)


def k15(after_cat: dict[bytes, float], b_after: dict[bytes, float]) -> dict[str, Member]:
    a = Member(says({b"": A, b" cat": after_cat}), [*(p for p in A if p), b"sup", b"x"])
    b = Member(says({b"": B, b" cats": b_after}), [*(p for p in B if p), b"up"])
    return {"a": a, "b": b}


def test_k15_the_member_that_is_behind_draws_level_by_what_is_ahead_of_it() -> None:
    # " cat" with " cats" is −.6455; then A prefers "x" (.6), but only "s" (.4) agrees; both are level and end
    members = k15({b"x": 0.6, b"s": 0.4}, {END: 1.0})
    verdict, streamed = ask(Abe(beam=1), members)
    assert (verdict.text, streamed, verdict.finish) == (" cats", b" cats", "stop")
    assert members["a"].sessions[0].pieces == (b" cat", b"s")
    assert members["b"].sessions[0].pieces == (b" cats",)
    masked = [a.args["agreeing"] for a in members["a"].asked if a.do == "next"]
    assert masked == [b"", b"s", b""]
    # two joint tokens and the end: B waited once
    assert verdict.reason == "3 joint steps, beam 1, 1 finished; tokens: a 3, b 2; waited 1 times"


def test_k15_the_member_that_was_behind_may_overtake() -> None:
    members = k15({b"x": 0.3, b"s": 0.1, b"sup": 0.6}, {b"s": 0.9, b"up": 0.1})
    verdict, _ = ask(Abe(beam=1), members)
    assert verdict.text == " catsup"
    assert members["b"].sessions[0].pieces == (b" cats", b"up")
    assert [a.args["agreeing"] for a in members["b"].asked if a.do == "next"] == [b"", b"up", b""]


def language(seed: int, pieces: list[bytes]) -> Language:
    """Random next-token probabilities, a pure function of the text."""

    def after(text: bytes) -> dict[bytes, float]:
        rng = np.random.default_rng([seed, crc32(text)])
        p = rng.dirichlet(np.ones(len(pieces) + 1) * 0.7)
        return dict(zip([*pieces, END], p.tolist(), strict=True))

    return after


def own_beam(after: Language, beam: int, longest: int) -> tuple[bytes, int]:
    """One model's own beam search by trying everything: rank by logp / length, answer by logp. And its steps."""
    going, whole, steps = [(b"", 0.0, 0)], list[tuple[float, bytes, bool]](), 0
    while going and len(whole) < beam:
        best = max((logp for logp, _, ended in whole if ended), default=-np.inf)
        every = [
            ((logp + np.log(q)) / (n + 1), text, piece, logp + np.log(q), n + 1)
            for text, logp, n in going
            for piece, q in after(text).items()
        ]
        going, steps = [], steps + 1
        for _, text, piece, logp, n in sorted(every, key=lambda e: (-e[0], e[1] + e[2])):
            if len(going) == beam or sum(1 for w in whole if w[2]) >= beam or logp < best:
                continue
            if piece == END:
                whole.append((logp, text, True))
                best = max(best, logp)
            else:
                going.append((text + piece, logp, n))
        whole += [(logp, text, False) for text, logp, n in going if n >= longest]
        going = [g for g in going if g[2] < longest]
    return max(whole, key=lambda w: (w[2], w[0]))[1], steps


@pytest.mark.parametrize("n_members", [1, 2, 3])
@pytest.mark.parametrize("beam", [1, 2, 5])
def test_k2_twins_find_what_the_model_s_own_beam_search_finds(n_members: int, beam: int) -> None:
    differing = 0
    for seed in range(12):
        after = language(seed, LETTERS)
        members = {f"m{i}": Member(after, LETTERS) for i in range(n_members)}
        verdict, _ = ask(Abe(beam=beam, k=2), members, Query.of("?", max_tokens=6))
        expected, _ = own_beam(after, beam, 6)
        assert (verdict.text or "").encode() == expected
        differing += expected != own_beam(after, 1, 6)[0]
    assert beam == 1 or differing > 0  # else a beam was not tested


def test_k2_twins_whose_tokens_begin_one_another_are_greedy_with_a_beam_of_one() -> None:
    pieces = [b"a", b"ab", b"aba", b"b"]
    for seed in range(20):
        after = language(seed, pieces)
        members = {name: Member(after, pieces) for name in ("one", "two")}
        verdict, streamed = ask(Abe(beam=1), members, Query.of("?", max_tokens=8))
        assert (verdict.text or "").encode() == own_beam(after, 1, 8)[0] == streamed
        assert members["one"].sessions[0].pieces == members["two"].sessions[0].pieces


@pytest.mark.parametrize("beam", [1, 4])
def test_the_members_of_different_vocabularies_write_the_same_bytes(beam: int) -> None:
    vocabularies = {"x": [b"a", b"b", b"c", b"ab", b"bc"], "y": [b"a", b"b", b"c", b"abc", b"ca"]}
    for seed in range(10):
        members = {n: Member(language(seed, p), p) for n, p in vocabularies.items()}
        verdict, _ = ask(Abe(beam=beam), members, Query.of("?", max_tokens=9))
        text = (verdict.text or "").encode()
        for member in members.values():
            if verdict.finish == "stop":
                # in its own tokens; a session may have gone on with another hypothesis afterwards
                starts = [b"".join(s.pieces[:n]) for s in member.sessions for n in range(len(s.pieces) + 1)]
                assert text in starts
            assert max(len(s.pieces) for s in member.sessions) <= 9
            assert sum(not s.closed for s in member.sessions) <= beam


def test_an_answer_is_whole_only_when_all_have_ended_on_the_same_bytes() -> None:
    # a wants to end after "x" (.9), b hardly (.2): (ln .9 + ln .2)/2 = −.86 against (ln .1 + ln .8)/2 = −1.26
    a = Member(says({b"": {b"x": 1.0}, b"x": {END: 0.9, b"y": 0.1}}), [b"x", b"y"])
    b = Member(says({b"": {b"x": 1.0}, b"x": {END: 0.2, b"y": 0.8}}), [b"x", b"y"])
    assert ask(Abe(beam=1), {"a": a, "b": b})[0].text == "x"
    # were b's END .01, −2.35 < −1.26
    b = Member(says({b"": {b"x": 1.0}, b"x": {END: 0.01, b"y": 0.99}}), [b"x", b"y"])
    assert ask(Abe(beam=1), {"a": a, "b": b})[0].text == "xy"


def test_one_that_has_ended_ahead_binds_the_other_to_its_bytes() -> None:
    # a ends after "xyz", its one token; b, still at "x", wants to go on to "q", but may only say "y", "z", END
    a = Member(says({b"": {b"xyz": 1.0}}), [b"xyz"])
    b = Member(
        says(
            {
                b"": {b"x": 1.0},
                b"x": {b"y": 0.2, b"yzq": 0.8},
                b"xy": {b"z": 1.0},
                b"xyz": {b"q": 0.9, END: 0.1},
            }
        ),
        [b"x", b"y", b"z", b"q", b"yzq"],
    )
    verdict, _ = ask(Abe(beam=3), {"a": a, "b": b})
    assert (verdict.text, verdict.finish) == ("xyz", "stop")


def test_weights_decide_whose_word_wins() -> None:
    after = {
        name: says({b"": p}) for name, p in (("a", {b"x": 0.8, b"y": 0.2}), ("b", {b"x": 0.1, b"y": 0.9}))
    }
    # equal: x (ln .8 + ln .1)/2 = −1.26, y (ln .2 + ln .9)/2 = −.86; at .8/.2: x −.64, y −1.31
    both = {name: Member(language, [b"x", b"y"]) for name, language in after.items()}
    assert ask(Abe(beam=1), both)[0].text == "y"
    both = {name: Member(language, [b"x", b"y"]) for name, language in after.items()}
    assert ask(Abe(beam=1, weights={"a": 0.8, "b": 0.2}), both)[0].text == "x"


@pytest.mark.parametrize("name", ["a", "b"])
def test_k3_weight_one_leaves_only_that_member(name: str) -> None:
    members = {
        "a": Member(language(1, LETTERS), LETTERS),
        "b": Member(language(2, [b"ab", b"c"]), [b"ab", b"c"]),
    }
    verdict, _ = ask(Abe(beam=1, weights={name: 1.0}), members, Query.of("?", max_tokens=6))
    assert (verdict.text or "").encode() == own_beam(members[name].language, 1, 6)[0]
    assert verdict.weights is not None
    assert verdict.weights.tolist() == [float(n == name) for n in members]


def test_a_list_that_is_too_short_is_read_further() -> None:
    # they agree on a's third choice only
    a = Member(says({b"": {b"p": 0.5, b"q": 0.3, b"z": 0.2}}), [b"p", b"q", b"z"])
    b = Member(says({b"": {b"z": 1.0}}), [b"z"])
    assert ask(Abe(beam=1, k=1), {"a": a, "b": b})[0].text == "z"
    assert [x.args["k"] for x in a.asked if x.do == "next"][:2] == [1, 4]  # 8, but with END it has only four


def test_where_no_shown_tokens_agree_one_member_leads_and_the_others_go_along() -> None:
    # like servers, they show two tokens each, none of which agree; masked, b finds "p" behind them
    class Masking(Member):
        def next(self, text: bytes, k: int | None, agreeing: bytes) -> Any:
            self.topk = 0 if agreeing else 2
            return super().next(text, k, agreeing)

    a = Masking(says({b"": {b"p": 0.6, b"q": 0.4}}), [b"p", b"q"], topk=2)
    b = Masking(says({b"": {b"r": 0.5, b"s": 0.4, b"p": 0.1}}), [b"p", b"r", b"s"], topk=2)
    verdict, _ = ask(Abe(beam=1, k=2), {"a": a, "b": b})
    assert verdict.text == "p"
    assert "agreement forced 1 times" in verdict.reason


def test_members_that_can_agree_on_nothing_stop_and_say_so() -> None:
    a = Member(says({b"": {b"p": 1.0}, b"p": {b"x": 1.0}}), [b"p", b"x"])
    b = Member(says({b"": {b"p": 1.0}, b"p": {b"y": 1.0}}), [b"p", b"y"])
    verdict, _ = ask(Abe(beam=2), {"a": a, "b": b})
    assert (verdict.text, verdict.finish) == ("p", "length")
    assert "the members agree on no next token" in verdict.reason


def test_stop_and_until_strings_are_found_in_the_agreed_bytes() -> None:
    after = says({b"": {b"a b": 1.0}, b"a b": {b" c d": 1.0}})
    for query, text, finish in (
        (Query.of("?", stop=("b c",)), "a ", "stop"),
        (Query.of("?", until=("b c",)), "a b c", "until"),
        (Query.of("?", max_tokens=1), "a b", "length"),
    ):
        members = {n: Member(after, [b"a b", b" c d"]) for n in ("a", "b")}
        verdict, streamed = ask(Abe(beam=1), members, query)
        assert (verdict.text, verdict.finish, streamed) == (text, finish, text.encode())


@pytest.mark.parametrize("beam", [1, 2])
def test_half_a_character_at_the_limit_is_left_out(beam: int) -> None:
    after = says({b"": {b"x\xf0\x9f": 1.0}, b"x\xf0\x9f": {b"\x98\x80": 1.0}})
    for n_tokens, text in ((1, "x"), (2, "x😀")):
        members = {n: Member(after, [b"x\xf0\x9f", b"\x98\x80"]) for n in ("a", "b")}
        assert ask(Abe(beam=beam), members, Query.of("?", max_tokens=n_tokens))[0].text == text


def test_a_member_s_own_stop_string_ends_the_answer() -> None:
    after = says({b"": {b"yes": 1.0}, b"yes": {b"\nQ:": 1.0}})
    members = {n: Member(after, [b"yes", b"\nQ:"], stop=("\nQ:",)) for n in ("a", "b")}
    assert ask(Abe(), members)[0].text == "yes"


@pytest.mark.parametrize("step", ["open", "next", "push", "fork"])
@pytest.mark.parametrize("place", [0, 1])
def test_a_member_that_fails_leaves_every_hypothesis(step: str, place: int) -> None:
    members = {n: Member(language(11, LETTERS), LETTERS) for n in ("a", "b")}
    failing = ("a", "b")[place]
    members[failing].fails = step
    verdict, _ = ask(Abe(beam=3), members, Query.of("?", max_tokens=6))
    alone = {"a": Member(language(11, LETTERS), LETTERS)}
    assert verdict.text == ask(Abe(beam=3), alone, Query.of("?", max_tokens=6))[0].text
    assert f"failed: {failing} cannot {step}" in verdict.reason


def test_if_every_member_fails_all_causes_are_named() -> None:
    members = {n: Member(language(3, LETTERS), LETTERS, fails="next") for n in ("a", "b")}
    with pytest.raises(NoCandidate, match="a cannot next; b cannot next"):
        ask(Abe(), members)


def test_drawing_is_refused_before_anything_is_opened() -> None:
    members = {n: Member(language(3, LETTERS), LETTERS) for n in ("a", "b")}
    with pytest.raises(BadParameter, match="searches"):
        ask(Abe(), members, Query.of("?", temperature=0.7))
    assert not members["a"].asked


def test_weights_of_unknown_members_are_refused() -> None:
    members = {n: Member(language(3, LETTERS), LETTERS) for n in ("a", "b")}
    with pytest.raises(BadParameter, match=r"abe\.weights.*zoe"):
        ask(Abe(weights={"zoe": 1.0}), members)
    with pytest.raises(BadParameter, match="not all 0"):
        ask(Abe(weights={"a": 0.0}), members)


def in_a_house(text: str, work: Callable[[Any], Any]) -> Any:
    async def inside() -> Any:
        async with toy_house(text) as house:
            return await work(house)

    return asyncio.run(inside())


@pytest.mark.parametrize("beam", [1, 3])
def test_k2_the_whole_answer_of_toy_twins_is_their_own(beam: int, tmp_path: Path) -> None:
    answer = "Goethe, 😀\r\n\t歌德."  # 22 bytes, of at most 24 tokens
    text = toy_config(
        "abe",
        {"beam": beam},
        members={"twin": {"tokenizer": "bytes", "answers": {"Faust": answer}}},
        order=("twin",),
        folder=tmp_path,
    )
    text = text.replace('members = ["twin"]', 'members = ["twin", "other"]').replace(
        "[ensembles.toys]", 'other = { like = "twin" }\n\n[ensembles.toys]'
    )

    async def both(house: Any) -> Any:
        own = await house["twin"].ask("Who wrote Faust?", temperature=0.0)
        return own.text, await house["toys"].ask("Who wrote Faust?")

    own, together = in_a_house(text, both)
    assert own == together.text == answer
    streamed = "".join(piece.text for piece in together.pieces)
    assert streamed == (answer if beam == 1 else "")


def test_words_bytes_and_pairs_answer_together(tmp_path: Path) -> None:
    known = {"answers": {"Faust": "abcab"}, "skill": 1.0}
    members = {
        "ada": {"tokenizer": "words", **known},
        "bob": {"tokenizer": "bytes", **known},
        "cyd": {"tokenizer": "pairs", **known},
    }
    text = toy_config("abe", {}, members=members, folder=tmp_path)
    answer = in_a_house(text, lambda house: house["toys"].ask("Who wrote Faust?"))
    assert (answer.text, answer.finish) == ("abcab", "stop")
