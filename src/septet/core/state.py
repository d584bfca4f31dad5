"""What is learned, as a value: a frozen dataclass of arrays and plain facts, and its form on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

from septet.core.errors import BadParameter


@dataclass(frozen=True)
class Learned:
    """A state with what it was made for and from. `version` counts its updates.

    `weights` names the folder of trained weights beside it, "" where there are none.
    """

    method: str
    members: tuple[str, ...]
    value: Any
    parameters: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    version: int = 0
    weights: str = ""


@dataclass(frozen=True)
class Trained:
    """What a trainer made: a state, what writes its weights into a new folder, and facts for the provenance."""

    value: Any
    write: Callable[[Path], None]
    facts: Mapping[str, Any] = field(default_factory=dict)


def pack(value: Any, prefix: str = "") -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, Any]]:
    """A state as named arrays and a JSON object; nested dataclasses get dotted names.

    A tuple of arrays of one shape is kept as one array; the dataclasses of a tuple are numbered.
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    facts: dict[str, Any] = {}
    for f in fields(value):
        part, name = getattr(value, f.name), prefix + f.name
        if isinstance(part, np.ndarray):
            arrays[name] = part
        elif isinstance(part, tuple) and part and all(isinstance(p, np.ndarray) for p in part):
            arrays[name] = np.stack(part)
        elif isinstance(part, tuple) and part and all(map(is_dataclass, part)):
            facts[name] = len(part)
            for i, one in enumerate(part):
                inner_arrays, inner_facts = pack(one, f"{name}.{i}.")
                arrays |= inner_arrays
                facts |= inner_facts
        elif is_dataclass(part):
            inner_arrays, inner_facts = pack(part, name + ".")
            arrays |= inner_arrays
            facts |= inner_facts
        else:
            facts[name] = list(part) if isinstance(part, tuple) else part
    return arrays, facts


def unpack(kind: type, arrays: Mapping[str, Any], facts: Mapping[str, Any], prefix: str = "") -> Any:
    """The state of type `kind` that `pack` took apart; a field of which nothing was saved has its default, if any."""
    hints = get_type_hints(kind)
    parts = {}
    for f in fields(kind):
        name, hint = prefix + f.name, _plain(hints[f.name])
        if (member := _of_tuple(hint)) and isinstance(facts.get(name), int):
            parts[f.name] = tuple(unpack(member, arrays, facts, f"{name}.{i}.") for i in range(facts[name]))
        elif name in arrays:
            parts[f.name] = tuple(arrays[name]) if get_origin(hint) is tuple else arrays[name]
        elif name in facts:
            value = facts[name]
            parts[f.name] = _tuples(value) if isinstance(value, list) else value
        elif _has_default(f) and not any(key.startswith(name + ".") for key in (*arrays, *facts)):
            continue  # saved before there was such a field
        elif is_dataclass(hint) and isinstance(hint, type):
            parts[f.name] = unpack(hint, arrays, facts, name + ".")
        else:
            raise BadParameter(name, sorted([*arrays, *facts]), "is missing from the saved state")
    return kind(**parts)


def _has_default(f: Field[Any]) -> bool:
    return f.default is not MISSING or f.default_factory is not MISSING


def _of_tuple(hint: Any) -> type | None:
    """The dataclass that a tuple[…, ...] holds."""
    inner = get_args(hint)[0] if get_origin(hint) is tuple else None
    return inner if isinstance(inner, type) and is_dataclass(inner) else None


def _plain(hint: Any) -> Any:
    """The one type beside None in an optional."""
    if get_origin(hint) in (Union, UnionType):
        return next(a for a in get_args(hint) if a is not type(None))
    return hint


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
