"""What the shared options stand for."""

from __future__ import annotations

from pathlib import Path

import pytest

from septet.cli._options import asked_name, given_text, open_house, store_path
from septet.core.errors import ConfigError


def test_the_only_ensemble_need_not_be_named(folder: Path):
    assert asked_name(open_house(Path("septet.toml"), []), "") == "fused"


def test_with_two_ensembles_the_choice_is_asked_for(folder: Path):
    second = "ensembles.two={ method = 'unite', members = ['ada'] }"
    with pytest.raises(ConfigError, match="say with -e which one to ask: fused, two, ada"):
        asked_name(open_house(Path("septet.toml"), [second]), "")


def test_bytes_of_an_argument_that_are_not_utf8_are_replaced():
    assert given_text("caf\udce9") == "caf�"


def test_the_store_is_the_files_own_where_one_is_given(folder: Path):
    (folder / "other.toml").write_text('[store]\npath = "here.db"\n', encoding="utf-8")
    assert store_path(Path("other.toml")) == str(folder / "here.db")


def test_without_a_file_the_store_of_the_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEPTET_STORE", "/somewhere/septet.db")
    assert store_path(None) == "/somewhere/septet.db"
