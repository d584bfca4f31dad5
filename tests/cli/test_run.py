"""Errors become one paragraph or one JSON object, and the exit code that the error carries."""

from __future__ import annotations

import json

import pytest

from septet.cli._run import report, run
from septet.core.errors import BackendError, LimitReached, UnfitPool
from septet.core.types import Answer, Verdict

from .conftest import Run


def test_a_wrong_option_is_said_without_a_traceback(run: Run):
    ran = run("ask", "--sample", "3", "hi")
    assert ran.code == 2
    assert ran.err.startswith("error: No such option: --sample")
    assert ran.err.endswith("Try: septet ask --help\n")


def test_a_wrong_option_with_json_is_one_object_on_stdout(run: Run):
    ran = run("ask", "--json", "--max-tokens", "many", "hi")
    assert ran.code == 2
    assert ran.err == ""
    assert ran.json["error"]["type"] == "BadParameter"


def test_the_json_of_an_error_carries_its_place(capsys: pytest.CaptureFixture[str]):
    report(BackendError("no reply", status=500).at(request="r1", member="ada"), as_json=True)
    said = json.loads(capsys.readouterr().out)["error"]
    assert said["message"] == "no reply [member ada, request r1]"
    assert (said["exit_code"], said["request"], said["member"], said["status"]) == (3, "r1", "ada", 500)
    assert "step" not in said


def test_the_json_of_a_reached_limit_carries_the_partial_answer(capsys: pytest.CaptureFixture[str]):
    error = LimitReached("seconds", 31.0, 30.0)
    error.partial = Answer(text="It is", verdict=Verdict(), finish="error")
    report(error, as_json=True)
    said = json.loads(capsys.readouterr().out)["error"]
    assert (said["limit"], said["used"], said["allowed"]) == ("seconds", 31.0, 30.0)
    assert said["partial"]["text"] == "It is"


def test_the_json_of_an_unfit_pool_lists_the_problems(capsys: pytest.CaptureFixture[str]):
    report(UnfitPool("fused", "unite", ["a lacks x", "b lacks y"]), as_json=True)
    assert json.loads(capsys.readouterr().out)["error"]["problems"] == ["a lacks x", "b lacks y"]


def test_a_bug_keeps_its_traceback(folder: object, monkeypatch: pytest.MonkeyPatch):
    import septet.cli.check as module

    def fails(*args: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(module, "open_house", fails)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        run("check", [])
