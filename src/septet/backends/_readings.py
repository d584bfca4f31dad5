"""How a tokenizer makes tokens of a text, from a GGUF file or a tokenizer.json: what exact bytes are made with."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from typing import Any

import numpy as np

from septet.backends._gguf import _Reader
from septet.backends._hf_vocabulary import _by_table
from septet.backends._llama import Model
from septet.parts.decoding.pretokenise import KnownReading, Reading, Split

_USER_DEFINED, _BYTE = 16, 32
"""Bits of llama_token_attr (llama.h)."""

_GGUF_SPLITS: Mapping[str, Split] = {
    "gpt-2": "gpt2",
    "smollm": "gpt2-digits",
    "starcoder": "gpt2-digits",
    "refact": "gpt2-digits",
    "command-r": "gpt2-digits",
    "codeshell": "gpt2-digits",
}
"""llama.cpp's names of the splits that are known here (llama-vocab.cpp)."""


def gguf_reading(model: Model) -> KnownReading | None:
    """The reading of a loaded GGUF file: byte-level BPE with a known split, or SentencePiece with scores; None for
    all others. The file is read when the reading is asked for."""
    values = model.header.values
    kind, pre = values.get("tokenizer.ggml.model"), str(values.get("tokenizer.ggml.pre", ""))
    if kind == "gpt2" and pre in _GGUF_SPLITS:
        split = _GGUF_SPLITS[pre]
        return KnownReading(
            f"gguf {model.header.tokenizer or model.header.digest}",
            partial(_merged, model.header.path, split),
        )
    if kind == "llama":
        return KnownReading(f"gguf {model.header.tokenizer or model.header.digest}", partial(_scored, model))
    return None


def _merged(path: str, split: Split) -> Reading:
    pairs = [line.decode().split(" ", 1) for line in _strings(path, b"tokenizer.ggml.merges")]
    return Reading(split, merges=[(_by_table(left), _by_table(right)) for left, right in pairs])


def _scored(model: Model) -> Reading:
    get, vocab = model.c.llama_vocab_get_score, model._vocab
    attributes = model.attributes()
    return Reading(
        scores=np.fromiter((get(vocab, i) for i in range(model.n_tokens)), np.float32, model.n_tokens),
        whole=tuple(np.flatnonzero(attributes & _USER_DEFINED).tolist()),
        single=tuple(np.flatnonzero(attributes & _BYTE).tolist()),
    )


def _strings(path: str, wanted: bytes) -> list[bytes]:
    """An array of strings among the values of a GGUF file; empty where there is none of that name."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        reader = _Reader(path, data)
        reader.scalar("I")  # the version, which was checked when the header was read
        _, n_values = reader.scalar("Q"), reader.scalar("Q")
        for _ in range(n_values):
            name, kind = reader.string(), reader.scalar("I")
            if name == wanted:
                _, length = reader.scalar("I"), reader.scalar("Q")
                return [bytes(reader.string()) for _ in range(length)]
            reader.value(kind)
    return []


def json_reading(described: Mapping[str, Any]) -> KnownReading | None:
    """The reading of a tokenizer.json: byte-level BPE that cuts as GPT-2 does, with digits apart or not, and has
    no added tokens but special ones; None for all others."""
    model, split = described["model"], _split_of(described.get("pre_tokenizer"))
    added = [token for token in described.get("added_tokens") or () if not token["special"]]
    if model.get("type") != "BPE" or split is None or described.get("normalizer") or added:
        return None
    if model.get("ignore_merges") or model.get("dropout"):
        return None
    pairs = [pair.split(" ", 1) if isinstance(pair, str) else pair for pair in model["merges"]]
    key = sha256(repr((split, pairs)).encode()).hexdigest()
    merges = [(_by_table(left), _by_table(right)) for left, right in pairs]
    return KnownReading(f"json {key}", lambda: Reading(split, merges=merges))


def _split_of(described: Mapping[str, Any] | None) -> Split | None:
    steps = [] if described is None else described.get("pretokenizers", [described])
    kinds = [step["type"] for step in steps]
    if kinds not in (["ByteLevel"], ["Digits", "ByteLevel"]) or not steps[-1].get("use_regex", True):
        return None
    if kinds == ["ByteLevel"]:
        return "gpt2"
    return "gpt2-digits" if steps[0].get("individual_digits") else None
