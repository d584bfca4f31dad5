"""vLLM, llama-server and Ollama as their documentation shows them, and how a server is asked what it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from upstream import CHAT, DONE, TEXT, Reply, Upstream, chat, delta, events, fixture, raw, says

from septet.backends._openai_flavours import FLAVOURS, offers
from septet.backends._openai_session import RemoteSession
from septet.core.backend import Defaults
from septet.core.caps import Caps
from septet.core.errors import BackendError
from septet.core.money import Usage
from septet.core.session import Next, Sampler, Session
from septet.core.types import Message, Query

Q = Query.of("What is 2+2?")
TURN = {"role": "user", "content": "What is 2+2?"}


def shown(session: Session, row: Next) -> list[tuple[bytes, float]]:
    return [(session.vocab.bytes_of(int(i)), float(x)) for i, x in zip(row.ids, row.logp, strict=True)]


# --- what each offers ------------------------------------------------------------------------------


def test_what_each_flavour_offers_is_one_table() -> None:
    every = Caps(text=True, samples=True, stream=True, logprobs=True, tools=True, context=9)
    expected = {
        "generic": every,
        "ollama": replace(every, seed=True),
        "llama-server": replace(every, seed=True, continues=True, topk=5, fork=True),
        "vllm": replace(every, seed=True, continues=True, topk=5, fork=True, score=True, prompt_scores=True),
    }
    found = {name: offers(f, plain=False, topk=5, context=9, echo=True) for name, f in FLAVOURS.items()}
    assert found == expected


def test_the_number_of_alternatives_is_the_flavours_unless_stated() -> None:
    def topk(**options: Any) -> int:
        up = Upstream({})
        up.url = "http://127.0.0.1:1/v1"
        return up.member(**options).caps.topk

    assert (topk(flavour="vllm"), topk(flavour="llama-server"), topk(flavour="ollama")) == (20, 100, 0)
    assert topk(flavour="vllm", topk=300) == 300


# --- asking a server what it is --------------------------------------------------------------------

PAGES: dict[str, tuple[str, Reply]] = {
    "ollama": ("/api/version", says({"version": "0.13"})),
    "llama-server": ("/props", says({"default_generation_settings": {"n_ctx": 4096}})),
    "vllm": ("/version", says({"version": "0.12"})),
    "generic": ("/version", raw(b"<html>hello</html>", "text/html")),
}


@pytest.mark.parametrize("name", PAGES)
async def test_a_probed_server_is_known_by_its_own_page_and_this_is_recorded(name: str) -> None:
    path, page = PAGES[name]
    async with Upstream({path: page, CHAT: says(chat("4"))}) as up:
        it = up.member(flavour="probe")
        before = it.caps
        found = [await it.complete(Q), await it.complete(Q)]
        assert [c[0].extra["flavour"] for c in found] == [name, name]
        # the pool was checked against what was offered before
        assert it.caps == before == up.member(flavour="generic").caps
        assert sum(s.path == "/api/version" for s in up.seen) == 1
        await it.aclose()


async def test_a_server_that_is_still_loading_is_asked_again_the_next_time() -> None:
    pages = [says({"error": {"message": "Loading model"}}, 503), says({"default_generation_settings": {}})]
    async with Upstream({"/props": pages, CHAT: says(chat("4"))}) as up:
        it = up.member(flavour="probe")
        with pytest.raises(BackendError, match="Loading model"):
            await it.complete(Q)
        assert (await it.complete(Q))[0].extra["flavour"] == "llama-server"
        await it.aclose()


# --- vLLM ------------------------------------------------------------------------------------------


async def test_vllm_continues_an_unfinished_turn() -> None:
    async with Upstream({CHAT: says(chat(" is four"))}) as up:
        it = up.member(flavour="vllm", defaults=Defaults(seed=3))
        found = await it.complete(Q.but(prefix="It"))
        await it.aclose()
    assert up.body["messages"] == [TURN, {"role": "assistant", "content": "It"}]
    assert (up.body["continue_final_message"], up.body["add_generation_prompt"]) == (True, False)
    assert up.body["seed"] == 3 and found[0].text == " is four"


async def test_vllm_names_the_stop_string_and_an_until_is_put_back() -> None:
    async with Upstream({CHAT: says(fixture("vllm_stopped.json"))}) as up:
        it = up.member(flavour="vllm")
        found = await it.complete(Q.but(until=(".\n",), stop=("END",)), n=2)
        await it.aclose()
    assert up.body["stop"] == ["END", ".\n"] and up.body["n"] == 2
    assert [(c.text, c.finish) for c in found] == [("First, add.\n", "until"), ("Second", "stop")]
    assert [c.usage for c in found] == [Usage(12, 4, 4, 12), Usage(0, 4, 0, 4)]


async def test_vllm_reports_the_next_token_with_its_end_by_spelling() -> None:
    async with Upstream({CHAT: says(fixture("vllm_chat.json"))}) as up:
        it = up.member(flavour="vllm")
        session = await it.open(Q)
        row = await session.next(4)
        # "�" is no bytes that anyone can know, so it is left out
        assert shown(session, row) == [(b" four", -0.25), (b"", -2.0), (b" 4", -4.0)]
        assert row.at == 0 and not row.full and it.vocab is session.vocab
        assert (row.logp_of(b" 4"), row.logp_of(b""), row.logp_of(b" 5")) == (-4.0, -2.0, None)
        assert up.body["messages"] == [TURN] and up.body["top_logprobs"] == 4
        assert (up.body["max_tokens"], up.body["temperature"]) == (1, 0.0)
        assert session.meter.usage == Usage(12, 1, 0, 13) and session.meter.forwards == 1
        await it.aclose()


async def test_vllm_members_send_what_is_committed_and_forks_go_their_own_way() -> None:
    async with Upstream({CHAT: says(fixture("vllm_chat.json"))}) as up:
        it = up.member(flavour="vllm")
        session = await it.open(Q.but(prefix="It is"))
        await session.push(b" four", id=None)
        twin = await session.fork()
        await session.push(b"!")
        await twin.next(2)
        assert up.body["messages"][-1] == {"role": "assistant", "content": "It is four"}
        await session.next(2)
        assert up.body["messages"][-1]["content"] == "It is four!"
        assert twin.meter.forwards == session.meter.forwards == 1
        # fewer of the same answer need no call, more do
        await session.next(1)
        assert len(up.seen) == 2
        await session.next(3)
        assert len(up.seen) == 3
        await session.close()
        await it.aclose()


async def test_looking_ahead_commits_nothing() -> None:
    async with Upstream({CHAT: says(fixture("vllm_chat.json"))}) as up:
        it = up.member(flavour="vllm")
        session = await it.open(Q)
        rows = await session.look([b" f", b"our"], 2)
        assert [row.at for row in rows] == [0, 2, 5] and [len(row.ids) for row in rows] == [2, 2, 2]
        assert [s.body["messages"][1:] for s in up.seen] == [
            [],
            [{"role": "assistant", "content": " f"}],
            [{"role": "assistant", "content": " four"}],
        ]
        assert isinstance(session, RemoteSession) and session.committed == b""
        await it.aclose()


async def test_agreeing_keeps_prefixes_and_extensions_of_all_that_is_reported() -> None:
    async with Upstream({CHAT: says(fixture("vllm_chat.json"))}) as up:
        it = up.member(flavour="vllm", topk=50)
        session = await it.open(Q)
        assert shown(session, await session.next(1, agreeing=b" 4 and")) == [(b" 4", -4.0)]
        assert up.body["top_logprobs"] == 50
        assert shown(session, await session.next(2, agreeing=b" ")) == [(b" four", -0.25), (b" 4", -4.0)]
        await it.aclose()


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda s: s.next(None), "does not offer full"),
        (lambda s: s.next(21), r"does not offer topk 21 \(it offers 20\)"),
        (lambda s: s.hidden(), "does not offer hidden"),
        (lambda s: s.push(b""), "END ends an answer"),
        (lambda s: s.push(b"x", id=0), "id 0 has not the bytes"),
    ],
)
async def test_a_session_refuses_what_no_server_offers(act: Any, words: str) -> None:
    async with Upstream({}) as up:
        it = up.member(flavour="vllm")
        session = await it.open(Q)
        with pytest.raises(BackendError, match=words):
            await act(session)
        assert not up.seen
        await it.aclose()


async def test_vllm_cannot_take_half_a_character() -> None:
    async with Upstream({}) as up:
        session = await up.member(flavour="vllm").open(Q)
        await session.push(b"\xf0\x9f")
        with pytest.raises(BackendError, match="not valid UTF-8"):
            await session.next(1)
        assert not up.seen


async def test_a_server_that_drops_the_space_of_a_token_is_refused() -> None:
    reply = fixture("vllm_chat.json")
    reply["choices"][0]["logprobs"]["content"][0] |= {"token": "four", "bytes": list(b"four")}
    async with Upstream({CHAT: says(reply)}) as up:
        it = up.member(flavour="vllm")
        session = await it.open(Q)
        with pytest.raises(BackendError, match="spells the token ' four' as b'four'"):
            await session.next(1)
        await it.aclose()


async def test_a_reply_without_probabilities_is_an_error_of_the_session() -> None:
    async with Upstream({CHAT: says(chat("x"))}) as up:
        it = up.member(flavour="vllm")
        session = await it.open(Q)
        with pytest.raises(BackendError, match="reported no probabilities"):
            await session.next(1)
        await it.aclose()


async def test_vllm_scores_a_text_by_the_log_probabilities_of_a_prompt() -> None:
    span = {"count": 2, "max_model_len": 4096, "tokens": [21, 22]}
    script: dict[str, Reply | Sequence[Reply]] = {
        "/tokenize": [says(fixture("vllm_tokenize.json")), says(span)],
        TEXT: says(fixture("vllm_prompt_logprobs.json")),
    }
    async with Upstream(script) as up:
        it = up.member(flavour="vllm")
        found = await it.score(Q, [" four"])
        await it.aclose()
    whole, own, scored = (s.body for s in up.seen)
    assert whole["messages"] == [TURN] and whole["add_generation_prompt"] is True
    assert own == {"model": "m", "prompt": " four", "add_special_tokens": False}
    assert scored["prompt"] == [[1, 11, 12, 21, 22]] and scored["prompt_logprobs"] == 0
    assert found.value[0].texts == (b" fo", b"ur") and found.value[0].logp.tolist() == [-0.5, -0.125]
    assert found.usage == Usage(5, 1, 0, 6)


async def test_vllm_gives_the_prompts_own_tokens() -> None:
    reply = fixture("vllm_prompt_logprobs.json")
    reply["choices"][0]["prompt_logprobs"] = reply["choices"][0]["prompt_logprobs"][:3]
    async with Upstream({"/tokenize": says(fixture("vllm_tokenize.json")), TEXT: says(reply)}) as up:
        it = up.member(flavour="vllm")
        session = await it.open(Q, scored=True)
        await it.aclose()
    assert session.prompt is not None and session.prompt.texts == (b"", b"Q", b":")
    np.testing.assert_array_equal(session.prompt.logp, [math.nan, -1.5, -2.5])
    assert session.meter.usage == Usage(5, 1, 0, 6)


async def test_vllm_completes_plain_prompts_as_text() -> None:
    top = {"tokens": [" 4"], "token_logprobs": [-0.5], "top_logprobs": [{" 4": -0.5, "</s>": -1.0}]}
    async with Upstream(
        {TEXT: says({"choices": [{"text": " 4", "logprobs": top, "finish_reason": "length"}]})}
    ) as up:
        it = up.member(flavour="vllm", api="completions", prompt="qa")
        session = await it.open(Q)
        await session.push(b" It is")
        assert shown(session, await session.next(2)) == [(b" 4", -0.5), (b"", -1.0)]
        await it.aclose()
    assert up.body["prompt"] == "Question: What is 2+2?\nAnswer: It is" and up.body["logprobs"] == 2


async def test_a_continuation_is_one_stream_and_its_tokens_spell_it() -> None:
    def token(text: str, logp: float) -> dict[str, Any]:
        return {
            "content": [{"token": text, "bytes": list(text.encode()), "logprob": logp, "top_logprobs": []}]
        }

    def event(text: str, logp: float, **usage: int) -> bytes:
        made = delta(text, usage={"prompt_tokens": 9, **usage})
        return made.replace(
            b'"finish_reason"',
            b'"logprobs": ' + str(token(text, logp)).replace("'", '"').encode() + b', "finish_reason"',
        )

    chunks = [event(" is", -0.5, completion_tokens=1), event(" 4. So", -0.25, completion_tokens=2)]
    async with Upstream({CHAT: events(*chunks, then="silent")}) as up:
        it = up.member(flavour="vllm")
        session = await it.open(Q)
        await session.push(b"It")
        draft = await session.write([b"."], 20, Sampler(0.5, 0.9, (1, 2)))
        await it.aclose()
    assert (draft.text, draft.ended, draft.hit) == (b" is 4.", False, ".")
    assert draft.tokens.texts == (b" is", b" 4.") and draft.tokens.logp.tolist() == [-0.5, -0.25]
    said = up.body
    assert (said["max_tokens"], said["temperature"], said["top_p"], said["logprobs"]) == (20, 0.5, 0.9, True)
    assert said["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    # the usage of the last event counts what was written up to the cut
    assert session.meter.usage == Usage(9, 2, 0, 11)


# --- llama-server ----------------------------------------------------------------------------------


def llama(*tokens: tuple[int, bytes, float]) -> dict[str, Any]:
    top = [{"id": i, "token": "", "bytes": list(b), "logprob": x} for i, b, x in tokens]
    chosen = {"id": 5, "token": "a", "bytes": [97], "logprob": -20.0, "top_logprobs": top}
    counts = {"tokens_evaluated": 8, "tokens_predicted": 1, "timings/cache_n": 6}
    return {**counts, "completion_probabilities": [chosen]}


RENDERED = says({"prompt": "<user>What is 2+2?<assistant>"})
NEUTRAL = says({"tokens": [5]})


async def test_llama_server_renders_once_and_is_asked_with_a_forced_token() -> None:
    row = llama((9, b" 4", -0.5), (2, b"", -1.0), (10, b"\xf0\x9f", -3.0), (3, b"", -1.0))
    script = {"/apply-template": RENDERED, "/tokenize": NEUTRAL, "/completion": says(row)}
    async with Upstream(script) as up:
        it = up.member(flavour="llama-server")
        session = await it.open(Q.but(prefix="It is"))
        seen = shown(session, await session.next(4))
        await session.push(b" 4")
        await session.next(4)
        await it.aclose()
    # two tokens that end the answer are one END: ln(2 e^-1) = -0.307
    assert [piece for piece, _ in seen] == [b"", b" 4", b"\xf0\x9f"]
    assert seen[0][1] == pytest.approx(math.log(2) - 1)
    assert [s.path for s in up.seen] == ["/apply-template", "/tokenize", "/completion", "/completion"]
    assert up.body["prompt"] == "<user>What is 2+2?<assistant>It is 4"
    assert (up.body["n_predict"], up.body["n_probs"], up.body["logit_bias"]) == (1, 4, [[5, 1000.0]])
    assert session.meter.usage == Usage(16, 2, 12, 6)


async def test_llama_server_gets_half_a_character_as_ids() -> None:
    pieces = {
        "tokens": [
            {"id": 10, "piece": [0xF0, 0x9F]},
            {"id": 11, "piece": [0x98]},
            {"id": 12, "piece": [0x80]},
        ]
    }
    script: dict[str, Reply | Sequence[Reply]] = {
        "/apply-template": RENDERED,
        "/tokenize": [says(pieces), says(pieces), says(pieces), says(pieces), NEUTRAL],
        "/completion": says(llama((12, b"\x80", -0.5))),
    }
    async with Upstream(script) as up:
        it = up.member(flavour="llama-server")
        session = await it.open(Q)
        await session.push(b"So \xf0\x9f\x98")
        assert shown(session, await session.next(1)) == [(b"\x80", -0.5)]
        assert up.body["prompt"] == ["<user>What is 2+2?<assistant>So ", 10, 11]
        await session.push(b"\x80")
        await session.next(1)
        assert up.body["prompt"] == "<user>What is 2+2?<assistant>So 😀"
        await session.push(b"\xff")
        with pytest.raises(BackendError, match="not valid UTF-8"):
            await session.next(1)
        await it.aclose()


async def test_llama_server_continues_an_answer_as_rendered_text_and_samples_one_by_one() -> None:
    replies = [says({"choices": [{"text": t, "finish_reason": "stop"}]}) for t in (" four", " 4")]
    async with Upstream({"/apply-template": RENDERED, TEXT: replies}) as up:
        it = up.member(flavour="llama-server", defaults=Defaults(temperature=1.0, seed=7))
        found = await it.complete(Q.but(prefix="It is"), n=2)
        await it.aclose()
    assert sorted(c.text for c in found) == [" 4", " four"]
    assert [s.body["prompt"] for s in up.seen[1:]] == ["<user>What is 2+2?<assistant>It is"] * 2
    assert sorted(s.body["seed"] for s in up.seen[1:]) == [7, 8]
    assert up.seen[0].body["messages"] == [TURN]


async def test_llama_server_has_no_scores_and_no_prompt_scores() -> None:
    async with Upstream({"/apply-template": RENDERED}) as up:
        it = up.member(flavour="llama-server")
        session = await it.open(Q)
        with pytest.raises(BackendError, match="does not offer score"):
            await session.score([b"4"])
        with pytest.raises(BackendError, match="does not offer score"):
            await it.score(Q, ["4"])
        with pytest.raises(BackendError, match="does not offer prompt_scores"):
            await it.open(Q, scored=True)
        await it.aclose()


@pytest.mark.parametrize("page", ["/apply-template", "/tokenize", "/completion"])
async def test_a_page_of_llama_server_that_says_nothing_is_an_error(page: str) -> None:
    script: dict[str, Reply] = {
        "/apply-template": RENDERED,
        "/tokenize": NEUTRAL,
        "/completion": says(llama((9, b"4", -1.0))),
    }
    async with Upstream({**script, page: says({"tokens": []} if page == "/tokenize" else {})}) as up:
        it = up.member(flavour="llama-server")

        async def ask() -> None:
            await (await it.open(Q)).next(1)

        with pytest.raises(BackendError, match=page):
            await ask()
        await it.aclose()


async def test_tools_cannot_go_into_a_session_or_a_continuation() -> None:
    async with Upstream({"/apply-template": RENDERED}) as up:
        it = up.member(flavour="llama-server")
        tools = Query(messages=(Message("user", "2+2"),), extra={"tools": []})
        with pytest.raises(BackendError, match="plain text prompt cannot carry tools"):
            await it.open(tools)
        with pytest.raises(BackendError, match="plain text prompt cannot carry tools"):
            await it.complete(tools.but(prefix="It"))
        await it.aclose()


# --- Ollama ----------------------------------------------------------------------------------------


async def test_ollama_answers_with_log_probabilities() -> None:
    async with Upstream({CHAT: says(fixture("ollama_chat.json"))}) as up:
        it = up.member(flavour="ollama")
        found = (await it.complete(Q, logprobs=1))[0]
        await it.aclose()
    assert (found.text, found.finish, found.usage) == ("Hi!", "stop", Usage(9, 3, 0, 12))
    assert found.tokens is not None and found.tokens.texts == (b"Hi", b"!")
    assert "n" not in up.body and up.body["seed"] == 0


async def test_ollama_has_no_n_so_samples_are_calls_with_seeds_of_their_own() -> None:
    async with Upstream({CHAT: [says(chat("a")), says(chat("b"))]}) as up:
        it = up.member(flavour="ollama")
        found = await it.complete(Q.but(seed=40), n=2)
        await it.aclose()
    assert sorted(c.text for c in found) == ["a", "b"]
    assert sorted(s.body["seed"] for s in up.seen) == [40, 41]


async def test_ollama_streams_with_usage() -> None:
    last = b'data: {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 1}}\n\n'
    async with Upstream({CHAT: events(delta("Hi"), delta("", "stop"), last, DONE)}) as up:
        it = up.member(flavour="ollama")
        *_, end = [item async for item in it.stream(Q)]
        await it.aclose()
    assert end.text == "Hi" and end.usage == Usage(9, 1, 0, 10)  # type: ignore[union-attr]
