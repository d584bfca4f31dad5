"""Recorded answers: the same again, by seed, with what they cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest

from septet.backends.replay import Replay, ReplayEndpoint
from septet.core.actor import Actor
from septet.core.backend import Defaults, MemberSpec, Place
from septet.core.errors import BackendError, BadParameter, ConfigError, UnknownName
from septet.core.money import Usage
from septet.core.prompt import BUILT_IN
from septet.core.types import Completion, Piece, Query

FAUST = "Who wrote Faust?"


def row(model: str, sample: int, response: str | None, **more: Any) -> dict[str, Any]:
    facts = {"query_id": "q1", "query": FAUST, "split": "test"}
    return {**facts, "model": model, "sample_id": sample, "response": response, **more}


PRICED = {"cost_usd": 0.25, "prompt_tokens": 9, "completion_tokens": 2, "seconds": 1.5}
ROWS = [
    {"note": "how this was made"},
    row("a", 2, "third"),
    row("a", 0, "first", confidence=0.75, logp=-0.5, score=1.0, **PRICED),
    row("a", 1, "second"),
    row("a", 3, None, score=0.0),
    row("b", 0, "Goethe"),
    {**row("b", 0, "no text"), "query_id": "q2", "query": "Who wrote\n  Emma? ", "split": "train"},
]


def table(folder: Path, rows: list[dict[str, Any]] = ROWS) -> ReplayEndpoint:
    (folder / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return Replay(table="t.jsonl").connect(Place(folder=str(folder)))


def member(endpoint: ReplayEndpoint, name: str = "a", seed: int = 0) -> Actor:
    return endpoint.member(MemberSpec(name=name, prompt=BUILT_IN["chat"], defaults=Defaults(seed=seed)))


async def test_a_recorded_answer_comes_back_with_what_it_took(tmp_path: Path) -> None:
    endpoint = table(tmp_path, ROWS[:1] + ROWS[2:3])
    found = (await member(endpoint).complete(Query.of(FAUST)))[0]
    assert found == Completion(
        member="a",
        text="first",
        usage=Usage(9, 2, 0, 11),
        usd=0.25,
        seconds=1.5,
        confidence=0.75,
        extra={"query_id": "q1", "sample_id": 0, "usd": 0.25, "score": 1.0, "logp": -0.5},
    )


async def test_what_was_not_recorded_counts_as_nothing_and_is_named(tmp_path: Path) -> None:
    found = (await member(table(tmp_path), "b").complete(Query.of(FAUST)))[0]
    assert (found.usage, found.usd, found.confidence) == (Usage(), 0.0, None)
    assert found.extra["notes"] == ["not recorded: usd, prompt_tokens, completion_tokens, seconds"]


async def test_samples_are_drawn_by_seed_question_and_number(tmp_path: Path) -> None:
    it = member(table(tmp_path))
    texts = ("first", "second", "third")  # by sample; the one without a text was never an answer
    for seed in (0, 7):
        drawn = [c.text for c in await it.complete(Query.of(FAUST, seed=seed), n=5)]
        expected = [texts[int(np.random.default_rng([seed, crc32(b"q1"), j]).integers(3))] for j in range(5)]
        assert drawn == expected
    many = await it.complete(Query.of(FAUST), n=40)
    assert {c.text for c in many} == set(texts) and [c.sample for c in many] == list(range(40))
    # one of them alone is the first of them
    assert (await it.complete(Query.of(FAUST)))[0] == many[0]


async def test_the_members_seed_is_used_where_the_query_has_none(tmp_path: Path) -> None:
    endpoint = table(tmp_path)
    ours = await member(endpoint, seed=5).complete(Query.of(FAUST), n=6)
    assert ours == await member(endpoint).complete(Query.of(FAUST, seed=5), n=6)


async def test_a_question_is_known_whatever_its_white_space(tmp_path: Path) -> None:
    it = member(table(tmp_path), "b")
    assert (await it.complete(Query.of(" Who wrote Emma?\n")))[0].text == "no text"
    assert (await it.complete(Query(raw="Who  wrote\tFaust?")))[0].text == "Goethe"


async def test_a_question_that_was_not_recorded_is_named_with_the_table(tmp_path: Path) -> None:
    endpoint = table(tmp_path)
    with pytest.raises(BackendError, match=r"t\.jsonl has no answer of 'a' to 'Who wrote Emma\?'") as caught:
        await member(endpoint).complete(Query.of("Who wrote Emma?"))
    assert not caught.value.retryable and caught.value.status == 404


async def test_a_member_that_is_not_in_the_table_is_named_with_its_neighbours(tmp_path: Path) -> None:
    with pytest.raises(
        UnknownName, match=r"unknown model in the table 'aa' \(.*t\.jsonl\); did you mean 'a'\?"
    ):
        await member(table(tmp_path), "aa").complete(Query.of(FAUST))


async def test_a_split_keeps_other_questions_out(tmp_path: Path) -> None:
    table(tmp_path)
    endpoint = Replay(table="t.jsonl", model="b", split="train").connect(Place(folder=str(tmp_path)))
    it = member(endpoint, "any name")
    assert (await it.complete(Query.of("Who wrote Emma?")))[0].member == "any name"
    with pytest.raises(BackendError, match=r"\(split 'train'\) has no answer"):
        await it.complete(Query.of(FAUST))


async def test_a_split_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    table(tmp_path)
    endpoint = Replay(table="t.jsonl", split="dev").connect(Place(folder=str(tmp_path)))
    with pytest.raises(BadParameter, match=r"must be among \['test', 'train'\]"):
        await member(endpoint).complete(Query.of(FAUST))


async def test_members_of_one_endpoint_share_one_table_that_is_read_at_the_first_question(
    tmp_path: Path,
) -> None:
    endpoint = table(tmp_path)
    a, b = member(endpoint), member(endpoint, "b")
    await a.complete(Query.of(FAUST))
    first = endpoint.recorded
    (tmp_path / "t.jsonl").unlink()
    await b.complete(Query.of(FAUST))
    assert endpoint.recorded is first
    await endpoint.aclose()
    with pytest.raises(ConfigError, match="cannot be read"):
        await b.complete(Query.of(FAUST))


async def test_a_stream_is_the_answer_in_one_piece(tmp_path: Path) -> None:
    it = member(table(tmp_path), "b")
    items = [item async for item in it.stream(Query.of(FAUST))]
    assert items[0] == Piece("Goethe", {"b": 1.0})
    assert items[1:] == await it.complete(Query.of(FAUST))


def test_a_missing_table_is_an_error_before_any_question(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no file .*none\.jsonl"):
        Replay(table="none.jsonl").connect(Place(folder=str(tmp_path)))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"model": "a"', r"t\.jsonl:1"),
        (b"\xff", "cannot be read"),
        (b'{"model": "a"}', "query_id or query"),
    ],
)
async def test_a_table_that_is_broken_says_where(tmp_path: Path, content: bytes, words: str) -> None:
    endpoint = table(tmp_path)
    (tmp_path / "t.jsonl").write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        await member(endpoint).complete(Query.of(FAUST))


@pytest.mark.parametrize(
    ("act", "lacks"),
    [
        (lambda it: it.complete(Query.of(FAUST, prefix="It was")), "continues"),
        (lambda it: it.complete(Query.of(FAUST), logprobs=1), "logprobs"),
        (lambda it: it.complete(Query.of(FAUST, extra={"tools": []})), "tools"),
        (lambda it: it.open(Query.of(FAUST)), "topk"),
        (lambda it: it.score(Query.of(FAUST), ["x"]), "score"),
        (lambda it: it.embed(["x"]), "embed"),
    ],
)
async def test_only_whole_answers_were_recorded(tmp_path: Path, act: Any, lacks: str) -> None:
    it = member(table(tmp_path))
    assert it.vocab is None and it.caps.named() == ["text", "samples", "seed", "stream"]
    with pytest.raises(BackendError, match=f"does not offer {lacks}"):
        await act(it)
