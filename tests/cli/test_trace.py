"""The trace of a request on one screen."""

from __future__ import annotations

import doctest
from typing import Any

import septet.cli.trace as trace

from .conftest import Run

REQUEST = {
    "id": "01ab",
    "at": 0.0,
    "ensemble": "frugal",
    "method": "frugal-gpt",
    "status": "done",
    "query": {"messages": [{"role": "user", "content": "What is\n2+3?"}]},
    "answer": "5",
    "reason": "0.41 is below 0.60",
    "error": "",
    "notes": ["approximate: top 5 of ada"],
    "usage": {"prompt_tokens": 30, "completion_tokens": 3},
    "usd": 0.003,
    "seconds": 10.0,
}


def call(member: str, queued: float, started: float, finished: float, **more: Any) -> dict[str, Any]:
    plain = {
        "path": "frugal",
        "member": member,
        "do": "complete",
        "purpose": "candidate",
        "usage": {"prompt_tokens": 10, "completion_tokens": 1},
        "usd": 0.001,
        "queued": queued,
        "started": started,
        "finished": finished,
        "steps": {},
        "retries": [],
        "cached": 0,
        "error": "",
    }
    return {**plain, **more}


def test_the_examples_in_the_docstrings_hold():
    result = doctest.testmod(trace)
    assert result.attempted >= 1
    assert result.failed == 0


def test_the_screen_names_the_decision_and_every_call():
    calls = [
        call("ada", 0.0, 0.0, 2.5),
        call("bob", 2.5, 5.0, 10.0, path="frugal/vote", retries=["busy (waited 1 s)"]),
        call("cyd", 2.5, 2.5, 2.5, do="rate", purpose="rate", error="no reply", cached=1),
    ]
    assert trace.screen(REQUEST, calls) == [
        "01ab  frugal (frugal-gpt)  done  10.00 s  $0.0030  3 calls",
        "  asked: What is 2+3?",
        "  answer: 5",
        "  why: 0.41 is below 0.60",
        "  note: approximate: top 5 of ada",
        "  ada          2.50 s ██████                    10→1 tokens      $0.0010   complete (candidate)",
        "  vote/bob     7.50 s       ░░░░░░████████████  10→1 tokens      $0.0010   complete (candidate) "
        " queue 2.5 s  1 retries: busy (waited 1 s)  <- 75% of the wait",
        "  cyd          0.00 s       █                   10→1 tokens      $0.0010   rate"
        "  cached  error: no reply",
        "  sum of the calls: 30→3 tokens  $0.0030",
    ]


def test_a_request_whose_numbers_are_not_the_sums_is_shown_with_both():
    said = trace.screen(REQUEST, [call("ada", 0.0, 0.0, 2.5)])[-1]
    assert said == "  sum of the calls: 10→1 tokens  $0.0010  (the request says 30→3 tokens  $0.0030)"


def test_the_sums_of_a_real_request_agree_with_its_answer(run: Run):
    answer = run("ask", "--json", "What is 2+3?").json
    stored = run("trace", answer["trace_id"], "--json").json
    calls = stored["calls"]
    assert [c["member"] for c in calls] == ["ada", "bob"]
    for kind in ("prompt_tokens", "completion_tokens"):
        assert sum(c["usage"][kind] for c in calls) == answer["usage"][kind]
    assert sum(c["usd"] for c in calls) == answer["usd"] > 0


def test_without_an_id_the_latest_requests_are_listed_newest_first(run: Run):
    for question in ("What is 1+1?", "What is 2+2?", "What is 3+3?"):
        run("ask", "-e", "ada", question)
    rows = run("trace", "--limit", "2", "--json").json
    assert [r["answer"] for r in rows] == ["6", "4"]
    lines = run("trace").out.splitlines()
    assert len(lines) == 4
    assert "What is 3+3?" in lines[1]


def test_the_beginning_of_an_id_is_enough_and_an_unknown_one_is_refused(run: Run):
    id = run("ask", "--json", "What is 2+3?").json["trace_id"]
    assert run("trace", id[:20]).out.startswith(id)
    ran = run("trace", "zz")
    assert ran.code == 2
    assert ran.err.startswith("error: trace id: is not in the store")


def test_the_slowest_call_is_pointed_at_only_once():
    calls = [call("ada", 0.0, 0.0, 8.0), call("bob", 0.0, 0.0, 9.0)]
    pointed = [line for line in trace.screen(REQUEST, calls) if "of the wait" in line]
    assert len(pointed) == 1
    assert pointed[0].startswith("  bob")
