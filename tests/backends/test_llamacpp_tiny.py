"""llama.cpp on a tiny hand-made model, whose tokenizer wants a leading space and whose template may be wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_gguf import with_dummy_space

from septet.backends._llama_runtime import LlamaRuntime
from septet.backends.llamacpp import Llamacpp
from septet.core.backend import Place
from septet.core.errors import BackendError, ConfigError
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
