"""DeePEn by hand: K7 and K2 of the check list, and the rules around them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from septet.core.errors import BackendError, BadParameter
from septet.core.session import View
from septet.core.types import Query
from septet.methods.b1_token.deepen import Deepen, Represented, Request
from septet.parts.decoding.relative import Relative
from septet.testing.contract import Check, check_method
from septet.testing.scripted import view, vocabulary
from twins import ANSWER, answers, of_copies

HALF = np.array([0.5, 0.5])


def own_anchors(seen: View, *pieces: bytes) -> Relative:
    """A member whose tokens are the anchors themselves: R = I for these strings, in this order."""
    rows = np.zeros((seen.vocab.size, len(pieces)), dtype=np.float16)
    for place, piece in enumerate(pieces):
        rows[seen.vocab.ids_of(piece)[0], place] = 1.0
    return Relative(rows, np.eye(len(pieces), dtype=np.float32))


def fused(
    method: Deepen, *views: View | None, weights: np.ndarray = HALF, pieces: tuple[bytes, ...] = (b"x", b"y")
) -> dict[bytes, float]:
    some = next(v for v in views if v is not None)
    members = tuple(own_anchors(v or some, *pieces) for v in views)
    got, _ = method.fuse(list(views), Request(members, weights))
    return {t: round(float(p), 4) for t, p in zip(got.texts, got.p, strict=True)}


MAIN, ASSISTANT = view({b"x": 0.6, b"y": 0.4}), view({b"x": 0.2, b"y": 0.8})


@pytest.mark.parametrize(
    ("rate", "path"),
    [(0.15, (0.5262, 0.4553, 0.3962, 0.3544, 0.3304)), (0.05, (0.5757, 0.5517, 0.5290, 0.5085, 0.4910))],
)
def test_k7_the_fused_distribution_is_main_s_after_each_step(rate: float, path: tuple[float, ...]) -> None:
    for steps, expected in enumerate(path, 1):
        got = fused(Deepen(rate=rate, steps=steps, tail=0.0), MAIN, ASSISTANT)
        assert got == {b"x": expected, b"y": round(1 - expected, 4)}


def test_k2_an_assistant_that_says_the_same_moves_nothing() -> None:
    assert fused(Deepen(tail=0.0), MAIN, MAIN) == {b"x": 0.6, b"y": 0.4}


def test_weight_one_on_main_moves_nothing() -> None:
    assert fused(Deepen(), MAIN, ASSISTANT, weights=np.array([1.0, 0.0])) == {b"x": 0.6, b"y": 0.4}


def test_where_main_wants_to_end_nobody_else_is_heard() -> None:
    main, other = view({b"": 0.6, b"x": 0.3, b"y": 0.1}), view({b"x": 0.9, b"y": 0.1})
    members = (own_anchors(main, b"x", b"y"), own_anchors(other, b"x", b"y"))
    got, _ = Deepen().fuse([main, other], Request(members, HALF))
    assert dict(zip(got.texts, got.p.round(4).tolist(), strict=True)) == {b"": 0.6, b"x": 0.3, b"y": 0.1}
    assert got.support[0].tolist() == [1.0, 0.0]


def test_at_rate_zero_only_main_is_heard() -> None:
    assert fused(Deepen(rate=0.0), MAIN, ASSISTANT) == {b"x": 0.6, b"y": 0.4}


def test_support_is_each_member_s_share_in_a_string() -> None:
    members = (own_anchors(MAIN, b"x", b"y"), own_anchors(ASSISTANT, b"x", b"y"))
    got, _ = Deepen().fuse([MAIN, ASSISTANT], Request(members, HALF))
    assert got.support[0] == pytest.approx([0.75, 0.25])  # .6 and .2
    assert got.support[1] == pytest.approx([1 / 3, 2 / 3])  # .4 and .8


def test_a_member_that_is_gone_leaves_its_part_to_the_next() -> None:
    assert fused(Deepen(tail=0.0), MAIN, None) == {b"x": 0.6, b"y": 0.4}
    assert fused(Deepen(tail=0.0), None, ASSISTANT) == {b"x": 0.2, b"y": 0.8}


def test_candidates_and_tail_leave_the_least_probable_tokens_out() -> None:
    main = view({b"x": 0.5, b"y": 0.3, b"z": 0.2})
    pieces = (b"x", b"y", b"z")
    assert fused(Deepen(candidates=2), main, main, pieces=pieces) == {b"x": 0.625, b"y": 0.375}
    # y may not go, since x alone has half; z may, since x and y have four fifths
    assert fused(Deepen(tail=0.25), main, main, pieces=pieces) == {b"x": 0.625, b"y": 0.375}
    assert fused(Deepen(tail=0.15), main, main, pieces=pieces) == {b"x": 0.5, b"y": 0.3, b"z": 0.2}


def test_another_vocabulary_speaks_through_the_anchors() -> None:
    # the assistant's only token is "xx", which lies where x lies; it draws main from y to x
    main, other = view({b"x": 0.4, b"y": 0.6}), view({b"xx": 1.0})
    rows = np.zeros((other.vocab.size, 2), dtype=np.float16)
    rows[other.vocab.ids_of(b"xx")[0]] = [1.0, 0.0]
    members = (own_anchors(main, b"x", b"y"), Relative(rows, np.eye(2, dtype=np.float32)))
    got, _ = Deepen().fuse([main, other], Request(members, HALF))
    assert got.texts == (b"x", b"y")
    assert got.p[0] > got.p[1]


def member(name: str, vocab: object, rows: np.ndarray) -> SimpleNamespace:
    return SimpleNamespace(name=name, vocab=vocab, matrix=lambda side: {"input": rows}[side])


def test_what_is_prepared_is_the_input_embeddings_beside_the_shared_strings() -> None:
    one, two = vocabulary([b"a", b"b"]), vocabulary([b"b", b"c"])
    rows = np.array([[1, 0], [0, 2], [3, 0]], dtype=np.float32)
    pool = SimpleNamespace(names=("i", "j"), members=(member("i", one, rows), member("j", two, rows)))
    made = Deepen().prepare(pool)
    assert isinstance(made, Represented)
    # the shared strings are END (ids 0, 0) and b (ids 2, 1), so b lies with END in one and apart in the other
    assert made.members[0].anchors.tolist() == [[1, 0], [1, 0]]
    assert made.members[1].anchors.tolist() == [[1, 0], [0, 1]]
    assert Deepen(weights={"j": 2.0}).start(Query.of("?"), [], made, None).weights.tolist() == [0.0, 1.0]


def test_what_it_cannot_prepare_is_refused_by_name() -> None:
    pool = SimpleNamespace(names=("i", "j"), members=(member("i", None, np.eye(2)),) * 2)
    with pytest.raises(BackendError, match="deepen needs all tokens of i"):
        Deepen().prepare(pool)
    with pytest.raises(BadParameter, match="zoe"):
        Deepen(weights={"zoe": 1.0}).prepare(pool)


def test_k2_the_whole_answer_beside_copies_is_the_member_s_own(tmp_path: Path) -> None:
    text = of_copies("deepen", {}, ("ada", "twin", "third"), tmp_path)
    assert answers(text, "ada", "toys") == [ANSWER, ANSWER]


@pytest.mark.parametrize("check", check_method(Deepen), ids=str)
def test_it_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    check(tmp_path)


@pytest.mark.parametrize("check", check_method(Deepen, unit_rows=False, candidates=20, anchors=64), ids=str)
def test_sharp_rows_and_few_candidates_keep_the_contract(check: Check, tmp_path: Path) -> None:
    check(tmp_path)
