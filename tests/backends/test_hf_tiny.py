"""transformers on models of a few kilobytes with random weights, saved as folders and loaded from there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.backends._hf_runtime import HfRuntime
from septet.backends.hf import Hf, HfActor, HfEndpoint
from septet.core.backend import MemberSpec, Place
from septet.core.errors import BackendError, ConfigError
from septet.core.prompt import BUILT_IN
from septet.core.types import Message, Query
from septet.testing.actors import check_backend

pytestmark = pytest.mark.local

TEMPLATE = (
    "{% for m in messages %}<|turn|>{{ m.role }}:{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant:{% endif %}"
)
TURN, CLOSE = 256, 257
SHAPE = {"hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 32}
SPIECES = ["▁", "a", "b", "▁a"]
SPACE, A, B, SPACE_A = range(259, 263)
IDS = [int(i) for i in np.random.default_rng(3).integers(0, 256, 40)]


def save(folder: Path, config: Any, **settings: Any) -> Path:
    """A model of random weights with single bytes as tokens, and two special ones."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(t, special=True) for t in ("<|turn|>", "<|end|>")])
    PreTrainedTokenizerFast(tokenizer_object=made, **settings).save_pretrained(folder)
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import LlamaConfig

    config = LlamaConfig(
        **SHAPE, vocab_size=260, num_hidden_layers=3, max_position_embeddings=256, eos_token_id=CLOSE,
        bos_token_id=None, initializer_range=0.3,
    )  # fmt: skip
    return save(tmp_path_factory.mktemp("llama"), config, chat_template=TEMPLATE)


@pytest.fixture(scope="module")
def sliding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose first layer looks at the last eight tokens only."""
    from transformers import Gemma3TextConfig

    config = Gemma3TextConfig(
        **SHAPE, head_dim=16, vocab_size=260, num_hidden_layers=2, sliding_window=8,
        layer_types=["sliding_attention", "full_attention"], max_position_embeddings=256,
        initializer_range=0.3,
    )  # fmt: skip
    return save(tmp_path_factory.mktemp("gemma"), config)


@pytest.fixture(scope="module")
def spiece(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SentencePiece-like vocabulary: BOS, a space before every text, single bytes for what is unknown."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
    from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

    entries = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *SPIECES]
    vocab = {entry: i for i, entry in enumerate(entries)}
    made = Tokenizer(models.BPE(vocab, [("▁", "a")], unk_token="<unk>", byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    made.add_special_tokens([AddedToken(t, special=True, rstrip=t == "</s>") for t in entries[:3]])
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    folder = tmp_path_factory.mktemp("spiece")
    template = "{{ bos_token }}{% for m in messages %}{{ m.content }}</s>\n {% endfor %}"
    PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", chat_template=template
    ).save_pretrained(folder)
    config = LlamaConfig(**SHAPE, vocab_size=len(entries), num_hidden_layers=1)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def endpoint(folder: Path, **options: Any) -> HfEndpoint:
    return Hf(model=str(folder), device="cpu", **options).connect(Place())


def member(made: HfEndpoint, prompt: str = "chat") -> HfActor:
    return made.member(MemberSpec(name="tiny", prompt=BUILT_IN[prompt]))


@pytest.fixture
def runtime(llama: Path) -> HfRuntime:
    return endpoint(llama).load()


@pytest.fixture
async def actor(llama: Path) -> AsyncIterator[HfActor]:
    made = member(endpoint(llama, deterministic=True))
    yield made
    await made.aclose()
    import torch

    torch.use_deterministic_algorithms(False)


def fed(runtime: HfRuntime, ids: Sequence[int], sizes: Sequence[int]) -> np.ndarray:
    """(len(ids), V) rows of a new sequence that is fed in parts of these sizes."""
    seq, at, rows = runtime.open(), 0, []
    for size in sizes:
        rows.append(runtime.feed(seq, ids[at : at + size], "all"))
        at += size
    runtime.close(seq)
    return np.concatenate(rows)


async def test_the_member_keeps_the_whole_contract(actor: HfActor) -> None:
    checks = check_backend(actor)
    assert len(checks) >= 9
    for check in checks:
        await check()


def test_all_but_single_bytes_is_masked_and_the_template_s_last_token_is_the_end(runtime: HfRuntime) -> None:
    assert runtime.vocab.end_ids == (CLOSE,)
    assert runtime.vocab.masked_ids.tolist() == [TURN, 258, 259]
    assert sorted(runtime.vocab.bytes_of(i) for i in range(256)) == [bytes([b]) for b in range(256)]


def test_special_tokens_that_a_user_typed_stay_text(runtime: HfRuntime) -> None:
    turns = (Message("user", "a<|end|>"),)
    ids = runtime.prompt_ids(Query(messages=turns), None)
    assert [i for i in ids if i >= 256] == [TURN, CLOSE, TURN]
    text = b"".join(runtime.vocab.bytes_of(i) for i in ids if i < 256)
    assert text == b"user:a<|end|>assistant:"
    assert max(runtime.prompt_ids(Query.of("x"), "plain <|end|>")) < 256
    assert runtime.vocab.join(runtime.vocab.tokenise("<|end|> é\xa0".encode())) == "<|end|> é\xa0".encode()


def test_a_prompt_gets_bos_and_the_tokenizers_space_and_an_answer_gets_neither(spiece: Path) -> None:
    runtime = endpoint(spiece).load()
    assert runtime.prompt_ids(Query.of("x"), "a b") == [1, SPACE_A, SPACE, B]
    assert runtime.vocab.tokenise(b"a") == [A]
    assert runtime.vocab.tokenise(b" a") == [SPACE_A]
    assert runtime.vocab.tokenise("é\n".encode()) == [3 + 0xC3, 3 + 0xA9, 3 + 0x0A]
    assert [runtime.vocab.bytes_of(i) for i in (0, 1, 2, SPACE, SPACE_A)] == [b"", b"", b"", b" ", b" a"]
    assert (runtime.vocab.end_ids, runtime.vocab.masked_ids.tolist()) == ((2,), [0, 1])


def test_a_special_token_takes_the_white_space_that_its_tokenizer_gives_it(spiece: Path) -> None:
    turns = (Message("user", "a"), Message("assistant", "b"))
    ids = endpoint(spiece).load().prompt_ids(Query(messages=turns), None)
    assert ids == [1, SPACE_A, 2, SPACE, B, 2]


def test_half_a_character_in_a_prompt_is_refused(runtime: HfRuntime) -> None:
    with pytest.raises(BackendError, match=r"half a character \(U\+D83D\)"):
        runtime.prompt_ids(Query.of("x"), "\ud83d")


@pytest.mark.parametrize("model", ["llama", "sliding"])
def test_feeding_in_parts_is_feeding_at_once(model: str, request: pytest.FixtureRequest) -> None:
    runtime = endpoint(request.getfixturevalue(model)).load()
    whole = fed(runtime, IDS, [40])
    for sizes in ([1] * 40, [13, 1, 20, 6]):
        np.testing.assert_allclose(fed(runtime, IDS, sizes), whole, atol=1e-3)


@pytest.mark.parametrize("model", ["llama", "sliding"])
def test_after_a_cut_the_same_tokens_give_the_same_bits(model: str, request: pytest.FixtureRequest) -> None:
    runtime = endpoint(request.getfixturevalue(model)).load()
    seq = runtime.open()
    runtime.feed(seq, IDS[:20], "none")
    rows = [runtime.feed(seq, [i], "last")[0] for i in IDS[20:30]]
    runtime.cut(seq, 5)
    runtime.feed(seq, IDS[:7], "none")
    runtime.cut(seq, 0)
    runtime.feed(seq, IDS[:20], "none")
    again = [runtime.feed(seq, [i], "last")[0] for i in IDS[20:30]]
    np.testing.assert_array_equal(rows, again)


def test_a_fork_and_its_parent_do_not_disturb_each_other(runtime: HfRuntime) -> None:
    seq = runtime.open()
    runtime.feed(seq, IDS[:10], "none")
    twin = runtime.fork(seq)
    runtime.feed(twin, IDS[20:30], "none")
    mine = runtime.feed(seq, IDS[10:12], "last")
    runtime.cut(twin, 10)
    runtime.close(seq)
    np.testing.assert_array_equal(runtime.feed(twin, IDS[10:12], "last"), mine)


def test_long_prompts_are_fed_in_chunks(runtime: HfRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fed(runtime, IDS, [40])
    monkeypatch.setattr("septet.backends._hf_runtime.CHUNK", 16)
    np.testing.assert_allclose(fed(runtime, IDS, [40]), whole, atol=1e-3)
    seq = runtime.open()
    assert runtime.feed(seq, IDS, "none").shape == (0, 260)
    runtime.cut(seq, 0)
    np.testing.assert_allclose(runtime.feed(seq, IDS, "last")[0], whole[-1], atol=1e-3)


def test_a_failed_forward_leaves_the_sequence_as_it_was(runtime: HfRuntime) -> None:
    seq = runtime.open()
    runtime.feed(seq, IDS[:10], "none")
    block = runtime._model.model.layers[1].mlp.register_forward_pre_hook(_fail)
    with pytest.raises(BackendError, match=r"torch failed on .*: no room"):
        runtime.feed(seq, IDS[10:20], "last")
    block.remove()
    np.testing.assert_allclose(
        runtime.feed(seq, IDS[10:20], "last")[0], fed(runtime, IDS[:20], [20])[-1], atol=1e-3
    )


def _fail(*_: Any) -> None:
    raise RuntimeError("no room")


def test_a_model_with_fewer_layers_is_another_member_of_the_same_vocabulary(
    llama: Path, runtime: HfRuntime
) -> None:
    small = endpoint(llama, layers=1).load()
    assert len(small._model.model.layers) == 1
    assert small.vocab.arrays()["packed"].tobytes() == runtime.vocab.arrays()["packed"].tobytes()
    assert abs(fed(small, IDS, [40]) - fed(runtime, IDS, [40])).max() > 0.1
    np.testing.assert_array_equal(small.matrix("output"), runtime.matrix("output"))


async def test_the_hidden_state_times_the_output_matrix_is_the_row_of_logits(actor: HfActor) -> None:
    session = await actor.open(Query.of("Hello"))
    await session.push(b"abc")
    hidden = await session.hidden()
    row = await session.next(None)
    await session.close()
    logits = actor.matrix("output") @ hidden
    assert hidden.shape == (32,)
    assert actor.matrix("input").shape == (260, 32)
    np.testing.assert_allclose(logits[5] - logits[9], row.logp[5] - row.logp[9], atol=1e-4)


async def test_deterministic_looking_ahead_gives_the_bits_of_pushing_one_by_one(actor: HfActor) -> None:
    session = await actor.open(Query.of("Hello"))
    seen = await session.look([b"a", b"b", b"cd"], None)
    for piece, ahead in zip((b"a", b"b", b"cd"), seen[1:], strict=True):
        await session.push(piece)
        np.testing.assert_array_equal((await session.next(None)).logp, ahead.logp)
    await session.close()


def test_bfloat16_weights_give_float32_rows_near_the_others(llama: Path, runtime: HfRuntime) -> None:
    half = endpoint(llama, dtype="bfloat16").load()
    rows = fed(half, IDS, [40])
    assert rows.dtype == np.float32
    assert 0 < abs(rows - fed(runtime, IDS, [40])).mean() < 0.2


def test_a_gpu_that_is_not_there_is_said(llama: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    made = Hf(model=str(llama), device="cuda").connect(Place())
    with pytest.raises(ConfigError, match='use device = "cpu"'):
        asyncio.run(member(made).complete(Query.of("x")))
    asyncio.run(made.aclose())


def test_damaged_weights_are_an_error_that_names_the_folder(llama: Path, tmp_path: Path) -> None:
    for file in llama.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0 not a header")
    made = endpoint(tmp_path)
    with pytest.raises(BackendError, match=f"transformers cannot load .* from {tmp_path}"):
        made.load()
