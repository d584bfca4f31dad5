"""The embedding matrices of a GGUF file, dequantised by blocks: what a model shows of its tokens."""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from septet.backends._gguf import Header, _Reader
from septet.core.backend import need
from septet.core.errors import BackendError

Matrix = NDArray[np.float32]

_INPUT, _OUTPUT = "token_embd.weight", "output.weight"

ROWS = 4096
"""Rows dequantised at a time: what `gguf` makes on the way is three to four times as large as they are."""


@dataclass(frozen=True, slots=True)
class _Tensor:
    """Where a tensor lies: `dims` the fastest first, `kind` its GGML type, `start` its first byte in the file."""

    dims: tuple[int, ...]
    kind: int
    start: int


def matrix(header: Header, side: Literal["input", "output"]) -> Matrix:
    """(V, d) float32 the embeddings of the tokens as they go in, or as they come out.

    A file without an output matrix ties it to the input. Each call reads the file anew and gives an array
    that belongs to the caller.
    """
    with open(header.path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        reader = _Tensors(header.path, data)
        reader.header()
        tensors = reader.tensors
        name = _OUTPUT if side == "output" and _OUTPUT in tensors else _INPUT
        if name not in tensors:
            raise BackendError(
                f"{header.path} has no tensor {name}, so the embeddings of its tokens are unknown"
            )
        return _dequantised(header, data, name, tensors[name])


@dataclass
class _Tensors(_Reader):
    """Reads a header, and notes where each tensor lies."""

    path: str
    data: mmap.mmap
    at: int = 4
    tensors: dict[str, _Tensor] = field(default_factory=dict)

    def check_tensors(self, n_tensors: int, alignment: int) -> None:
        """Notes the tensors; that the file is whole was checked when its header was first read."""
        found = {}
        for _ in range(n_tensors):
            name = self.string().decode(errors="replace")
            dims = tuple(self.scalar("Q") for _ in range(self.scalar("I")))
            found[name] = _Tensor(dims, self.scalar("I"), self.scalar("Q"))
        start = -(-self.at // alignment) * alignment
        self.tensors = {name: _Tensor(t.dims, t.kind, start + t.start) for name, t in found.items()}


def _dequantised(header: Header, data: mmap.mmap, name: str, tensor: _Tensor) -> Matrix:
    gguf = need("gguf", extra="llamacpp")
    width, n_rows = tensor.dims
    try:
        kind = gguf.GGMLQuantizationType(tensor.kind)
        per_block, n_bytes = gguf.GGML_QUANT_SIZES[kind]
        row_bytes = width // per_block * n_bytes
        # A copy, since an array on the map would keep the file open.
        packed = np.frombuffer(data[tensor.start : tensor.start + row_bytes * n_rows], dtype=np.uint8)
        packed = packed.reshape(n_rows, row_bytes)
        found = np.empty((n_rows, width), dtype=np.float32)
        for start in range(0, n_rows, ROWS):
            found[start : start + ROWS] = gguf.quants.dequantize(packed[start : start + ROWS], kind)
    except (ValueError, KeyError, NotImplementedError) as error:
        raise BackendError(
            f"{name} of {header.path} cannot be read (GGML type {tensor.kind}): {error}"
        ) from error
    if n_rows < header.vocabulary:
        raise BackendError(f"{name} of {header.path} has {n_rows} rows for {header.vocabulary} tokens")
    return found[: header.vocabulary]
