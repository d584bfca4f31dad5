"""The commit rules, by hand on the toy vocabulary {a, b, c, ab, abc} and by chance (K23)."""

from __future__ import annotations

import numpy as np
import pytest

from septet.core.errors import BackendError
from septet.parts.decoding.commit import Commit, canonical, exactly, own
from septet.parts.decoding.vocabulary import PackedVocab

END, A, B, C, AB, ABC = range(6)


def greedy_longest(pieces: list[bytes]) -> PackedVocab:
    def tokenise(text: bytes) -> list[int]:
        ids = []
        while text:
            best = max((p for p in pieces if p and text.startswith(p)), key=len)
            ids.append(pieces.index(best))
            text = text[len(best) :]
        return ids

    return PackedVocab.of(pieces, end_ids=(0,), tokenise=tokenise)


@pytest.fixture
def vocab() -> PackedVocab:
    return greedy_longest([b"", b"a", b"b", b"c", b"ab", b"abc"])


def test_a_foreign_piece_is_read_together_with_what_it_joins(vocab: PackedVocab) -> None:
    # K23: B = "ab" is [ab]; "c" makes the reading [abc], whose common prefix with [ab] is empty.
    assert own(vocab, [AB], [2], b"ab", b"c", None) == Commit(0, (ABC,))


def test_a_members_own_id_is_appended_as_it_is(vocab: PackedVocab) -> None:
    assert own(vocab, [AB], [2], b"ab", b"c", C) == Commit(1, (C,))


def test_an_own_id_with_other_bytes_does_not_count(vocab: PackedVocab) -> None:
    assert own(vocab, [AB], [2], b"ab", b"c", A) == Commit(0, (ABC,))


def test_canonical_reads_the_whole_answer_even_after_own_ids(vocab: PackedVocab) -> None:
    # [ab, c] is not what the tokenizer reads: "abc" + "a" is [abc, a].
    assert canonical(vocab, [AB, C], [2, 3], b"abc", b"a") == Commit(0, (ABC, A))
    assert canonical(vocab, [ABC], [3], b"abc", b"a") == Commit(1, (A,))


def test_exactly_takes_the_id_and_refuses_other_bytes(vocab: PackedVocab) -> None:
    assert exactly(vocab, [A], b"b", B) == Commit(1, (B,))
    with pytest.raises(BackendError, match="not b'a'"):
        exactly(vocab, [A], b"a", B)


def test_nothing_before_the_last_safe_boundary_is_read_again() -> None:
    vocab = greedy_longest([b"", b"a", b" ", b" a", b"b", b">", b"ab", b"aa"])
    # "aa" stands as [a, a]; the foreign " a" begins at a boundary, so [a, a] stays.
    assert own(vocab, [1, 1], [1, 2], b"aa", b" a", None) == Commit(2, (3,))
    # Then "b" joins " a" only: the boundary before " a" is the last one.
    assert own(vocab, [1, 1, 3], [1, 2, 4], b"aa a", b"b", None) == Commit(3, (4,))
    # After ">" there is none, so all is read again: "aa" is one token then.
    assert own(vocab, [1, 1, 5], [1, 2, 3], b"aa>", b" a", None) == Commit(0, (7, 5, 3))
    # Between two spaces there is none either; the boundary before both is the last one.
    assert own(vocab, [1, 1, 2], [1, 2, 3], b"aa ", b" a", None) == Commit(3, (3,))


def test_a_character_that_two_pieces_share_becomes_canonical_when_it_is_complete() -> None:
    def tokenise(text: bytes) -> list[int]:
        return [{"é": 3, "x": 4}[c] for c in text.decode()]

    vocab = PackedVocab.of([b"", b"\xc3", b"\xa9", "é".encode(), b"x"], end_ids=(0,), tokenise=tokenise)
    assert own(vocab, [4], [1], b"x", b"\xc3", 1) == Commit(1, (1,))
    assert own(vocab, [4], [1], b"x", b"\xc3", None) == Commit(1, (1,))
    assert own(vocab, [4, 1], [1, 2], b"x\xc3", b"\xa9", None) == Commit(1, (3,))
    assert own(vocab, [4, 1], [1, 2], b"x\xc3", b"\xa9", 2) == Commit(2, (2,))


def test_a_piece_that_cannot_be_spelled_raises(vocab: PackedVocab) -> None:
    lossy = PackedVocab.of([b"", b"a"], end_ids=(0,), tokenise=lambda text: [1] * text.count(b"a"))
    with pytest.raises(BackendError, match="cannot spell"):
        own(lossy, [1], [1], b"a", b"d", None)


def test_random_commits_keep_the_bytes_and_end_as_the_tokenizer_reads_them(vocab: PackedVocab) -> None:
    rng = np.random.default_rng(23)
    for _ in range(60):
        ids: list[int] = []
        text = b""
        for _ in range(12):
            piece = vocab.bytes_of(int(rng.integers(1, 6)))
            mine = int(rng.integers(1, 6)) if rng.random() < 0.5 else None
            ends = np.cumsum([len(vocab.bytes_of(i)) for i in ids]).tolist()
            step = own(vocab, ids, ends, text, piece, mine)
            ids = [*ids[: step.keep], *step.append]
            text += piece
            assert vocab.join(ids) == text
            if mine is None or vocab.bytes_of(mine) != piece:
                assert ids == vocab.tokenise(text)  # without spaces the last boundary is the beginning
