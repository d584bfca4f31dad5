"""A stored request once more."""

from __future__ import annotations

from septet.cli.replay import compared
from septet.core.errors import NoCandidate
from septet.core.types import Answer, Verdict

from .conftest import Run

THEN = {
    "id": "01ab",
    "ensemble": "vote",
    "status": "done",
    "answer": "5",
    "error": "",
    "verdict": {"chosen": 1, "weights": [0.25, 0.75], "abstained": False, "reason": "three of four"},
}


def test_the_same_request_gives_the_same_decision_and_text(run: Run):
    id = run("ask", "--json", "--seed", "7", "--temperature", "1", "The capital of France?").json["trace_id"]
    ran = run("replay", id, "--json")
    assert (ran.json["same_decision"], ran.json["same_text"]) == (True, True)
    assert ran.json["then"]["trace_id"] == id != ran.json["now"]["trace_id"]


def test_a_seed_of_zero_is_replayed_as_zero(run: Run):
    sampled = ("-e", "ada", "--temperature", "1.5", "Tell me something.")
    id = run("ask", "--json", "--seed", "0", *sampled).json["trace_id"]
    assert run("trace", id, "--json").json["request"]["query"]["seed"] == 0


def test_from_the_trace_nothing_is_called(run: Run):
    id = run("ask", "-e", "ada", "--json", "The capital of France?").json["trace_id"]
    # a member that fails whenever it is called answers all the same
    ran = run("replay", id, "--from-trace", "--set", "members.ada.fail=true")
    assert ran.code == 0
    assert ran.out.startswith("the decision is the same\nthe text is the same\n")


def test_a_changed_member_gives_another_text_and_both_are_shown(run: Run):
    id = run("ask", "-e", "ada", "--json", "The capital of France?").json["trace_id"]
    ran = run("replay", id, "--set", "members.ada.answers.France=Lyon.")
    assert "the text is not the same" in ran.out
    assert "Paris it is." in ran.out
    assert "Lyon." in ran.out


def test_a_request_that_used_sessions_cannot_be_answered_from_the_trace(run: Run):
    id = run("ask", "--json", "What is 2+3?").json["trace_id"]
    ran = run("replay", id, "--from-trace")
    assert ran.code == 2
    assert "session by ada, session by bob" in ran.err


def test_a_failed_request_that_fails_again_is_the_same_decision(run: Run):
    id = run("ask", "-e", "dan", "--json", "hi").json["error"]["request"]
    ran = run("replay", id, "--json")
    assert (ran.code, ran.json["same_decision"]) == (0, True)
    assert "as its option 'fail' says" in ran.json["now"]["error"]


def test_weights_that_differ_only_by_rounding_are_the_same():
    import numpy as np

    near = Verdict(chosen=1, weights=np.array([0.25, 0.75 + 1e-9]))
    far = Verdict(chosen=1, weights=np.array([0.25, 0.76]))
    assert compared(THEN, Answer(text="5", verdict=near), [])["same_decision"] is True
    assert compared(THEN, Answer(text="5", verdict=far), [])["same_decision"] is False


def test_another_choice_is_another_decision_even_with_the_same_text():
    import numpy as np

    other = Verdict(chosen=0, weights=np.array([0.25, 0.75]))
    facts = compared(THEN, Answer(text="5", verdict=other), [])
    assert (facts["same_decision"], facts["same_text"]) == (False, True)


def test_an_answer_then_and_an_error_now_differ():
    facts = compared(THEN, NoCandidate("nobody answered"), ["ada, asked 'x'"])
    assert (facts["same_decision"], facts["missed"]) == (False, ["ada, asked 'x'"])
