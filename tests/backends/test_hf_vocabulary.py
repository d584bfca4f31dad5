"""The bytes of a vocabulary from a tokenizer's own description. No test here needs transformers."""

from __future__ import annotations

from typing import Any

import pytest

from septet.backends._hf_vocabulary import after_special, inside, opening, pieces_of
from septet.core.errors import ConfigError

SPIECE = {
    "type": "Sequence",
    "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ],
}


def described(vocab: Any, decoder: Any, *, added: Any = (), model: Any = None, **rest: Any) -> dict[str, Any]:
    inner = {"type": "BPE", "vocab": vocab, **(model or {})}
    tokens = [{"id": i, "content": text, "special": special} for i, text, special in added]
    return {"model": inner, "decoder": decoder, "added_tokens": tokens, **rest}


def test_a_byte_level_entry_is_spelled_by_gpt_2_s_table() -> None:
    vocab = {"Ġthe": 0, "Ċ": 1, "ÃŃ": 2, "ł": 3, "¡": 4}
    found = pieces_of(described(vocab, {"type": "ByteLevel"}), 5)
    assert found.of == [b" the", b"\n", "í".encode(), b"\xa0", b"\xa1"]
    assert found.hidden == []
    assert found.normal.all()


def test_a_byte_level_entry_with_another_character_stands_for_its_own_text() -> None:
    assert pieces_of(described({"｜end｜": 0}, {"type": "ByteLevel"}), 1).of == ["｜end｜".encode()]


def test_the_256_bytes_have_one_spelling_each() -> None:
    from septet.backends._hf_vocabulary import _TABLE

    assert sorted(_TABLE.values()) == list(range(256))
    assert [_TABLE[c] for c in "!~ĀĠ"] == [0x21, 0x7E, 0x00, 0x20]


def test_a_sentencepiece_entry_is_its_text_with_spaces_and_single_bytes() -> None:
    vocab = {"<unk>": 0, "▁the": 1, "<0x0A>": 2, "<0xF0>": 3, "a▁b": 4, "<0x0a>": 5}
    found = pieces_of(described(vocab, SPIECE, model={"unk_token": "<unk>"}), 6)
    assert found.of == [b"", b" the", b"\n", b"\xf0", b"a b", b"<0x0a>"]
    assert found.hidden == [0]
    assert found.normal.tolist() == [True, True, False, False, True, True]


def test_what_looks_like_a_byte_is_text_where_the_tokenizer_has_no_byte_fallback() -> None:
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"}
    assert pieces_of(described({"<0x0A>": 0, "▁x": 1}, metaspace), 2).of == [b"<0x0A>", b" x"]


def test_a_unigram_vocabulary_lists_its_entries_in_id_order() -> None:
    data = described([["<unk>", 0.0], ["▁a", -1.0]], SPIECE, model={"type": "Unigram", "unk_id": 0})
    assert pieces_of(data, 2).of == [b"", b" a"]


def test_special_tokens_and_rows_beyond_the_tokenizer_are_hidden_and_other_added_tokens_are_text() -> None:
    added = [(1, "<|end|>", True), (2, "<think>", False), (3, "é", False)]
    found = pieces_of(described({"Ġa": 0}, {"type": "ByteLevel"}, added=added), 6)
    assert found.of == [b" a", b"", b"<think>", "é".encode(), b"", b""]
    assert found.hidden == [1, 4, 5]


def test_an_added_token_beyond_the_models_rows_is_left_out() -> None:
    data = described({"a": 0}, {"type": "ByteLevel"}, added=[(7, "<pad>", True)])
    assert pieces_of(data, 1).of == [b"a"]


@pytest.mark.parametrize("decoder", [None, {"type": "WordPiece"}, {"type": "Fuse"}])
def test_a_vocabulary_whose_bytes_are_not_known_is_refused(decoder: Any) -> None:
    with pytest.raises(ConfigError, match="byte-level BPE and SentencePiece can be read"):
        pieces_of(described({"##a": 0}, decoder), 1)


PREPEND = {"type": "Prepend", "prepend": "▁"}
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}


def test_inside_an_answer_no_space_is_put_before_a_text() -> None:
    both = described({}, SPIECE, normalizer={"type": "Sequence", "normalizers": [PREPEND, REPLACE]})
    assert inside(both)["normalizer"] == {"type": "Sequence", "normalizers": [REPLACE]}
    assert inside(described({}, SPIECE, normalizer=PREPEND))["normalizer"] is None
    first = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}
    assert inside(described({}, SPIECE, pre_tokenizer=first))["pre_tokenizer"]["prepend_scheme"] == "never"
    level = {"type": "ByteLevel", "add_prefix_space": True}
    assert inside(described({}, None, pre_tokenizer=level))["pre_tokenizer"]["add_prefix_space"] is False


def test_a_prompt_keeps_the_tokenizers_own_space_and_loses_bos_and_limits() -> None:
    data = described(
        {}, SPIECE, normalizer=PREPEND, post_processor={"type": "X"}, truncation={"max_length": 9}
    )
    read = opening(data)
    assert (read["normalizer"], read["post_processor"], read["truncation"]) == (PREPEND, None, None)


@pytest.mark.parametrize(("scheme", "behind"), [("first", "never"), ("always", "always")])
def test_behind_a_special_token_a_space_for_the_first_text_only_is_left_out(scheme: str, behind: str) -> None:
    space = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme}
    data = described({}, SPIECE, pre_tokenizer=space)
    assert after_special(data)["pre_tokenizer"]["prepend_scheme"] == behind
    assert data["pre_tokenizer"]["prepend_scheme"] == scheme


def test_a_gguf_whose_numbers_are_read_digit_by_digit_gets_that_split_back() -> None:
    level = {"type": "ByteLevel", "add_prefix_space": False}
    data = described({}, {"type": "ByteLevel"}, pre_tokenizer=level)
    digits = {"type": "Digits", "individual_digits": True}
    assert opening(data, "smollm")["pre_tokenizer"]["pretokenizers"] == [digits, level]
    assert opening(data, "gpt-2")["pre_tokenizer"] == level
