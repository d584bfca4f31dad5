"""A conversation through a pipe."""

from __future__ import annotations

import json

from .conftest import Run


def test_every_line_is_a_turn_and_exit_ends_it(run: Run):
    ran = run("chat", stdin=b"What is 2+3?\n\nWhat is 4+4?\n/exit\nWhat is 1+1?\n")
    assert (ran.code, ran.out) == (0, "5\n8\n")


def test_the_end_of_the_input_ends_it(run: Run):
    assert run("chat", stdin=b"What is 2+3?").out == "5\n"


def test_the_members_see_the_whole_transcript(run: Run):
    run("chat", "-e", "ada", "--system", "Be brief.", stdin=b"What is 2+3?\nWhat is 4+4?\n")
    latest = run("trace", "--json").json[0]
    said = [(m["role"], m["content"]) for m in latest["query"]["messages"]]
    assert said == [
        ("system", "Be brief."),
        ("user", "What is 2+3?"),
        ("assistant", "5"),
        ("user", "What is 4+4?"),
    ]


def test_trace_shows_the_calls_of_the_last_answer(run: Run):
    ran = run("chat", stdin=b"/trace\nWhat is 2+3?\n/trace\n")
    assert ran.err.startswith("nothing has been asked yet\n")
    assert "fused (unite)  done" in ran.out
    assert "2 calls" in ran.out


def test_a_line_with_an_unknown_command_is_not_sent(run: Run):
    ran = run("chat", stdin=b"/quit\n")
    assert ran.out == ""
    assert ran.err.startswith("/quit is no command; /exit ends")


def test_json_prints_one_answer_per_line(run: Run):
    ran = run("chat", "--json", stdin=b"What is 2+3?\nWhat is 4+4?\n")
    assert [json.loads(line)["text"] for line in ran.out.splitlines()] == ["5", "8"]


def test_without_a_terminal_the_first_error_ends_it_with_its_code(run: Run):
    ran = run("chat", "-e", "dan", stdin=b"hi\nhi again\n")
    assert ran.code == 3
    assert ran.err.count("error:") == 1
