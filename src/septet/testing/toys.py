"""The toy pool and the toy table: deterministic members and outcomes that need nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from septet.core.caps import Caps
from septet.core.method import Method
from septet.core.table import Table
from septet.engine.build import Builder
from septet.engine.config import parse
from septet.engine.house import House

QUESTIONS: Mapping[str, str] = {
    "What is the capital of France?": "Paris is the capital of France.",
    "What colour is the sky?": "The sky is blue.",
    "How many legs has a spider?": "A spider has 8 legs.",
    "Who wrote Faust?": "Goethe wrote Faust.",
}
"""What the toy members know; they also do sums ("What is 2+3?")."""

MEMBERS: Mapping[str, Mapping[str, Any]] = {
    "ada": {"tokenizer": "words", "skill": 0.9},
    "bob": {"tokenizer": "bytes", "skill": 0.7},
    "cyd": {"tokenizer": "words", "skill": 0.5},
}


ENVIRONMENT: Mapping[str, str] = {"SEPTET_CACHE": str(Path(gettempdir()) / "septet-toys")}
"""What toys prepare stays out of the user's own cache."""


def toy_config(
    method: str,
    parameters: Mapping[str, Any] | None = None,
    *,
    roles: Mapping[str, Any] | None = None,
    members: Mapping[str, Mapping[str, Any]] | None = None,
    limits: Mapping[str, Any] | None = None,
    order: tuple[str, ...] = (),
    folder: Path | str = ".",
) -> str:
    """A configuration of the toy pool with one ensemble, `toys`, of the given method.

    `members` replaces options of members by name; `order` picks and orders them.
    """
    names = order or tuple(MEMBERS)
    tables = {
        name: {
            "backend": "toy",
            "answers": dict(QUESTIONS),
            "max_tokens": 24,
            **MEMBERS.get(name, {}),
            **(members or {}).get(name, {}),
        }
        for name in dict.fromkeys((*names, *MEMBERS))
    }
    ensemble = {
        "method": method,
        "members": list(names),
        "state": str(Path(folder) / "state"),
        **({"roles": dict(roles)} if roles else {}),
        **(parameters or {}),
    }
    lines = ["[members]"] + [f"{name} = {_toml(table)}" for name, table in tables.items()]
    lines += ["", "[ensembles.toys]"] + [f"{key} = {_toml(value)}" for key, value in ensemble.items()]
    lines += ["", "[limits]"] + [f"{key} = {_toml(value)}" for key, value in (limits or {}).items()]
    lines += ["", "[store]", f"path = {_toml(str(Path(folder) / 'toys.db'))}"]
    return "\n".join(lines) + "\n"


def toy_house(text: str, methods: Mapping[str, type[Method]] | None = None) -> House:
    """A house from a configuration's text."""
    return House(parse(text, environment=ENVIRONMENT), methods)


def toy_builder(text: str, methods: Mapping[str, type[Method]] | None = None) -> Builder:
    """What a house is built by: to look at the fit of an ensemble."""
    return Builder(parse(text, environment=ENVIRONMENT), methods or {})


def lacking(needs: Caps) -> list[str]:
    """Every capability that these needs do not name: what a stingy member lacks."""
    spare = [name for name in Caps.__dataclass_fields__ if name != "context" and not getattr(needs, name)]
    return [name for name in spare if not (name == "topk" and needs.full)]


def toy_table(queries: int = 60) -> Table:
    """Outcomes of ada, bob and cyd on sums: ada is right on even questions, bob on odd ones, cyd on none
    but every third; the longer the sum, the dearer."""
    rows = []
    for i in range(queries):
        kind, other = ("even", "odd") if i % 2 == 0 else ("odd", "even")
        right = {"ada": kind == "even", "bob": kind == "odd", "cyd": i % 3 == 0}
        for member, usd in (("ada", 3e-4), ("bob", 2e-4), ("cyd", 1e-4)):
            rows.append(
                {
                    "query_id": f"toy-{i}",
                    "query": f"Is {i} plus two {kind} or {other}? Say {kind}.",
                    "task": "parity-even" if kind == "even" else "parity-odd",
                    "split": "train",
                    "model": member,
                    "response": f"It is {kind if right[member] else other}.",
                    "answer": kind if right[member] else other,
                    "score": float(right[member]),
                    "cost_usd": usd * (1 + i / queries),
                    "prompt_tokens": 12,
                    "completion_tokens": 4,
                    "seconds": 0.01,
                    "logp": -0.1 if right[member] else -1.0,
                }
            )
    return Table.of(rows)


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
