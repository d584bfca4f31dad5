"""The store: every request, call and piece in one SQLite file (WAL), the exact response cache, finished batches."""

from __future__ import annotations

import asyncio
import json
import math
import sqlite3
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from septet.core.errors import BadParameter, ConfigError
from septet.core.trace import CallEvent, PieceEvent, RequestEvent
from septet.core.types import Battle
from septet.engine.wire import step_json, step_of, usage_json

MIGRATIONS = (
    """
    CREATE TABLE request (
        id TEXT PRIMARY KEY, at REAL NOT NULL, ensemble TEXT NOT NULL, method TEXT NOT NULL,
        status TEXT NOT NULL, query TEXT NOT NULL, answer TEXT NOT NULL, reason TEXT NOT NULL,
        verdict TEXT NOT NULL, usage TEXT NOT NULL, usd REAL NOT NULL, seconds REAL NOT NULL,
        error TEXT NOT NULL, notes TEXT NOT NULL
    );
    CREATE TABLE call (
        request TEXT NOT NULL, step INTEGER NOT NULL, path TEXT NOT NULL, member TEXT NOT NULL,
        do TEXT NOT NULL, purpose TEXT NOT NULL, input TEXT NOT NULL, output TEXT NOT NULL,
        usage TEXT NOT NULL, usd REAL NOT NULL, queued REAL NOT NULL, started REAL NOT NULL,
        first_byte REAL, finished REAL NOT NULL, retries TEXT NOT NULL, cached INTEGER NOT NULL,
        error TEXT NOT NULL, steps TEXT NOT NULL, PRIMARY KEY (request, step)
    );
    CREATE TABLE reply (key TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE batch (
        batch TEXT NOT NULL, key TEXT NOT NULL, answer TEXT NOT NULL, PRIMARY KEY (batch, key)
    );
    """,
    "CREATE INDEX request_at ON request (at);",
    """
    CREATE TABLE feedback (
        request TEXT PRIMARY KEY, member TEXT NOT NULL, score REAL NOT NULL, at REAL NOT NULL
    );
    CREATE TABLE battle (
        ensemble TEXT NOT NULL, query TEXT NOT NULL, a TEXT NOT NULL, b TEXT NOT NULL,
        winner TEXT NOT NULL, at REAL NOT NULL
    );
    """,
    """
    CREATE TABLE piece (
        request TEXT NOT NULL, path TEXT NOT NULL, number INTEGER NOT NULL, at INTEGER NOT NULL,
        piece BLOB NOT NULL, logp REAL, support TEXT NOT NULL, candidates TEXT NOT NULL,
        asked TEXT NOT NULL, fed TEXT NOT NULL, forward_seconds TEXT NOT NULL, seconds REAL NOT NULL,
        drafted INTEGER NOT NULL
    );
    CREATE INDEX piece_request ON piece (request);
    """,
)
"""Applied in order; `PRAGMA user_version` counts how many have been."""

_JSON = frozenset({"query", "verdict", "usage", "notes", "input", "output", "retries", "steps"})
_PIECE_JSON = frozenset({"support", "candidates", "asked", "fed", "forward_seconds"})

PIECES_AT_ONCE = 64
"""Pieces are written in bundles of so many, and what is left with their request's last row."""


class Store:
    """One SQLite file, written by one thread in the background; `flush` waits and raises what went wrong."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="septet-store")
        self._pending: list[Future[Any]] = []
        self._pieces: list[PieceEvent] = []
        self._db: sqlite3.Connection | None = None

    def call(self, event: CallEvent) -> None:
        """Writes one call, in the background."""
        self._later(self._insert, "call", _row(event, CallEvent))

    def request(self, event: RequestEvent) -> None:
        """Writes or overwrites one request, in the background."""
        self._write_pieces()
        self._later(self._insert, "request", _row(event, RequestEvent))

    def piece(self, event: PieceEvent) -> None:
        """Writes one piece, in the background; it is readable after the request's last row, or after `flush`."""
        self._pieces.append(event)
        if len(self._pieces) >= PIECES_AT_ONCE:
            self._write_pieces()

    async def cached(self, key: str) -> Any:
        """The stored reply of a call, or None."""
        return await self._soon(self._fetch, "SELECT value FROM reply WHERE key = ?", key)

    def keep(self, key: str, value: Any) -> None:
        """Stores the reply of a call, in the background."""
        self._later(self._insert, "reply", {"key": key, "value": json.dumps(value, ensure_ascii=False)})

    async def finished(self, batch: str, key: str) -> Any:
        """The answer of a batch's query that an earlier run finished, or None."""
        return await self._soon(
            self._fetch, "SELECT answer FROM batch WHERE batch = ? AND key = ?", batch, key
        )

    def finish(self, batch: str, key: str, answer: Mapping[str, Any]) -> None:
        """Notes the answer of one query of a batch, in the background."""
        row = {"batch": batch, "key": key, "answer": json.dumps(answer, ensure_ascii=False)}
        self._later(self._insert, "batch", row)

    async def rated(self, request: str, member: str, score: float, at: float) -> None:
        """Writes how good the answer to a request was; each request is rated once."""
        await self._soon(self._rate, {"request": request, "member": member, "score": score, "at": at})

    async def fought(self, ensemble: str, battle: Battle, at: float) -> None:
        """Writes a comparison of two members."""
        await self._soon(
            self._insert,
            "battle",
            {
                "ensemble": ensemble,
                "query": _utf8(battle.query),
                "a": battle.a,
                "b": battle.b,
                "winner": battle.winner,
                "at": at,
            },
        )

    async def found(self, request: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """`trace`, for whoever must not block."""
        found: tuple[dict[str, Any], list[dict[str, Any]]] = await self._soon(self._trace, request)
        return found

    async def flush(self) -> None:
        """Waits until everything is on disk; raises the first failure."""
        self._write_pieces()
        pending, self._pending = self._pending, []
        for future in pending:
            await asyncio.wrap_future(future)

    async def close(self) -> None:
        """Flushes and closes the file."""
        await self.flush()
        await self._soon(self._close)
        self._thread.shutdown()

    def trace(self, request: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """A request and its calls in order; an unambiguous beginning of the id is enough."""
        return self._thread.submit(self._trace, request).result()

    def pieces(self, request: str) -> list[PieceEvent]:
        """The pieces of a request in the order in which they were written; `request` is its whole id."""
        return self._thread.submit(self._told, request).result()

    def recent(self, n: int) -> list[dict[str, Any]]:
        """The latest n requests, newest first."""
        sql = "SELECT * FROM request ORDER BY at DESC LIMIT ?"
        return self._thread.submit(lambda: [_decode(r) for r in self._open().execute(sql, (n,))]).result()

    # --- everything below runs on the store's own thread --------------------------------------------

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            try:
                Path(self.path).parent.mkdir(parents=True, exist_ok=True)
                db = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
                db.row_factory = sqlite3.Row
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = NORMAL")
                _migrate(db)
            except (sqlite3.Error, OSError) as error:
                raise ConfigError(f"cannot use the store {self.path}: {error}") from error
            self._db = db
        return self._db

    def _insert(self, table: str, row: Mapping[str, Any]) -> None:
        names = ", ".join(row)
        marks = ", ".join("?" * len(row))
        sql = f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({marks})"
        self._open().execute(sql, tuple(row.values()))

    def _insert_pieces(self, events: Sequence[PieceEvent]) -> None:
        rows = [_piece_row(event) for event in events]
        names, marks = ", ".join(rows[0]), ", ".join("?" * len(rows[0]))
        db = self._open()
        db.execute("BEGIN IMMEDIATE")
        try:
            db.executemany(f"INSERT INTO piece ({names}) VALUES ({marks})", [tuple(r.values()) for r in rows])
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise

    def _told(self, request: str) -> list[PieceEvent]:
        rows = self._open().execute("SELECT * FROM piece WHERE request = ? ORDER BY rowid", (request,))
        return [_piece(row) for row in rows]

    def _rate(self, row: Mapping[str, Any]) -> None:
        try:
            self._open().execute(
                "INSERT INTO feedback (request, member, score, at) VALUES (:request, :member, :score, :at)",
                row,
            )
        except sqlite3.IntegrityError:
            raise BadParameter(
                "request", row["request"], "was rated before; each answer is rated once"
            ) from None

    def _fetch(self, sql: str, *values: str) -> Any:
        row = self._open().execute(sql, values).fetchone()
        return None if row is None else json.loads(row[0])

    def _trace(self, request: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        db = self._open()
        found = db.execute(
            "SELECT * FROM request WHERE substr(id, 1, ?) = ?", (len(request), request)
        ).fetchmany(2)
        if len(found) != 1:
            rule = "matches more than one request" if found else f"is not in the store {self.path}"
            raise BadParameter("trace id", request, rule)
        calls = db.execute("SELECT * FROM call WHERE request = ? ORDER BY step", (found[0]["id"],))
        return _decode(found[0]), [_decode(r) for r in calls]

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _write_pieces(self) -> None:
        pieces, self._pieces = self._pieces, []
        if pieces:
            self._later(self._insert_pieces, pieces)

    def _later(self, work: Any, *args: Any) -> None:
        # finished futures are dropped here, failed ones stay until flush raises them
        self._pending = [f for f in self._pending if not f.done() or f.exception() is not None]
        self._pending.append(self._thread.submit(work, *args))

    async def _soon(self, work: Any, *args: Any) -> Any:
        return await asyncio.wrap_future(self._thread.submit(work, *args))


def _migrate(db: sqlite3.Connection) -> None:
    """Brings a file to the newest form; a file from a newer septet is refused, never changed."""
    db.execute("BEGIN IMMEDIATE")
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise sqlite3.DatabaseError(f"it has form {version}, this septet knows {len(MIGRATIONS)}")
        for script in MIGRATIONS[version:]:
            for statement in filter(str.strip, script.split(";")):
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


def _row(event: Any, kind: type) -> dict[str, Any]:
    row = {name: getattr(event, name) for name in kind.__dataclass_fields__}  # type: ignore[attr-defined]
    row["usage"] = usage_json(event.usage)
    return {k: _utf8(json.dumps(v, ensure_ascii=False) if k in _JSON else v) for k, v in row.items()}


def _piece_row(event: PieceEvent) -> dict[str, Any]:
    """The piece itself as bytes, lists and mappings as JSON; a log-probability that is not known is NULL."""
    row = {
        k: json.dumps(v, ensure_ascii=False) if k in _PIECE_JSON else _utf8(v)
        for k, v in step_json(event).items()
    }
    return {**row, "piece": event.piece, "logp": None if math.isnan(event.logp) else event.logp}


def _piece(row: sqlite3.Row) -> PieceEvent:
    found = {k: json.loads(row[k]) if k in _PIECE_JSON else row[k] for k in row.keys()}  # noqa: SIM118
    logp = math.nan if row["logp"] is None else row["logp"]
    return step_of({**found, "piece": row["piece"].decode("latin-1"), "logp": logp})


def _utf8(value: Any) -> Any:
    """SQLite holds UTF-8 only; a lone surrogate becomes a replacement character."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _decode(row: sqlite3.Row) -> dict[str, Any]:
    return {k: json.loads(row[k]) if k in _JSON else row[k] for k in row.keys()}  # noqa: SIM118
