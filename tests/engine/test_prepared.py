"""What a method prepares: made once for the same contents, read from the cache, made again where that is broken."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from septet.core.actor import Pool
from septet.core.method import Method
from septet.engine.prepared import prepared


@dataclass(frozen=True)
class Doubled:
    numbers: np.ndarray[Any, Any]
    word: str


class Counting(Method):
    name = "counting"
    prepared_type = Doubled

    def __init__(self, key: str) -> None:
        self.key, self.calls = key, 0

    def prepared_key(self, pool: Pool) -> str:
        return self.key

    def prepare(self, pool: Pool) -> Doubled:
        self.calls += 1
        return Doubled(np.array([2, 4, 6]), "even")


def test_it_is_made_once_for_one_key_and_read_after_that(tmp_path: Path) -> None:
    first, second = Counting("a"), Counting("a")
    prepared(first, Pool(()), tmp_path)
    found = prepared(second, Pool(()), tmp_path)
    assert (first.calls, second.calls) == (1, 0)
    assert (found.numbers.tolist(), found.word) == ([2, 4, 6], "even")


def test_another_key_is_another_thing_and_no_key_is_never_kept(tmp_path: Path) -> None:
    for key in ("a", "b", "", ""):
        method = Counting(key)
        prepared(method, Pool(()), tmp_path)
        assert method.calls == 1
    assert len(list(tmp_path.rglob("*.npz"))) == 2


def test_a_truncated_file_is_made_again(tmp_path: Path) -> None:
    prepared(Counting("a"), Pool(()), tmp_path)
    (file,) = tmp_path.rglob("*.npz")
    file.write_bytes(file.read_bytes()[:50])
    method = Counting("a")
    prepared(method, Pool(()), tmp_path)
    assert method.calls == 1
