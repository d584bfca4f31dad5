from __future__ import annotations

import pytest

from septet.core.errors import (
    BackendError,
    BadParameter,
    ConfigError,
    LimitReached,
    MissingExtra,
    NoCandidate,
    NotFitted,
    RunError,
    UnfitPool,
    UnknownName,
)
from septet.core.types import Answer, Verdict
from septet.server.errors import Refusal, refusal_of


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (ConfigError("wrong"), 400, "invalid_request_error", None),
        (BadParameter("top_p", 3, "must be in [0, 1]"), 400, "invalid_request_error", None),
        (NotFitted("fast", "frugal-gpt"), 503, "server_error", "model_unavailable"),
        (UnfitPool("e", "unite", ["a lacks topk 10"]), 503, "server_error", "model_unavailable"),
        (MissingExtra("llama_cpp", "llamacpp"), 503, "server_error", "model_unavailable"),
        (BackendError("the prompt is too long", status=400), 400, "invalid_request_error", "member_refused"),
        (BackendError("slow down", status=429), 429, "rate_limit_error", "member_rate_limited"),
        (BackendError("wrong key", status=401), 502, "server_error", "member_failed"),
        (BackendError("no connection"), 502, "server_error", "member_failed"),
        (NoCandidate("every member failed"), 502, "server_error", "member_failed"),
        (RunError("it does not score"), 502, "server_error", "member_failed"),
        (LimitReached("seconds", 31, 30), 504, "timeout_error", "limit_seconds"),
        (LimitReached("usd_per_request", 3, 2), 402, "invalid_request_error", "limit_usd_per_request"),
        (LimitReached("calls (worst case)", 3, 2), 400, "invalid_request_error", "limit_calls"),
        (ZeroDivisionError("secret"), 500, "server_error", "internal_error"),
    ],
)
def test_each_error_has_its_status_type_and_code(
    error: Exception, status: int, kind: str, code: str | None
) -> None:
    refusal = refusal_of(error)
    assert (refusal.status, refusal.type, refusal.code) == (status, kind, code)
    assert set(refusal.body()["error"]) == {"message", "type", "param", "code"}
    assert refusal.headers["x-should-retry"] == "false"


def test_the_parameter_or_the_unknown_name_is_the_param() -> None:
    assert refusal_of(BadParameter("top_p", 3, "must be in [0, 1]")).param == "top_p"
    assert refusal_of(UnknownName("field", "temprature", ["temperature"])).param == "temprature"


def test_a_rate_limit_passes_on_how_long_to_wait_in_whole_seconds() -> None:
    refusal = refusal_of(BackendError("slow down", status=429, retry_after=2.2))
    assert refusal.headers["retry-after"] == "3"


def test_a_failed_run_says_which_request_it_was_and_what_had_been_answered() -> None:
    error = LimitReached("seconds", 31, 30)
    error.at(request="01ab")
    error.partial = Answer(text="The answer", verdict=Verdict())
    assert refusal_of(error).body()["septet"] == {"request": "01ab", "partial": "The answer"}


def test_an_unexpected_error_tells_the_caller_nothing_of_its_text() -> None:
    assert "secret" not in str(refusal_of(ZeroDivisionError("secret")).body())


def test_a_refusal_stays_what_it_is() -> None:
    refusal = Refusal(413, "too large")
    assert refusal_of(refusal) is refusal
