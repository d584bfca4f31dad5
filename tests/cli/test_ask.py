"""One question: the answer on stdout, how it came about on stderr."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Run


def test_the_answer_goes_to_stdout_and_the_summary_to_stderr(run: Run):
    ran = run("ask", "What is 2+3?")
    assert (ran.code, ran.out) == (0, "5\n")
    assert re.fullmatch(
        r"fused \(unite\) · 1 piece; support: ada 50%, bob 50% · \d+\.\d s · 37→2 tokens"
        r" · \$0\.000019 · trace [0-9a-f]{22}\n",
        ran.err,
    )


def test_json_holds_the_answer_with_pieces_verdict_and_trace_id(run: Run):
    ran = run("ask", "--json", "What is 2+3?")
    assert ran.err == ""
    assert ran.json["text"] == "5"
    assert ran.json["pieces"][0]["support"] == pytest.approx({"ada": 0.5, "bob": 0.5}, abs=1e-4)
    assert len(ran.json["trace_id"]) == 22


def test_a_member_can_be_asked_by_its_name(run: Run):
    ran = run("ask", "-e", "ada", "The capital of France?")
    assert ran.out == "Paris it is.\n"
    assert "answer of ada" in ran.err


def test_without_streaming_the_same_text_is_printed(run: Run):
    assert run("ask", "--no-stream", "The capital of France?").out == "Paris it is.\n"


def test_max_tokens_cuts_the_answer_off_and_the_summary_says_so(run: Run):
    ran = run("ask", "-e", "ada", "--max-tokens", "1", "The capital of France?")
    assert ran.out == "Paris\n"
    assert "cut off at max_tokens" in ran.err


def test_a_stop_string_ends_the_answer_before_it(run: Run):
    assert run("ask", "-e", "ada", "--stop", " it", "The capital of France?").out == "Paris\n"


def test_set_changes_the_file(run: Run):
    ran = run("ask", "-e", "ada", "--set", "members.ada.answers.France=Lyon.", "The capital of France?")
    assert ran.out == "Lyon.\n"


@pytest.mark.parametrize(
    "question",
    [
        b"a\0b, what is 2+3?",
        b"What is\r\n2+3?\r\n",
        "😀 日本 What is 2+3?".encode(),
        b"\xff\xfe What is 2+3?",
    ],
)
def test_awkward_text_from_stdin_is_answered(run: Run, question: bytes):
    assert run("ask", "-", stdin=question).out == "5\n"


def test_a_question_of_200_kb_is_answered_where_it_fits(run: Run):
    long = b"What is 2+3? " + b"word " * 40_000
    ran = run("ask", "-e", "ada", "-", "--set", "members.ada.context=0", stdin=long)
    assert (ran.code, ran.out) == (0, "5\n")


def test_a_question_beyond_the_context_ends_with_exit_code_3(run: Run):
    ran = run("ask", "-e", "ada", "-", stdin=b"word " * 40_000)
    assert ran.code == 3
    assert ran.err.startswith("error: ada: the prompt has ")


@pytest.mark.parametrize("arguments", [("",), ("  \n",), ("-",)])
def test_an_empty_question_is_refused_with_exit_code_2(run: Run, arguments: tuple[str, ...]):
    ran = run("ask", *arguments)
    assert ran.code == 2
    assert ran.err.startswith("error: question: must not be empty")


def test_a_failing_member_ends_with_exit_code_3_and_names_it(run: Run):
    ran = run("ask", "-e", "dan", "--json", "hi")
    assert ran.code == 3
    assert ran.json["error"]["member"] == "dan"
    assert run("trace", ran.json["error"]["request"]).code == 0


def test_a_reached_limit_ends_with_exit_code_4(run: Run):
    slow = ("--set", "members.ada.latency_seconds=60.0", "--set", "limits.seconds=0.1")
    ran = run("ask", "-e", "ada", "--json", *slow, "What is 2+3?")
    assert ran.code == 4
    assert (ran.json["error"]["type"], ran.json["error"]["limit"]) == ("LimitReached", "seconds")


def test_a_pool_that_does_not_fit_lists_every_problem(run: Run):
    ran = run("ask", "--set", 'ensembles.fused.members=["mute"]', "hi")
    assert ran.code == 2
    assert ran.err.startswith(
        "error: unite does not fit the members of 'fused':\n  - mute does not offer topk 5"
    )


def test_an_unknown_ensemble_names_the_nearest(run: Run):
    assert "did you mean 'fused' or" in run("ask", "-e", "fuse", "hi").err


def test_a_missing_file_is_said(run: Run):
    ran = run("ask", "-c", "no.toml", "hi")
    assert (ran.code, ran.err) == (
        2,
        "error: cannot read the configuration no.toml: No such file or directory\n",
    )


def test_ctrl_c_ends_with_130_and_the_trace_keeps_what_was_done(run: Run, folder: Path):
    command = [sys.executable, "-c", "from septet.cli import main; raise SystemExit(main())"]
    arguments = ["ask", "-e", "slow", "--set", "members.slow={backend='toy', latency_seconds=60.0}", "hi"]
    asking = subprocess.Popen(
        [*command, *arguments], cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    wait_for_a_running_request(run)
    os.kill(asking.pid, signal.SIGINT)
    _, said = asking.communicate(timeout=30)
    assert asking.returncode == 130
    found = re.fullmatch(r"error: interrupted; what was done is kept: septet trace ([0-9a-f]{22})\n", said)
    assert found is not None, said
    kept = run("trace", found[1], "--json").json
    assert kept["request"]["status"] == "cancelled"
    assert [(c["member"], c["error"]) for c in kept["calls"]] == [("slow", "cancelled")]


def wait_for_a_running_request(run: Run) -> None:
    import time

    for _ in range(200):
        if any(row["status"] == "running" for row in run("trace", "--json").json):
            return
        time.sleep(0.05)
    raise AssertionError("the request did not begin")
