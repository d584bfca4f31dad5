"""The configuration: every mistake is found before anything runs, with its place and the near names."""

from __future__ import annotations

from pathlib import Path

import pytest

from septet.core.errors import BadParameter, ConfigError, UnknownName
from septet.engine.config import parse, read, schema

GOOD = """
[members]
ada = { backend = "toy", temperature = 0.5, price = { usd_per_mtok_out = 2.0 } }
bob = { like = "ada", prompt = "cot" }

[ensembles.fused]
method = "unite"
members = ["ada", "bob"]
k = 5

[limits]
seconds = 30
"""


def test_a_good_file_is_read_with_its_defaults() -> None:
    config = parse(GOOD)
    assert config.members["ada"].price is not None
    assert config.members["ada"].price.usd_per_mtok_out == 2.0
    assert config.members["bob"].like == "ada"
    fused = config.ensembles["fused"]
    assert (fused.method, fused.members, fused.parameters) == ("unite", ("ada", "bob"), {"k": 5})
    assert (fused.limits.seconds, fused.limits.depth) == (30.0, 4)


def test_settings_on_the_command_line_win_over_the_file() -> None:
    config = parse(GOOD, settings=["ensembles.fused.k=7", "members.ada.prompt=qa", "limits.seconds=2.5"])
    assert config.ensembles["fused"].parameters == {"k": 7}
    assert config.members["ada"].prompt == "qa"
    assert config.limits.seconds == 2.5


@pytest.mark.parametrize("setting", ["ensembles.fused.k", "=3", "a..b=1", "members.ada.backend.x=1"])
def test_a_setting_that_is_not_a_path_and_a_value_is_refused(setting: str) -> None:
    with pytest.raises(BadParameter):
        parse(GOOD, settings=[setting])


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("[member]\n", UnknownName, "did you mean 'members'"),
        ("members = 3\n", BadParameter, "must be a table"),
        ("[members]\na = 3\n", BadParameter, "must be a table"),
        ("[members]\na = {}\n", BadParameter, "either backend or like"),
        ("[members]\na = { like = 'b', path = 'x' }\n", UnknownName, "like another 'path'"),
        (
            "[members]\na = { backend = 'toy', temperature = 3 }\n",
            BadParameter,
            "must be in [0.0, 2.0], got 3",
        ),
        ("[members]\na = { backend = 'toy', max_tokens = true }\n", BadParameter, "max_tokens"),
        ("[members]\na = { backend = 'toy', price = { usd = 1 } }\n", UnknownName, "price"),
        ("[members]\na = { backend = 'toy', price = { usd_per_second = -1 } }\n", BadParameter, "≥ 0"),
        ("[ensembles.x]\nmembers = ['a']\n", BadParameter, "ensembles.x.method: is required"),
        ("[ensembles.x]\nmethod = 'm'\nmembers = 'a'\n", BadParameter, "must be a list of names"),
        ("[ensembles.x]\nmethod = 'm'\nmembers = []\ncommit = 'new'\n", BadParameter, "own, canonical"),
        ("[ensembles.x]\nmethod = 'm'\nmembers = []\nschedule = 'drafts'\n", BadParameter, "schedule"),
        ("[limits]\nsecond = 3\n", UnknownName, "did you mean 'seconds'"),
        ("[limits]\nseconds = 0\n", BadParameter, "limits.seconds: must be > 0 and ≤ 86400"),
        ("[prompts.p]\nkinds = 'chat'\n", UnknownName, "did you mean 'kind'"),
        ("[store]\npaths = 'x'\n", UnknownName, "did you mean 'path'"),
        ("a = \n", ConfigError, "not valid TOML"),
    ],
)
def test_a_mistake_is_named_with_its_rule(text: str, error: type[ConfigError], said: str) -> None:
    with pytest.raises(error) as caught:
        parse(text)
    assert said in str(caught.value)


def test_the_line_of_a_mistake_is_said() -> None:
    text = "[members]\nada = { backend = 'toy' }\n\n[limits]\ndepth = 2\nseconds = -1\n"
    with pytest.raises(BadParameter, match=r"limits\.seconds in septet\.toml, line 6"):
        parse(text)


def test_a_missing_file_and_one_that_is_not_text_are_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        read(tmp_path / "no.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read(tmp_path / "bytes.toml")


def test_the_store_is_where_the_environment_or_the_file_says() -> None:
    assert parse("", environment={"SEPTET_STORE": "/x/y.db"}).store == "/x/y.db"
    assert parse("", environment={"HOME": "/home/u"}).store == "/home/u/.local/state/septet/septet.db"
    assert parse("[store]\npath = 'a.db'", "/etc/s.toml", environment={}).store == "/etc/a.db"


def test_the_schema_knows_every_limit() -> None:
    assert "usd_per_request" in schema()["properties"]["limits"]["properties"]
