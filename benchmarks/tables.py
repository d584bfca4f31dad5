"""How long a table of outcomes takes to read, and how much memory: `python benchmarks/tables.py [--rows N]`.

Each number is from a process of its own that reads one file and nothing else; its memory is the most that it ever
had, the interpreter and its libraries included.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from figures import Figure, Section, Setting, figure

ROWS = 2_000_000
MODELS = 20
AIM_MB = 1000.0
"""The most memory that a table of two million rows may take while it is read."""

FORMS = ("outcomes.parquet", "outcomes.jsonl", "texts.parquet")
"""What is read; `texts` has an answer of 100 characters in every row."""


def run(setting: Setting) -> Section:
    """Seconds and memory of each form."""
    return measured(20_000 if setting.quick else ROWS)


def measured(rows: int) -> Section:
    """Writes each form once, and reads it in a fresh process."""
    figures: list[Figure] = []
    details: dict[str, Any] = {}
    aim = AIM_MB if rows == ROWS else None
    with tempfile.TemporaryDirectory() as folder:
        for form in FORMS:
            path = Path(folder) / form
            child("write", str(path), str(rows))
            found = child("read", str(path))
            details[form] = found | {"file_mb": round(path.stat().st_size / 1e6, 1)}
            path.unlink()
            figures += [
                figure(f"{form}: time", [found["seconds"]], unit="s"),
                figure(f"{form}: most memory", [found["mb"]], unit="MB", aim=aim),
                figure(f"{form}: the table's own arrays", [found["arrays_mb"]], unit="MB"),
            ]
    what = f"{rows:,} rows: {rows // MODELS:,} questions × {MODELS} models, score, cost, tokens, answer"
    return Section("tables", what, tuple(figures), details={"rows": rows, "forms": details})


def child(*arguments: str) -> dict[str, Any]:
    """Runs this file's own command in a fresh process; what it printed."""
    done = subprocess.run(
        [sys.executable, __file__, *arguments], capture_output=True, text=True, check=True
    ).stdout
    found: dict[str, Any] = json.loads(done)
    return found


# --- in a process of its own -------------------------------------------------------------------------------


def write(path: Path, rows: int) -> dict[str, Any]:
    """Writes a table of made-up outcomes."""
    import numpy as np

    from septet.bench import tables
    from septet.core.table import Table

    rng = np.random.default_rng(0)
    n = rows // MODELS
    letters = np.array(list("ABCDEFGHIJ"), dtype=object)
    text = None
    if path.name.startswith("texts"):
        text = np.array([f"{i:08d} " + "because " * 11 + "so" for i in range(rows)], dtype=object)
    table = Table.of_arrays(
        queries=[f"question-{i}" for i in range(n)],
        questions=[
            f"What is {i} plus {i * 7 % 1000}, and is it more than {i * 13 % 1000}?" for i in range(n)
        ],
        tasks=[f"task-{i % 14}" for i in range(n)],
        splits=["train" if i % 2 else "test" for i in range(n)],
        members=[f"vendor/model-{j}" for j in range(MODELS)],
        query=np.repeat(np.arange(n), MODELS),
        member=np.tile(np.arange(MODELS), n),
        answer=letters[rng.integers(0, len(letters), n * MODELS)],
        text=text,
        numbers={
            "score": rng.integers(0, 2, n * MODELS).astype(float),
            "usd": rng.random(n * MODELS) / 1000,
            "prompt_tokens": rng.integers(20, 900, n * MODELS).astype(float),
            "completion_tokens": rng.integers(1, 600, n * MODELS).astype(float),
        },
    )
    tables.write(table, path)
    return {"rows": len(table)}


def read(path: Path) -> dict[str, Any]:
    """Reads a table; seconds, the most memory of this process, and that of the table's arrays."""
    import resource
    import time

    from septet.bench import tables

    began = time.perf_counter()
    table = tables.read(path)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    arrays = [table.query, table.member, table.sample, table.text, table.answer, *table.numbers.values()]
    return {
        "rows": len(table),
        "seconds": round(seconds, 2),
        "mb": round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1),
        "arrays_mb": round(sum(a.nbytes for a in arrays if a.strides != (0,)) / 1e6, 1),
    }


def main(arguments: Sequence[str]) -> int:
    """Measures and prints; `write` and `read` are what the fresh processes do."""
    if arguments and arguments[0] in ("write", "read"):
        path = Path(arguments[1])
        print(json.dumps(write(path, int(arguments[2])) if arguments[0] == "write" else read(path)))
        return 0
    parser = ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(list(arguments))
    section = measured(options.rows)
    print(json.dumps(section.json()) if options.json else section.text())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
