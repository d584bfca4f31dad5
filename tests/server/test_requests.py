from __future__ import annotations

from typing import Any

import pytest

from septet.core.errors import BadParameter, UnknownName
from septet.core.types import Message
from septet.server.requests import ChatRequest, CompletionRequest, Wanted, checked

HELLO = [{"role": "user", "content": "Hello"}]


def chat(**fields: Any) -> Wanted:
    return checked(ChatRequest, {"model": "m", "messages": HELLO, **fields})


def test_a_plain_chat_asks_once_without_a_stream_and_leaves_sampling_to_the_house() -> None:
    wanted = chat()
    assert (wanted.n, wanted.top, wanted.stream, wanted.tools_for) == (1, None, False, "")
    query = wanted.query
    assert (query.temperature, query.top_p, query.seed, query.max_tokens, query.stop) == (None,) * 4 + ((),)


def test_text_parts_are_joined_and_developer_means_system() -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    turns = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}]
    assert chat(messages=turns).query.messages == (Message("system", "Be brief."), Message("user", "one two"))


def test_every_sampling_field_reaches_the_query() -> None:
    query = chat(temperature=1, top_p=0.5, seed=7, stop=["a", "b"], max_completion_tokens=9).query
    assert (query.temperature, query.top_p, query.seed, query.stop, query.max_tokens) == (
        1,
        0.5,
        7,
        ("a", "b"),
        9,
    )
    assert chat(stop="x").query.stop == ("x",)


def test_the_septet_object_sets_task_prefer_and_until() -> None:
    query = chat(septet={"task": "gsm8k", "prefer": 2.5, "until": ["\n"]}).query
    assert (query.task, query.prefer, query.until) == ("gsm8k", 2.5, ("\n",))


def test_a_negative_seed_becomes_a_seed_that_the_house_can_use() -> None:
    assert chat(seed=-1).query.seed == 2**63 - 1


def test_fields_about_accounts_and_neutral_options_change_nothing() -> None:
    accounts = {"user": "u", "metadata": {"a": "b"}, "store": True, "service_tier": "auto"}
    neutral = {"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "modalities": ["text"]}
    assert chat(**accounts, **neutral, reasoning_effort=None) == chat()


def test_a_null_is_a_field_that_was_not_given() -> None:
    assert chat(temperature=None, n=None, stop=None, tools=None, stream=None, logprobs=None) == chat()


def test_what_needs_tools_is_named_and_goes_into_extra() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    wanted = chat(tools=tools, tool_choice="auto")
    assert wanted.tools_for == "tools"
    assert wanted.query.extra == {"tools": tools, "tool_choice": "auto"}
    assert chat(response_format={"type": "text"}) == chat()
    assert chat(response_format={"type": "json_object"}).tools_for == "response_format"


def test_a_conversation_with_tool_calls_needs_a_model_with_tools() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
    ]
    wanted = chat(messages=turns)
    assert wanted.tools_for == "messages[1]"
    assert wanted.query.messages[1] == Message("assistant", "", {"tool_calls": [call]})
    assert wanted.query.messages[2] == Message("tool", "42", {"tool_call_id": "c1"})


def test_log_probabilities_without_alternatives_are_zero_alternatives() -> None:
    assert chat(logprobs=True).top == 0
    assert chat(logprobs=True, top_logprobs=20).top == 20
    assert chat(logprobs=False).top is None


def test_a_completion_takes_one_prompt_as_it_is() -> None:
    wanted = checked(CompletionRequest, {"model": "m", "prompt": ["1, 2,"], "max_tokens": 3, "logprobs": 2})
    assert (wanted.query.raw, wanted.query.max_tokens, wanted.top) == ("1, 2,", 3, 2)


@pytest.mark.parametrize(
    ("fields", "parameter"),
    [
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": ""}, "stop[0]"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens"),
        ({"seed": 1.5}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"logit_bias": {"50256": -100}}, "logit_bias"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"functions": []}, "functions"),
        ({"septet": {"prefer": -1}}, "septet.prefer"),
        ({"septet": {"urls": []}}, "septet.urls"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": "  "}]}, "messages"),
        ({"messages": [{"role": "wizard", "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
        ({"model": None}, "model"),
    ],
)
def test_what_breaks_a_rule_is_named(fields: dict[str, Any], parameter: str) -> None:
    with pytest.raises(BadParameter) as caught:
        chat(**fields)
    assert caught.value.parameter == parameter


def test_an_unknown_field_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(UnknownName, match="did you mean 'temperature'"):
        chat(temprature=1)


def test_a_missing_field_is_said_to_be_required() -> None:
    with pytest.raises(BadParameter, match="messages: is required"):
        checked(ChatRequest, {"model": "m"})
    with pytest.raises(BadParameter, match="must be a JSON object"):
        checked(ChatRequest, ["model"])


@pytest.mark.parametrize("prompt", [["a", "b"], [1, 2, 3], [], 5, " "])
def test_a_completion_of_anything_but_one_text_is_refused(prompt: Any) -> None:
    with pytest.raises(BadParameter) as caught:
        checked(CompletionRequest, {"model": "m", "prompt": prompt})
    assert caught.value.parameter == "prompt"
