"""UniTE by hand: the cases K2–K6 of the check list, on views made of a few strings."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.errors import BadParameter
from septet.core.method import Reply
from septet.core.session import Fused
from septet.core.types import Tokens
from septet.methods.b1_token.unite import Unite
from septet.testing.contract import check_method
from septet.testing.scripted import view
from septet.testing.toys import toy_config, toy_house

# The two toy tokenizers of the check list: A has " cat" and "s", B also has " cats".
A = {b"": 0.05, b" the": 0.10, b" cat": 0.50, b"s": 0.25, b"\n": 0.10}
B = {b"": 0.10, b" the": 0.05, b" cat": 0.20, b" cats": 0.55, b"\n": 0.05, b"s": 0.05}
HALF = np.array([0.5, 0.5])


WEIGHTS = {"ada": 0.5, "bob": 0.3, "cyd": 0.2}
CHECKS = [
    *check_method(Unite),
    *check_method(Unite, k=1, missing="zero"),
    *check_method(Unite, missing="exact", weights=WEIGHTS),
]


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_it_keeps_the_contract(check: Any, tmp_path: Path) -> None:
    check(tmp_path)


def fused(method: Unite, *views: object, weights: np.ndarray | None = None) -> dict[bytes, float]:
    got, _ = method.fuse(list(views), HALF if weights is None else weights)  # type: ignore[arg-type]
    assert isinstance(got, Fused)
    return {t: round(float(p), 3) for t, p in zip(got.texts, got.p, strict=True)}


def test_k5_the_paper_s_rule_gives_a_missing_string_its_first_sub_token() -> None:
    # A: {cat .5, s .25, cats -> cat .5} -> (.4, .2, .4); B: {cat .2, s .05, cats .55} -> (.25, .0625, .6875)
    got = fused(Unite(k=2, missing="first"), view(A), view(B))
    assert got == {b" cat": 0.325, b"s": 0.131, b" cats": 0.544}


def test_k5_a_missing_string_may_count_as_impossible() -> None:
    got = fused(Unite(k=2, missing="zero"), view(A), view(B))
    assert got == {b" cat": 0.458, b"s": 0.198, b" cats": 0.344}


def test_k5_a_missing_string_may_be_scored_as_its_sub_tokens() -> None:
    # P_A(" cats") = P(" cat")·P("s" | " cat") = .5·.8 = .4: A -> (.5, .25, .4)/1.15
    fusing = Unite(k=2, missing="exact").fuse([view(A), view(B)], HALF)
    (ask,) = next(fusing)
    assert list(ask.args["spans"]) == [b" cats"]
    with pytest.raises(StopIteration) as stop:
        fusing.send([Reply([Tokens((b" cat", b"s"), np.log([0.5, 0.8]))])])
    got, _ = stop.value.value
    p = dict(zip(got.texts, got.p, strict=True))
    assert p[b" cats"] == pytest.approx((0.4 / 1.15 + 0.6875) / 2)
    assert p[b" cat"] == pytest.approx((0.5 / 1.15 + 0.25) / 2)


def test_k4_ends_of_both_members_are_one_end() -> None:
    a = view({b"": 0.45, b" x": 0.30, b" y": 0.25})
    b = view({b"": 0.35, b" x": 0.40, b" z": 0.25})
    got = fused(Unite(k=3, missing="zero"), a, b)
    assert got[b""] == 0.4
    assert max(got, key=got.__getitem__) == b""


# logits −1 and −2 of A's two best strings; what is left is spread over ten that nobody asks for
BEST = {b"x": float(np.exp(-1.0)), b"y": float(np.exp(-2.0))}
REST = {bytes([48 + i]): (1 - sum(BEST.values())) / 10 for i in range(10)}


def test_k6_a_string_that_a_member_cannot_write_is_no_phantom_winner() -> None:
    # were the third's logit set to 0, softmax(-1, -2, 0) = (.245, .090, .665) and the phantom would win
    a, b, only_a = view(BEST | REST), view({b"qq": 0.9, b"x": 0.1}), np.array([1.0, 0.0])
    expected = {b"x": 0.731, b"y": 0.269, b"qq": 0.0}
    assert fused(Unite(k=2, missing="zero"), a, b, weights=only_a) == expected
    fusing = Unite(k=2, missing="exact").fuse([a, b], only_a)
    (ask,) = next(fusing)
    assert list(ask.args["spans"]) == [b"qq"]
    with pytest.raises(StopIteration) as stop:
        fusing.send([Reply([Tokens((b"q", b"q"), np.array([-np.inf, -np.inf]))])])
    got, _ = stop.value.value
    assert {t: round(float(x), 3) for t, x in zip(got.texts, got.p, strict=True)} == expected


def test_k6_by_the_paper_s_rule_two_strings_with_one_first_sub_token_both_have_its_logit() -> None:
    # "xx" reads as x and x: softmax(-1, -2, -1) = (.422, .155, .422), never a logit of 0
    got = fused(Unite(k=2), view(BEST | REST), view({b"xx": 0.9, b"x": 0.1}), weights=np.array([1.0, 0.0]))
    assert got == {b"x": 0.422, b"y": 0.155, b"xx": 0.422}


def test_it_asks_for_its_k_and_for_scores_only_by_the_exact_rule() -> None:
    assert (Unite(k=7).needs().topk, Unite(k=7).needs().full, Unite().needs().score) == (7, False, False)
    assert Unite(missing="exact").needs().score


def test_what_is_cut_to_the_best_strings_is_neither_complete_nor_a_mixture() -> None:
    assert not Unite().complete
    assert Unite().mixture(HALF) is None


def test_k2_a_member_fused_with_itself_is_itself() -> None:
    got = fused(Unite(k=5), view(A), view(A))
    assert got == {t: round(p, 3) for t, p in A.items()}


def test_k3_weight_one_leaves_only_that_member() -> None:
    got = fused(Unite(k=2, missing="zero"), view(A), view(B), weights=np.array([0.0, 1.0]))
    assert max(got, key=got.__getitem__) == b" cats"
    # the union also holds A's "s", to which B gives .05
    assert got[b" cats"] == round(0.55 / 0.80, 3)


def test_support_is_each_member_s_share_in_a_string() -> None:
    got, _ = Unite(k=2, missing="zero").fuse([view(A), view(B)], HALF)
    assert got.support[list(got.texts).index(b" cats")].tolist() == [0.0, 1.0]
    assert np.allclose(got.support.sum(axis=1), 1.0)


def test_an_absent_member_leaves_its_weight_to_the_others() -> None:
    got = fused(Unite(k=2, missing="zero"), None, view(B))
    assert got == {b" cat": round(0.2 / 0.75, 3), b" cats": round(0.55 / 0.75, 3)}


def test_weights_of_unknown_members_are_refused() -> None:
    with pytest.raises(BadParameter, match="zoe"):
        Unite(weights={"zoe": 1.0}).weights_of(["ada", "bob"])
    with pytest.raises(BadParameter, match="not all 0"):
        Unite(weights={"ada": 0.0}).weights_of(["ada", "bob"])


@pytest.mark.parametrize("member", ["ada", "bob"])
def test_k3_the_whole_answer_with_weight_one_is_that_member_s_own(member: str, tmp_path: Path) -> None:
    parameters = {"missing": "zero", "weights": {member: 1.0}}
    text = toy_config("unite", parameters, order=("ada", "bob"), folder=tmp_path)

    async def both() -> tuple[str, str]:
        async with toy_house(text) as house:
            own = await house[member].ask("Who wrote Faust?", temperature=0.0)
            return own.text, (await house["toys"].ask("Who wrote Faust?")).text

    own, together = asyncio.run(both())
    assert together == own


@pytest.mark.parametrize("k", [1, 2, 10])
@pytest.mark.parametrize("missing", ["first", "zero", "exact"])
def test_k2_the_whole_answer_of_a_member_fused_with_its_twin_is_its_own(
    k: int, missing: str, tmp_path: Path
) -> None:
    answer = "Goethe, 😀\r\n\t歌德."  # 22 bytes, of at most 24 tokens
    text = toy_config(
        "unite",
        {"missing": missing, "k": k},
        members={"twin": {"tokenizer": "bytes", "answers": {"Faust": answer}}},
        order=("twin",),
        folder=tmp_path,
    )
    text = text.replace('members = ["twin"]', 'members = ["twin", "other"]').replace(
        "[ensembles.toys]", 'other = { like = "twin" }\n\n[ensembles.toys]'
    )

    async def both() -> tuple[str, str]:
        async with toy_house(text) as house:
            own = await house["twin"].ask("Who wrote Faust?", temperature=0.0)
            return own.text, (await house["toys"].ask("Who wrote Faust?")).text

    assert asyncio.run(both()) == (answer, answer)


def test_k5_the_winner_s_bytes_are_committed_and_not_the_first_member_s_sub_token(tmp_path: Path) -> None:
    # ada spells single bytes, so the strings "abc" and "ab" are missing in her vocabulary; bob has both
    known = {"answers": {"Faust": "abcab"}, "skill": 1.0}
    text = toy_config(
        "unite",
        {"missing": "first", "k": 2},
        members={"ada": {"tokenizer": "bytes", **known}, "bob": {"tokenizer": "pairs", **known}},
        order=("ada", "bob"),
        folder=tmp_path,
    )

    async def pieces() -> list[str]:
        async with toy_house(text) as house:
            return [
                piece.text for piece in (await house["toys"].ask("Who wrote Faust?")).pieces if piece.text
            ]

    assert asyncio.run(pieces()) == ["abc", "ab"]
