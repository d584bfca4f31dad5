"""The library's door: asking, streaming, many at once, nesting, cancelling, and what the store keeps."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import septet
from septet.core.errors import BadParameter, ConfigError, LimitReached, RunError
from septet.core.types import Answer, Piece, Query
from septet.testing.toys import QUESTIONS, toy_config, toy_house

PARIS = "Paris is the capital of France."
QUESTION = "What is the capital of France?"

NESTED = """
[members]
ada = { backend = "toy", answers = { "capital of France" = "Paris is the capital of France." } }
bob = { backend = "toy", answers = { "capital of France" = "Paris is the capital of France." }, tokenizer = "bytes" }

[ensembles.inner]
method = "unite"
members = ["ada", "bob"]

[ensembles.outer]
method = "unite"
members = ["inner", "ada"]
"""


async def test_a_member_can_be_asked_on_its_own(tmp_path: Path) -> None:
    async with toy_house(toy_config("unite", folder=tmp_path)) as house:
        answer = await house["ada"].ask(QUESTION)
        assert (answer.text, answer.candidates[0].member) == (PARIS, "ada")


async def test_streamed_pieces_are_the_answer(tmp_path: Path) -> None:
    async with toy_house(toy_config("unite", folder=tmp_path)) as house:
        items = [item async for item in house["toys"].stream(QUESTION)]
    assert isinstance(items[-1], Answer)
    pieces = [item for item in items if isinstance(item, Piece)]
    assert len(pieces) > 2
    assert "".join(p.text for p in pieces) == items[-1].text == PARIS


async def test_a_token_ensemble_is_a_member_of_another(tmp_path: Path) -> None:
    (tmp_path / "n.toml").write_text(NESTED)
    async with septet.load(tmp_path / "n.toml", set=[f"store.path={tmp_path}/n.db"]) as house:
        answer = await house["outer"].ask(QUESTION)
        assert answer.text == PARIS
        await house.store.flush()
        _, calls = house.store.trace(answer.trace_id)
    assert sorted((c["path"], c["member"]) for c in calls) == [
        ("outer", "ada"),
        ("outer/inner", "ada"),
        ("outer/inner", "bob"),
    ]


async def test_a_stop_string_ends_the_answer_before_it_and_until_after_it(tmp_path: Path) -> None:
    async with toy_house(toy_config("unite", folder=tmp_path)) as house:
        stopped = await house["toys"].ask(QUESTION, stop=(" capital",))
        until = await house["toys"].ask(QUESTION, until=(" capital",))
    assert (stopped.text, stopped.finish) == ("Paris is the", "stop")
    assert (until.text, until.finish) == ("Paris is the capital", "until")


async def test_a_truncated_answer_says_so(tmp_path: Path) -> None:
    async with toy_house(toy_config("unite", folder=tmp_path)) as house:
        answer = await house["toys"].ask(QUESTION, max_tokens=2)
    assert answer.finish == "length"
    assert PARIS.startswith(answer.text)


async def test_many_questions_come_back_in_order_and_a_second_call_repeats_nothing(tmp_path: Path) -> None:
    async with toy_house(toy_config("unite", folder=tmp_path)) as house:
        asked = house["toys"]
        first = await asked.ask_many(list(QUESTIONS), concurrency=3, resume="b1")
        again = await asked.ask_many([*QUESTIONS, "What is 2+3?"], concurrency=3, resume="b1")
    assert [a.trace_id for a in again[:-1]] == [a.trace_id for a in first]
    assert first[0].text == PARIS


async def test_tools_are_refused_where_no_single_member_answers(tmp_path: Path) -> None:
    async with toy_house(toy_config("unite", folder=tmp_path)) as house:
        with pytest.raises(BadParameter, match="no single member that answers"):
            await house["toys"].ask(Query.of(QUESTION, extra={"tools": []}, max_tokens=3))


async def test_the_worst_case_is_refused_before_the_first_call(tmp_path: Path) -> None:
    text = toy_config("unite", limits={"calls": 2}, folder=tmp_path)
    async with toy_house(text) as house:
        with pytest.raises(LimitReached, match="worst case, before the first call"):
            await house["toys"].ask(QUESTION)
        (request,) = house.store.recent(5)
    assert request["status"] == "failed"


async def test_a_cancelled_request_keeps_what_was_done(tmp_path: Path) -> None:
    text = toy_config("unite", members={"ada": {"latency_seconds": 30}}, folder=tmp_path)
    async with toy_house(text) as house:
        task = asyncio.create_task(house["toys"].ask(QUESTION))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (request,) = house.store.recent(5)
        _, calls = house.store.trace(request["id"])
    assert request["status"] == "cancelled"
    assert {c["member"]: c["error"] for c in calls}["ada"] == "cancelled"


async def test_leaving_a_stream_early_cancels_the_request(tmp_path: Path) -> None:
    async with toy_house(toy_config("unite", folder=tmp_path)) as house:
        stream = house["toys"].stream(QUESTION)
        assert isinstance(await anext(stream), Piece)
        await stream.aclose()
        (request,) = house.store.recent(5)
    assert request["status"] == "cancelled"


async def test_when_every_member_fails_all_causes_are_named(tmp_path: Path) -> None:
    members = {name: {"fail": True} for name in ("ada", "bob", "cyd")}
    async with toy_house(toy_config("unite", members=members, folder=tmp_path)) as house:
        with pytest.raises(RunError) as caught:
            await house["toys"].ask(QUESTION)
    assert all(f"{name} fails" in str(caught.value) for name in members)


async def test_under_fail_one_failing_member_ends_the_request(tmp_path: Path) -> None:
    text = toy_config(
        "unite", members={"bob": {"fail": True}}, limits={"on_member_error": "fail"}, folder=tmp_path
    )
    async with toy_house(text) as house:
        with pytest.raises(RunError, match="bob fails"):
            await house["toys"].ask(QUESTION)


async def test_two_processes_worth_of_houses_share_one_store(tmp_path: Path) -> None:
    text = toy_config("unite", folder=tmp_path)
    async with toy_house(text) as one, toy_house(text) as two:
        answers = await asyncio.gather(*(h["toys"].ask(QUESTION) for h in (one, two) * 5))
        assert len(one.store.recent(100)) == 10
    assert len({a.trace_id for a in answers}) == 10


async def test_a_method_without_a_state_cannot_be_fitted(tmp_path: Path) -> None:
    from septet.testing.toys import toy_table

    async with toy_house(toy_config("unite", folder=tmp_path)) as house:
        with pytest.raises(ConfigError, match="nothing to fit"):
            await house["toys"].fit(toy_table())


def test_the_blocking_door_asks_and_streams(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(toy_config("unite", folder=tmp_path))
    with septet.open_blocking(tmp_path / "t.toml") as house:
        assert house["toys"].ask(QUESTION).text == PARIS
        items: list[Any] = list(house["toys"].stream(QUESTION))
        assert items[-1].text == PARIS
        assert [a.text for a in house["toys"].ask_many([QUESTION] * 2)] == [PARIS, PARIS]


def test_the_public_names_are_the_ones_that_are_listed() -> None:
    assert all(getattr(septet, name) is not None for name in septet.__all__)
    assert dir(septet) == septet.__all__
