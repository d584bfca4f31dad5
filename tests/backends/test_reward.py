"""A reward model on classifiers of a few kilobytes: ratings, steps, limits, and what a wrong folder is told."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.backends.reward import Reward, RewardActor
from septet.core.backend import MemberSpec, Place
from septet.core.errors import BackendError, BadParameter, ConfigError
from septet.core.prompt import BUILT_IN
from septet.core.types import Query
from septet.testing.actors import check_backend
from tiny_encoder import END, save_tiny_causal, save_tiny_encoder

pytestmark = pytest.mark.local

QUERY = Query.of("what is the sum of two and three?")
TEXT = "two and three\n\nthe sum is four\nsay five"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two labels."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    folder = save_tiny_encoder(tmp_path_factory.mktemp("pairs"))
    torch.manual_seed(4)
    BertForSequenceClassification(BertConfig.from_pretrained(folder)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of one output that reads conversations, and knows no padding."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    folder = save_tiny_causal(tmp_path_factory.mktemp("talks"))
    torch.manual_seed(4)
    config = LlamaConfig.from_pretrained(folder, num_labels=1, max_position_embeddings=256)
    LlamaForSequenceClassification(config).save_pretrained(folder)
    template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<|end|>{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    return folder


def member(folder: Path, **options: Any) -> RewardActor:
    made = Reward(model=str(folder), device="cpu", **options).connect(Place())
    return made.member(MemberSpec(name="tiny", prompt=BUILT_IN["chat"]))


@pytest.fixture
async def actor(pairs: Path) -> AsyncIterator[RewardActor]:
    made = member(pairs)
    yield made
    await made.aclose()


async def rated(folder: Path, texts: list[str], query: Query = QUERY, **options: Any) -> list[float]:
    made = member(folder, **options)
    try:
        values = (await made.rate(query, texts)).value
        assert values.shape == (len(texts), 1)
        return [float(v) for v in values[:, 0]]
    finally:
        await made.aclose()


async def test_it_keeps_the_contract_of_actors(actor: RewardActor) -> None:
    for check in check_backend(actor):
        await check()


async def test_the_rating_is_the_share_of_a_label_for_question_and_text_as_a_pair(pairs: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    logits = AutoModelForSequenceClassification.from_pretrained(pairs)(
        **AutoTokenizer.from_pretrained(pairs)(QUERY.text, "say five", return_tensors="pt")
    ).logits[0]
    shares = logits.softmax(0).tolist()
    assert abs(shares[0] - shares[1]) > 1e-3
    assert await rated(pairs, ["say five"]) == pytest.approx([shares[1]], abs=1e-6)
    assert await rated(pairs, ["say five"], label=0) == pytest.approx([shares[0]], abs=1e-6)


async def test_a_sole_output_of_a_conversation_becomes_its_sigmoid(talks: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification

    text = f"user: {QUERY.text}|assistant: say five|"
    ids = [END if c == "|" else i for c, i in zip(text, byte_ids(talks, text), strict=True)]
    logit = (
        AutoModelForSequenceClassification.from_pretrained(talks)(torch.tensor([ids])).logits[0, 0].detach()
    )
    assert await rated(talks, ["say five"]) == pytest.approx([float(logit.sigmoid())], abs=1e-6)


def byte_ids(folder: Path, text: str) -> list[int]:
    from transformers import AutoTokenizer

    return list(AutoTokenizer.from_pretrained(folder)(text)["input_ids"])


@pytest.mark.parametrize("kind", ["pairs", "talks"])
async def test_a_rating_does_not_depend_on_what_is_read_beside_it(
    kind: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(kind)
    texts = ["say five", TEXT, ""]
    alone = [(await rated(folder, [text]))[0] for text in texts]
    assert len(set(alone)) == 3
    assert await rated(folder, texts) == pytest.approx(alone, abs=1e-6)
    assert await rated(folder, texts, batch=2) == pytest.approx(alone, abs=1e-6)


async def test_the_steps_of_a_text_make_one_rating_as_the_rule_says(pairs: Path) -> None:
    beginnings = ["two and three\n", "two and three\n\nthe sum is four\n", TEXT]
    each = await rated(pairs, beginnings)
    assert await rated(pairs, [TEXT]) == pytest.approx(each[-1:])
    for rule, value in (("min", min(each)), ("product", np.prod(each)), ("mean", np.mean(each))):
        assert await rated(pairs, [TEXT, "say"], over=rule) == pytest.approx(
            [value, (await rated(pairs, ["say"]))[0]]
        ), rule


async def test_tokens_are_counted_per_forward_and_no_text_costs_none(pairs: Path) -> None:
    made = member(pairs)
    # a question of eight words and its mark, and a text of two words; this tokenizer puts nothing around a pair
    assert (await made.rate(QUERY, ["say five"])).usage.prompt_tokens == 9 + 2
    nothing = await made.rate(QUERY, [])
    assert (nothing.value.shape, nothing.usage.prompt_tokens) == ((0, 1), 0)
    await made.aclose()


async def test_what_is_too_long_is_an_error_and_not_cut(pairs: Path) -> None:
    with pytest.raises(BackendError, match=r"reads at most 64 tokens, but question and text have 109"):
        await rated(pairs, ["say " * 100])
    with pytest.raises(BackendError, match=r"reads at most 8 tokens"):
        await rated(pairs, ["say"], max_length=8)


async def test_half_a_character_is_refused(actor: RewardActor) -> None:
    with pytest.raises(BackendError, match=r"half a character \(U\+D83D\)"):
        await actor.rate(QUERY, ["\ud83d"])


async def test_it_offers_ratings_only_and_nothing_after_it_was_closed(pairs: Path) -> None:
    made = member(pairs)
    assert made.caps.named() == ["rate"]
    with pytest.raises(BackendError, match="does not offer text"):
        await made.complete(QUERY)
    await made.aclose()
    await made.aclose()
    with pytest.raises(BackendError, match="was closed"):
        await made.rate(QUERY, ["say"])


async def test_weights_without_a_head_are_an_error_not_a_random_head(pairs: Path, tmp_path: Path) -> None:
    folder = save_tiny_encoder(tmp_path / "headless")
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["BertForSequenceClassification"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BackendError, match=r"are not whole: there is no classifier"):
        await rated(folder, ["say"])


def test_a_wrong_folder_is_an_error_before_anything_is_loaded(pairs: Path, tmp_path: Path) -> None:
    for options, said in (
        ({}, r"reward.model: must be a model's folder"),
        ({"model": str(tmp_path / "none")}, "there is no model folder"),
        ({"model": str(tmp_path)}, "has no config.json"),
        ({"model": str(pairs), "label": 2}, "must be one of the model's 2 labels"),
        ({"model": str(pairs), "max_length": 65}, "must be at most 64 tokens"),
    ):
        with pytest.raises((ConfigError, BadParameter), match=said):
            Reward(**options).connect(Place())


def test_a_language_model_is_told_that_it_is_no_classifier(tmp_path: Path) -> None:
    folder = save_tiny_causal(tmp_path / "causal")
    with pytest.raises(ConfigError, match=r"no sequence classifier \(its architecture is LlamaForCausalLM\)"):
        Reward(model=str(folder)).connect(Place())


@pytest.mark.parametrize("missing", ["tokenizer.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file_is_told_which(pairs: Path, tmp_path: Path, missing: str) -> None:
    shutil.copytree(pairs, tmp_path / "part")
    (tmp_path / "part" / missing).unlink()
    with pytest.raises(ConfigError, match=missing):
        Reward(model=str(tmp_path / "part")).connect(Place())
