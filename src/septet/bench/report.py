"""What a bench run comes to: rows for a table, and a JSON record with its provenance and without any text."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from septet.bench.live import Measured, Results, data_hash, oracle
from septet.parts.stats.intervals import Estimate
from septet.tasks.loader import Task

COLUMNS = (
    "task", "ensemble", "method", "n", "score", "95 % interval", "− best member", "usd", "s/question", "cut off",
)  # fmt: skip
"""The columns of `rows`."""

PACKAGES = ("septet", "llama-cpp-python", "transformers", "torch", "numpy")
"""Whose versions go into the record, where they are installed."""

FORM = 1
"""Of the record; a change of its keys raises it."""


def rows(results: Results) -> list[tuple[str, ...]]:
    """One row per task and ensemble, as text, under `COLUMNS`; where members were asked, one for their oracle."""
    found = [_row(m) for m in results.measured]
    bests = [(task.name, oracle(results.measured, task.name)) for task in results.tasks]
    return found + [(name, "(oracle)", "", *_share(b), *("",) * 4) for name, b in bests if b is not None]


def _row(m: Measured) -> tuple[str, ...]:
    return (
        m.task,
        m.ensemble,
        m.method,
        *_share(m.accuracy),
        "" if m.minus_best is None else str(m.minus_best),
        f"{m.usd:.6f}",
        f"{m.seconds:.2f}",
        str(m.truncated),
    )


def _share(share: Estimate) -> tuple[str, str, str]:
    return str(share.n), f"{share.value:.3f}", f"{share.low:.3f} – {share.high:.3f}"


def record(results: Results, *, made: str = "") -> dict[str, Any]:
    """The run as JSON: numbers, n, seed, versions and data hashes; no questions and no answers.

    `made` is the date, where it should be told.
    """
    return {
        "form": FORM,
        **({"made": made} if made else {}),
        "seed": results.seed,
        "packages": versions(),
        "tasks": [
            {
                "name": t.name,
                "version": t.version,
                "licence": t.licence,
                "questions": len(t),
                "max_tokens": t.max_tokens,
                "data": data_hash(t),
                **_oracle(results, t),
            }
            for t in results.tasks
        ],
        "measured": [{k: v for k, v in asdict(m).items() if k != "scores"} for m in results.measured],
    }


def _oracle(results: Results, task: Task) -> dict[str, Any]:
    best = oracle(results.measured, task.name)
    return {} if best is None else {"oracle": asdict(best)}


def save(results: Results, path: str | Path, *, made: str = "") -> None:
    """Writes the record; an older file is replaced whole or not at all."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(file.name + ".part")
    text = json.dumps(record(results, made=made), indent=1, ensure_ascii=False, sort_keys=True)
    unfinished.write_text(text + "\n", encoding="utf-8")
    os.replace(unfinished, file)


def versions(names: tuple[str, ...] = PACKAGES) -> Mapping[str, str]:
    """The versions of those packages that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # an extra that this environment does without
    return found
