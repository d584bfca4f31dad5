"""A fast tokenizer's vocabulary as exact bytes, from its own description (tokenizer.json).

The tokenizer's decoder says how an entry spells its bytes: by the table of byte-level BPE, or as text in which
▁ is a space and <0x0A> a single byte. Nothing is guessed from how the entries look.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import ConfigError

Json = Mapping[str, Any]
Spell = Callable[[str], bytes]

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_NESTED = ("decoders", "normalizers", "pretokenizers")
_SPELLING = {"ByteLevel", "Replace", "Metaspace", "ByteFallback"}
_LOSSY = {"WordPiece", "BPEDecoder", "CTC"}

_DIGITS_ONE_BY_ONE = ("smollm", "starcoder", "refact", "command-r", "codeshell")
"""GGUF names of splits that keep digits apart and are GPT-2's otherwise (llama-vocab.cpp). transformers reads
files of these names with GPT-2's split, so a number would become tokens that the model never saw."""


@dataclass(frozen=True)
class Pieces:
    """The bytes of each id; `hidden` ids are no text; `normal` (V,) is False for single-byte entries."""

    of: list[bytes]
    hidden: list[int]
    normal: NDArray[np.bool_]


def pieces_of(described: Json, size: int) -> Pieces:
    """The vocabulary of a model with `size` rows of logits.

    Hidden are special tokens, the unknown token, and rows that no entry belongs to. Added tokens that are not
    special keep their text, since a model writes them as text.

    >>> described = {"model": {"type": "BPE", "vocab": {"Ġa": 0}}, "decoder": {"type": "ByteLevel"}}
    >>> pieces_of(described, 2).of
    [b' a', b'']
    """
    spell, byte_level = _spelling(described)
    entries = dict(_entries(described["model"]))
    normal = np.ones(size, dtype=np.bool_)
    pieces, hidden = [b""] * size, _unknown(described["model"])
    for token, place in entries.items():
        if place < size:
            pieces[place] = spell(token)
            normal[place] = byte_level or not _BYTE.fullmatch(token)
    for added in described.get("added_tokens") or ():
        place, text = added["id"], added["content"]
        if place >= size:
            continue
        # A byte-level tokenizer finds added tokens in the text itself, not in its spelling by the table.
        pieces[place] = text.encode() if byte_level else spell(text)
        if added["special"]:
            hidden.add(place)
    for place in hidden:
        pieces[place] = b""
    return Pieces(pieces, [i for i, piece in enumerate(pieces) if not piece], normal)


def _entries(model: Json) -> Iterator[tuple[str, int]]:
    vocabulary = model["vocab"]
    if isinstance(vocabulary, Mapping):
        yield from vocabulary.items()
    else:  # Unigram: (token, score) pairs in id order
        for place, (token, _) in enumerate(vocabulary):
            yield token, place


def _unknown(model: Json) -> set[int]:
    if model.get("unk_id") is not None:
        return {model["unk_id"]}
    named = model.get("unk_token")
    return {place for token, place in _entries(model) if token == named} if named else set()


def _spelling(described: Json) -> tuple[Spell, bool]:
    """How an entry's text becomes its bytes, and whether that is by the byte table."""
    parts = {part["type"]: part for part in _parts(described.get("decoder"))}
    if not parts.keys() & _SPELLING or parts.keys() & _LOSSY or described["model"].get("end_of_word_suffix"):
        raise ConfigError(
            f"the bytes of a {described['model'].get('type')} vocabulary with the decoder "
            f"{', '.join(parts) or 'none'} are not known; byte-level BPE and SentencePiece can be read"
        )
    if "ByteLevel" in parts:
        return _by_table, True
    marks = [
        (part["pattern"]["String"], part["content"])
        for part in _parts(described["decoder"])
        if part["type"] == "Replace" and "String" in part["pattern"]
    ]
    if "Metaspace" in parts:
        marks.append((parts["Metaspace"]["replacement"], " "))
    fallback = "ByteFallback" in parts or bool(described["model"].get("byte_fallback"))

    def as_text(token: str) -> bytes:
        single = _BYTE.fullmatch(token) if fallback else None
        if single:
            return bytes([int(single[1], 16)])
        for mark, text in marks:
            token = token.replace(mark, text)
        return token.encode()

    return as_text, False


def _by_table(token: str) -> bytes:
    # As the ByteLevel decoder does: an entry with any other character stands for its own text.
    if all(c in _TABLE for c in token):
        return bytes(_TABLE[c] for c in token)
    return token.encode()


def _byte_table() -> dict[str, int]:
    """GPT-2's spelling of the 256 bytes: printable ones as themselves, the others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


_TABLE = _byte_table()


def _parts(node: Json | None) -> Iterator[Json]:
    """The steps that a decoder, normalizer or pre-tokenizer is made of."""
    if node is None:
        return
    inner = next((node[key] for key in _NESTED if key in node), None)
    if inner is None:
        yield node
    for step in inner or ():
        yield from _parts(step)


# --- readings --------------------------------------------------------------------------------------


def opening(described: Json, pre: str = "") -> dict[str, Any]:
    """How a text that begins a prompt is read: as the tokenizer does it, without BOS and without limits."""
    reading = deepcopy(dict(described)) | {"post_processor": None, "truncation": None, "padding": None}
    split = reading.get("pre_tokenizer")
    if pre in _DIGITS_ONE_BY_ONE and split and split["type"] == "ByteLevel":
        digits = {"type": "Digits", "individual_digits": True}
        reading["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, split]}
    return reading


def after_special(described: Json, pre: str = "") -> dict[str, Any]:
    """How a text behind a special token is read: a space that only the first text gets is left out."""
    reading = opening(described, pre)
    for step in _parts(reading.get("pre_tokenizer")):
        if step["type"] == "Metaspace" and step.get("prepend_scheme") == "first":
            step["prepend_scheme"] = "never"  # type: ignore[index]
    return reading


def inside(described: Json, pre: str = "") -> dict[str, Any]:
    """How a text in the middle of an answer is read: no space is put before it, whatever begins a prompt."""
    reading = opening(described, pre)
    for step in _parts(reading.get("pre_tokenizer")):
        if step["type"] == "Metaspace":
            step["prepend_scheme"] = "never"  # type: ignore[index]
        elif step["type"] == "ByteLevel":
            step["add_prefix_space"] = False  # type: ignore[index]
    kept = [step for step in _parts(reading.get("normalizer")) if step["type"] != "Prepend"]
    reading["normalizer"] = {"type": "Sequence", "normalizers": kept} if kept else None
    return reading
