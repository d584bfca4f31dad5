"""Vocabularies from tokenizer files alone, without a model: tokenizer.json, tekken, tiktoken, SentencePiece.

What a model in this process brings itself is read in `_llama` and `_hf_vocabulary`; this is for tokenizers of
models that run elsewhere. END tokens are named by their spelling.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from septet.backends._hf_vocabulary import inside, pieces_of
from septet.core.backend import need
from septet.core.errors import ConfigError
from septet.parts.decoding.vocabulary import PackedVocab

_SPACE = "▁"
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")

_AS_IT_STANDS = b"\x1a\x04\x18\x00\x20\x00"
"""normalizer_spec { add_dummy_prefix: false  remove_extra_whitespaces: false } as protobuf. What stands behind a
message is merged into it, so a model that ends with this reads a text as it stands."""

_EOS = 2
"""The END token of tekken files that do not list their special tokens."""


def of_tokenizer_json(file: Path, ends: Sequence[str]) -> PackedVocab:
    """A fast tokenizer's description (`tokenizers`): byte-level BPE, or SentencePiece with byte fallback."""
    described = _json(file)
    added = {token["content"]: token["id"] for token in described.get("added_tokens") or ()}
    entries = described["model"]["vocab"]
    known = entries if isinstance(entries, Mapping) else {token: i for i, (token, _) in enumerate(entries)}
    size = 1 + max((*known.values(), *added.values()))
    pieces, end_ids = pieces_of(described, size), _named(ends, {**known, **added}, file)
    reading = need("tokenizers", extra="hf").Tokenizer.from_str(json.dumps(inside(described)))
    reading.encode_special_tokens = True
    return PackedVocab.of(
        pieces.of,
        end_ids=end_ids,
        masked_ids=pieces.hidden,
        normal=pieces.normal,
        tokenise=lambda text: list(reading.encode(text.decode(), add_special_tokens=False).ids),
    )


def of_tekken(file: Path) -> PackedVocab:
    """Mistral's tekken.json: special tokens first, then byte strings by rank; END is its "</s>"."""
    described = _json(file)
    config = described["config"]
    n_special = int(config["default_num_special_tokens"])
    n_text = int(config["default_vocab_size"]) - n_special
    ranks = {b64decode(entry["token_bytes"]): entry["rank"] for entry in described["vocab"][:n_text]}
    specials = {token["token_str"]: token["rank"] for token in described.get("special_tokens") or ()}
    return _of_ranks(ranks, config["pattern"], (specials.get("</s>", _EOS),), first=n_special)


def of_tiktoken(file: Path, pattern: str, specials: Mapping[str, int], ends: Sequence[str]) -> PackedVocab:
    """A file of "base64 rank" lines, as tiktoken and the first Qwen have it.

    `pattern` is the regular expression that splits a text into words, `specials` the control tokens, which the
    file does not hold.
    """
    try:
        lines = [line.split() for line in file.read_bytes().splitlines() if line]
        ranks = {b64decode(piece, validate=True): int(rank) for piece, rank in lines}
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the vocabulary {file}: {error}") from None
    return _of_ranks(ranks, pattern, _named(ends, specials, file), control=tuple(specials.values()))


def of_sentencepiece(file: Path) -> PackedVocab:
    """A SentencePiece model; a space that it would put before every text is not put before a continuation."""
    library = need("sentencepiece", extra="local")
    try:
        made = library.SentencePieceProcessor(model_proto=file.read_bytes() + _AS_IT_STANDS)
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"cannot read the vocabulary {file}: {error}") from None
    ids = range(made.get_piece_size())
    hidden = [i for i in ids if made.is_control(i) or made.is_unknown(i) or made.is_unused(i)]
    pieces = [_sentencepiece_bytes(made.id_to_piece(i), made.is_byte(i)) for i in ids]
    return PackedVocab.of(
        pieces,
        end_ids=[made.eos_id()] if made.eos_id() >= 0 else [],
        masked_ids=hidden,
        normal=np.array([not made.is_byte(i) for i in ids]),
        tokenise=lambda text: list(made.encode(text.decode())),
    )


def _sentencepiece_bytes(piece: str, single: bool) -> bytes:
    byte = _BYTE.fullmatch(piece) if single else None
    return bytes([int(byte[1], 16)]) if byte else piece.replace(_SPACE, " ").encode()


def _of_ranks(
    ranks: Mapping[bytes, int],
    pattern: str,
    end_ids: Sequence[int],
    *,
    first: int = 0,
    control: Sequence[int] = (),
) -> PackedVocab:
    """Byte strings by rank, from id `first` on; what no string has is masked, as are control tokens."""
    encoding = need("tiktoken", extra="local").Encoding(
        "septet", pat_str=pattern, mergeable_ranks=dict(ranks), special_tokens={}
    )
    size = 1 + max((first + max(ranks.values()), *end_ids, *control))
    pieces = [b""] * size
    for piece, rank in ranks.items():
        pieces[first + rank] = piece
    return PackedVocab.of(
        pieces,
        end_ids=end_ids,
        tokenise=lambda text: [first + rank for rank in encoding.encode_ordinary(text.decode())],
    )


def _named(ends: Sequence[str], known: Mapping[str, int], file: Path) -> tuple[int, ...]:
    absent = [name for name in ends if name not in known]
    if absent:
        raise ConfigError(f"the vocabulary {file} has no token {absent[0]!r}, which is to end an answer")
    return tuple(known[name] for name in ends)


def _json(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the vocabulary {file}: {error}") from None
    return found
