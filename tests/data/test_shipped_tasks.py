"""The tasks that the package ships are questions of the shared sets, with the same right answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from septet.tasks import loader

pytestmark = pytest.mark.data

SOURCES = {
    "arc-easy": "arc_easy_test",
    "bbh-mini": "bbh_mini",
    "gsm8k": "gsm8k_test",
    "mmlu-pro-mini": "mmlu_pro_mini",
    "openbookqa": "openbookqa",
}


def source(data: Path, name: str) -> dict[str, Any]:
    lines = (data / "tasks" / f"{SOURCES[name]}.jsonl").read_text(encoding="utf-8").removesuffix("\n")
    return {row["id"]: row for row in map(json.loads, lines.split("\n"))}


def parts(row: dict[str, Any]) -> tuple[str, list[str]]:
    """The question and its choices; BIG-Bench Hard writes them into the question, as lines "(A) …", and
    sometimes opens with "Question: "."""
    stem, _, listed = row["question"].removeprefix("Question: ").partition("\nOptions:\n(A) ")
    return stem, re.split(r"\n\([A-Z]\) ", listed) if listed else row["choices"] or []


def test_every_shipped_task_but_our_own_sums_has_a_source(data: Path) -> None:
    assert set(loader.names()) - set(SOURCES) == {"toy-sums"}


@pytest.mark.parametrize("name", SOURCES)
def test_a_shipped_question_is_one_of_its_source_with_the_same_choices_and_answer(
    name: str, data: Path
) -> None:
    known = source(data, name)
    task = loader.load(name)
    assert 0 < len(task) <= len(known)
    for question in task.questions:
        stem, choices = parts(known[question.id])
        assert stem in question.text
        assert list(question.choices) == choices
        assert set(question.gold) == {gold.strip("()") for gold in known[question.id]["answers"]}
