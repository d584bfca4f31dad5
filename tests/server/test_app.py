"""What the official client gets from a house of toys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import openai
import pytest

from septet.backends.toy import Toy, ToyActor
from septet.core.errors import ConfigError
from septet.core.table import Table
from septet.core.types import Completion, Piece, Query
from septet.engine.config import parse
from septet.engine.house import House
from septet.server import serve as serve_until_stopped

from .serving import Serve, Served, served

TOYS = """
[store]
path = "traces.db"

[members]
a = { backend = "toy", price = { usd_per_mtok_in = 1.0, usd_per_mtok_out = 2.0 } }
b = { backend = "toy", fallback = "No idea at all." }
silent = { backend = "toy", lacks = ["logprobs"] }
stubborn = { backend = "toy", lacks = ["continues"] }
broken = { backend = "toy", fail = true }
dear = { backend = "toy", max_tokens = 10, price = { usd_per_mtok_out = 1e6 } }
slow = { backend = "toy", latency_seconds = 60 }

[ensembles.fused]
method = "unite"
members = ["a", "b"]

[ensembles.unfit]
method = "unite"
members = ["a", "stubborn"]

[ensembles.saving]
method = "unite"
members = ["dear"]
limits = { usd_per_request = 10.5 }

[ensembles.hurried]
method = "unite"
members = ["slow"]
limits = { seconds = 0.2 }

[ensembles.frugal]
method = "unite"
members = ["a"]
limits = { calls = 1 }
"""

SUM: Any = [{"role": "user", "content": "What is 2+3?"}]
WHO: Any = [{"role": "user", "content": "Who is it?"}]


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for the module: a request leaves nothing behind but its trace."""
    with served(TOYS, str(tmp_path_factory.mktemp("toys") / "septet.toml")) as server:
        yield server


@pytest.fixture
def client(toys: Served) -> Iterator[openai.OpenAI]:
    with toys.client() as client:
        yield client


def house_of(reply: Any) -> Any:
    return reply.model_extra["septet"]


def test_every_ensemble_and_member_is_a_model(client: openai.OpenAI) -> None:
    listed = client.models.list().data
    assert [m.id for m in listed] == [
        *("fused", "unfit", "saving", "hurried", "frugal"),
        *("a", "b", "silent", "stubborn", "broken", "dear", "slow"),
    ]
    assert house_of(listed[0]) == {"kind": "ensemble", "method": "unite", "members": ["a", "b"]}
    assert house_of(client.models.retrieve("a")) == {"kind": "member"}


@pytest.mark.parametrize("model", ["a", "fused"])
def test_a_chat_is_answered_whole_or_in_pieces_with_the_same_text(client: openai.OpenAI, model: str) -> None:
    whole = client.chat.completions.create(model=model, messages=WHO)
    chunks = list(client.chat.completions.create(model=model, messages=WHO, stream=True))
    assert whole.choices[0].message.content in ("I do not know.", "I am not sure.", "No idea at all.")
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert (deltas[0].role, deltas[0].content) == ("assistant", "")
    assert "".join(d.content or "" for d in deltas) == whole.choices[0].message.content
    assert len(chunks) > 3
    assert [c.choices[0].finish_reason for c in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert len({chunk.id for chunk in chunks}) == 1


def test_usage_is_the_sum_over_members_and_the_trace_has_the_same_sums(
    toys: Served, client: openai.OpenAI
) -> None:
    raw = client.chat.completions.with_raw_response.create(model="fused", messages=SUM)
    reply = raw.parse()
    house = house_of(reply)
    assert reply.usage is not None
    for field in ("prompt_tokens", "completion_tokens"):
        assert getattr(reply.usage, field) == sum(m[field] for m in house["members"].values())
    assert house["members"].keys() == {"a", "b"}
    assert house["usd"] == pytest.approx(house["members"]["a"]["usd"])
    assert raw.headers["x-septet-request"] == house["trace_id"]
    assert reply.id == f"chatcmpl-{house['trace_id']}"
    request, calls = toys.trace(house["trace_id"])
    assert (request["status"], request["answer"]) == ("done", "5")
    assert sum(call["usd"] for call in calls) == pytest.approx(house["usd"])


def test_a_stream_ends_with_usage_where_it_is_asked_for(client: openai.OpenAI) -> None:
    options: Any = {"include_usage": True}
    asked = client.chat.completions.create(model="fused", messages=SUM, stream=True, stream_options=options)
    *chunks, last = list(asked)
    assert all(chunk.usage is None for chunk in chunks)
    whole = client.chat.completions.create(model="fused", messages=SUM)
    assert last.choices == []
    assert last.usage == whole.usage
    assert house_of(last)["members"].keys() == {"a", "b"}


def test_several_answers_have_seeds_of_their_own_and_one_usage(toys: Served, client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="a", messages=WHO, n=3, seed=7, temperature=1.5)
    ids = [choice.model_extra["septet"]["trace_id"] for choice in reply.choices if choice.model_extra]
    seeds = [toys.trace(request)[0]["query"]["seed"] for request in ids]
    assert seeds == [7, crc32(b"7:answer:1"), crc32(b"7:answer:2")]
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert house_of(reply)["members"]["a"]["calls"] == 3
    again = client.chat.completions.create(model="a", messages=WHO, n=3, seed=7, temperature=1.5)
    assert [c.message.content for c in again.choices] == [c.message.content for c in reply.choices]


def test_a_stream_of_several_answers_opens_and_ends_each_of_them(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="a", messages=WHO, n=2, stream=True))
    choices = [chunk.choices[0] for chunk in chunks]
    for index in (0, 1):
        own = [choice for choice in choices if choice.index == index]
        assert own[0].delta.role == "assistant"
        assert "".join(choice.delta.content or "" for choice in own) == "I do not know."
        assert own[-1].finish_reason == "stop"


def test_stop_and_max_tokens_are_honoured(client: openai.OpenAI) -> None:
    stopped = client.chat.completions.create(model="a", messages=WHO, stop=" know")
    assert (stopped.choices[0].message.content, stopped.choices[0].finish_reason) == ("I do not", "stop")
    short = client.chat.completions.create(model="a", messages=WHO, max_completion_tokens=2)
    assert (short.choices[0].message.content, short.choices[0].finish_reason) == ("I do", "length")


@pytest.mark.parametrize("model", ["a", "fused"])
@pytest.mark.parametrize("stream", [False, True])
def test_log_probabilities_come_with_the_bytes_of_the_text(
    client: openai.OpenAI, model: str, stream: bool
) -> None:
    asked: dict[str, Any] = {"model": model, "messages": WHO, "logprobs": True, "top_logprobs": 3}
    if stream:
        choices = [c.choices[0] for c in client.chat.completions.create(**asked, stream=True)]
        text = "".join(choice.delta.content or "" for choice in choices)
    else:
        choices = client.chat.completions.create(**asked).choices
        text = choices[0].message.content
    tokens = [token for choice in choices if choice.logprobs for token in choice.logprobs.content or ()]
    assert b"".join(bytes(token.bytes or ()) for token in tokens).decode() == text
    assert all(token.logprob < 0 and len(token.top_logprobs) == 3 for token in tokens)


def test_a_bare_prompt_is_completed_whole_and_in_pieces(client: openai.OpenAI) -> None:
    whole = client.completions.create(model="fused", prompt="2+3", logprobs=1)
    assert (whole.object, whole.choices[0].text, whole.choices[0].finish_reason) == (
        "text_completion",
        "5",
        "stop",
    )
    assert whole.choices[0].logprobs is not None
    assert whole.choices[0].logprobs.tokens == ["5"]
    chunks = list(client.completions.create(model="fused", prompt="2+3", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == "5"
    assert chunks[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("asked", "status", "code", "param"),
    [
        ({"model": "fusd"}, 404, "model_not_found", "model"),
        ({"model": "unfit"}, 503, "model_unavailable", None),
        ({"model": "broken"}, 502, "member_failed", None),
        ({"model": "hurried"}, 504, "limit_seconds", None),
        ({"model": "saving", "max_tokens": 11}, 402, "limit_usd_per_request", None),
        ({"model": "frugal", "n": 2}, 400, "limit_calls", None),
        ({"model": "silent", "logprobs": True}, 400, None, "logprobs"),
        ({"model": "a", "tools": [{"type": "function", "function": {"name": "f"}}]}, 400, None, "tools"),
        ({"model": "a", "response_format": {"type": "json_object"}}, 400, None, "response_format"),
        ({"model": "a", "presence_penalty": 1}, 400, None, "presence_penalty"),
        ({"model": "a", "extra_body": {"colour": "red"}}, 400, None, "colour"),
        ({"model": "a", "extra_body": {"septet": {"prefer": "cheap"}}}, 400, None, "septet.prefer"),
    ],
)
def test_an_error_before_the_first_piece_has_its_status_and_all_four_keys(
    client: openai.OpenAI,
    asked: dict[str, Any],
    status: int,
    code: str | None,
    param: str | None,
    stream: bool,
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(messages=WHO, stream=stream, **asked)
    error = caught.value
    assert (error.status_code, error.code, error.param) == (status, code, param)
    body = error.response.json()["error"]
    assert set(body) == {"message", "type", "param", "code"}
    assert body["message"]
    assert error.response.headers["x-should-retry"] == "false"


def test_an_unfit_ensemble_says_every_problem_and_the_others_still_answer(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError, match="stubborn does not offer continues"):
        client.chat.completions.create(model="unfit", messages=SUM)
    assert client.chat.completions.create(model="fused", messages=SUM).choices[0].message.content == "5"


def test_several_answers_together_spend_no_more_than_one_request_may(client: openai.OpenAI) -> None:
    assert client.chat.completions.create(model="saving", messages=SUM).choices[0].message.content == "5"
    with pytest.raises(openai.APIStatusError, match="limit usd_per_request reached"):
        client.chat.completions.create(model="saving", messages=SUM, n=2)


def test_a_refused_request_leaves_no_trace_and_a_failed_one_does(toys: Served, client: openai.OpenAI) -> None:
    before = toys.house.store.recent(1000)
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="frugal", messages=SUM, n=2)
    assert toys.house.store.recent(1000) == before
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="broken", messages=SUM)
    request = toys.house.store.recent(1)[0]
    assert request["status"] == "failed"
    assert caught.value.response.headers["x-septet-request"] == request["id"]
    assert caught.value.response.json()["septet"]["request"] == request["id"]


@pytest.mark.parametrize("stream", [False, True])
def test_tools_go_to_the_one_member_that_answers_and_its_calls_come_back(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    tool: Any = {"type": "function", "function": {"name": "add"}}
    called = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
    seen: list[Query] = []
    offered = Toy.offered

    async def complete(self: ToyActor, query: Query, *, n: int = 1, logprobs: int = 0) -> list[Completion]:
        seen.append(query)
        return [Completion(member=self.name, text="", finish="tool_calls", extra={"tool_calls": [called]})]

    async def stream_(self: ToyActor, query: Query) -> AsyncIterator[Piece | Completion]:
        yield (await self.complete(query))[0]

    monkeypatch.setattr(Toy, "offered", lambda self: replace(offered(self), tools=True))
    monkeypatch.setattr(ToyActor, "complete", complete)
    monkeypatch.setattr(ToyActor, "stream", stream_)
    with serve('[members]\na = { backend = "toy" }').client() as client:
        if stream:
            chunks = list(client.chat.completions.create(model="a", messages=SUM, tools=[tool], stream=True))
            choice: Any = chunks[-1].choices[0]
            calls = choice.delta.tool_calls
            assert [call.index for call in calls] == [0]
        else:
            choice = client.chat.completions.create(model="a", messages=SUM, tools=[tool]).choices[0]
            calls = choice.message.tool_calls
            assert choice.message.content is None
    assert choice.finish_reason == "tool_calls"
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == [
        ("c1", "add", '{"a": 2}')
    ]
    assert [query.extra for query in seen] == [{"tools": [tool]}]


def test_with_a_key_only_its_holders_are_answered(serve: Serve) -> None:
    server = serve('[members]\na = { backend = "toy" }', key="sesame")
    with server.client("sesame") as client:
        assert client.chat.completions.create(model="a", messages=SUM).choices[0].message.content == "5"
    with server.client("sesam") as client, pytest.raises(openai.AuthenticationError) as caught:
        client.models.list()
    assert caught.value.code == "invalid_api_key"
    assert "sesam" not in caught.value.response.text


async def test_an_address_that_others_can_reach_is_refused_without_a_key() -> None:
    async with House(parse('[members]\na = { backend = "toy" }')) as house:
        with pytest.raises(ConfigError, match=r"serving on 0\.0\.0\.0 lets others ask"):
            await serve_until_stopped(house, host="0.0.0.0")


ONLINE = """
[store]
path = "traces.db"

[members]
a = { backend = "toy" }
b = { backend = "toy" }

[ensembles.elo]
method = "eagle"
members = ["a", "b"]
"""


def test_feedback_over_http_is_kept_and_learned_from(tmp_path: Path) -> None:
    rows = [{"query": "What is 1+1?", "model": m, "score": float(m == "a")} for m in ("a", "b")]
    with served(ONLINE, str(tmp_path / "septet.toml")) as server:
        asyncio.run(server.house["elo"].fit(Table.of(rows)))
        with server.client() as client:
            reply = client.chat.completions.create(model="elo", messages=SUM)

            def said(**body: Any) -> Any:
                return client.post("/feedback", body=body, cast_to=object)

            assert said(request=house_of(reply)["trace_id"], score=1) == {
                "object": "feedback",
                "model": "elo",
                "member": "a",
                "learned": True,
                "version": 2,
            }
            for version in range(3, 9):
                fight = said(model="elo", query="What is 2+3?", a="a", b="b", winner="b")
                assert (fight["member"], fight["version"]) == ("b", version)
            after = client.chat.completions.create(model="elo", messages=SUM)
        assert list(house_of(after)["members"]) == ["b"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"request": "nowhere", "score": 0.5}, "trace id"),
        ({"request": "nowhere", "score": 2}, "score"),
        ({"request": "nowhere"}, "score"),
        ({"request": "nowhere", "score": True}, "score"),
        ({"model": "fused", "query": "?", "a": "a", "b": "b", "winner": "c"}, "winner"),
        ({"model": "fused", "query": "?", "a": "a", "winner": "a"}, "b"),
        ([], "body"),
    ],
)
def test_bad_feedback_is_refused_by_field(client: openai.OpenAI, body: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError, match=param):
        client.post("/feedback", body=body, cast_to=object)
