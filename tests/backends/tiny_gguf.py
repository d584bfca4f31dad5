"""GGUF files written by hand: headers, and a whole model of a few kilobytes with random weights."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

BYTES_FROM = 3  # ids 0, 1, 2 are <unk>, <s>, </s>; then 256 single bytes; then WORDS
WORDS = ("▁a", "▁b", "a", "b", "▁", "<|user|>")


def header(values: Mapping[str, Any], tensors: Mapping[str, Any] | None = None, *, version: int = 3) -> bytes:
    """A GGUF file; a value is a str, bool, int (u32), float (f32) or a list of one of them."""
    tensors = tensors or {}
    body = [b"GGUF", struct.pack("<IQQ", version, len(tensors), len(values))]
    for key, value in values.items():
        kind, packed = _value(value)
        body += [_string(key), struct.pack("<I", kind), packed]
    at = 0
    for name, array in tensors.items():
        dims = array.shape[::-1]  # GGUF names the fastest dimension first
        body += [_string(name), struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, 0, at)]
        at += -(-array.nbytes // 32) * 32
    written = b"".join(body)
    written += b"\0" * (-len(written) % 32)
    return written + b"".join(a.tobytes() + b"\0" * (-a.nbytes % 32) for a in tensors.values())


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _value(value: Any) -> tuple[int, bytes]:
    if isinstance(value, list):
        kinds, parts = zip(*map(_value, value), strict=True)
        return 9, struct.pack("<IQ", kinds[0], len(value)) + b"".join(parts)
    if isinstance(value, str):
        return 8, _string(value)
    if isinstance(value, bool):
        return 7, struct.pack("<?", value)
    return (4, struct.pack("<I", value)) if isinstance(value, int) else (6, struct.pack("<f", value))


def base(**values: Any) -> dict[str, Any]:
    """The metadata of a base model of 128 tokens of context, without a template."""
    return {
        "general.architecture": "llama",
        "general.name": "tiny",
        "llama.context_length": 128,
        "tokenizer.ggml.tokens": ["x"] * 9,
        **values,
    }


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def with_dummy_space(path: Path, *, template: str = "", layers: int = 1) -> Path:
    """A SentencePiece model, of one layer, that wants BOS and a space before every text."""
    spelled = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *WORDS]
    kinds = [2, 3, 3, *[6] * 256, *[1] * (len(WORDS) - 1), 3]
    values = {
        **base(),
        "llama.embedding_length": 32,
        "llama.block_count": layers,
        "llama.feed_forward_length": 32,
        "llama.attention.head_count": 2,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": 16,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": spelled,
        "tokenizer.ggml.scores": [-float(i) for i in range(len(spelled))],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        **({"tokenizer.chat_template": template} if template else {}),
    }
    return write(path, header(values, _weights(len(spelled), layers)).replace(*_INT32_KINDS))


# llama.cpp insists on token types being signed; the writer knows one kind of integer.
_INT32_KINDS = (
    _string("tokenizer.ggml.token_type") + struct.pack("<II", 9, 4),
    _string("tokenizer.ggml.token_type") + struct.pack("<II", 9, 5),
)


def _weights(n_vocab: int, layers: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"token_embd.weight": (n_vocab, 32), "output.weight": (n_vocab, 32), "output_norm.weight": (32,)}
    for i in range(layers):
        parts = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
        shapes |= {f"blk.{i}.{part}.weight": (32, 32) for part in parts}
        shapes |= {f"blk.{i}.attn_norm.weight": (32,), f"blk.{i}.ffn_norm.weight": (32,)}
    return {name: rng.normal(0.0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
