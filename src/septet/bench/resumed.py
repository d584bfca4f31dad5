"""Files that grow by a line of JSON at a time, so that a run that was stopped goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def kept(file: Path) -> list[Any]:
    """The values of an earlier run's file, none where there is no file; a last line that was cut off is taken away."""
    if not file.is_file():
        return []
    whole, _, _ = file.read_text(encoding="utf-8").rpartition("\n")
    file.write_text(f"{whole}\n" if whole else "", encoding="utf-8")
    return [json.loads(line) for line in whole.split("\n") if line]


def keep(file: Path, value: Any) -> None:
    """One value more, on disk when this returns."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as opened:
        opened.write(json.dumps(value, ensure_ascii=False) + "\n")
