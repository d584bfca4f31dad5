"""llama.cpp on a tiny hand-made model, whose tokenizer wants a leading space and whose template may be wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_gguf import base, header, with_dummy_space, write

from septet.backends._gguf import read_header
from septet.backends._gguf_layers import first_layers
from septet.backends._gguf_matrices import matrix
from septet.backends._llama_runtime import LlamaRuntime
from septet.backends.llamacpp import Llamacpp, LlamaEndpoint
from septet.core.backend import MemberSpec, Place
from septet.core.errors import BackendError, BadParameter, ConfigError
from septet.core.prompt import BUILT_IN
from septet.core.types import Query

pytestmark = pytest.mark.local

TURNS = "{% for m in messages %}<|user|>{{ m['content'] | trim }}</s>{% endfor %}"


def load_tiny(folder: Path, template: str) -> LlamaRuntime:
    with_dummy_space(folder / "tiny.gguf", template=template)
    place = Place(str(folder), {"SEPTET_CACHE": str(folder / "cache")})
    return Llamacpp(path="tiny.gguf", context=128).connect(place).load()


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[LlamaRuntime]:
    runtime = load_tiny(tmp_path, TURNS)
    yield runtime
    runtime.shutdown()


def test_the_leading_space_stands_before_a_prompt_and_nowhere_in_an_answer(tiny: LlamaRuntime) -> None:
    assert tiny.prompt_ids(Query.of("x"), "a b") == [1, 259, 260]  # BOS, "▁a", "▁b"
    assert tiny.vocab.tokenise(b"a b") == [261, 260]  # "a", "▁b"


def test_a_template_trims_and_closes_and_what_a_user_typed_is_spelled(tiny: LlamaRuntime) -> None:
    ids = tiny.prompt_ids(Query.of("  a </s> "), None)
    spelled = [259, 263, *(3 + byte for byte in b"</s>")]  # "▁a", "▁", then single bytes
    assert ids == [1, 264, *spelled, 2]


def test_what_a_template_puts_behind_an_answer_is_an_end_too(tmp_path: Path) -> None:
    runtime = load_tiny(tmp_path, "{% for m in messages %}{{ m['content'] }}<|user|>{% endfor %}")
    assert runtime.vocab.end_ids == (2, 264)
    runtime.shutdown()


def test_a_conversation_that_the_template_refuses_is_an_error_with_its_words(tmp_path: Path) -> None:
    runtime = load_tiny(tmp_path, "{{ raise_exception('no turns, please') }}")
    with pytest.raises(BackendError, match="template of tiny refuses this conversation: no turns, please"):
        runtime.prompt_ids(Query.of("Hi"), None)
    runtime.shutdown()


def test_a_template_that_is_no_jinja_is_an_error_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the chat template of tiny cannot be read"):
        load_tiny(tmp_path, "{% for %}")


def test_a_full_cache_is_an_error_after_which_the_sequence_is_as_before(tiny: LlamaRuntime) -> None:
    seq = tiny.open()
    tiny.feed(seq, [1, 259, 260], "none")
    expected = tiny.feed(seq, [261], "last")
    tiny.cut(seq, 3)
    with pytest.raises(BackendError, match="the cache of tiny is full: 195 tokens in 1 sequences") as failed:
        tiny.feed(seq, [262] * 400, "last")
    assert not failed.value.retryable  # nobody else will give room back
    assert np.array_equal(tiny.feed(seq, [261], "last"), expected)
    tiny.close(seq)


def test_a_shared_cache_that_is_full_may_have_room_later(tiny: LlamaRuntime) -> None:
    held = [tiny.open() for _ in range(2)]
    tiny.feed(held[0], [261] * 200, "none")
    with pytest.raises(BackendError, match="the cache of tiny is full") as failed:
        tiny.feed(held[1], [261] * 100, "none")
    assert failed.value.retryable
    tiny.close(held[0])
    assert tiny.feed(held[1], [261] * 100, "last").shape == (1, 265)
    tiny.close(held[1])


# --- the first layers of a model -------------------------------------------------------------------


def endpoint(folder: Path, file: str, **options: Any) -> LlamaEndpoint:
    place = Place(str(folder), {"SEPTET_CACHE": str(folder / "cache")})
    return Llamacpp(path=file, context=128, **options).connect(place)


def logits(made: LlamaEndpoint) -> np.ndarray:
    runtime = made.load()
    seq = runtime.open()
    found = runtime.feed(seq, [1, 259, 260, 261], "all")
    runtime.shutdown()
    return found


def test_the_first_layers_of_a_model_are_the_model_that_has_no_others(tmp_path: Path) -> None:
    # The weights are drawn layer by layer, so the first layer of both files is the same.
    with_dummy_space(tmp_path / "one.gguf", layers=1)
    with_dummy_space(tmp_path / "three.gguf", layers=3)
    cut = endpoint(tmp_path, "three.gguf", layers=1)
    np.testing.assert_array_equal(logits(cut), logits(endpoint(tmp_path, "one.gguf")))
    assert abs(logits(cut) - logits(endpoint(tmp_path, "three.gguf"))).max() > 0.1
    assert cut._file().layers == 1


def test_a_model_with_fewer_layers_has_the_same_vocabulary_known_before_and_after_loading(
    tmp_path: Path,
) -> None:
    with_dummy_space(tmp_path / "three.gguf", layers=3, template=TURNS)
    whole, cut = (endpoint(tmp_path, "three.gguf", layers=n) for n in (None, 2))
    assert whole.vocabulary == cut.vocabulary == f"gguf:{cut._file().tokenizer}" != "gguf:"
    vocabs = []
    for made in (whole, cut):
        runtime = made.load()
        vocabs.append(runtime.vocab)
        runtime.shutdown()
    assert vocabs[0].digest == vocabs[1].digest


def test_lists_with_one_entry_for_each_layer_lose_those_of_the_layers_that_go(tmp_path: Path) -> None:
    values = {
        **base(),
        "llama.block_count": 3,
        "llama.attention.sliding_window_pattern": [True, False, True],
        "tokenizer.ggml.scores": [1.0, 2.0, 3.0],  # as long, but not about layers
    }
    tensors = {
        name: np.arange(n, dtype=np.float32) for name, n in (("a", 5), ("blk.2.b", 9), ("blk.0.c", 20))
    }
    write(tmp_path / "m.gguf", header(values, tensors))
    cut = first_layers(read_header(tmp_path / "m.gguf"), 1, tmp_path / "cut")
    expected = {
        **values,
        "llama.block_count": 1,
        "llama.attention.sliding_window_pattern": [True],
    }
    assert cut.read_bytes() == header(expected, {name: tensors[name] for name in ("a", "blk.0.c")})


def test_the_file_is_written_once_and_other_weights_under_the_same_header_are_another_file(
    tmp_path: Path,
) -> None:
    file = with_dummy_space(tmp_path / "m.gguf", layers=2)
    first = first_layers(read_header(file), 1, tmp_path / "cut")
    was = first.stat().st_mtime_ns
    assert first_layers(read_header(file), 1, tmp_path / "cut").stat().st_mtime_ns == was
    content = bytearray(file.read_bytes())
    content[-40] ^= 1  # in the weights of the last layer
    write(file, bytes(content))
    assert first_layers(read_header(file), 1, tmp_path / "cut") != first
    assert len(list((tmp_path / "cut").iterdir())) == 2


def test_more_layers_than_there_are_and_a_cache_that_cannot_be_written_are_errors(tmp_path: Path) -> None:
    file = with_dummy_space(tmp_path / "m.gguf", layers=2)
    with pytest.raises(BadParameter, match="layers: must be at most 2, which tiny has, got 3"):
        endpoint(tmp_path, "m.gguf", layers=3)
    (tmp_path / "taken").write_text("a file where the folder should be")
    with pytest.raises(BackendError, match="cannot write the first 1 layers of"):
        first_layers(read_header(file), 1, tmp_path / "taken")


# --- hidden states ---------------------------------------------------------------------------------


def test_the_hidden_state_times_the_output_matrix_is_the_row_of_logits(
    tiny: LlamaRuntime, tmp_path: Path
) -> None:
    output = matrix(read_header(tmp_path / "tiny.gguf"), "output")
    seq = tiny.open()
    tiny.show_hidden(seq)
    for ids in ([1], [259, 260, 261], [261] * 80):  # one token, a few, and more than one call of 64
        logits = tiny.feed(seq, ids, "last")[0]
        hidden = tiny.hidden(seq)
        assert hidden is not None and hidden.shape == (32,)
        np.testing.assert_allclose(output @ hidden, logits, atol=1e-3)
    tiny.close(seq)


def test_a_hidden_state_is_kept_where_it_is_wanted_and_only_of_the_last_token_fed(tiny: LlamaRuntime) -> None:
    seen, unseen = tiny.open(), tiny.open()
    tiny.show_hidden(seen)
    for seq in (seen, unseen):
        tiny.feed(seq, [1, 259], "last")
    assert tiny.hidden(seen) is not None and tiny.hidden(unseen) is None
    fork = tiny.fork(seen)
    assert np.array_equal(tiny.hidden(fork), tiny.hidden(seen))  # type: ignore[arg-type]
    rows = tiny.feed(seen, [261, 262], "all")
    assert tiny.hidden(seen) is None
    tiny.cut(seen, 2)
    again = tiny.feed(seen, [261, 262], "last")[0]  # with the hidden state: the same logits
    np.testing.assert_allclose(again, rows[-1], atol=1e-4)
    for seq in (seen, unseen, fork):
        tiny.close(seq)
    reused = tiny.open()
    tiny.feed(reused, [1, 259], "last")
    assert tiny.hidden(reused) is None
    tiny.close(reused)


async def test_a_session_tells_its_hidden_state_with_one_forward_a_token(tmp_path: Path) -> None:
    with_dummy_space(tmp_path / "m.gguf")
    made = endpoint(tmp_path, "m.gguf", deterministic=True, sequences=2)
    session = await made.member(MemberSpec(name="tiny", prompt=BUILT_IN["qa"])).open(Query.of("a b"))
    first = await session.next(1, hidden=True)
    fed = [session.meter.usage.fed_tokens]
    for _ in range(3):
        await session.push(b"a")
        await session.next(1, hidden=True)
        fed.append(session.meter.usage.fed_tokens)
    assert np.diff(fed).tolist() == [1, 1, 1]
    assert first.hidden is not None and np.isfinite(first.hidden).all()
    await session.close()
    await made.aclose()
