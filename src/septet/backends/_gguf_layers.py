"""The first layers of a GGUF model as a file of its own: a weaker member of the same vocabulary, made on the spot."""

from __future__ import annotations

import mmap
import os
import re
import struct
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from septet.backends._gguf import ARRAY, SCALARS, Header, _Reader
from septet.core.errors import BackendError

_BLOCK = re.compile(r"blk\.(\d+)\.")

_FORM = "1"
"""Of the files made here; raised when they would be made differently."""


def first_layers(header: Header, n_layers: int, folder: Path) -> Path:
    """A file with the first `n_layers` of the model's layers and all else that it has, kept in `folder`.

    It is named by the contents of the model's file. What stands in the file is copied as it is, which takes a
    second where reading and writing it through the gguf package takes half a minute. Raises a BackendError
    where the file cannot be written.
    """
    source = Path(header.path)
    target = folder / f"{_digest(source)}-{n_layers}.gguf"
    if target.exists():
        return target
    part = folder / f"{target.name}.{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            _write(header, n_layers, part)
            # Moved to its place when whole: neither an interrupted nor a second process leaves half a file.
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise BackendError(f"cannot write the first {n_layers} layers of {source}: {error}") from error
    return target


def _digest(file: Path) -> str:
    """The weights count too: a fine-tuned model often has the very header of its base."""
    found = blake2b(_FORM.encode(), digest_size=16)
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            found.update(chunk)
    return found.hexdigest()


@dataclass(frozen=True)
class _Tensor:
    """What a file says of one tensor: `head` is its name, shape and type, `at` where its data begins."""

    name: str
    head: bytes
    at: int


def _write(header: Header, n_layers: int, target: Path) -> None:
    with open(header.path, "rb") as source, mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as data:
        reader = _Reader(header.path, data)
        version, n_tensors, n_values = reader.scalar("I"), reader.scalar("Q"), reader.scalar("Q")
        values = [_value(reader, header, n_layers) for _ in range(n_values)]
        tensors = [_tensor(reader) for _ in range(n_tensors)]
        alignment = header.alignment
        base = -(-reader.at // alignment) * alignment
        begins = sorted(tensor.at for tensor in tensors)
        # Each tensor is padded up to where the next one begins.
        ends = dict(zip(begins, [*begins[1:], len(data) - base], strict=True))
        kept = [tensor for tensor in tensors if _is_kept(tensor.name, n_layers)]
        with target.open("wb") as file:
            file.write(b"GGUF" + struct.pack("<IQQ", version, len(kept), n_values) + b"".join(values))
            at = 0
            for tensor in kept:
                file.write(tensor.head + struct.pack("<Q", at))
                at += -(-(ends[tensor.at] - tensor.at) // alignment) * alignment
            for tensor in kept:
                file.write(bytes(-file.tell() % alignment))
                file.write(data[base + tensor.at : base + ends[tensor.at]])


def _value(reader: _Reader, header: Header, n_layers: int) -> bytes:
    """One value of the metadata as a model of fewer layers has it, with its name, ready to be written.

    Changed are the count of layers, and lists of the architecture that have one number for each layer.
    """
    start = reader.at
    name, kind = reader.string().decode(), reader.scalar("I")
    begin = reader.at
    value = reader.value(kind)
    end = reader.at
    if name == header.layer_count:
        code = SCALARS[kind]
        return reader.data[start:begin] + struct.pack("<" + code, n_layers)
    if kind == ARRAY and value == header.layers and name.startswith(f"{header.architecture}."):
        reader.at = begin
        inner, _ = reader.scalar("I"), reader.scalar("Q")
        first = reader.at
        reader.skip(inner, n_layers)
        entries = reader.data[first : reader.at]
        reader.at = end
        return reader.data[start:begin] + struct.pack("<IQ", inner, n_layers) + entries
    return reader.data[start:end]


def _tensor(reader: _Reader) -> _Tensor:
    start = reader.at
    name = reader.string().decode()
    n_dims = reader.scalar("I")
    reader.at += 8 * n_dims + 4  # the dimensions, and the type
    return _Tensor(name, reader.data[start : reader.at], reader.scalar("Q"))


def _is_kept(tensor: str, n_layers: int) -> bool:
    block = _BLOCK.match(tensor)
    return block is None or int(block[1]) < n_layers
