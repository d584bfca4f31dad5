from __future__ import annotations

import math

import numpy as np
import pytest

from septet.core.money import Usage
from septet.core.trace import CallEvent
from septet.core.types import Answer, Tokens, Verdict
from septet.server.asking import Ledger
from septet.server.replies import Chat, Reply, Text

TOKENS = Tokens(
    (b"\xc3", b"\xa9", b" au"),
    np.array([-0.5, -0.25, -1.0]),
    (
        ((b"\xc3", -0.5), (b"e", -math.inf)),
        ((b"\xa9", -0.25),),
        ((b" au", -1.0), (b" la", -2.0)),
    ),
)


class Nowhere:
    def call(self, event: CallEvent) -> None:
        pass


def answer(text: str = "é au", **fields: object) -> Answer:
    known = {
        "verdict": Verdict(reason="because"),
        "usage": Usage(10, 3, 2),
        "trace_id": "01",
        "ensemble": "e",
    }
    return Answer(text=text, **{**known, **fields})  # type: ignore[arg-type]


def reply(form: Chat | Text, *, top: int | None = None, usage: bool = False) -> Reply:
    return Reply(form=form, id="x-01", created=5, model="e", top=top, include_usage=usage)


def ledger(*events: tuple[str, Usage, float]) -> Ledger:
    kept = Ledger(Nowhere())
    for i, (member, usage, usd) in enumerate(events):
        kept.call(
            CallEvent(
                request="01", step=i, path="e", member=member, do="complete", purpose="", usage=usage, usd=usd
            )
        )
    return kept


def test_a_whole_chat_answer_has_every_key_that_the_format_requires() -> None:
    body = reply(Chat()).whole([answer()], [ledger()])
    assert (body["id"], body["object"], body["created"], body["model"]) == ("x-01", "chat.completion", 5, "e")
    (choice,) = body["choices"]
    assert choice["message"] == {"role": "assistant", "content": "é au", "refusal": None}
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "stop", None)


@pytest.mark.parametrize(
    ("finish", "reason"),
    [("stop", "stop"), ("until", "stop"), ("length", "length"), ("tool_calls", "tool_calls")],
)
def test_how_an_answer_ended_is_said_in_the_formats_words(finish: str, reason: str) -> None:
    body = reply(Chat()).whole([answer(finish=finish)], [ledger()])
    assert body["choices"][0]["finish_reason"] == reason


def test_usage_is_the_sum_over_answers_and_the_house_object_says_who_used_it() -> None:
    events = [("a", Usage(4, 1), 0.25), ("b", Usage(6, 2), 0.5), ("a", Usage(10, 3), 1.0)]
    body = reply(Chat()).whole([answer(usd=0.75), answer(usd=1.0)], [ledger(*events[:2]), ledger(events[2])])
    assert body["usage"] == {
        "prompt_tokens": 20,
        "completion_tokens": 6,
        "total_tokens": 26,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    assert body["septet"]["usd"] == 1.75
    assert body["septet"]["members"] == {
        "a": {"calls": 2, "prompt_tokens": 14, "completion_tokens": 4, "usd": 1.25},
        "b": {"calls": 1, "prompt_tokens": 6, "completion_tokens": 2, "usd": 0.5},
    }
    assert (body["septet"]["trace_id"], body["septet"]["reason"]) == ("01", "because")


def test_log_probabilities_carry_the_exact_bytes_of_each_token() -> None:
    body = reply(Chat(), top=2).whole([answer(tokens=TOKENS)], [ledger()])
    first, second, third = body["choices"][0]["logprobs"]["content"]
    assert (first["token"], first["bytes"], first["logprob"]) == ("\ufffd", [0xC3], -0.5)
    assert first["top_logprobs"][1] == {"token": "e", "logprob": -9999.0, "bytes": [101]}
    assert bytes(first["bytes"] + second["bytes"] + third["bytes"]).decode() == "é au"


def test_at_most_as_many_alternatives_are_shown_as_were_asked_for() -> None:
    body = reply(Chat(), top=1).whole([answer(tokens=TOKENS)], [ledger()])
    assert [len(row["top_logprobs"]) for row in body["choices"][0]["logprobs"]["content"]] == [1, 1, 1]


def test_tokens_that_a_stop_string_cut_off_are_not_shown() -> None:
    body = reply(Chat(), top=0).whole([answer(text="é", tokens=TOKENS)], [ledger()])
    assert [row["bytes"] for row in body["choices"][0]["logprobs"]["content"]] == [[0xC3], [0xA9]]


def test_a_completions_log_probabilities_are_parallel_lists_with_character_offsets() -> None:
    tokens = Tokens((b"one", b" two"), np.array([-0.5, -1.0]), (((b"one", -0.5),), ((b" two", -1.0),)))
    body = reply(Text(), top=1).whole([answer(text="one two", tokens=tokens)], [ledger()])
    assert body["choices"][0]["logprobs"] == {
        "tokens": ["one", " two"],
        "token_logprobs": [-0.5, -1.0],
        "top_logprobs": [{"one": -0.5}, {" two": -1.0}],
        "text_offset": [0, 3],
    }


def test_tool_calls_replace_the_content_and_are_numbered_in_a_stream() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    done = answer(text="", finish="tool_calls", extra={"tool_calls": [call]})
    message = reply(Chat()).whole([done], [ledger()])["choices"][0]["message"]
    assert (message["content"], message["tool_calls"]) == (None, [call])
    ending = reply(Chat()).ending(0, done)["choices"][0]
    assert ending["delta"] == {"tool_calls": [{"index": 0, **call}]}
    assert ending["finish_reason"] == "tool_calls"


def test_a_chat_stream_opens_with_the_role_and_a_completion_stream_does_not() -> None:
    opening = reply(Chat()).opening(1)
    assert opening is not None
    assert opening["choices"] == [
        {
            "index": 1,
            "finish_reason": None,
            "delta": {"role": "assistant", "content": ""},
            "logprobs": None,
        }
    ]
    assert reply(Text()).opening(0) is None


def test_where_usage_is_asked_for_each_chunk_has_it_as_null_and_the_last_one_has_it() -> None:
    asked = reply(Chat(), usage=True)
    assert asked.piece(0, "a")["usage"] is None
    closing = asked.closing([answer()], [ledger()])
    assert closing is not None
    assert (closing["choices"], closing["usage"]["total_tokens"]) == ([], 13)
    assert "usage" not in reply(Chat()).piece(0, "a")
    assert reply(Chat()).closing([answer()], [ledger()]) is None
