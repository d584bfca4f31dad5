"""What exists: methods, backends and tasks, found by file name or entry point, imported only when asked for."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from septet.core.errors import ConfigError, UnknownName

Kind = Literal["methods", "backends", "tasks"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that can be asked for. `owner` is the package it comes from; `family` only for methods."""

    kind: Kind
    name: str
    module: str
    owner: str
    family: str = ""
    attribute: str = ""


@dataclass(frozen=True, slots=True)
class Broken:
    """A plug-in that cannot be used, and why."""

    name: str
    owner: str
    reason: str


def entries(kind: Kind) -> Mapping[str, Entry]:
    """Everything of a kind by name, ours and third parties'; nothing is imported."""
    return _entries(kind)


@cache
def _entries(kind: Kind) -> Mapping[str, Entry]:
    found: dict[str, Entry] = {}
    for entry in (*_built_in(kind), *(_of_point(kind, p) for p in entry_points(group=f"septet.{kind}"))):
        if entry.name in found:
            first = found[entry.name].owner
            raise ConfigError(
                f"{kind[:-1]} {entry.name!r} is provided twice: by {first} and by {entry.owner}"
            )
        found[entry.name] = entry
    return found


def _built_in(kind: Kind) -> list[Entry]:
    """The files of a room; a name is the file name with dashes."""
    package = f"septet.{kind}"
    spec = find_spec(package)
    assert spec is not None and spec.submodule_search_locations, package
    found = []
    for path in sorted(
        Path(spec.submodule_search_locations[0]).rglob("*.py" if kind != "tasks" else "*.jsonl")
    ):
        folder = path.parent.name
        if path.name.startswith("_") or (kind == "methods") != (folder not in ("methods", kind)):
            continue
        family = folder if kind == "methods" else ""
        module = ".".join(part for part in (package, family, path.stem) if part)
        found.append(Entry(kind, path.stem.replace("_", "-"), module, "septet", family))
    return found


def _of_point(kind: Kind, point: EntryPoint) -> Entry:
    owner = point.dist.name if point.dist else point.module
    return Entry(kind, point.name, point.module, owner, "", point.attr)


def get(kind: Kind, name: str) -> Any:
    """The record class of a method or a backend; imports that one module only."""
    known = entries(kind)
    if name not in known:
        raise UnknownName(kind[:-1], name, known)
    entry = known[name]
    try:
        module = import_module(entry.module)
    except ImportError as error:
        raise ConfigError(f"{kind[:-1]} {name!r} of {entry.owner} cannot be imported: {error}") from error
    return getattr(module, entry.attribute) if entry.attribute else _record_in(module, name)


def _record_in(module: Any, name: str) -> Any:
    """The decorated record of a built-in module."""
    records = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__ and "card" in vars(value)
    ]
    if len(records) != 1:
        raise ConfigError(f"{module.__name__} must hold exactly one decorated record, found {len(records)}")
    return records[0]


def broken(kind: Kind) -> list[Broken]:
    """The plug-ins that cannot be imported, each with its reason. Imports every third-party entry."""
    found = []
    for entry in entries(kind).values():
        if entry.owner == "septet":
            continue
        try:
            get(kind, entry.name)
        except Exception as error:  # a plug-in may fail in any way; all are reported, none is hidden
            found.append(Broken(entry.name, entry.owner, f"{type(error).__name__}: {error}"))
    return found


def family_of(name: str) -> str:
    """The family folder of a method; for a third party's, from its card."""
    entry = entries("methods").get(name)
    if entry is None:
        raise UnknownName("method", name, entries("methods"))
    return entry.family or str(get("methods", name).card.facets.family.value)


def first_line(entry: Entry) -> str:
    """The one-sentence idea of a built-in: the first line of its file's docstring, read without importing."""
    spec = find_spec(entry.module)
    if spec is None or spec.origin is None:
        return ""
    doc = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return doc.partition("\n")[0]
