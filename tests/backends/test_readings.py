"""How a tokenizer makes its tokens, from its description: what is known, and what is left to beams."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from septet.backends._readings import _strings, json_reading

GPT2: dict[str, Any] = {
    "model": {"type": "BPE", "vocab": {}, "merges": ["Ġ t", ["h", "e"], "Ã ©"]},
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
    "normalizer": None,
    "added_tokens": [{"content": "<|end|>", "special": True}],
}
DIGITS = {"type": "Digits", "individual_digits": True}


def test_merges_are_bytes_and_gpt2_s_split_is_known() -> None:
    known = json_reading(GPT2)
    assert known is not None
    reading = known.read()
    assert reading.split == "gpt2"
    assert reading.merges == [(b" ", b"t"), (b"h", b"e"), (b"\xc3", b"\xa9")]


def test_digits_apart_are_another_split_and_another_key() -> None:
    both = {"type": "Sequence", "pretokenizers": [DIGITS, GPT2["pre_tokenizer"]]}
    known, plain = json_reading({**GPT2, "pre_tokenizer": both}), json_reading(GPT2)
    assert known is not None
    assert plain is not None
    assert known.read().split == "gpt2-digits"
    assert known.key != plain.key


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"type": "Unigram", "vocab": [["a", -1.0]]}},
        {"model": {**GPT2["model"], "ignore_merges": True}},
        {"normalizer": {"type": "NFC"}},
        {"pre_tokenizer": None},
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "x"}}},
        {"added_tokens": [{"content": "  ", "special": False}]},
        {
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [{**DIGITS, "individual_digits": False}, GPT2["pre_tokenizer"]],
            }
        },
    ],
)
def test_what_is_not_known_has_no_reading(change: dict[str, Any]) -> None:
    assert json_reading({**GPT2, **change}) is None


def test_a_list_of_strings_is_read_out_of_a_gguf_file_and_others_are_walked_over(tmp_path: Path) -> None:
    def text(value: bytes) -> bytes:
        return struct.pack("<Q", len(value)) + value

    def strings(key: bytes, *values: bytes) -> bytes:
        return text(key) + struct.pack("<IIQ", 9, 8, len(values)) + b"".join(map(text, values))

    number = text(b"general.alignment") + struct.pack("<II", 4, 32)
    file = tmp_path / "tiny.gguf"
    body = (
        number
        + strings(b"tokenizer.ggml.tokens", b"a", b"b")
        + strings(b"tokenizer.ggml.merges", b"a b", b"ab a")
    )
    file.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 3) + body)
    assert _strings(str(file), b"tokenizer.ggml.merges") == [b"a b", b"ab a"]
    assert _strings(str(file), b"tokenizer.ggml.scores") == []
