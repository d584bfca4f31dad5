"""What was served, as outcomes: the requests of an ensemble in the store, with the ratings they got."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path
from typing import Any

from septet.core.errors import BadParameter, ConfigError
from septet.core.table import Table
from septet.core.types import Battle
from septet.engine.wire import query_of

COMPLETING = ("complete", "stream")


@dataclass(frozen=True)
class Served:
    """The outcomes of `requests` finished requests; `silent` of them were answered by no single member."""

    table: Table
    requests: int
    silent: int
    rated: int


def served(store: Path, ensemble: str) -> Served:
    """The outcomes that a store holds of an ensemble; the file is only read.

    A question that was asked again is the same query, told by its task and text, with one sample more. `score` is
    what a user or a judge said, unknown where nobody did. `propensity` is the probability with which the member
    was drawn: its weight among the drawn ones, 1 where all of them were asked; unknown where the method draws
    nothing, or where another member had failed before. A reply from the cache cost nothing, so its cost is unknown.
    """
    rows: list[dict[str, Any]] = []
    requests = silent = rated = 0
    n_before: dict[tuple[str, str], int] = {}
    with closing(_opened(store)) as db:
        scores = _scores(db)
        found = db.execute(
            "SELECT * FROM request WHERE ensemble = ? AND status = 'done' ORDER BY at, id", (ensemble,)
        )
        for request in found:
            requests += 1
            new = list(_answers(request, _calls(db, request["id"]), scores.get(request["id"], {})))
            silent += not new
            rated += any("score" in row for row in new)
            for row in new:
                cell = (row["query_id"], row["model"])
                row["sample_id"] = n_before.get(cell, 0)
                n_before[cell] = row["sample_id"] + 1
            rows += new
        if not requests:
            names = [row[0] for row in db.execute("SELECT DISTINCT ensemble FROM request ORDER BY ensemble")]
            raise BadParameter(
                "ensemble", ensemble, f"must have answered something; {store.name} has {names}"
            )
    return Served(Table.of(rows, store.name), requests, silent, rated)


def fought(store: Path, ensemble: str) -> list[Battle]:
    """The battles that a store holds of an ensemble."""
    with closing(_opened(store)) as db:
        if not _has(db, "battle"):
            return []
        found = db.execute(
            "SELECT query, a, b, winner FROM battle WHERE ensemble = ? ORDER BY at", (ensemble,)
        )
        return [Battle(*row) for row in found]


def _opened(store: Path) -> sqlite3.Connection:
    """The store, read-only: a missing file is not made."""
    if not store.is_file():
        raise ConfigError(f"there is no store at {store}")
    try:
        db = sqlite3.connect(f"{store.resolve().as_uri()}?mode=ro", uri=True, timeout=30)
        db.row_factory = sqlite3.Row
        if not _has(db, "request"):
            raise ConfigError(f"{store} is not a store of septet: it has no table of requests")
    except sqlite3.Error as error:
        raise ConfigError(f"cannot read the store {store}: {error}") from None
    return db


def _has(db: sqlite3.Connection, table: str) -> bool:
    found = db.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,))
    return found.fetchone() is not None


def _scores(db: sqlite3.Connection) -> dict[str, dict[str, float]]:
    """The rating of each member's answer by request; the latest counts. A store without feedback has none."""
    found: dict[str, dict[str, float]] = {}
    if _has(db, "feedback"):
        for row in db.execute("SELECT request, member, score FROM feedback ORDER BY at"):
            found.setdefault(row["request"], {})[row["member"]] = row["score"]
    return found


def _calls(db: sqlite3.Connection, request: str) -> list[sqlite3.Row]:
    return db.execute("SELECT * FROM call WHERE request = ? ORDER BY step", (request,)).fetchall()


def _answers(
    request: sqlite3.Row, calls: list[sqlite3.Row], scores: Mapping[str, float]
) -> Iterator[dict[str, Any]]:
    """A row for each complete answer of a member that was a candidate."""
    query, verdict = query_of(json.loads(request["query"])), json.loads(request["verdict"])
    told = sha1(f"{query.task}\n{query.text}".encode()).hexdigest()
    asked = {
        "query_id": f"served-{told[:16]}",
        "query": query.text,
        "task": query.task,
    }
    own = [c for c in calls if c["path"] == request["ensemble"] and c["purpose"] == "candidate"]
    done = [c for c in own if not c["error"] and c["do"] in COMPLETING]
    said = [(call, answer) for call in done for answer in json.loads(call["output"]).get("completions", ())]
    chances = _propensities(verdict, {answer["member"] for _, answer in said}, len(done) < len(own))
    for call, answer in said:
        row = {
            **asked,
            "model": answer["member"],
            "response": answer["text"],
            "cost_usd": None if call["cached"] else answer["usd"],
            "prompt_tokens": answer["usage"]["prompt_tokens"],
            "completion_tokens": answer["usage"]["completion_tokens"],
            "seconds": answer["seconds"],
            "confidence": answer["confidence"],
            "logp": answer.get("logp"),
            "propensity": chances.get(answer["member"]),
        }
        yield row | _rating(scores, answer["member"])
    member = verdict.get("member", "")
    if not said and member:  # a nested ensemble, whose calls are those of its own members
        yield (
            asked
            | {
                "model": member,
                "response": request["answer"],
                "cost_usd": request["usd"],
                "seconds": request["seconds"],
                "propensity": _propensities(verdict, {member}, False).get(member),
            }
            | _rating(scores, member)
        )


def _rating(scores: Mapping[str, float], member: str) -> dict[str, float]:
    return {"score": scores[member]} if member in scores else {}


def _propensities(verdict: Mapping[str, Any], members: set[str], failed: bool) -> dict[str, float]:
    """The probability with which each member was asked, where the method drew and nobody had failed.

    >>> _propensities({"drawn": {"ada": 1.0, "bob": 3.0}}, {"bob"}, False)
    {'bob': 0.75}
    >>> _propensities({"drawn": {"ada": 1.0, "bob": 3.0}}, {"ada", "bob"}, False)["ada"]
    1.0
    >>> _propensities({"drawn": {"ada": 1.0}}, {"bob"}, True)
    {}
    """
    drawn = verdict.get("drawn") or {}
    if failed or not members or not members <= set(drawn):
        return {}
    if len(members) == 1:
        (member,) = members
        return {member: drawn[member] / sum(drawn.values())}
    return dict.fromkeys(members, 1.0)
