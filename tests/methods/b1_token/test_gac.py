"""GaC by hand: the cases K1–K4 and K14 of the check list, and whole answers of the toy members."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.actor import Pool
from septet.core.errors import BadParameter, RunError
from septet.core.session import Next, View
from septet.methods.b1_token._same_vocabulary import Listed
from septet.methods.b1_token.gac import Gac
from septet.parts.decoding.union import UnionTable
from septet.parts.decoding.vocabulary import PackedVocab
from septet.testing.contract import check_method
from septet.testing.scripted import view
from septet.testing.toys import toy_config, toy_house

# The two toy tokenizers of the check list: A has " cat" and "s", B also " cats".
A = {b"": 0.05, b" the": 0.10, b" cat": 0.50, b"s": 0.25, b"\n": 0.10}
B = {b"": 0.10, b" the": 0.05, b" cat": 0.20, b" cats": 0.55, b"\n": 0.05, b"s": 0.05}
HALF = np.array([0.5, 0.5])

CHECKS = [
    *check_method(Gac),
    *check_method(Gac, weights={"ada": 0.5, "bob": 0.3, "cyd": 0.2}),
    # the thresholded mode asks the first member first, so that the order of the members is part of it
    *(c for c in check_method(Gac, mode="thresholded") if "permuting" not in c.name),
]


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_it_keeps_the_contract(check: Any, tmp_path: Path) -> None:
    check(tmp_path)


def whole(p: Mapping[bytes, float]) -> View:
    """A view with the full distribution of a vocabulary that has these strings, two END ids and no other."""
    pieces = [b"", b"", *(text for text in p if text)]
    vocab = PackedVocab.of(pieces, end_ids=[0, 1], tokenise=lambda text: [])
    with np.errstate(divide="ignore"):
        logp = np.log([p.get(b"", 0.0), 0.0, *(p[text] for text in pieces[2:])]).astype(np.float32)
    ids = np.arange(len(pieces), dtype=np.int32)
    return View(Next(0, ids, logp, lambda piece, first: None, full=True), vocab, None)


def fused(method: Gac, *views: View | None, weights: np.ndarray = HALF) -> dict[bytes, float]:
    known = [v.vocab for v in views if v is not None]
    table = UnionTable.of(known) if all(v is None or v.next.full for v in views) else None
    if table is not None and len(known) < len(views):
        table = UnionTable.of([known[0]] * len(views))
    got, _ = method.fuse(views, (Listed(("a", "b")[: len(views)], table), weights))
    return {t: round(float(p), 4) for t, p in zip(got.texts, got.p, strict=True)}


def test_k1_every_string_of_any_vocabulary_has_the_mean_of_its_probabilities() -> None:
    got = fused(Gac(), whole(A), whole(B))
    assert got == {b"": 0.075, b" the": 0.075, b" cat": 0.35, b" cats": 0.275, b"s": 0.15, b"\n": 0.075}
    assert max(got, key=got.__getitem__) == b" cat"


def test_k1_members_that_report_only_their_best_strings_are_mixed_over_those() -> None:
    assert fused(Gac(), view(A), view(B)) == fused(Gac(), whole(A), whole(B))


def test_k4_ends_of_both_members_are_one_end() -> None:
    a, b = whole({b"": 0.45, b" x": 0.30, b" y": 0.25}), whole({b"": 0.35, b" x": 0.40, b" z": 0.25})
    got = fused(Gac(), a, b)
    assert (got[b""], got[b" x"]) == (0.4, 0.35)


def test_scores_of_members_weigh_in_proportion() -> None:
    # scores .2 and .6 are weights 1/4 and 3/4: " cat" .25·.5 + .75·.2, " cats" .75·.55
    weights = Gac(weights={"a": 0.2, "b": 0.6}).weights_of(("a", "b"))
    got = fused(Gac(), whole(A), whole(B), weights=weights)
    assert (got[b" cat"], got[b" cats"]) == (0.275, 0.4125)


def test_k2_a_member_fused_with_itself_is_itself() -> None:
    assert fused(Gac(), whole(A), whole(A)) == A


def test_k3_weight_one_leaves_only_that_member() -> None:
    assert fused(Gac(), whole(A), whole(B), weights=np.array([0.0, 1.0])) == B


def test_the_share_of_a_member_is_its_part_of_the_fused_probability() -> None:
    listed = Listed(("a", "b"), UnionTable.of([whole(A).vocab, whole(B).vocab]))
    got, _ = Gac().fuse([whole(A), whole(B)], (listed, HALF))
    # " cat": .25 of .35 from A; " cats": all of it from B
    assert got.support[list(got.texts).index(b" cat")].round(4).tolist() == [0.7143, 0.2857]
    assert got.support[list(got.texts).index(b" cats")].tolist() == [0.0, 1.0]


def test_an_absent_member_leaves_its_weight_to_the_others() -> None:
    assert fused(Gac(), whole(A), None) == A


def test_without_anyone_who_has_a_weight_there_is_no_answer() -> None:
    with pytest.raises(RunError, match="any weight"):
        fused(Gac(), whole(A), None, weights=np.array([0.0, 1.0]))


@pytest.mark.parametrize(("best", "asked"), [(0.49, [0, 1]), (0.51, [0])])
def test_k14_the_primary_is_taken_alone_above_the_threshold(best: float, asked: list[int]) -> None:
    first = view({b"x": best, b"y": 0.45, b"z": 0.55 - best}).next
    method = Gac(mode="thresholded", threshold=0.5)
    assert list(method.consult(first, (Listed(("a", "b"), None), HALF))) == asked


def test_a_primary_without_a_weight_is_never_taken_alone() -> None:
    first = view({b"x": 1.0}).next
    s = Listed(("a", "b"), None), np.array([0.0, 1.0])
    assert list(Gac(mode="thresholded").consult(first, s)) == [0, 1]


def test_only_the_mode_that_asks_everyone_is_a_constant_mixture() -> None:
    s = Listed(("a", "b"), None), HALF
    assert Gac().mixture(s) is HALF
    assert Gac(mode="thresholded").mixture(s) is None
    assert (Gac().complete, Gac(mode="thresholded").complete) == (True, False)


def test_weights_of_unknown_members_are_refused_before_a_table_is_made() -> None:
    class Named:
        name = "ada"
        vocab = whole(A).vocab

    pool: Any = Pool((Named(),))  # type: ignore[arg-type]
    with pytest.raises(BadParameter, match="zoe"):
        Gac(weights={"zoe": 1.0}).prepared_key(pool)
    assert Gac(weights={"ada": 1.0}).prepared_key(pool)


# --- whole answers ---------------------------------------------------------------------------------------


def answers(folder: Path, parameters: Mapping[str, Any], *members: str, **options: Any) -> dict[str, Any]:
    """The ensemble's answer, and each member's own."""
    text = toy_config("gac", parameters, order=members, folder=folder, **options)

    async def ask() -> dict[str, Any]:
        async with toy_house(text) as house:
            said: dict[str, Any] = {"toys": await house["toys"].ask("Who wrote Faust?")}
            for name in members:
                said[name] = await house[name].ask("Who wrote Faust?", temperature=0.0)
            await house.store.flush()
            said["calls"] = house.store.trace(said["toys"].trace_id)[1]
            return said

    return asyncio.run(ask())


@pytest.mark.parametrize("mode", ["every", "thresholded"])
@pytest.mark.parametrize("member", ["ada", "bob"])
def test_k3_the_whole_answer_with_weight_one_is_that_member_s_own(
    member: str, mode: str, tmp_path: Path
) -> None:
    said = answers(tmp_path, {"mode": mode, "weights": {member: 1.0}}, "ada", "bob")
    assert said["toys"].text == said[member].text


@pytest.mark.parametrize("mode", ["every", "thresholded"])
def test_k2_the_whole_answer_of_a_member_fused_with_its_twin_is_its_own(mode: str, tmp_path: Path) -> None:
    known = {"tokenizer": "bytes", "answers": {"Faust": "Goethe, 😀\r\n\t歌德."}}
    twins = {"bob": known, "twin": known}
    said = answers(tmp_path, {"mode": mode}, "bob", "twin", members=twins)
    assert said["toys"].text == said["bob"].text == "Goethe, 😀\r\n\t歌德."


def test_the_second_member_makes_no_forward_where_the_primary_is_always_sure(tmp_path: Path) -> None:
    known = {"tokenizer": "words", "answers": {"Faust": "Goethe wrote Faust."}, "skill": 1.0}
    twins = {"ada": known, "cyd": known}
    said = answers(tmp_path, {"mode": "thresholded", "threshold": 0.0}, "ada", "cyd", members=twins)
    steps = {c["member"]: c["steps"] for c in said["calls"] if c["do"] == "session"}
    assert said["toys"].text == said["ada"].text
    assert steps["ada"]["next"] > 1
    assert "next" not in steps["cyd"]
    assert steps["cyd"]["forwards"] == 1  # the prompt's
