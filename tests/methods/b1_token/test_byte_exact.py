"""byte-exact on toys: K24 and K25 through the method, equal members, weight one, drafts, and the contract."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from byte_toys import (
    K24,
    K24_P,
    Model,
    after,
    context_free,
    random_merges,
    random_model,
    random_text,
    vocabulary,
)
from septet.core.actor import Pool
from septet.core.caps import Caps
from septet.core.errors import BadParameter, RunError
from septet.core.method import Reply, Seat
from septet.core.session import Draft, Fused, Next, View
from septet.core.state import pack, unpack
from septet.core.types import Query, Tokens
from septet.methods.b1_token.byte_exact import SYMBOLS, ByteExact
from septet.parts.decoding.byte_members import Lattices, Typed
from septet.parts.decoding.vocabulary import PackedVocab
from septet.testing.contract import Check, check_method

NOTHING = Next(0, np.zeros(0, np.int32), np.zeros(0, np.float32), lambda piece, first: None)


class Member:
    """A toy member: its vocabulary and its probabilities; it counts the distributions that it gave."""

    def __init__(self, vocab: PackedVocab, model: Model) -> None:
        self.vocab, self.model, self.n_asked = vocab, model, 0
        nobody: Any = object()
        self.seat = Seat("toy", Caps(text=True), vocab=vocab, session=nobody)

    def view(self, text: bytes) -> View:
        return View(NOTHING, self.vocab, self.seat, text)

    def reply(self, do: str, args: Any) -> Any:
        if do == "write":
            return Draft(b"abab"[: args["max_tokens"]], Tokens((), np.zeros(0)), False)
        self.n_asked += len(args["paths"])
        found = []
        for path in args["paths"]:
            with np.errstate(divide="ignore"):
                logp = np.log(self.model(tuple(path)))
            found.append(
                Next(0, np.arange(len(logp), dtype=np.int32), logp, lambda piece, first: None, full=True)
            )
        return found


def one(merges: Sequence[tuple[bytes, bytes]] = K24) -> Member:
    vocab = vocabulary(merges, b"ab")
    return Member(vocab, context_free(vocab, K24_P))


def letters() -> Member:
    vocab = vocabulary([], b"ab")
    return Member(vocab, context_free(vocab, {b"": 0.1, b"a": 0.5, b"b": 0.4}))


def lattices(members: Sequence[Member], method: ByteExact) -> Lattices:
    class Actor:
        def __init__(self, name: str, vocab: PackedVocab) -> None:
            self.name, self.vocab = name, vocab

    actors: Any = tuple(Actor(f"m{i}", m.vocab) for i, m in enumerate(members))
    return method.prepare(Pool(actors))


def along(method: ByteExact, members: Sequence[Member | None], text: bytes) -> tuple[list[Fused], Typed]:
    """The fused distribution before each byte of a text and after it; a member may be gone."""
    live = [m for m in members if m is not None]
    prepared = lattices([m or live[0] for m in members], method)
    s = method.start(Query.of("x"), [None] * len(members), prepared, None)
    found = []
    for n in range(len(text) + 1):
        views = [None if m is None else m.view(text[:n]) for m in members]
        step, replies = method.fuse(views, s), None
        while True:
            try:
                asks = step.send(replies)
            except StopIteration as stop:
                fused, s = stop.value
                break
            by_seat = {id(m.seat): m for m in live}
            replies = [Reply(by_seat[id(a.to)].reply(a.do, a.args)) for a in asks]
        found.append(fused)
    return found, s


def shown(fused: Fused) -> list[float]:
    return [round(float(fused.p[SYMBOLS.index(x)]), 4) for x in (b"a", b"b", b"")]


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("full", [[0.2, 0.7714, 0.0286], [0.8111, 0.1259, 0.063], [0.4283, 0.5105, 0.0612]]),
        ("canonical", [[0.2121, 0.7576, 0.0303], [0.7955, 0.1364, 0.0682], [0.4516, 0.4839, 0.0645]]),
        ("masked", [[0.25, 0.7143, 0.0357], [0.775, 0.15, 0.075], [0.4516, 0.4839, 0.0645]]),
    ],
)
def test_k24_one_member_after_a_ab_and_aba(variant: str, expected: list[list[float]]) -> None:
    method = ByteExact(variant=variant, epsilon=0.0, heads=100)  # type: ignore[arg-type]
    found, _ = along(method, [one()], b"aba")
    assert [shown(f) for f in found[1:]] == expected


@pytest.mark.parametrize(
    ("variant", "aggregate", "expected"),
    [
        ("canonical", "arithmetic", [0.3561, 0.5788, 0.0652]),
        ("canonical", "geometric", [0.3497, 0.5912, 0.0591]),
        ("masked", "arithmetic", [0.375, 0.5571, 0.0679]),
        ("masked", "geometric", [0.373, 0.5639, 0.0631]),
    ],
)
def test_k25_two_tokenizers_after_a(variant: str, aggregate: str, expected: list[float]) -> None:
    method = ByteExact(variant=variant, aggregate=aggregate, epsilon=0.0)  # type: ignore[arg-type]
    found, _ = along(method, [one(), letters()], b"a")
    assert shown(found[1]) == expected


def test_the_power_mean_with_exponent_one_is_the_arithmetic_one() -> None:
    mean, _ = along(ByteExact(epsilon=0.0), [one(), letters()], b"ab")
    same, _ = along(ByteExact(epsilon=0.0, aggregate="power", exponent=1.0), [one(), letters()], b"ab")
    np.testing.assert_allclose([f.p for f in mean], [f.p for f in same], atol=1e-12)


@pytest.mark.parametrize("aggregate", ["arithmetic", "geometric", "power"])
@pytest.mark.parametrize("seed", range(4))
def test_k2_copies_of_one_member_have_its_own_distribution(aggregate: str, seed: int) -> None:
    merges, alphabet = random_merges(seed)
    vocab = vocabulary(merges, alphabet)
    text = random_text(seed, alphabet, 6)
    members = [Member(vocab, random_model(vocab, seed)) for _ in range(3)]
    method = ByteExact(aggregate=aggregate, epsilon=0.0)  # type: ignore[arg-type]
    found, _ = along(method, members, text)
    for n, fused in enumerate(found):
        own = after(vocab, members[0].model, text[:n], "masked").symbols().logp
        np.testing.assert_allclose(fused.p, np.exp([own[256], *own[:256]]), atol=1e-12)


def test_k3_with_weight_one_it_is_that_member_and_nobody_else_is_asked() -> None:
    members = [one(), letters()]
    found, _ = along(ByteExact(weights={"m1": 1.0}, epsilon=0.0), members, b"ab")
    assert [shown(f) for f in found] == [[0.5, 0.4, 0.1]] * 3
    assert members[0].n_asked == 0


def test_a_member_that_is_gone_loses_its_weight_to_the_others() -> None:
    found, _ = along(ByteExact(epsilon=0.0), [None, letters()], b"a")
    assert shown(found[1]) == [0.5, 0.4, 0.1]
    assert found[1].support[SYMBOLS.index(b"a")].tolist() == [0.0, 1.0]


def test_support_is_each_member_s_share_in_a_byte() -> None:
    # after "a": M gives b .7143 and .4, each with weight a half
    found, _ = along(ByteExact(epsilon=0.0), [one(), letters()], b"a")
    share = found[1].support[SYMBOLS.index(b"b")]
    assert share.tolist() == pytest.approx([0.7142857 / 1.1142857, 0.4 / 1.1142857], abs=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_a_draft_changes_no_distribution(seed: int) -> None:
    members = [one(), letters()]
    text = random_text(seed, b"ab", 6)
    plain, _ = along(ByteExact(epsilon=0.0), members, text)
    drafted, s = along(ByteExact(epsilon=0.0, draft=3), members, text)
    np.testing.assert_allclose([f.p for f in plain], [f.p for f in drafted], atol=1e-12)
    assert s.drafted


def test_what_is_not_asked_for_is_said_and_bounded() -> None:
    vocab = vocabulary(K24, b"ab")
    p = {b"": 0.1, b"a": 0.01, b"ab": 0.6, b"aba": 0.09, b"b": 0.2}
    sparing, asking = (Member(vocab, context_free(vocab, p)) for _ in range(2))
    rough, s = along(ByteExact(epsilon=0.05), [sparing], b"a")
    exact, _ = along(ByteExact(epsilon=0.0), [asking], b"a")
    # [a] holds .01 of .7: it is not asked for, and the error is at most that share
    assert (sparing.n_asked, asking.n_asked) == (1, 2)
    assert s.dropped == pytest.approx(0.01 / 0.7)
    assert np.abs(rough[1].p - exact[1].p).sum() / 2 <= s.dropped
    assert ByteExact().remark(s) == "at most 1.4e-02 of a step's mass not looked at; 1 distributions"


def test_a_head_that_was_passed_over_is_asked_for_when_its_share_grows() -> None:
    vocab = vocabulary(K24, b"ab")
    p = {b"": 0.1, b"a": 0.01, b"ab": 0.6, b"aba": 0.09, b"b": 0.2}
    member = Member(vocab, context_free(vocab, p))
    found, _ = along(ByteExact(epsilon=0.05), [member], b"aa")  # only [a] goes on with a
    own = after(vocab, member.model, b"aa", "masked").symbols().logp
    np.testing.assert_allclose(found[2].p, np.exp([own[256], *own[:256]]), atol=0.05)


def test_a_member_whose_tokenizer_is_not_known_goes_by_beams_and_is_named() -> None:
    member = one()
    member.vocab.reading = None
    found, s = along(ByteExact(epsilon=0.0, heads=100), [member], b"ab")
    assert shown(found[2]) == [0.8111, 0.1259, 0.063]
    assert ByteExact().remark(s).endswith("; by beams: m0")


def test_few_beams_say_what_they_dropped() -> None:
    # after "aba" there are seven covers; two heads cannot hold them all
    found, s = along(ByteExact(variant="full", epsilon=0.0, heads=2), [one()], b"aba")
    assert 0 < s.dropped < 0.5
    assert found[3].p.sum() == pytest.approx(1)


def test_a_member_that_holds_everything_impossible_is_named() -> None:
    vocab = vocabulary(K24, b"ab")
    nowhere = Member(vocab, context_free(vocab, {b"": 0.0, b"a": 0.0, b"ab": 0.0, b"aba": 0.0, b"b": 0.0}))
    with pytest.raises(RunError, match="m0 holds everything impossible"):
        along(ByteExact(), [nowhere], b"")


def test_what_it_prepares_is_kept_whole() -> None:
    members = [one(), letters()]
    made = lattices(members, ByteExact())
    arrays, facts = pack(made)
    again: Lattices = unpack(Lattices, arrays, facts)
    assert again.names == ("m0", "m1")
    grammar, same = made.of[0].by_bytes, again.of[0].by_bytes
    assert grammar is not None
    assert same is not None
    for place in range(len(made.of[0].order)):
        state = grammar.step(grammar.start(), place)
        np.testing.assert_array_equal(grammar.allowed(state), same.allowed(state))


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"weights": {"zoe": 1.0}}, "must give a number"),
        ({"weights": {"m0": -1.0}}, "must give a number"),
        ({"aggregate": "power", "exponent": 0.0}, "must not be 0"),
    ],
)
def test_wrong_parameters_are_refused(parameters: Any, said: str) -> None:
    with pytest.raises(BadParameter, match=said):
        lattices([one()], ByteExact(**parameters))


@pytest.mark.parametrize("check", check_method(ByteExact), ids=str)
def test_byte_exact_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    check(tmp_path)


@pytest.mark.parametrize("check", check_method(ByteExact, aggregate="geometric", draft=3), ids=str)
def test_with_the_product_and_drafts_it_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    check(tmp_path)
