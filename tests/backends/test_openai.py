"""A generic server: what is sent, what comes back, and how an answer is streamed and cut."""

from __future__ import annotations

import math
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest
from upstream import CHAT, DONE, KEY, TEXT, USAGE, Upstream, chat, delta, events, says

from septet.backends.openai import Openai
from septet.core.actor import Actor
from septet.core.backend import Defaults, MemberSpec, Place
from septet.core.errors import BackendError, BadParameter, ConfigError
from septet.core.money import Usage
from septet.core.prompt import BUILT_IN, Prompt
from septet.core.types import Completion, Message, Piece, Query

Q = Query.of("What is 2+3?")


async def streamed(actor: Actor, query: Query) -> tuple[list[str], Completion]:
    items = [item async for item in actor.stream(query)]
    assert isinstance(items[-1], Completion) and all(isinstance(i, Piece) for i in items[:-1])
    return [i.text for i in items[:-1] if isinstance(i, Piece)], items[-1]


# --- what is sent ----------------------------------------------------------------------------------


async def test_the_query_goes_out_as_openai_writes_it() -> None:
    async with Upstream({CHAT: says(chat("5"))}) as up:
        it = up.member(prompt="cot", defaults=Defaults(max_tokens=99, seed=4, stop=("END",)))
        await it.complete(Q.but(temperature=0.5, stop=("\n",)))
        await it.aclose()
    said = up.body
    assert said["model"] == "m" and said["messages"][0]["content"].startswith("What is 2+3?\nThink step")
    assert (said["temperature"], said["top_p"], said["max_tokens"]) == (0.5, 1.0, 99)
    assert said["stop"] == ["\n", "END"]
    assert "n" not in said and "logprobs" not in said and "stream" not in said
    # a default seed is no request; servers that know no seeds refuse the field
    assert "seed" not in said
    assert up.seen[0].headers["Authorization"] == f"Bearer {KEY}"


async def test_a_seed_that_was_asked_for_is_sent() -> None:
    async with Upstream({CHAT: says(chat("5"))}) as up:
        it = up.member()
        await it.complete(Q.but(seed=11))
        await it.aclose()
    assert up.body["seed"] == 11


def test_only_openai_itself_gets_the_newer_name_of_the_token_limit() -> None:
    for url, name in (
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("https://east.openai.azure.com/openai/v1", "max_completion_tokens"),
        ("http://localhost:8000/v1", "max_tokens"),
    ):
        endpoint = Openai(base_url=url, model="m").connect(Place())
        assert endpoint.server.limit("/chat/completions") == name
        assert endpoint.server.limit("/completions") == "max_tokens"


async def test_a_plain_prompt_is_completed_as_text_and_continued() -> None:
    async with Upstream(
        {TEXT: says({"choices": [{"index": 0, "text": " Goethe", "finish_reason": "stop"}]})}
    ) as up:
        it = up.member(api="completions", prompt="qa")
        assert it.caps.continues and not it.caps.tools and it.caps.topk == 0
        found = await it.complete(Query.of("Who wrote Faust?", prefix=" It was"))
        await it.aclose()
    assert up.body["prompt"] == "Question: Who wrote Faust?\nAnswer: It was"
    assert found[0].text == " Goethe"
    assert found[0].extra["notes"] == ["the server stated no usage; only listed tokens are counted"]


async def test_a_raw_prompt_goes_to_the_completions_endpoint() -> None:
    async with Upstream({TEXT: says({"choices": [{"text": "!", "finish_reason": "length"}]})}) as up:
        it = up.member()
        found = await it.complete(Query(raw="Hello"))
        await it.aclose()
    assert up.body["prompt"] == "Hello" and found[0].finish == "length"


async def test_tools_pass_through_and_their_calls_come_back() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
    reply = chat("", finish="tool_calls")
    reply["choices"][0]["message"] = {"role": "assistant", "content": None, "tool_calls": [call]}
    tools = [{"type": "function", "function": {"name": "add"}}]
    async with Upstream({CHAT: says(reply)}) as up:
        it = up.member()
        turns = (Message("user", "2+3"), Message("assistant", "", {"tool_calls": [call]}))
        found = await it.complete(
            Query(messages=turns, extra={"tools": tools, "response_format": {"type": "text"}})
        )
        await it.aclose()
    assert up.body["tools"] == tools and up.body["response_format"] == {"type": "text"}
    assert up.body["messages"][1]["tool_calls"] == [call]
    assert (found[0].text, found[0].finish, found[0].extra["tool_calls"]) == ("", "tool_calls", [call])


@pytest.mark.parametrize("name", ["model", "stream", "n"])
async def test_extra_fields_cannot_replace_those_of_the_backend(name: str) -> None:
    async with Upstream({}) as up:
        with pytest.raises(BackendError, match=f"may not set {name}"):
            await up.member().complete(Q.but(extra={name: 1}))
        assert not up.seen


@pytest.mark.parametrize(
    ("call", "lacks"),
    [
        (lambda it: it.complete(Q.but(prefix="It is")), "continues"),
        (lambda it: it.complete(Q, logprobs=21), "21 alternatives"),
        (lambda it: it.open(Q), "topk"),
        (lambda it: it.score(Q, ["5"]), "score"),
        (lambda it: it.embed(["5"]), "embed"),
        (lambda it: it.rate(Q, ["5"]), "rate"),
        (lambda it: it.compare(Q, ["5"]), "compare"),
        (lambda it: it.run("5"), "run"),
    ],
)
async def test_what_a_generic_server_lacks_is_refused_without_a_call(call: Any, lacks: str) -> None:
    async with Upstream({}) as up:
        with pytest.raises(BackendError, match=f"it does not offer {lacks}"):
            await call(up.member())
        assert not up.seen


# --- what comes back -------------------------------------------------------------------------------


async def test_several_samples_share_the_usage_of_their_call() -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 8, "prompt_tokens_details": {"cached_tokens": 4}}
    async with Upstream({CHAT: says(chat("a", "b", "c", usage=usage))}) as up:
        it = up.member()
        found = await it.complete(Q, n=3)
        await it.aclose()
    assert up.body["n"] == 3
    assert [(c.text, c.sample) for c in found] == [("a", 0), ("b", 1), ("c", 2)]
    # 8 = 2 + 3 + 3; the first carries the 7 of the prompt, of which 4 were cached
    assert [c.usage for c in found] == [Usage(7, 2, 4, 5), Usage(0, 3, 0, 3), Usage(0, 3, 0, 3)]


async def test_a_server_that_ignores_n_is_asked_for_the_rest() -> None:
    async with Upstream({CHAT: [says(chat("a")), says(chat("b")), says(chat("c"))]}) as up:
        it = up.member()
        found = await it.complete(Q.but(seed=5), n=3)
        await it.aclose()
    assert sorted(c.text for c in found) == ["a", "b", "c"] and [c.sample for c in found] == [0, 1, 2]
    assert sorted(s.body["seed"] for s in up.seen) == [5, 6, 7]


async def test_log_probabilities_are_tokens_of_exact_bytes() -> None:
    def token(text: str, given: list[int] | None, logp: float | None) -> dict[str, Any]:
        return {"token": text, "bytes": given, "logprob": logp}

    content = [
        {**token("\\xf0\\x9f", [0xF0, 0x9F], -0.5), "top_logprobs": [token("x", None, -1.0)]},
        {**token("\\x98\\x80", [0x98, 0x80], -0.25), "top_logprobs": [token("y", [121], -9999.0)]},
        {**token("!", None, None), "top_logprobs": []},
    ]
    async with Upstream({CHAT: says(chat("😀!", logprobs={"content": content}))}) as up:
        it = up.member()
        found = (await it.complete(Q, logprobs=1))[0]
        await it.aclose()
    assert (up.body["logprobs"], up.body["top_logprobs"]) == (True, 1)
    assert found.tokens is not None
    assert found.tokens.texts == (b"\xf0\x9f", b"\x98\x80", b"!")
    np.testing.assert_array_equal(found.tokens.logp, [-0.5, -0.25, math.nan])
    assert found.tokens.top == (((b"x", -1.0),), ((b"y", -math.inf),), ())


async def test_the_older_format_of_log_probabilities_is_read_too() -> None:
    logprobs = {
        "tokens": [" a", "bytes:\\xc3", "bytes:\\xa9"],
        "token_logprobs": [-1, -2, -3],
        "top_logprobs": None,
    }
    reply = {"choices": [{"text": " aé", "logprobs": logprobs, "finish_reason": "length"}]}
    async with Upstream({TEXT: says(reply)}) as up:
        it = up.member(api="completions", prompt="qa")
        tokens = (await it.complete(Q, logprobs=2))[0].tokens
        await it.aclose()
    assert up.body["logprobs"] == 2 and "top_logprobs" not in up.body
    assert tokens is not None and tokens.texts == (b" a", b"\xc3", b"\xa9")


async def test_log_probabilities_that_do_not_come_are_an_error() -> None:
    async with Upstream({CHAT: says(chat("5", logprobs=None))}) as up:
        it = up.member()
        with pytest.raises(BackendError, match="gave no log-probabilities"):
            await it.complete(Q, logprobs=1)
        await it.aclose()


@pytest.mark.parametrize(
    ("said", "ours", "noted"),
    [
        ("length", "length", False),
        ("function_call", "tool_calls", False),
        ("content_filter", "stop", True),
        (None, "stop", True),
    ],
)
async def test_finish_reasons_are_mapped_and_unknown_ones_noted(
    said: str | None, ours: str, noted: bool
) -> None:
    async with Upstream({CHAT: says(chat("5", finish=said))}) as up:
        it = up.member()
        found = (await it.complete(Q))[0]
        await it.aclose()
    assert found.finish == ours and ("notes" in found.extra) == noted


async def test_null_content_is_an_empty_answer_and_a_refusal_is_kept() -> None:
    reply = chat("")
    reply["choices"][0]["message"] = {"content": None, "refusal": "I cannot", "reasoning_content": "Hm"}
    async with Upstream({CHAT: says(reply)}) as up:
        it = up.member()
        found = (await it.complete(Q))[0]
        await it.aclose()
    assert found.text == "" and found.extra == {"refusal": "I cannot", "reasoning": "Hm"}


async def test_odd_numbers_in_the_usage_count_as_nothing() -> None:
    usage = {"prompt_tokens": -3, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": "x"}}
    async with Upstream({CHAT: says(chat("5", usage=usage))}) as up:
        it = up.member()
        assert (await it.complete(Q))[0].usage == Usage(0, 4, 0, 4)
        await it.aclose()


async def test_a_lone_surrogate_becomes_a_replacement_character() -> None:
    async with Upstream({CHAT: says(chat("a\ud83d"))}) as up:
        it = up.member()
        assert (await it.complete(Q))[0].text == "a\ufffd"
        await it.aclose()


async def test_echo_scores_a_text_after_a_plain_prompt() -> None:
    # "Question: What is 2+3?\nAnswer:" has 30 characters, so " 15" stands at 30 to 33, and "!" was generated
    logprobs = {
        "tokens": ["Que", "…", " 1", "5", "!"],
        "text_offset": [0, 3, 30, 32, 33],
        "token_logprobs": [None, -9, -1, -2, -4],
    }
    reply = {"choices": [{"index": 0, "text": "…", "logprobs": logprobs, "finish_reason": "length"}]}
    async with Upstream({TEXT: says(reply)}) as up:
        it = up.member(api="completions", prompt="qa", echo=True)
        assert it.caps.score
        found = await it.score(Q, [" 15"])
        await it.aclose()
    assert up.body["prompt"] == ["Question: What is 2+3?\nAnswer: 15"] and up.body["echo"] is True
    assert found.value[0].texts == (b" 1", b"5") and found.value[0].logp.tolist() == [-1.0, -2.0]


# --- streams ---------------------------------------------------------------------------------------


async def test_a_stream_gives_pieces_and_one_completion() -> None:
    async with Upstream(
        {CHAT: events(delta(""), delta("Fi"), delta("ve"), delta(None, "stop"), USAGE, DONE)}
    ) as up:
        it = up.member()
        texts, end = await streamed(it, Q)
        await it.aclose()
    assert texts == ["Fi", "ve"] and (end.text, end.finish, end.usage) == ("Five", "stop", Usage(7, 2, 0, 9))
    assert up.body["stream"] is True and up.body["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("size", [1, 2, 3, 7])
async def test_a_stream_may_be_cut_into_any_bytes(size: int) -> None:
    text = (
        b": ping\r\n\r\n"
        + b'data:{"choices":[{"index":0,"delta":{"content":"\xc3\xa9\xf0\x9f\x98\x80"}}]}\r\n\r\n'
    )
    text += b'event: x\nid: 1\ndata: {"choices":\ndata: [{"index":0,"delta":{},"finish_reason":"length"}]}'
    text += b"\n\ndata: [DONE]"
    chunks = [text[i : i + size] for i in range(0, len(text), size)]
    async with Upstream({CHAT: events(*chunks)}) as up:
        it = up.member()
        texts, end = await streamed(it, Q)
        await it.aclose()
    assert texts == ["é😀"] and end.finish == "length"


async def test_a_stream_without_done_is_whole_once_it_has_a_finish() -> None:
    async with Upstream({CHAT: events(delta("5", "stop"), delta("late"))}) as up:
        it = up.member()
        texts, end = await streamed(it, Q)
        await it.aclose()
    assert texts == ["5"] and end.finish == "stop"


async def test_pieces_of_tool_calls_are_put_together() -> None:
    def call(index: int, **function: str) -> bytes:
        piece = {"index": index, "function": function, **({"id": f"c{index}"} if "name" in function else {})}
        return delta(None, tool_calls=None).replace(
            b'"delta": {}', b'"delta": ' + str({"tool_calls": [piece]}).replace("'", '"').encode()
        )

    chunks = [call(0, name="add"), call(1, name="sub"), call(0, arguments="[2,"), call(0, arguments="3]")]
    async with Upstream({CHAT: events(*chunks, delta(None, "tool_calls"), DONE)}) as up:
        it = up.member()
        texts, end = await streamed(it, Q)
        await it.aclose()
    assert texts == [] and end.finish == "tool_calls"
    assert [(c["id"], c["function"]) for c in end.extra["tool_calls"]] == [
        ("c0", {"name": "add", "arguments": "[2,3]"}),
        ("c1", {"name": "sub", "arguments": ""}),
    ]


async def test_until_cuts_the_stream_and_stays_in_the_text() -> None:
    async with Upstream({CHAT: events(delta("One."), delta("\nTw"), delta("o"), then="silent")}) as up:
        it = up.member()
        texts, end = await streamed(it, Q.but(until=(".\n",), stop=("END",)))
        await it.aclose()
    assert texts == ["One.", "\n"] and (end.text, end.finish) == ("One.\n", "until")
    assert up.body["stop"] == ["END"]


async def test_complete_with_until_reads_streams_where_the_server_does_not_name_the_stop() -> None:
    async with Upstream({CHAT: events(delta("One"), delta(". Two"), delta(None, "stop"), DONE)}) as up:
        it = up.member()
        found = await it.complete(Q.but(until=(".",), seed=1), n=2)
        await it.aclose()
    assert [(c.text, c.finish, c.sample) for c in found] == [("One.", "until", 0), ("One.", "until", 1)]
    assert sorted(s.body["seed"] for s in up.seen) == [1, 2]


async def test_a_stream_that_is_left_closes_its_connection() -> None:
    async with Upstream({CHAT: events(delta("a"), delta("b"), then="silent")}) as up:
        it = up.member()
        stream: Any = it.stream(Q)
        async with aclosing(stream):
            assert (await anext(stream)).text == "a"
        assert not it._server.http._session.connector._acquired  # type: ignore[attr-defined]
        await it.aclose()


# --- options ---------------------------------------------------------------------------------------


def test_a_key_that_is_not_set_is_an_error_before_any_call() -> None:
    with pytest.raises(ConfigError, match=r"environment variable THE_KEY .* is not set"):
        Openai(model="m", key_env="THE_KEY").connect(Place(environment={"OTHER": "x", "THE_KEY": " "}))


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://x/v1", "http://", "http://x/v1?key=1", "http://x:y/v1"]
)
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(BadParameter, match=r"base_url: must be an http"):
        Openai(base_url=url, model="m")


def test_a_password_in_the_url_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        Openai(base_url=f"https://me:{KEY}@host/v1", model="m")
    assert KEY not in str(caught.value)


def test_a_model_has_to_be_named_except_for_llama_server() -> None:
    with pytest.raises(BadParameter, match="must name the model"):
        Openai()
    Openai(flavour="llama-server")


def test_a_chat_template_does_not_fit_plain_prompts() -> None:
    record = Openai(model="m", api="completions")
    assert record.prompt(Place()) == "qa" and Openai(model="m").prompt(Place()) == "chat"
    with pytest.raises(BadParameter, match=r"members\.it\.prompt: must be a plain template"):
        record.connect(Place()).member(MemberSpec(name="it", prompt=Prompt()))


def test_the_endpoint_tells_the_gate_how_many_calls_it_takes() -> None:
    endpoint = Openai(model="m", concurrency=3).connect(Place())
    assert endpoint.concurrency == 3
    chatty = endpoint.member(MemberSpec(name="a", prompt=BUILT_IN["chat"]))
    assert chatty.caps == endpoint.caps() and chatty.vocab is None
