"""EVA by hand: K8 and K2 of the check list, and the rules around them."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from septet.core.errors import BackendError, RunError
from septet.core.session import View
from septet.core.state import pack, unpack
from septet.methods.b1_token import eva
from septet.methods.b1_token.eva import Eva, Maps
from septet.parts.decoding.projection import Projection
from septet.parts.decoding.vocabulary import PackedVocab
from septet.testing.contract import Check, check_method
from septet.testing.scripted import view, vocabulary
from twins import ANSWER, answers, of_copies

MAIN = view({b"a": 0.5, b"b": 0.3, b"c": 0.2})  # ids 1, 2, 3
X_AND_Y = {b"x": [(1, 0.9), (2, 0.3)], b"y": [(3, 0.8)]}  # x is like a and b, y like c


def mapped(seen: View, like: dict[bytes, list[tuple[int, float]]]) -> Projection:
    assert isinstance(seen.vocab, PackedVocab)
    return Projection.of([like.get(seen.vocab.bytes_of(i), []) for i in range(seen.vocab.size)])


def maps(*assistants: Projection) -> Maps:
    assert isinstance(MAIN.vocab, PackedVocab)
    return Maps.of(MAIN.vocab, assistants)


def fused(method: Eva, *views: View | None, prepared: Maps) -> dict[bytes, float]:
    got, _ = method.fuse(list(views), prepared)
    return {t: round(float(p), 4) for t, p in zip(got.texts, got.p, strict=True)}


def over(*parts: float) -> dict[bytes, float]:
    """These parts of a, b, c as shares of their sum."""
    return {bytes([97 + i]): round(part / sum(parts), 4) for i, part in enumerate(parts)}


def test_k8_the_mean_of_what_main_says_and_what_the_assistant_s_words_come_to() -> None:
    aux = view({b"x": 0.6, b"y": 0.4})
    assert fused(Eva(), MAIN, aux, prepared=maps(mapped(aux, X_AND_Y))) == over(0.52, 0.24, 0.26)


def test_k8_with_rows_of_sum_one() -> None:
    aux = view({b"x": 0.6, b"y": 0.4})
    got = fused(Eva(rows="normalised"), MAIN, aux, prepared=maps(mapped(aux, X_AND_Y)))
    assert got == {b"a": 0.475, b"b": 0.225, b"c": 0.3}


def test_k8_where_nobody_agrees_with_anybody_all_stay() -> None:
    aux = view({b"x": 0.2, b"y": 0.8})  # projected (.18, .06, .64): tops a and c
    got = fused(Eva(agree=1), MAIN, aux, prepared=maps(mapped(aux, X_AND_Y)))
    assert got == over(0.34, 0.18, 0.42)


def test_who_agrees_with_nobody_is_left_out_where_others_agree() -> None:
    # main and the first assistant say a; the second says c, which is the second of neither: m = 1 drops it
    first, second = view({b"x": 0.6, b"y": 0.4}), view({b"y": 1.0})
    prepared = maps(mapped(first, X_AND_Y), mapped(second, X_AND_Y))
    assert fused(Eva(agree=1), MAIN, first, second, prepared=prepared) == over(0.52, 0.24, 0.26)
    # with m = 3 its c is among the three best of main; (.5+.54, .3+.18, .2+.32+.8)
    assert fused(Eva(agree=3), MAIN, first, second, prepared=prepared) == over(1.04, 0.48, 1.32)
    got, _ = Eva(agree=1).fuse([MAIN, first, second], prepared)
    assert got.support[0] == pytest.approx([0.5 / 1.04, 0.54 / 1.04, 0.0])


def test_only_the_best_k_tokens_count_and_sum_to_one_again() -> None:
    aux = view({b"x": 0.6, b"y": 0.2, b"q": 0.2})
    got = fused(Eva(k=1), MAIN, aux, prepared=maps(mapped(aux, X_AND_Y)))
    assert got == {b"a": round(1.9 / 2.2, 4), b"b": round(0.3 / 2.2, 4)}


def test_ends_are_one_and_may_win() -> None:
    main, aux = view({b"": 0.4, b"a": 0.6}), view({b"": 0.9, b"x": 0.1})
    assert isinstance(main.vocab, PackedVocab)
    prepared = Maps.of(main.vocab, [mapped(aux, {b"": [(0, 1.0)], **X_AND_Y})])
    got = fused(Eva(), main, aux, prepared=prepared)
    assert max(got, key=got.__getitem__) == b""


def test_an_assistant_whose_words_are_like_nothing_has_no_say() -> None:
    aux = view({b"q": 1.0})
    assert fused(Eva(), MAIN, aux, prepared=maps(mapped(aux, X_AND_Y))) == over(0.5, 0.3, 0.2)
    with pytest.raises(RunError, match="which has failed"):
        fused(Eva(), None, aux, prepared=maps(mapped(aux, X_AND_Y)))


def test_assistants_go_on_in_main_s_words_when_main_has_failed() -> None:
    aux = view({b"x": 0.6, b"y": 0.4})
    assert fused(Eva(), None, aux, prepared=maps(mapped(aux, X_AND_Y))) == over(0.54, 0.18, 0.32)
    assert fused(Eva(), MAIN, None, prepared=maps(mapped(aux, X_AND_Y))) == over(0.5, 0.3, 0.2)


# --- preparing ------------------------------------------------------------------------------------------


def member(name: str, vocab: object, rows: np.ndarray) -> SimpleNamespace:
    return SimpleNamespace(name=name, vocab=vocab, matrix=lambda side: {"output": rows}[side])


def pool(*members: SimpleNamespace) -> SimpleNamespace:
    return SimpleNamespace(names=tuple(m.name for m in members), members=members)


WORDS = [bytes([65 + i]) for i in range(20)]
ROWS = np.random.default_rng(0).standard_normal((21, 8)).astype(np.float32)


def test_what_is_prepared_survives_being_written_down() -> None:
    aux = member("aux", vocabulary(WORDS[::-1]), ROWS[[0, *range(20, 0, -1)]])
    made = Eva().prepare(pool(member("main", vocabulary(WORDS), ROWS), aux))
    arrays, facts = pack(made)
    again = unpack(Maps, arrays, facts)
    assert [again.string(i) for i in range(21)] == [b"", *WORDS]
    for i, word in enumerate(WORDS[::-1], 1):
        ids, mass = again.assistants[0].project(np.array([i]), np.array([1.0]))
        assert again.string(int(ids[mass.argmax()])) == word


def test_its_name_on_disk_tells_vocabularies_matrices_and_what_is_kept_apart() -> None:
    vocab = vocabulary(WORDS)
    one, two = member("i", vocab, ROWS), member("j", vocab, ROWS + 1)
    turned, other = vocabulary(WORDS[::-1]), member("k", vocabulary(WORDS[::-1]), ROWS)
    keys = {
        Eva().prepared_key(pool(one, two)),
        Eva().prepared_key(pool(two, one)),
        Eva().prepared_key(pool(one, other)),
        Eva(nearest=5).prepared_key(pool(one, two)),
        Eva(threshold=0.2).prepared_key(pool(one, two)),
    }
    assert len(keys) == 5
    assert turned.digest == other.vocab.digest
    renamed = pool(member("x", vocab, ROWS), member("y", vocab, ROWS + 1))
    assert Eva(k=5, agree=1).prepared_key(renamed) == Eva().prepared_key(pool(one, two))


def test_what_takes_long_says_so_before_and_on_the_way(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(eva, "LONG", 21 * 21 * 8 - 1)
    monkeypatch.setattr("septet.parts.decoding.projection.CELLS", 20 * 5)
    aux = member("aux", vocabulary(WORDS[::-1]), ROWS)
    with caplog.at_level(logging.INFO, logger="septet"):
        Eva().prepare(pool(member("main", vocabulary(WORDS), ROWS), aux))
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "eva compares 21 tokens of aux with 21 of main: minutes, once for these members"
    assert said[1:] == [f"eva: tokens of aux beside those of main: {n} of 20" for n in (5, 10, 15, 20)]


def test_a_member_whose_tokens_are_not_known_is_named() -> None:
    with pytest.raises(BackendError, match="eva needs all tokens of aux"):
        Eva().prepare(pool(member("main", vocabulary(WORDS), ROWS), member("aux", None, ROWS)))


def test_k2_the_whole_answer_beside_copies_is_the_member_s_own(tmp_path: Path) -> None:
    text = of_copies("eva", {}, ("ada", "twin", "third"), tmp_path)
    assert answers(text, "ada", "toys") == [ANSWER, ANSWER]


@pytest.mark.parametrize("check", check_method(Eva), ids=str)
def test_it_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    check(tmp_path)


@pytest.mark.parametrize("check", check_method(Eva, rows="normalised", agree=1, k=5, nearest=3), ids=str)
def test_normalised_rows_and_a_strict_filter_keep_the_contract(check: Check, tmp_path: Path) -> None:
    check(tmp_path)
