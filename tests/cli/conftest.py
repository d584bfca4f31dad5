"""A configuration of toys, and a way to run a verb in this process."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from septet.cli import main

CONFIG = """
[members.ada]
backend = "toy"
tokenizer = "words"
answers = { "France" = "Paris it is." }
price = { usd_per_mtok_in = 1.0, usd_per_mtok_out = 2.0 }

[members.bob]
backend = "toy"
tokenizer = "bytes"
answers = { "France" = "Paris it is." }

[members.dan]
backend = "toy"
fail = true

[members.mute]
backend = "toy"
lacks = ["topk", "full"]

[ensembles.fused]
method = "unite"
members = ["ada", "bob"]
k = 5
"""


@dataclass
class Ran:
    """What a verb left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which holds septet.toml."""
    (tmp_path / "septet.toml").write_text(CONFIG, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `septet ARGUMENTS…` in the folder, with `stdin` as its standard input."""

    def go(*arguments: str, stdin: bytes = b"") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        capsys.readouterr()
        code = main(list(arguments))
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    return go
