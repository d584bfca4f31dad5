"""The embeddings in a GGUF file: plain, quantised, tied, apart, and damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_gguf import base, header, with_dummy_space, write

from septet.backends import _gguf_matrices
from septet.backends._gguf import read_header
from septet.backends._gguf_matrices import matrix
from septet.backends.llamacpp import Llamacpp
from septet.core.backend import MemberSpec, Place
from septet.core.errors import BackendError
from septet.core.prompt import BUILT_IN

gguf: Any = pytest.importorskip("gguf", reason="the llamacpp extra is not installed")

ROWS = np.arange(9 * 32, dtype=np.float32).reshape(9, 32)  # `base` has nine tokens


def file_of(folder: Path, **tensors: np.ndarray) -> Path:
    named = {f"{name}.weight": array for name, array in tensors.items()}
    return write(folder / "tiny.gguf", header(base(), named))


def quantised(folder: Path, kind: Any, rows: np.ndarray) -> Path:
    """A file whose input embeddings are of this type, written by the `gguf` package."""
    path = folder / "quantised.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_token_list(["x"] * len(rows))
    writer.add_tensor("token_embd.weight", gguf.quants.quantize(rows, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_file_without_an_output_matrix_ties_it_to_the_input(tmp_path: Path) -> None:
    found = read_header(file_of(tmp_path, output_norm=np.ones(32, np.float32), token_embd=ROWS))
    np.testing.assert_array_equal(matrix(found, "input"), ROWS)
    np.testing.assert_array_equal(matrix(found, "output"), ROWS)


def test_an_output_matrix_of_its_own_is_shown_as_such(tmp_path: Path) -> None:
    found = read_header(file_of(tmp_path, token_embd=ROWS, output=-ROWS))
    np.testing.assert_array_equal(matrix(found, "input"), ROWS)
    np.testing.assert_array_equal(matrix(found, "output"), -ROWS)


@pytest.mark.parametrize("rows_at_a_time", [4, 4096])
def test_rows_are_dequantised_block_by_block(
    tmp_path: Path, rows_at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_gguf_matrices, "ROWS", rows_at_a_time)
    # Q8_0: 32 numbers as whole multiples of (the largest / 127), here 1 and 2
    rows = np.stack([np.arange(-127, 129, 8, dtype=np.float32)] * 9)
    rows[:, 0], rows[4] = 127.0, 2 * rows[4]
    rows[4, 0] = 254.0
    found = matrix(read_header(quantised(tmp_path, gguf.GGMLQuantizationType.Q8_0, rows)), "input")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, rows)


def test_half_precision_is_read_too(tmp_path: Path) -> None:
    rows = ROWS / 4
    found = matrix(read_header(quantised(tmp_path, gguf.GGMLQuantizationType.F16, rows)), "output")
    np.testing.assert_array_equal(found, rows)


def test_the_array_belongs_to_the_caller(tmp_path: Path) -> None:
    found = read_header(file_of(tmp_path, token_embd=ROWS))
    matrix(found, "input")[:] = 0
    np.testing.assert_array_equal(matrix(found, "input"), ROWS)


def test_rows_beyond_the_vocabulary_are_left_out_and_too_few_are_an_error(tmp_path: Path) -> None:
    more = np.concatenate([ROWS, ROWS])
    assert matrix(read_header(file_of(tmp_path, token_embd=more)), "input").shape == (9, 32)
    with pytest.raises(BackendError, match="has 8 rows for 9 tokens"):
        matrix(read_header(file_of(tmp_path, token_embd=ROWS[:8])), "input")


def test_a_file_without_embeddings_is_an_error(tmp_path: Path) -> None:
    found = read_header(file_of(tmp_path, output_norm=np.ones(32, np.float32)))
    with pytest.raises(BackendError, match=r"has no tensor token_embd\.weight"):
        matrix(found, "input")


def test_a_type_that_is_not_known_is_an_error(tmp_path: Path) -> None:
    path = file_of(tmp_path, token_embd=ROWS)
    written = path.read_bytes()
    name = b"token_embd.weight"
    kind = written.index(name) + len(name) + 4 + 2 * 8  # after the name: two dimensions, then the type
    write(path, written[:kind] + (99).to_bytes(4, "little") + written[kind + 4 :])
    with pytest.raises(BackendError, match="GGML type 99"):
        matrix(read_header(path), "input")


async def test_a_member_of_llama_cpp_offers_its_matrices(tmp_path: Path) -> None:
    with_dummy_space(tmp_path / "tiny.gguf")
    endpoint = Llamacpp(path="tiny.gguf").connect(Place(str(tmp_path), {}))
    member = endpoint.member(MemberSpec(name="tiny", prompt=BUILT_IN["qa"]))
    assert member.caps.matrices
    given, out = member.matrix("input"), member.matrix("output")
    assert given.shape == out.shape == (endpoint.caps().topk, 32)
    assert not np.array_equal(given, out)  # the tiny model's are apart
    await member.aclose()
