"""Multiple choice by score, on toys whose preferences are known."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from septet.bench.options import Scored, options, oracle, record
from septet.core.errors import BadParameter
from septet.tasks.loader import Question, Task
from septet.testing.toys import toy_config, toy_house

QUESTIONS = (
    ("What colour is the sky?", ("The sky is blue.", "I do not know."), "A"),
    ("Who wrote Faust?", ("I am not sure.", "Goethe wrote Faust."), "B"),
)


def task(questions: tuple[tuple[str, tuple[str, ...], str], ...] = QUESTIONS) -> Task:
    made = tuple(
        Question(
            id=str(i),
            text=text,
            question=text,
            gold=(gold,),
            task="toys",
            choices=choices,
            extractor="choice",
            metric="choice",
        )
        for i, (text, choices, gold) in enumerate(questions)
    )
    return Task(
        name="toys",
        version="1",
        licence="CC0",
        source="here",
        prompt="{question}",
        extractor="choice",
        metric="choice",
        max_tokens=8,
        questions=made,
    )


def scored(folder: Path, one: Task, kept: Path | None = None, **members: object) -> list[Scored]:
    async def run() -> list[Scored]:
        text = toy_config("unite", order=("ada", "bob"), members=members, folder=folder)  # type: ignore[arg-type]
        async with toy_house(text) as house:
            return await options(house, ["toys"], [one], lead="", folder=kept)

    return asyncio.run(run())


def test_members_that_know_the_answer_take_its_option_and_so_does_their_ensemble(tmp_path: Path) -> None:
    found = {s.name: s for s in scored(tmp_path, task(), ada={"skill": 1.0}, bob={"skill": 1.0})}
    assert [s.right for s in found.values()] == [(True, True)] * 3
    assert found["toys"].minus_best is not None
    assert found["toys"].minus_best.value == 0
    assert found["ada"].minus_best is None


def test_a_member_that_prefers_wrong_answers_is_behind_and_the_oracle_takes_the_better_one(
    tmp_path: Path,
) -> None:
    found = scored(tmp_path, task(), ada={"skill": 0.0}, bob={"skill": 1.0})
    by_name = {s.name: s for s in found}
    assert by_name["bob"].accuracy.value == 1.0
    assert oracle(found, "toys").value == 1.0


def test_a_failing_member_is_wrong_and_counted_and_the_record_holds_no_text(tmp_path: Path) -> None:
    found = scored(tmp_path, task(), ada={"fail": True})
    by_name = {s.name: s for s in found}
    assert (len(by_name["ada"].errors), by_name["ada"].accuracy.value) == (2, 0.0)
    assert all("ada fails" in error for error in by_name["ada"].errors)
    kept = str(record(found, [task()]))
    assert "sky" not in kept
    assert "Goethe" not in kept


def test_a_question_without_choices_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="choices"):
        scored(tmp_path, task((("Who wrote Faust?", ("Goethe",), "A"),)))


def test_a_run_that_was_stopped_goes_on_where_it_stopped(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    first = scored(tmp_path, task(QUESTIONS[:1]), kept)
    assert [s.right for s in first] == [s.right for s in scored(tmp_path, task(QUESTIONS[:1]), kept)]
    for file in kept.iterdir():  # turned round by hand: what is kept is not scored again
        file.write_text(file.read_text().replace("true", "false") + '["1", tr')
    again = scored(tmp_path, task(QUESTIONS[:1]), kept)
    assert not any(any(s.right) for s in again)
    other = scored(tmp_path, task(), kept)  # other questions are another task
    assert [s.right for s in other] == [s.right for s in scored(tmp_path, task())]
