"""What a bench run comes to: rows for a table, and a JSON record with its provenance and without any text."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from septet.bench.live import Measured, Results, data_hash

COLUMNS = ("task", "ensemble", "method", "n", "accuracy", "95 % interval", "usd", "s/question", "cut off")
"""The columns of `rows`."""

PACKAGES = ("septet", "llama-cpp-python", "transformers", "torch", "numpy")
"""Whose versions go into the record, where they are installed."""

FORM = 1
"""Of the record; a change of its keys raises it."""


def rows(results: Results) -> list[tuple[str, ...]]:
    """One row per task and ensemble, as text, under `COLUMNS`."""
    return [_row(m) for m in results.measured]


def _row(m: Measured) -> tuple[str, ...]:
    share = m.accuracy
    return (
        m.task,
        m.ensemble,
        m.method,
        str(share.n),
        f"{share.value:.3f}",
        f"{share.low:.3f} – {share.high:.3f}",
        f"{m.usd:.6f}",
        f"{m.seconds:.2f}",
        str(m.truncated),
    )


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
            }
            for t in results.tasks
        ],
        "measured": [asdict(m) for m in results.measured],
    }


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
