"""SAFE by hand: K16, twins, which drafted tokens stand, how members are fused, and what stays in the sessions."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from scripted_members import Language, Member, ask, says

from septet.core.errors import BackendError, BadParameter
from septet.core.session import END, Next, View
from septet.core.types import Query
from septet.methods.b1_token.safe import Safe
from septet.testing.contract import Check, check_method
from septet.testing.scripted import view
from septet.testing.toys import toy_config, toy_house
from whole_views import of_own_vocabularies

SINGLES = [bytes([b]) for b in b" .abcdefghijklmnopqrstuvwxyzS"]


@pytest.mark.parametrize("check", check_method(Safe), ids=str)
def test_safe_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    check(tmp_path)


@pytest.mark.parametrize("check", check_method(Safe, union="full", sharpen="heur", gamma=2), ids=str)
def test_safe_keeps_the_contract_over_whole_vocabularies(check: Check, tmp_path: Path) -> None:
    check(tmp_path)


# --- which drafted tokens stand ---------------------------------------------------------------------------


@pytest.mark.parametrize(("p_d", "p_v", "stands"), [(0.45, 0.40, False), (0.70, 0.35, True)])
def test_k16_a_drafted_token_that_the_verifier_does_not_rank_first_stands_by_its_mean(
    p_d: float, p_v: float, stands: bool
) -> None:
    drafter = view({b" x": p_d, b" y": 1 - p_d})
    verifier = view({b" x": p_v, b" y": 1 - p_v})
    assert Safe().stands(b" x", [drafter, verifier]) is stands


def test_k16_what_the_verifier_ranks_first_stands_however_unsure_both_are() -> None:
    drafter = view({b"x": 0.3, b"y": 0.25, b"z": 0.25, b"w": 0.2})
    verifier = view({b"x": 0.28, b"y": 0.26, b"z": 0.26, b"w": 0.2})
    assert Safe().stands(b"x", [drafter, verifier])


def test_ids_of_equal_bytes_are_summed_before_the_verifier_s_first_is_found() -> None:
    # "x" .3 and "y" twice .2: the strings' probabilities are .3 and .4, so "y" is first, and x's mean is .35
    verifier = view({b"x": 0.3, b"y": 0.4, b"z": 0.3})
    assert not Safe().stands(b"x", [view({b"x": 0.4, b"q": 0.6}), verifier])


def test_all_verifiers_must_agree_and_the_mean_is_over_all_members() -> None:
    drafter = view({b"x": 0.8, b"y": 0.2})
    for_it, against = view({b"x": 0.6, b"y": 0.4}), view({b"x": 0.3, b"y": 0.7})
    strongly = view({b"x": 0.0, b"y": 1.0})
    assert Safe().stands(b"x", [drafter, for_it, for_it])
    assert Safe().stands(b"x", [drafter, for_it, against])  # (.8 + .6 + .3)/3 = .567
    assert not Safe().stands(b"x", [drafter, for_it, strongly])  # (.8 + .6)/3 = .467
    assert Safe().stands(b"x", [drafter, None, for_it])


def test_k16_a_token_that_stands_is_an_argmax_of_the_mean_whatever_the_distributions() -> None:
    rng, pieces = np.random.default_rng(0), [b"a", b"b", b"c", b"d"]
    stood = wrong_by_code = 0
    shape = view(dict.fromkeys(pieces, 0.25))
    for _ in range(3000):
        rows = rng.dirichlet(np.ones(4) * 0.6, size=2)
        drafted = int(rows[0].argmax())
        mean = rows.mean(axis=0)
        right = bool(mean[drafted] >= mean.max() - 1e-6)
        views = [replace(shape, next=following(shape, pieces, row)) for row in rows]
        if Safe().stands(pieces[drafted], views):
            stood += 1
            assert right
        # the rule that the GaC variant of the code adds: the drafter alone is sure
        wrong_by_code += bool(rows[0].max() >= 0.5 and not right)
    assert 500 < stood < 2500
    assert wrong_by_code > 0


def following(shape: View, pieces: list[bytes], p: np.ndarray) -> Next:
    """The distribution p (4,) over the pieces of a view."""
    logp = dict(zip(pieces, np.log(p).tolist(), strict=True))
    order = sorted(pieces, key=lambda piece: -logp[piece])
    ids = np.array([shape.vocab.ids_of(piece)[0] for piece in order], dtype=np.int32)
    return Next(0, ids, np.array([logp[piece] for piece in order]), lambda piece, first: logp[piece])


def test_k16_a_sure_drafter_is_no_guarantee() -> None:
    # p_d (.5, .3, .2), p_v (0, 1, 0): the mean is (.25, .65, .1)
    drafter, verifier = view({b"x": 0.5, b"y": 0.3, b"z": 0.2}), view({b"x": 0.0, b"y": 1.0})
    assert not Safe().stands(b"x", [drafter, verifier])
    assert Safe().fused([drafter, verifier], None)[0] == b"y"


# --- how members are fused ----------------------------------------------------------------------------------


def test_k16_a_flat_mean_is_sharpened_by_the_geometric_mean() -> None:
    # arithmetic (.25, .375, .375), none reaches .5; sqrt(p q) = (.2, .374, .354)
    drafter = view({b"1": 0.40, b"2": 0.35, b"3": 0.25})
    verifier = view({b"1": 0.10, b"2": 0.40, b"3": 0.50})
    assert Safe(sharpen="geom").fused([drafter, verifier], None)[0] == b"2"
    # arithmetic (.25, .37, .38); sqrt(p q) = (.2, .369, .361)
    drafter = view({b"1": 0.40, b"2": 0.34, b"3": 0.26})
    assert Safe(sharpen="none").fused([drafter, verifier], None)[0] == b"3"
    assert Safe(sharpen="geom").fused([drafter, verifier], None)[0] == b"2"


def test_a_mean_that_reaches_one_half_is_not_sharpened() -> None:
    # arithmetic (.5, .25, .25); the geometric mean would prefer "2": sqrt (0, .25, .25)
    drafter, verifier = view({b"1": 1.0, b"2": 0.0, b"3": 0.0}), view({b"1": 0.0, b"2": 0.5, b"3": 0.5})
    assert Safe(sharpen="geom").fused([drafter, verifier], None)[0] == b"1"


def test_members_that_share_no_string_are_fused_without_sharpening() -> None:
    drafter = view({b"p": 0.4, b"q": 0.35, b"r": 0.25}, extra=[b"s", b"t"])
    verifier = view({b"s": 0.45, b"t": 0.55}, extra=[b"p", b"q", b"r"])
    assert Safe(sharpen="geom").fused([drafter, verifier], None)[0] == b"t"


def test_the_heuristic_gives_a_short_string_the_mass_of_those_that_begin_with_it() -> None:
    # means: "a" .15, "ab" .2, "ac" .2, "x" .45: "a" gets .15 + .2 + .2 = .55
    p = {b"a": 0.15, b"ab": 0.2, b"ac": 0.2, b"x": 0.45}
    assert Safe(sharpen="none").fused([view(p), view(p)], None)[0] == b"x"
    assert Safe(sharpen="heur").fused([view(p), view(p)], None)[0] == b"a"


def test_the_heuristic_leaves_a_string_below_a_tenth_and_one_that_the_drafter_does_not_show() -> None:
    p = {b"a": 0.05, b"ab": 0.25, b"ac": 0.25, b"x": 0.45}
    assert Safe(sharpen="heur").fused([view(p), view(p)], None)[0] == b"x"
    # "a" has a mean of .15, but stands behind the drafter's best two: x .5, ab .3
    drafter, verifier = view({b"x": 0.5, b"ab": 0.3, b"a": 0.2}), view({b"x": 0.4, b"ab": 0.5, b"a": 0.1})
    assert Safe(sharpen="heur", k=2).fused([drafter, verifier], None)[0] == b"x"


def test_a_string_that_a_member_lacks_counts_as_its_first_sub_token() -> None:
    # K5: A -> (.4, .2, .4), B -> (.25, .0625, .6875); mean (.325, .131, .544)
    a = view({b"": 0.05, b" the": 0.10, b" cat": 0.50, b"s": 0.25, b"\n": 0.10})
    b = view({b"": 0.10, b" the": 0.05, b" cat": 0.20, b" cats": 0.55, b"\n": 0.05, b"s": 0.05})
    piece, share = Safe(k=2).fused([a, b], None)
    assert piece == b" cats"
    np.testing.assert_allclose(share, [0.4 / 1.0875, 0.6875 / 1.0875])


def test_k1_the_whole_vocabularies_are_fused_through_their_union() -> None:
    # means: END .075, " the" .075, " cat" .35, " cats" .275, "s" .15, newline .075; none reaches .5
    rows = (
        {b"": 0.05, b" the": 0.10, b" cat": 0.50, b"s": 0.25, b"\n": 0.10},
        {b"": 0.10, b" the": 0.05, b" cat": 0.20, b" cats": 0.55, b"\n": 0.05, b"s": 0.05},
    )
    views, table = of_own_vocabularies(*rows)
    for sharpen in ("none", "geom", "heur"):
        piece, share = Safe(union="full", sharpen=sharpen).fused(views, table)
        assert piece == b" cat"
        np.testing.assert_allclose(share, [0.5 / 0.7, 0.2 / 0.7], rtol=1e-6)
    # of a member that has left, nothing is left in the mean
    assert Safe(union="full").fused([None, views[1]], table)[0] == b" cats"


# --- whole answers --------------------------------------------------------------------------------------------


def language(seed: int, pieces: list[bytes], sharp: float = 0.7) -> Language:
    """Random next-token probabilities, a pure function of the text."""

    def after(text: bytes) -> dict[bytes, float]:
        rng = np.random.default_rng([seed, crc32(text)])
        p = rng.dirichlet(np.ones(len(pieces) + 1) * sharp)
        return dict(zip([*pieces, END], p.tolist(), strict=True))

    return after


def greedy(after: Language, longest: int) -> list[bytes]:
    """One model's own greedy pieces."""
    said: list[bytes] = []
    while len(said) < longest:
        p = after(b"".join(said))
        best = min(p, key=lambda piece: (-p[piece], piece))
        if best == END:
            break
        said.append(best)
    return said


@pytest.mark.parametrize("gamma", [1, 3, 5])
@pytest.mark.parametrize("union", ["top", "full"])
def test_k2_twins_write_their_own_answer_and_are_never_ensembled(gamma: int, union: str) -> None:
    pieces = [b"a", b"ab", b"b", b"bab"]
    for seed in range(10):
        after = language(seed, pieces)
        members = {n: Member(after, pieces) for n in ("one", "two", "three")}
        verdict, streamed = ask(Safe(gamma=gamma, union=union), members, Query.of("?", max_tokens=9))
        own = greedy(after, 9)
        assert (verdict.text or "").encode() == streamed == b"".join(own)
        assert "ensembled at 0 of" in verdict.reason
        assert verdict.weights is not None
        assert verdict.weights.tolist() == [1.0, 0.0, 0.0]


def every_position(drafter: Language, verifier: Language, longest: int) -> bytes:
    """SAFE without drafts, over one vocabulary: at every token, the drafter's best unless (a) and (b) fail."""
    text, n = b"", 0
    while n < longest:
        p, q = drafter(text), verifier(text)
        best = min(p, key=lambda piece: (-p[piece], piece))
        mean = {piece: (p[piece] + q[piece]) / 2 for piece in p}
        if best != max(q, key=q.__getitem__) and mean[best] <= 0.5:
            best = min(mean, key=lambda piece: (-mean[piece], piece))
        if best == END:
            break
        text, n = text + best, n + 1
    return text


@pytest.mark.parametrize("gamma", [1, 2, 5])
def test_drafting_changes_nothing_of_what_is_said(gamma: int) -> None:
    pieces, replaced = [b"a", b"b", b"c"], 0
    for seed in range(30):
        drafter, verifier = language(seed, pieces), language(seed + 100, pieces)
        members = {"d": Member(drafter, pieces), "v": Member(verifier, pieces)}
        verdict, _ = ask(Safe(gamma=gamma, sharpen="none"), members, Query.of("?", max_tokens=8))
        assert (verdict.text or "").encode() == every_position(drafter, verifier, 8)
        replaced += not verdict.reason.endswith("replaced 0")
    assert replaced > 5


def sofia(verifier_s: dict[bytes, dict[bytes, float]]) -> dict[str, Member]:
    drafter = Member(
        says({b"": {b" So": 1.0}, b" So": {b"fia": 1.0}, b" Sofia": {b".": 1.0}}),
        [b" So", b"fia", b"rt", *SINGLES],
    )
    return {"d": drafter, "v": Member(says(verifier_s), [b" Sofia", b" So", b" Sort", *SINGLES])}


def test_k16_no_member_is_asked_inside_its_own_token() -> None:
    # after " So" the verifier would say anything but "fia"; it is not asked there, only at "" and " Sofia"
    members = sofia({b"": {b" So": 0.6, b" Sofia": 0.4}, b" So": {b"r": 1.0}, b" Sofia": {b".": 1.0}})
    verdict, _ = ask(Safe(), members)
    assert verdict.text == " Sofia."
    # after the draft " So", "fia", ".", END the eligible positions are 0, 2 and 3
    assert "of 3 eligible positions" in verdict.reason
    (look,) = [a for a in members["v"].asked if a.do == "look"]
    assert list(look.args["pieces"]) == [b" Sofia", b"."]
    assert members["v"].sessions[0].pieces == ()  # the answer ended, so nothing had to be committed


def test_k16_at_an_eligible_position_the_ensemble_may_replace_the_token() -> None:
    # at "", mean of " So": (1 + 0)/2, not above .5, and the verifier prefers " Sort": they are fused. Over the
    # union the drafter gives " Sort" what it gives its first sub-token " So", 1, and the verifier .9
    members = sofia({b"": {b" Sort": 0.9, b"z": 0.1}, b" Sort": {END: 1.0}})
    members["d"].language = says({b"": {b" So": 1.0}, b" So": {b"fia": 1.0}, b" Sort": {END: 1.0}})
    verdict, streamed = ask(Safe(), members)
    assert (verdict.text, streamed) == (" Sort", b" Sort")
    # the first draft is " So", "fia", END with 0 and 2 eligible, the second END
    assert verdict.reason == (
        "2 pieces in 2 drafts; ensembled at 1 of 3 eligible positions (50.0% of the pieces), replaced 1"
    )
    assert members["d"].sessions[0].pieces == (b" Sort",)
    assert members["v"].sessions[0].pieces == (b" Sort",)


def test_the_end_of_an_answer_is_verified_like_any_token() -> None:
    # the drafter ends at .6, the verifier hardly (.1): mean .35, and "b" wins with (.4 + .9)/2
    d = Member(says({b"": {b"a": 1.0}, b"a": {END: 0.6, b"b": 0.4}}), [b"a", b"b"])
    v = Member(says({b"": {b"a": 1.0}, b"a": {END: 0.1, b"b": 0.9}}), [b"a", b"b"])
    verdict, _ = ask(Safe(), {"d": d, "v": v})
    assert (verdict.text, verdict.finish) == ("ab", "stop")
    # turned round, the drafter goes on and the ensemble ends
    d = Member(says({b"": {b"a": 1.0}, b"a": {END: 0.4, b"b": 0.6}}), [b"a", b"b"])
    v = Member(says({b"": {b"a": 1.0}, b"a": {END: 0.9, b"b": 0.1}}), [b"a", b"b"])
    verdict, _ = ask(Safe(), {"d": d, "v": v})
    assert (verdict.text, verdict.finish) == ("a", "stop")
    assert "replaced 1" in verdict.reason


def test_all_sessions_hold_the_answer_in_tokens_of_their_own() -> None:
    vocabularies = [b"a", b"b", b"c", b"ab", b"bc"], [b"a", b"b", b"c", b"abc", b"ca"]
    for seed in range(20):
        d, v = (Member(language(seed + 50 * i, p), p) for i, p in enumerate(vocabularies))
        verdict, _ = ask(Safe(gamma=3), {"d": d, "v": v}, Query.of("?", max_tokens=12))
        text = (verdict.text or "").encode()
        assert text.startswith(v.sessions[0].text)
        assert sum(not s.closed for s in d.sessions) <= 2  # the drafter and the fork that ended the answer
        assert any(s.text == v.sessions[0].text for s in d.sessions if not s.closed)


def test_a_whole_draft_is_kept_with_the_session_that_wrote_it() -> None:
    after = says({b"a" * n: {b"a": 1.0} for n in range(4)})
    members = {"d": Member(after, [b"a"]), "v": Member(after, [b"a"])}
    verdict, _ = ask(Safe(gamma=2), members)
    assert verdict.text == "aaaa"
    # each token was asked for once: four, and END
    assert sum(a.do == "next" for a in members["d"].asked) == 5
    assert sum(a.do == "look" for a in members["v"].asked) == 3


def test_stop_and_until_strings_end_the_answer_within_a_draft() -> None:
    after = says({b"": {b"a b": 1.0}, b"a b": {b" c d": 1.0}, b"a b c d": {b" e": 1.0}})
    for query, text, finish in (
        (Query.of("?", stop=("b c",)), "a ", "stop"),
        (Query.of("?", until=("b c",)), "a b c", "until"),
        (Query.of("?", max_tokens=1), "a b", "length"),
    ):
        members = {n: Member(after, [b"a b", b" c d", b" e", *SINGLES]) for n in ("d", "v")}
        verdict, streamed = ask(Safe(), members, query)
        assert (verdict.text, verdict.finish, streamed) == (text, finish, text.encode())


@pytest.mark.parametrize("step", ["open", "look", "push"])
def test_a_verifier_that_fails_leaves_the_others_to_verify(step: str) -> None:
    after = language(6, [b"a", b"b"], sharp=0.4)
    members = {n: Member(after, [b"a", b"b"]) for n in ("d", "v", "w")}
    members["v"].fails = step
    verdict, _ = ask(Safe(gamma=2), members, Query.of("?", max_tokens=6))
    assert (verdict.text or "").encode() == b"".join(greedy(after, 6))
    assert verdict.reason.endswith(f"failed: v cannot {step}")


def test_without_any_verifier_the_drafter_answers_alone() -> None:
    after = language(6, [b"a", b"b"], sharp=0.4)
    members = {n: Member(after, [b"a", b"b"]) for n in ("d", "v")}
    members["v"].fails = "look"
    verdict, _ = ask(Safe(gamma=2), members, Query.of("?", max_tokens=6))
    assert (verdict.text or "").encode() == b"".join(greedy(after, 6))


@pytest.mark.parametrize("step", ["open", "next", "fork", "push"])
def test_without_the_drafter_there_is_no_answer(step: str) -> None:
    after = language(6, [b"a", b"b"], sharp=0.4)
    members = {n: Member(after, [b"a", b"b"]) for n in ("d", "v")}
    members["d"].fails = step
    with pytest.raises(BackendError, match=f"d cannot {step}"):
        ask(Safe(gamma=2), members, Query.of("?", max_tokens=6))


def test_a_verifier_that_cannot_spell_or_does_not_tokenise_takes_no_part() -> None:
    after = language(6, [b"a", b"b"], sharp=0.4)
    members = {"d": Member(after, [b"a", b"b"]), "v": Member(after, [b"a", b"b", b"ab"])}

    class Silent:
        digest = ""

        def tokenise(self, text: bytes) -> list[int]:
            raise BackendError("this server does not tokenise")

    members["v"].vocab = Silent()  # type: ignore[assignment]
    verdict, _ = ask(Safe(gamma=2), members, Query.of("?", max_tokens=6))
    assert (verdict.text or "").encode() == b"".join(greedy(after, 6))
    assert "v: this server does not tokenise" in verdict.reason
    assert not [a for a in members["v"].asked if a.do == "look"]


def test_drawing_is_refused_before_anything_is_opened() -> None:
    members = {n: Member(language(3, [b"a"]), [b"a"]) for n in ("d", "v")}
    with pytest.raises(BadParameter, match="argmax"):
        ask(Safe(), members, Query.of("?", temperature=0.7))
    assert not members["d"].asked


@pytest.mark.parametrize("union", ["top", "full"])
@pytest.mark.parametrize("tokenizer", ["words", "bytes"])
def test_k2_the_whole_answer_of_toy_twins_is_their_own(union: str, tokenizer: str, tmp_path: Path) -> None:
    answer = "Goethe, 😀\r\n\t歌德."  # 22 bytes, of at most 24 tokens
    text = toy_config(
        "safe",
        {"union": union},
        members={"twin": {"tokenizer": tokenizer, "answers": {"Faust": answer}}},
        order=("twin",),
        folder=tmp_path,
    )
    text = text.replace('members = ["twin"]', 'members = ["twin", "other"]').replace(
        "[ensembles.toys]", 'other = { like = "twin" }\n\n[ensembles.toys]'
    )

    async def both() -> tuple[str, Any]:
        async with toy_house(text) as house:
            own = await house["twin"].ask("Who wrote Faust?", temperature=0.0)
            return own.text, await house["toys"].ask("Who wrote Faust?")

    own, together = asyncio.run(both())
    assert own == together.text == answer == "".join(piece.text for piece in together.pieces)
    assert "ensembled at 0 of" in together.verdict.reason
