"""Reads a task: the first line of its file is a header, every further line a question."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, get_args

from septet.core.errors import BadParameter, ConfigError, UnknownName
from septet.core.types import Finish
from septet.tasks.marking import Extractor, Mark, Metric, mark

HEADER = ("name", "version", "licence", "source", "prompt", "extractor", "metric", "max_tokens")
"""What a header must say; `chosen` (which questions of the source these are) is welcome."""

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question. `text` is the full text that a model is shown, `question` what is asked alone; `gold` the
    aliases of the right answer (for a choice, its letter); `group` a finer label within the task (a subject),
    or ""."""

    id: str
    text: str
    gold: tuple[str, ...]
    task: str
    group: str = ""
    question: str = ""
    choices: tuple[str, ...] = ()
    extractor: Extractor
    metric: Metric

    def mark(self, text: str, finish: Finish = "stop") -> Mark:
        """The final answer in a model's text, and its score in 0..1."""
        return mark(self.extractor, self.metric, text, self.gold, choices=self.choices, finish=finish)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Questions of one kind. `prompt` is the template of a question's text, with {question} and {choices};
    `max_tokens` what an answer may need; a change of questions, prompt or marking changes `version`."""

    name: str
    version: str
    licence: str
    source: str
    prompt: str
    extractor: Extractor
    metric: Metric
    max_tokens: int
    questions: tuple[Question, ...]
    chosen: str = ""

    def __len__(self) -> int:
        return len(self.questions)

    def first(self, limit: int | None) -> Task:
        """The same task with its first `limit` questions; None: all."""
        if limit is not None and limit < 1:
            raise BadParameter("limit", limit, "must be at least 1")
        return replace(self, questions=self.questions[:limit])


def names() -> list[str]:
    """The built-in tasks: the names of their files, with dashes."""
    return sorted(_name_of(f) for f in files("septet.tasks").iterdir() if f.name.endswith(".jsonl"))


def load(name: str | Path, limit: int | None = None) -> Task:
    """A built-in task by name, or any task by the path of its file; `limit` keeps its first questions.

    >>> load("toy-sums", limit=1).questions[0].text
    'What is 2 + 3? Answer with the number only.'
    """
    file = _file(name)
    try:
        # not splitlines: a JSON string may hold other line breaks, such as U+2028
        lines = file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except OSError as error:
        raise ConfigError(f"cannot read the task {name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"the task {name} is not UTF-8 text") from None
    records = _records(lines, file.name)
    header = next(records, {})
    missing = [key for key in HEADER if key not in header]
    if missing:
        raise BadParameter(f"{file.name}:1", sorted(header), f"must be a header with {', '.join(missing)}")
    _check_marking(header, f"{file.name}:1")
    questions = [_question(record, header, f"{file.name}:{n}") for n, record in enumerate(records, start=2)]
    _check_ids(questions, file.name)
    task = Task(
        **{key: header[key] for key in HEADER},
        chosen=str(header.get("chosen", "")),
        questions=tuple(questions),
    )
    return task.first(limit)


def _file(name: str | Path) -> Traversable:
    """The file of a task; a path is told by its ending."""
    if isinstance(name, Path) or name.endswith(".jsonl"):
        return Path(name)
    if name not in names():
        raise UnknownName("task", name, names())
    return files("septet.tasks") / f"{name.replace('-', '_')}.jsonl"


def _name_of(file: Traversable) -> str:
    return file.name.removesuffix(".jsonl").replace("_", "-")


def _records(lines: Sequence[str], place: str) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise BadParameter(f"{place}:{number}", line, f"must be JSON ({error.msg})") from None
        if not isinstance(record, dict):
            raise BadParameter(f"{place}:{number}", line, "must be a JSON object")
        yield record


def _question(record: Mapping[str, Any], header: Mapping[str, Any], place: str) -> Question:
    """One question; its own extractor and metric win over the header's."""
    for key, kind in (("id", str), ("question", str), ("gold", list)):
        if not isinstance(record.get(key), kind) or not record[key]:
            raise BadParameter(f"{place}.{key}", record.get(key), f"must be a {kind.__name__} with content")
    marking = {key: record.get(key, header[key]) for key in ("extractor", "metric")}
    _check_marking(marking, place)
    choices = tuple(record.get("choices", ()))
    gold = tuple(str(g) for g in record["gold"])
    if marking["metric"] == "choice" and not set(gold) <= set(LETTERS[: len(choices)]):
        raise BadParameter(f"{place}.gold", gold, f"must be among the letters of {len(choices)} choices")
    return Question(
        id=record["id"],
        text=asked(header["prompt"], record["question"], choices),
        gold=gold,
        task=header["name"],
        group=record.get("group", ""),
        question=record["question"],
        choices=choices,
        **marking,
    )


def _check_marking(marking: Mapping[str, Any], place: str) -> None:
    for key, allowed in (("extractor", get_args(Extractor)), ("metric", get_args(Metric))):
        if marking[key] not in allowed:
            raise BadParameter(f"{place}.{key}", marking[key], f"must be one of {', '.join(allowed)}")


def _check_ids(questions: Sequence[Question], place: str) -> None:
    """Ids name rows of outcomes and resumed runs, so each stands once."""
    ids = [q.id for q in questions]
    twice = sorted({i for i in ids if ids.count(i) > 1})
    if twice:
        raise BadParameter(place, twice, "must give every question its own id")


def asked(template: str, question: str, choices: Sequence[str]) -> str:
    r"""The text of a question: {choices} becomes one line per choice, each after a line break, or nothing.

    >>> asked("{question}{choices}\nAnswer:", "Which is red?", ["grass", "blood"])
    'Which is red?\nA. grass\nB. blood\nAnswer:'
    """
    listed = "".join(f"\n{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
    parts = {"{question}": question, "{choices}": listed}
    # one pass, so that a question that holds "{choices}" itself stays as it is
    return re.sub(r"\{question\}|\{choices\}", lambda found: parts[found[0]], template)
