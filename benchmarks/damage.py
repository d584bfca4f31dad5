"""What a careless commit does to long answers: `append` gives each member the string as its tokenizer reads it out of
context, as published code does; `own` and `canonical` are septet's rules.
`python benchmarks/damage.py TASK.jsonl [--limit 30] [--pieces 120] [--json FILE]`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from decoding import Marked, measured, written

from septet.core.session import Vocab
from septet.core.types import Query
from septet.parts.stats.intervals import Estimate, bootstrap_mean, wilson
from septet.tasks import loader
from septet.tasks.loader import Question

HERE = Path(__file__).parent

POLICIES = ("append", "own", "canonical")

EMOJI = (
    "My holiday in emoji, day by day, ten for every day:\nDay 1: 🏖️🌊🐚☀️🦀👩‍👩‍👧😎🍉🇮🇹🎉\nDay 2: 🚲🌲🦊🏕️🔥",
    "My shopping list, with an empty line after every entry:\n\n- bread\n\n- milk\n\n- eggs\n\n-",
    "/* Sorts the numbers. */\nvoid sort(int *a, int n)\n{\n\tfor (int i = 1; i < n; i++) {\n\t\tint x = a[i];\n",
    "今天天气很好，我们去公园",
)
"""Beside the task: text where readings out of context go wrong most."""


class Appending:
    """A member's session that is given each string as its tokenizer reads it alone; other calls go through."""

    def __init__(self, session: Any) -> None:
        self.session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    async def push(self, piece: bytes, *, id: int | None = None) -> None:
        vocab: Vocab = self.session.vocab
        # the published way goes through a decoded string: what is not whole characters becomes U+FFFD
        said = piece.decode("utf-8", "replace").encode()
        for token in vocab.tokenise(said):
            await self.session.push(vocab.bytes_of(token), id=token)


@dataclass(frozen=True)
class Answered:
    """One answer: its bytes, and per member whether it holds other bytes, how many ids it holds, and how many of
    them are not its tokenizer's reading."""

    text: bytes
    finish: str
    wrong: tuple[bool, ...]
    ids: tuple[int, ...]
    foreign: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Damage:
    """A method under a policy on one kind of text: the share of answers in which a member's bytes are not the answer's,
    each member's share of ids off its own reading, and the task's score (None where there is none)."""

    method: str
    policy: str
    kind: str
    n: int
    wrong_bytes: Estimate
    foreign_ids: dict[str, float]
    score: Estimate | None


async def damage(
    config: Path, method: str, policy: str, queries: Sequence[Query]
) -> tuple[list[str], list[Answered]]:
    """The members' names, and the answers to all queries."""
    commit = "own" if policy == "append" else policy
    settings = [f"ensembles.{method}.commit={commit}", "limits.seconds=3600"]
    found = []
    async with measured(config, method, settings) as asked:
        for query in queries:
            async with written(asked, query) as (session, answer):
                if policy == "append":
                    together = session.together
                    together.sessions = [None if s is None else Appending(s) for s in together.sessions]
                done = await answer()
                found.append(_answered(session, done.text, done.finish))
        return [m.name for m in asked.ensemble.members], found


def _answered(session: Marked, text: bytes, finish: str) -> Answered:
    wrong, n_ids, foreign = [], [], []
    for member in session.members:
        held: Any = getattr(member, "session", member)  # append: beneath the wrapper
        local = held._session  # beneath the gate: only the member itself knows its ids
        reading = _places(local.vocab, local.vocab.tokenise(text))
        own = _places(local.vocab, local.ids)
        wrong.append(local.committed != text)
        n_ids.append(len(own))
        foreign.append(len(own - reading))
    return Answered(text, finish, tuple(wrong), tuple(n_ids), tuple(foreign))


def _places(vocab: Vocab, ids: Sequence[int]) -> set[tuple[int, int]]:
    """Every id with the byte at which it begins."""
    sizes = [len(vocab.bytes_of(i)) for i in ids]
    return set(zip(np.cumsum([0, *sizes[:-1]]).tolist(), ids, strict=True)) if ids else set()


def summed(
    method: str,
    policy: str,
    kind: str,
    names: Sequence[str],
    found: Sequence[Answered],
    scores: Sequence[float] | None,
) -> Damage:
    """The answers of one kind together."""
    ids, foreign = (np.array([getattr(a, what) for a in found]).sum(axis=0) for what in ("ids", "foreign"))
    score = None if scores is None else bootstrap_mean(np.array(scores), np.random.default_rng(0))
    return Damage(
        method=method,
        policy=policy,
        kind=kind,
        n=len(found),
        wrong_bytes=wilson(sum(any(a.wrong) for a in found), len(found)),
        foreign_ids=dict(zip(names, (foreign / np.maximum(ids, 1)).tolist(), strict=True)),
        score=score,
    )


async def measure(task: str, limit: int, pieces: int, methods: Sequence[str]) -> list[Damage]:
    """All methods under all policies, on the task and on the awkward texts."""
    questions: Sequence[Question] = loader.load(task, limit).questions
    asked = [Query.of(q.text, max_tokens=pieces) for q in questions]
    awkward = [Query(raw=text, max_tokens=pieces) for text in EMOJI]
    rows = []
    for method in methods:
        for policy in POLICIES:
            names, found = await damage(HERE / "two-models.toml", method, policy, [*asked, *awkward])
            on_task, on_awkward = found[: len(asked)], found[len(asked) :]
            scores = [
                q.mark(a.text.decode(errors="replace"), "stop" if a.finish == "stop" else "length").score
                for q, a in zip(questions, on_task, strict=True)
            ]
            rows.append(summed(method, policy, "task", names, on_task, scores))
            rows.append(summed(method, policy, "awkward", names, on_awkward, None))
            print(*map(_line, rows[-2:]), sep="\n", flush=True)
    return rows


def _line(d: Damage) -> str:
    ids = ", ".join(f"{name} {share:.1%}" for name, share in d.foreign_ids.items())
    score = "" if d.score is None else f"   score {d.score}"
    head = f"{d.method:6} {d.policy:10} {d.kind:8} n={d.n:3}"
    return f"{head}  wrong bytes {d.wrong_bytes}   ids off the reading: {ids}{score}"


def main(arguments: list[str]) -> int:
    """Prints a line per method, policy and kind."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("task", help="a task or its file: questions with long answers")
    parser.add_argument("--limit", type=int, default=30)
    parser.add_argument("--pieces", type=int, default=120)
    parser.add_argument(
        "--method", action="append", help="an ensemble of two-models.toml; else fused and gac"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    rows = asyncio.run(
        measure(options.task, options.limit, options.pieces, options.method or ["fused", "gac"])
    )
    if options.json:
        made = {"task": Path(options.task).stem, "pieces": options.pieces, "rows": [asdict(r) for r in rows]}
        options.json.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
