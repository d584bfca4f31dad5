"""PackLLM by hand: the cases K2, K3, K9 and K10 of the check list, and whole answers of the toy members."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.actor import Pool
from septet.core.errors import BadParameter, RunError
from septet.core.session import Next, View
from septet.core.types import Query, Tokens
from septet.engine.prepared import prepared
from septet.methods.b1_token.packllm import Packed, Packllm, Prepared
from septet.parts.decoding.vocabulary import PackedVocab
from septet.testing.contract import check_method
from septet.testing.scripted import view
from septet.testing.toys import toy_config, toy_house

HALF = np.array([0.5, 0.5])
NAN = float("nan")
NOBODY = Prepared(("a", "b"), None, ())

CHECKS = [
    *check_method(Packllm),
    *check_method(Packllm, weights={"ada": 0.5, "bob": 0.3, "cyd": 0.2}),
    *check_method(Packllm, by="opt"),
    *check_method(Packllm, alignment="edit-distance"),
]


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_it_keeps_the_contract(check: Any, tmp_path: Path) -> None:
    check(tmp_path)


class Named:
    """A member that is nothing but its name and vocabulary."""

    def __init__(self, name: str, vocab: PackedVocab) -> None:
        self.name, self.vocab = name, vocab


def whole(p: Mapping[bytes, float]) -> View:
    """A view with the full distribution of a vocabulary that has these strings and no other."""
    pieces = [b"", *(text for text in p if text)]
    vocab = PackedVocab.of(pieces, end_ids=[0], tokenise=lambda text: [])
    with np.errstate(divide="ignore"):
        logp = np.log([p.get(b"", 0.0), *(p[text] for text in pieces[1:])]).astype(np.float32)
    ids = np.arange(len(pieces), dtype=np.int32)
    return View(Next(0, ids, logp, lambda piece, first: None, full=True), vocab, None)


def pool(*views: View) -> Any:
    return Pool(tuple(Named(name, v.vocab) for name, v in zip("abc", views, strict=False)))  # type: ignore[misc]


def fused(method: Packllm, views: Sequence[View | None], s: Packed) -> dict[bytes, float]:
    got, after = method.fuse(views, s)
    assert after is s
    return {t: round(float(p), 4) for t, p in zip(got.texts, got.p, strict=True)}


def started(
    method: Packllm, *prompts: Tokens | None, made: Prepared = NOBODY, text: str = "the cat"
) -> Packed:
    s = method.start(Query.of(text), prompts, made, None)
    assert isinstance(s, Packed)
    return s


def prompt(*tokens: tuple[bytes, float]) -> Tokens:
    return Tokens(tuple(t for t, _ in tokens), np.array([logp for _, logp in tokens]))


# "the cat" as one token for each word, and as five; the frame around it is each member's own
WORDS = prompt((b"<s>", NAN), (b"the", -3.0), (b" cat", -1.0), (b"\n", -9.0))
PARTS = prompt((b"<s>", NAN), (b"th", -4.0), (b"e", -2.0), (b" c", -1.5), (b"a", -3.0), (b"t", -3.0))


# --- weights -----------------------------------------------------------------------------------------------


def test_k9_sim_weighs_by_the_loss_per_token_of_the_question_alone() -> None:
    # L = (3 + 1)/2 = 2.0 and (4 + 2 + 1.5 + 3 + 3)/5 = 2.7: softmax(-2.0, -2.7)
    s = started(Packllm(), WORDS, PARTS)
    assert s.weights.round(4).tolist() == [0.6682, 0.3318]
    assert s.reference == 0


def test_the_temperature_sharpens_the_weights() -> None:
    assert started(Packllm(tau=1e-4), WORDS, PARTS).weights.tolist() == [1.0, 0.0]


def test_opt_mixes_over_the_segments_that_both_have() -> None:
    # "the": p = e^-3, e^-1; " cat": e^-1, e^-3; symmetric, so that half and half has the lowest loss
    a = prompt((b"<s>", NAN), (b"the", -3.0), (b" cat", -1.0))
    b = prompt((b"<s>", NAN), (b"the", -1.0), (b" c", -1.0), (b"at", -2.0))
    assert started(Packllm(by="opt"), a, b).weights.round(3).tolist() == [0.5, 0.5]


def test_opt_leaves_out_a_member_that_reads_every_segment_worse() -> None:
    # "the": -3 and -6; " cat": -1 and -7.5
    assert started(Packllm(by="opt"), WORDS, PARTS).weights.tolist() == [1.0, 0.0]


def test_where_the_question_is_not_in_the_prompts_the_whole_prompts_count() -> None:
    # (3 + 1 + 9)/3 = 4.3333 and 2.7
    for by in ("sim", "opt"):
        s = started(Packllm(by=by), WORDS, PARTS, text="another")  # type: ignore[arg-type]
        assert s.weights.round(4).tolist() == [0.1634, 0.8366]
        assert s.reference == 1


def test_a_member_that_is_not_there_has_no_weight() -> None:
    assert started(Packllm(), None, PARTS).weights.tolist() == [0.0, 1.0]
    assert started(Packllm(by="opt"), WORDS, None).weights.tolist() == [1.0, 0.0]


def test_prompts_of_one_token_weigh_all_members_alike() -> None:
    one = prompt((b"the cat", NAN))
    assert started(Packllm(), one, one).weights.tolist() == [0.5, 0.5]


def test_given_weights_take_the_place_of_the_prompt_s() -> None:
    method = Packllm(weights={"b": 3.0, "a": 1.0})
    assert started(method, WORDS, PARTS).weights.tolist() == [0.25, 0.75]
    assert not method.needs().prompt_scores
    assert Packllm(weights={"b": 3.0}, alignment="edit-distance").needs().prompt_scores


def test_given_weights_of_unknown_members_are_refused_before_anything_is_prepared() -> None:
    with pytest.raises(BadParameter, match=r"packllm\.weights.*zoe"):
        Packllm(weights={"zoe": 1.0}).prepared_key(pool(whole({b"x": 1.0})))


# --- fusion ------------------------------------------------------------------------------------------------


def test_k10_distributions_are_multiplied() -> None:
    views = [view({b"x": 0.9, b"y": 0.1}), view({b"x": 0.2, b"y": 0.8})]
    assert fused(Packllm(), views, Packed(NOBODY, HALF, 0)) == {b"x": 0.6, b"y": 0.4}


def test_a_string_that_a_member_cannot_say_is_said_by_nobody() -> None:
    # x and y are common: sqrt(.6·.3) : sqrt(.2·.2) = .4243 : .2
    views = [whole({b"x": 0.6, b"y": 0.2, b"z": 0.2}), whole({b"x": 0.3, b"y": 0.2, b"q": 0.5})]
    made = Packllm().prepare(pool(*views))
    assert fused(Packllm(), views, Packed(made, HALF, 0)) == {
        b"": 0.0,
        b"q": 0,
        b"x": 0.6796,
        b"y": 0.3204,
        b"z": 0,
    }


def test_k3_a_member_without_weight_forbids_nothing() -> None:
    views = [whole({b"x": 0.6, b"z": 0.4}), whole({b"x": 0.3, b"q": 0.7})]
    made = Packllm().prepare(pool(*views))
    got = fused(Packllm(), views, Packed(made, np.array([1.0, 0.0]), 0))
    assert got == {b"": 0.0, b"x": 0.6, b"z": 0.4, b"q": 0.0}


@pytest.mark.parametrize("alignment", ["bytes", "edit-distance"])
def test_k2_a_member_fused_with_itself_is_itself(alignment: Any) -> None:
    p = {b"": 0.1, b"x": 0.6, b"yy": 0.3}
    method = Packllm(alignment=alignment)
    made = method.prepare(pool(whole(p), whole(p)))
    assert fused(method, [whole(p), whole(p)], Packed(made, np.array([0.3, 0.7]), 0)) == p


def test_the_others_tokens_are_mapped_to_the_nearest_of_the_reference() -> None:
    # the reference says " cat" .5, " cats" .4, "!" .1; the other has " cat" .64, "s" .36 and no "!":
    # " cats" takes the other's " cat", "!" is near to nothing: sqrt(.5·.64) : sqrt(.4·.64) = .5657 : .5060
    first, other = whole({b" cat": 0.5, b" cats": 0.4, b"!": 0.1}), whole({b" cat": 0.64, b"s": 0.36})
    method = Packllm(alignment="edit-distance")
    made = method.prepare(pool(first, other))
    got = fused(method, [first, other], Packed(made, HALF, 0))
    assert got == {b"": 0.0, b" cat": 0.5279, b" cats": 0.4721, b"!": 0.0}
    # and the other way round: "s" is nearer to nothing of the first
    got = fused(method, [first, other], Packed(made, HALF, 1))
    assert got == {b"": 0.0, b" cat": 1.0, b"s": 0.0}


def test_ends_of_both_are_one_end_in_both_alignments() -> None:
    # sqrt(.5·.5) : sqrt(.5·.5)
    views = [whole({b"": 0.5, b"x": 0.5}), whole({b"": 0.5, b"x": 0.5})]
    for alignment in ("bytes", "edit-distance"):
        method = Packllm(alignment=alignment)  # type: ignore[arg-type]
        made = method.prepare(pool(*views))
        assert fused(method, views, Packed(made, HALF, 0)) == {b"": 0.5, b"x": 0.5}


def test_what_a_server_does_not_report_counts_as_the_least_that_it_does() -> None:
    # A reports x, y; B reports x, z: A's z is .1, B's y is .2: sqrt(.9·.8) : sqrt(.1·.2) : sqrt(.1·.2)
    views = [view({b"x": 0.9, b"y": 0.1}), view({b"x": 0.8, b"z": 0.2})]
    got = fused(Packllm(), views, Packed(NOBODY, HALF, 0))
    assert got == {b"x": 0.75, b"y": 0.125, b"z": 0.125}


def test_an_absent_member_leaves_its_weight_to_the_others() -> None:
    views = [view({b"x": 0.9, b"y": 0.1}), None]
    assert fused(Packllm(), views, Packed(NOBODY, HALF, 0)) == {b"x": 0.9, b"y": 0.1}
    with pytest.raises(RunError, match="any weight"):
        fused(Packllm(), views, Packed(NOBODY, np.array([0.0, 1.0]), 0))


@pytest.mark.parametrize("alignment", ["bytes", "edit-distance"])
def test_what_is_prepared_is_kept_on_disk_and_read_again(
    alignment: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = [whole({b" cat": 0.5, b" cats": 0.5}), whole({b" cat": 0.5, b"s": 0.5})]
    method = Packllm(alignment=alignment)
    first = prepared(method, pool(*views), tmp_path)
    monkeypatch.setattr(Packllm, "prepare", lambda *_: pytest.fail("made twice"))
    again = prepared(method, pool(*views), tmp_path)
    s = HALF, 0
    assert fused(method, views, Packed(again, *s)) == fused(method, views, Packed(first, *s))
    other = Packllm(alignment="bytes" if alignment == "edit-distance" else "edit-distance")
    assert other.prepared_key(pool(*views)) != method.prepared_key(pool(*views))


# --- whole answers -----------------------------------------------------------------------------------------


def answers(folder: Path, parameters: Mapping[str, Any], *members: str, **options: Any) -> dict[str, str]:
    """The ensemble's answer, and each member's own."""
    text = toy_config("packllm", parameters, order=members, folder=folder, **options)

    async def ask() -> dict[str, str]:
        async with toy_house(text) as house:
            said = {"toys": (await house["toys"].ask("Who wrote Faust?")).text}
            for name in members:
                said[name] = (await house[name].ask("Who wrote Faust?", temperature=0.0)).text
            return said

    return asyncio.run(ask())


@pytest.mark.parametrize("member", ["ada", "bob"])
def test_k3_the_whole_answer_with_weight_one_is_that_member_s_own(member: str, tmp_path: Path) -> None:
    said = answers(tmp_path, {"weights": {member: 1.0}}, "ada", "bob")
    assert said["toys"] == said[member]


@pytest.mark.parametrize(
    "parameters", [{"by": "sim"}, {"by": "opt"}, {"alignment": "edit-distance"}, {"weights": {"twin": 1.0}}]
)
def test_k2_the_whole_answer_of_a_member_fused_with_its_twin_is_its_own(
    parameters: dict[str, Any], tmp_path: Path
) -> None:
    known = {"tokenizer": "bytes", "answers": {"Faust": "Goethe, 😀\r\n\t歌德."}}
    said = answers(tmp_path, parameters, "bob", "twin", members={"bob": known, "twin": known})
    assert said["toys"] == said["bob"] == "Goethe, 😀\r\n\t歌德."


def test_members_with_different_tokenizers_say_together_what_both_know(tmp_path: Path) -> None:
    known = {"answers": {"Faust": "Goethe wrote it."}, "skill": 1.0}
    for alignment in ("bytes", "edit-distance"):
        said = answers(
            tmp_path / alignment, {"alignment": alignment}, "ada", "bob", members={"ada": known, "bob": known}
        )
        assert said["toys"] == "Goethe wrote it."
