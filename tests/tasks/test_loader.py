"""The shipped tasks, and what a task file must be."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from septet.core.errors import BadParameter, ConfigError, UnknownName
from septet.engine import catalogue
from septet.tasks.loader import Task, asked, load, names

SHIPPED = ["arc-easy", "bbh-mini", "gsm8k", "mmlu-pro-mini", "openbookqa", "toy-sums"]

HEADER = {
    "name": "colours",
    "version": "2",
    "licence": "CC0-1.0",
    "source": "this test",
    "prompt": "Q: {question}{choices}\nA:",
    "extractor": "choice",
    "metric": "choice",
    "max_tokens": 8,
}
RED = {"id": "c1", "question": "Which is red?", "choices": ["grass", "blood"], "gold": ["B"]}
SKY = {"id": "c2", "question": "The sky is?", "gold": ["blue"], "extractor": "text", "metric": "exact"}


def written(folder: Path, *records: Any) -> Path:
    file = folder / "colours.jsonl"
    file.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf-8")
    return file


def test_the_shipped_tasks_are_those_that_the_catalogue_lists() -> None:
    assert names() == SHIPPED == sorted(e.name for e in catalogue.entries("tasks").values())


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_task_says_where_it_is_from_and_is_full(name: str) -> None:
    task = load(name)
    assert task.name == name
    assert len(task) == (40 if name == "toy-sums" else 120)
    assert task.licence in ("MIT", "Apache-2.0", "CC BY-SA 4.0")
    assert task.source


@pytest.mark.parametrize("name", SHIPPED)
def test_the_right_answer_of_every_question_is_marked_right_and_another_is_not(name: str) -> None:
    for question in load(name).questions:
        assert question.mark(f"Answer: {question.gold[0]}").score == 1.0, question.id
        assert question.mark("Answer: zebra 12345").score == 0.0, question.id


def test_a_choice_given_by_its_words_is_marked_right_throughout_a_shipped_task() -> None:
    for question in load("openbookqa").questions:
        words = question.choices["ABCD".index(question.gold[0])]
        assert question.mark(words).answer == question.gold[0], question.id


def test_the_toy_sums_are_right() -> None:
    for question in load("toy-sums").questions:
        left, right = question.text.removeprefix("What is ").partition("?")[0].split(" + ")
        assert int(left) + int(right) == int(question.gold[0])


def test_groups_say_the_subject() -> None:
    groups = Counter(q.group for q in load("bbh-mini").questions)
    assert groups["word_sorting"] == 16
    assert sum(groups.values()) == 120
    assert "" not in groups


def test_a_limit_keeps_the_first_questions() -> None:
    assert load("gsm8k", limit=3).questions == load("gsm8k").questions[:3]
    with pytest.raises(BadParameter, match="limit: must be at least 1, got 0"):
        load("gsm8k", limit=0)


def test_a_task_of_ones_own_is_loaded_by_its_path(tmp_path: Path) -> None:
    task = load(written(tmp_path, HEADER, RED, SKY))
    assert isinstance(task, Task)
    red, sky = task.questions
    assert red.text == "Q: Which is red?\nA. grass\nB. blood\nA:"
    assert sky.text == "Q: The sky is?\nA:"
    assert (red.mark("blood").score, sky.mark("Blue.").score) == (1.0, 1.0)


def test_a_path_as_text_is_a_path(tmp_path: Path) -> None:
    assert load(str(written(tmp_path, HEADER, RED))).version == "2"


def test_line_breaks_inside_a_string_do_not_end_a_record(tmp_path: Path) -> None:
    odd = {**SKY, "question": "The\u2028sky\x85is?"}
    assert load(written(tmp_path, HEADER, odd)).questions[0].text == "Q: The\u2028sky\x85is?\nA:"


def test_braces_in_a_question_are_left_alone() -> None:
    assert asked("{question}{choices}", "What is {choices}?", ["x"]) == "What is {choices}?\nA. x"


def test_an_unknown_task_gets_the_nearest_names() -> None:
    with pytest.raises(UnknownName, match="did you mean 'gsm8k'"):
        load("gsm-8k")


def test_a_missing_file_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([RED], "must be a header with name, version"),
        ([{**HEADER, "metric": "bleu"}, RED], "must be one of number, choice, exact, short"),
        ([HEADER, {**RED, "gold": ["C"]}], r"colours\.jsonl:2\.gold: must be among the letters of 2 choices"),
        ([HEADER, {**RED, "gold": "B"}], r"colours\.jsonl:2\.gold: must be a list with content"),
        ([HEADER, RED, RED], "must give every question its own id"),
        ([HEADER, RED, "words"], "colours.jsonl:3: must be a JSON object"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(tmp_path: Path, records: list[Any], said: str) -> None:
    with pytest.raises(BadParameter, match=said):
        load(written(tmp_path, *records))
