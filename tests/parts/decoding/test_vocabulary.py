"""The vocabulary as bytes: every id found, nothing invalid reaches the tokenizer, nothing is lost."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest

from septet.core.errors import BackendError
from septet.parts.decoding.vocabulary import GrowingVocab, PackedVocab, Unspellable, utf8_spans

PIECES = [b"</s>", b"<pad>", b"A", b" the", b"A", b" th", b"t", b" ", b"\xc3", b"\xa9", "é".encode(), b" cat"]
NORMAL = np.array([i != 2 for i in range(len(PIECES))])  # id 2 is the byte piece <0x41>


def reads_longest(text: bytes) -> list[int]:
    text.decode()  # a tokenizer that dies of invalid UTF-8, as some do
    ids = {b"A": 4, b" the": 3, b" th": 5, b"t": 6, b" ": 7, "é".encode(): 10, b" cat": 11}
    found = []
    while text:
        piece = next((text[:n] for n in range(len(text), 0, -1) if text[:n] in ids), text[:1])
        found += [ids[piece]] if piece in ids else []  # drops what it does not know, silently
        text = text[len(piece) :]
    return found


@pytest.fixture
def vocab() -> PackedVocab:
    return PackedVocab.of(PIECES, end_ids=(0,), masked_ids=(1,), normal=NORMAL, tokenise=reads_longest)


def test_an_end_id_has_empty_bytes_and_every_other_id_its_own(vocab: PackedVocab) -> None:
    assert [vocab.bytes_of(i) for i in (0, 3, 8)] == [b"", b" the", b"\xc3"]
    assert vocab.ids_of(b"") == (0,)


def test_duplicates_are_all_found_and_the_normal_piece_comes_before_the_byte_piece(
    vocab: PackedVocab,
) -> None:
    assert vocab.ids_of(b"A") == (4, 2)


def test_masked_rows_and_unknown_bytes_have_no_id(vocab: PackedVocab) -> None:
    assert vocab.ids_of(b"<pad>") == ()
    assert vocab.ids_of(b"dog") == ()
    assert vocab.masked.tolist() == [i == 1 for i in range(12)]


def test_agreeing_ids_are_prefixes_or_extensions(vocab: PackedVocab) -> None:
    assert vocab.agreeing(b" th").tolist() == [3, 5, 7]
    assert vocab.agreeing(b" the end").tolist() == [3, 5, 7]
    assert vocab.agreeing(b"\xff").tolist() == []


def test_the_tokenizer_sees_valid_text_only_and_the_rest_is_spelled_by_bytes(vocab: PackedVocab) -> None:
    assert vocab.tokenise(b" the\xc3") == [3, 8]
    assert vocab.tokenise(b"\xa9A") == [9, 4]
    assert vocab.tokenise("é".encode()) == [10]


def test_a_character_that_the_tokenizer_drops_is_spelled_by_bytes_where_it_can_be() -> None:
    pieces = [b"", b"a", b"\xe2", b"\x96", b"\x81"]
    lossy = PackedVocab.of(pieces, end_ids=(0,), tokenise=lambda text: [1 for c in text.decode() if c == "a"])
    assert lossy.tokenise("a▁a".encode()) == [1, 2, 3, 4, 1]


def test_an_accent_that_is_joined_to_its_letter_costs_its_own_place_only() -> None:
    # As Unicode's composed forms do it: "e" and U+0301 become "é", each alone stays what it is.
    pieces = [b"", b"abab", b"e", b"\xcc\x81", "é".encode(), b"a", b"b"]
    ids = {piece.decode(errors="surrogateescape"): i for i, piece in enumerate(pieces) if piece}

    def composing(text: bytes) -> list[int]:
        found, rest = list[int](), unicodedata.normalize("NFC", text.decode())
        while rest:
            piece = next(p for p in ("abab", "a", "b", "é", "e", "\u0301") if rest.startswith(p))
            found, rest = [*found, ids[piece]], rest[len(piece) :]
        return found

    vocab = PackedVocab.of(pieces, end_ids=(0,), tokenise=composing)
    text = "ababababe\u0301abababab".encode()
    assert vocab.join(vocab.tokenise(text)) == text
    assert vocab.tokenise(text) == [1, 1, 2, 3, 1, 1]


def test_what_cannot_be_spelled_raises_and_names_the_byte(vocab: PackedVocab) -> None:
    with pytest.raises(Unspellable, match=r"0x04.*cannot spell"):
        vocab.tokenise(b"A\x04")


def test_the_first_id_is_that_of_the_tokenizers_reading(vocab: PackedVocab) -> None:
    assert vocab.first_id(b" the cat") == 3


def test_arrays_bring_the_vocabulary_back_and_are_small(vocab: PackedVocab) -> None:
    arrays = vocab.arrays()
    assert arrays["offsets"].dtype == arrays["order"].dtype == np.int32
    back = PackedVocab.of_arrays(arrays, reads_longest)
    assert [back.bytes_of(i) for i in range(back.size)] == [vocab.bytes_of(i) for i in range(vocab.size)]
    assert (back.ids_of(b"A"), back.end_ids, back.masked_ids.tolist()) == ((4, 2), (0,), [1])


def test_every_id_of_a_random_vocabulary_is_found_by_its_bytes() -> None:
    rng = np.random.default_rng(0)
    pieces = [b"", *(rng.bytes(int(n)) for n in rng.integers(1, 3, size=2000))]
    vocab = PackedVocab.of(pieces, end_ids=(0,), tokenise=list)
    for piece in set(pieces) - {b""}:
        assert vocab.ids_of(piece) == tuple(i for i, other in enumerate(pieces) if other == piece)


def test_a_growing_vocabulary_knows_what_it_was_shown_and_says_what_it_cannot() -> None:
    vocab = GrowingVocab()
    assert [vocab.add(b" the"), vocab.add(b" cat"), vocab.add(b" the"), vocab.add(b"")] == [1, 2, 1, 0]
    assert (vocab.bytes_of(2), vocab.ids_of(b"dog"), vocab.size) == (b" cat", (), 3)
    with pytest.raises(BackendError, match="does not tokenise"):
        vocab.tokenise(b" the")


def test_spans_of_valid_text_are_as_long_as_they_can_be() -> None:
    text = "a日".encode() + b"\xff" + "é".encode() + b"\xf0\x9f"
    assert list(utf8_spans(text)) == [
        ("a日".encode(), True),
        (b"\xff", False),
        ("é".encode(), True),
        (b"\xf0\x9f", False),
    ]
