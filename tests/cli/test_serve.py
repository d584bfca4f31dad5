"""The door that is opened to others, or not."""

from __future__ import annotations

import doctest
import sys

import pytest

import septet.cli.serve as serve
from septet.core.errors import BadParameter, ConfigError

from .conftest import Run


def test_the_examples_in_the_docstrings_hold():
    result = doctest.testmod(serve)
    assert result.attempted >= 1
    assert result.failed == 0


@pytest.mark.parametrize(("key", "allow"), [("", False), ("k", False), ("", True)])
def test_a_remote_address_is_refused_without_both_the_word_and_the_key(key: str, allow: bool):
    with pytest.raises(BadParameter, match=r"--host: must be a loopback address.*'0\.0\.0\.0'"):
        serve.refuse_open_door("0.0.0.0", key, allow)


def test_a_remote_address_with_both_and_loopback_without_either_are_taken():
    serve.refuse_open_door("0.0.0.0", "k", True)
    serve.refuse_open_door("127.0.0.1", "", False)


def test_a_key_is_read_from_the_named_variable_only(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SEPTET_TEST_KEY", "secret")
    assert serve.key_of("SEPTET_TEST_KEY") == "secret"
    assert serve.key_of("") == ""
    with pytest.raises(ConfigError, match="SEPTET_TEST_NO_KEY"):
        serve.key_of("SEPTET_TEST_NO_KEY")


def test_an_ensemble_that_does_not_fit_is_refused_before_the_port_is_opened(run: Run):
    ran = run("serve", "--set", 'ensembles.fused.members=["mute"]')
    assert ran.code == 2
    assert "mute does not offer topk 5" in ran.err


def test_ctrl_c_ends_it_with_0_and_closes_the_house(run: Run, monkeypatch: pytest.MonkeyPatch):
    from septet import server

    async def interrupted(house: object, **where: object) -> None:
        assert where == {"host": "127.0.0.1", "port": 8123, "key": ""}
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "serve", interrupted)
    ran = run("serve", "--port", "8123")
    assert ran.code == 0
    assert ran.err == "serving fused, ada, bob, dan, mute on http://127.0.0.1:8123/v1\nstopped\n"


def test_without_the_extra_the_command_that_installs_it_is_said(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    ran = run("serve")
    assert ran.code == 2
    assert ran.err.endswith('install it with: pip install "septet[server]"\n')
