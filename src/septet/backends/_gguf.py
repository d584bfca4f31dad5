"""The header of a GGUF file, read without loading the model: what a member can know before the first call."""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from septet.core.errors import ConfigError

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""GGUF value types that have a fixed size, as struct codes; 8 is a string, 9 an array."""

_STRING, ARRAY = 8, 9
_ALIGNMENT, _ALIGNED_BY = 32, "general.alignment"
_TOKENIZER, _TEMPLATE = "tokenizer.", "tokenizer.chat_template"


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the tensors of a GGUF file.

    `values` holds the scalars and strings of the metadata; of an array it holds only the length (lists of
    262 144 tokens are walked over, not kept). `digest` is the SHA-256 of the whole header, so of the
    vocabulary too, and of nothing that would need the weights to be read. `tokenizer` is one of the values
    that describe the tokenizer, alike in all files that were made of one tokenizer by one program.
    """

    path: str
    values: Mapping[str, Any]
    digest: str
    tokenizer: str = ""

    @property
    def name(self) -> str:
        """What the file calls its model."""
        return str(self.values.get("general.name") or Path(self.path).stem)

    @property
    def template(self) -> str:
        """The chat template in Jinja, "" where the file has none."""
        return str(self.values.get(_TEMPLATE, ""))

    @property
    def context(self) -> int:
        """Tokens of prompt and answer together that the model was made for; 0: unknown."""
        return int(self.values.get(f"{self.architecture}.context_length", 0))

    @property
    def architecture(self) -> str:
        """What the file calls the kind of model, which is also how the names of its values begin."""
        return str(self.values.get("general.architecture", ""))

    @property
    def alignment(self) -> int:
        """Every tensor begins at a multiple of so many bytes."""
        return int(self.values.get(_ALIGNED_BY, _ALIGNMENT))

    @property
    def layer_count(self) -> str:
        """The name of the value that says how many layers there are."""
        return f"{self.architecture}.block_count"

    @property
    def layers(self) -> int:
        """How many layers the model has; 0: unknown."""
        return int(self.values.get(self.layer_count, 0))

    @property
    def vocabulary(self) -> int:
        """How many entries the vocabulary has."""
        return int(self.values.get("tokenizer.ggml.tokens", 0))


def read_header(path: Path) -> Header:
    """The header of a file; a ConfigError where the file is missing, no GGUF, or cut off.

    Read once per state of the file (path, size, time of change).
    """
    try:
        facts = os.stat(path)
    except OSError as error:
        raise ConfigError(f"cannot read the model file {path}: {error.strerror}") from None
    if path.is_dir():
        raise ConfigError(f"the model file {path} is a folder; name the GGUF file in it")
    return _read(str(path), facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=32)
def _read(path: str, size: int, changed: int) -> Header:
    try:
        with open(path, "rb") as file:
            if file.read(4) != b"GGUF":
                raise ConfigError(f"{path} is not a GGUF file: its first four bytes are not 'GGUF'")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Reader(path, data).header()
    except (struct.error, IndexError, UnicodeDecodeError, KeyError, OverflowError, RecursionError):
        raise ConfigError(f"{path} is a damaged GGUF file: its header ends early or makes no sense") from None
    except OSError as error:
        raise ConfigError(f"cannot read the model file {path}: {error.strerror}") from None


class _Reader:
    """A position in a mapped file. The format: github.com/ggml-org/ggml, docs/gguf.md."""

    def __init__(self, path: str, data: mmap.mmap) -> None:
        self.path, self.data, self.at = path, data, 4

    def header(self) -> Header:
        version = self.scalar("I")
        if version not in (2, 3):
            raise ConfigError(f"{self.path} has GGUF version {version}; versions 2 and 3 can be read")
        n_tensors, n_values = self.scalar("Q"), self.scalar("Q")
        values, described = {}, {}
        for _ in range(n_values):
            key, start = self.string().decode(), self.at
            values[key] = self.value(self.scalar("I"))
            if key.startswith(_TOKENIZER) and key != _TEMPLATE:
                described[key] = hashlib.sha256(self.data[start : self.at]).hexdigest()
        tokenizer = hashlib.sha256(repr(sorted(described.items())).encode()).hexdigest() if described else ""
        self.check_tensors(n_tensors, int(values.get(_ALIGNED_BY, _ALIGNMENT)))
        return Header(self.path, values, hashlib.sha256(self.data[: self.at]).hexdigest(), tokenizer)

    def check_tensors(self, n_tensors: int, alignment: int) -> None:
        """A copy that was interrupted still has a whole header: the last tensor must start inside the file."""
        last = 0
        for _ in range(n_tensors):
            self.string()
            n_dims = self.scalar("I")
            self.at += 8 * n_dims + 4
            last = max(last, self.scalar("Q"))
        start = -(-self.at // alignment) * alignment
        if n_tensors and start + last >= len(self.data):
            raise ConfigError(
                f"{self.path} is cut off: it has {len(self.data)} bytes and needs over {start + last}"
            )

    def scalar(self, code: str) -> Any:
        (value,) = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return value

    def string(self) -> bytes:
        length = self.scalar("Q")
        if self.at + length > len(self.data):
            raise IndexError(self.at)
        self.at += length
        return self.data[self.at - length : self.at]

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            # A value that is not UTF-8 (a licence text in another encoding) is no reason to refuse a model.
            return self.string().decode(errors="replace")
        if kind != ARRAY:
            return self.scalar(SCALARS[kind])
        inner, length = self.scalar("I"), self.scalar("Q")
        self.skip(inner, length)
        return length

    def skip(self, kind: int, length: int) -> None:
        """Walks over the entries of an array."""
        if kind == _STRING:
            unpack, data, at = struct.Struct("<Q").unpack_from, self.data, self.at
            for _ in range(length):
                at += 8 + unpack(data, at)[0]
            self.at = at
        elif kind == ARRAY:
            for _ in range(length):
                self.value(ARRAY)
        else:
            self.at += length * struct.calcsize("<" + SCALARS[kind])
