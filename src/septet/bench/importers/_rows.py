"""Records of foreign files, whatever their form, each with the place by which an error names it."""

from __future__ import annotations

import ast
import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from septet.bench.tables import open_parquet
from septet.core.errors import BadParameter, ConfigError

PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth")
"""Files that could run code while they are read."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a file; `place` is FILE:NUMBER, counted from 1."""

    place: str
    values: Mapping[str, Any]

    def get(self, *names: str) -> Any:
        """The first of these columns that has a value, or None."""
        for name in names:
            value = self.values.get(name)
            if value is not None and value != "":
                return value
        return None

    def need(self, *names: str) -> Any:
        """The first of these columns that has a value; without one, an error names the row."""
        value = self.get(*names)
        if value is None:
            raise BadParameter(self.place, sorted(self.values), f"must have {' or '.join(names)}")
        return value

    def number(self, *names: str) -> float | None:
        """A number, None where it is missing; True and False are 1 and 0."""
        value = self.get(*names)
        if value is None:
            return None
        if isinstance(value, str) and value.strip().lower() in ("true", "false"):
            return float(value.strip().lower() == "true")
        try:
            return float(value)
        except (TypeError, ValueError):
            name = next(n for n in names if self.values.get(n) not in (None, ""))
            raise BadParameter(f"{self.place}.{name}", value, "must be a number") from None


def records(path: Path) -> Iterator[Record]:
    """The records of a CSV, JSON, JSON lines or parquet file; a pickle is refused."""
    if path.suffix.lower() in PICKLES:
        rule = "is not read, because a pickle can run code; save it as CSV, JSON or parquet first"
        raise BadParameter(path.name, path.suffix, rule)
    forms: dict[str, Callable[[Path], Iterator[Mapping[str, Any]]]] = {
        ".csv": _csv,
        ".json": _json,
        ".jsonl": _jsonl,
        ".parquet": _parquet,
    }
    form = forms.get(path.suffix.lower())
    if form is None:
        raise BadParameter(path.name, path.suffix, f"must be one of {', '.join(forms)}")
    try:
        for number, values in enumerate(form(path), start=1):
            if not isinstance(values, Mapping):
                raise BadParameter(f"{path.name}:{number}", values, "must be an object")
            yield Record(f"{path.name}:{number}", values)
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from None


def files(path: Path, *suffixes: str) -> list[Path]:
    """A file itself, or the files of a folder and its subfolders with these endings, by name."""
    if not path.is_dir():
        return [path]
    found = sorted(f for f in path.rglob("*") if f.suffix.lower() in suffixes and f.is_file())
    if not found:
        raise ConfigError(f"{path} holds no file that ends in {' or '.join(suffixes)}")
    return found


def document(path: Path) -> Any:
    """The value of a JSON file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise BadParameter(
            f"{path.name}:{error.lineno}", error.doc[:60], f"must be JSON ({error.msg})"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from None


def plain(value: Any) -> str | None:
    """A text as it is, anything else as JSON; None stays None."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def first_of_list(text: str) -> str:
    """The first text of a list that was written down as text, by JSON or by Python; any other text as it is.

    >>> first_of_list('["a", "b"]'), first_of_list("['it\\\\'s']"), first_of_list("[1] and more")
    ('a', "it's", '[1] and more')
    """
    if not text.startswith(("['", '["')):
        return text
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(found, list) and found and all(isinstance(turn, str) for turn in found):
            return str(found[0])
    return text


def _csv(path: Path) -> Iterator[Mapping[str, Any]]:
    before = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a prompt may be longer than the usual limit
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.DictReader(file), start=1):
                if None in row or None in row.values():
                    raise BadParameter(
                        f"{path.name}:{number}", len(row), "must have one value for each column"
                    )
                yield row
    finally:
        csv.field_size_limit(before)


def _json(path: Path) -> Iterator[Mapping[str, Any]]:
    rows = document(path)
    if not isinstance(rows, list):
        raise BadParameter(path.name, type(rows).__name__, "must be a list of objects")
    yield from rows


def _jsonl(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                rule = f"must be JSON ({error.msg})"
                raise BadParameter(f"{path.name}:{number}", line[:60], rule) from None


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    opened, _ = open_parquet(path)
    for batch in opened.iter_batches(batch_size=4096):
        yield from batch.to_pylist()
