"""`septet trace`: every call and piece of one request on one screen or page, or the latest requests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from septet.cli._options import AsJson, store_path
from septet.cli._pieces import MOST_LINES, lines, quoted
from septet.cli._terminal import new_table, print_json, print_table, short
from septet.core.errors import BadParameter, ConfigError
from septet.core.money import dollars
from septet.core.trace import PieceEvent
from septet.engine.store import Store
from septet.engine.wire import query_of, step_json

BAR = 24
"""Columns of a bar: the whole time of the request."""

SLOW = 0.5
"""The longest call is pointed at where it takes more than this share of the request's time."""

Row = Mapping[str, Any]

UNCOUNTED = ("forwards", "forward_seconds", "rollbacks")
"""Facts about a session that are not calls of it; `--json` has them."""

WRITTEN = ("step", "judgement")
"""Purposes of calls whose text is a part of how the answer came about, and is shown with the call."""


def trace(
    id: Annotated[str, typer.Argument(metavar="[ID]", help="A trace id, or its beginning.")] = "",
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="The configuration file that names the store.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many requests to list without an id.")] = 20,
    pieces: Annotated[
        bool, typer.Option("--pieces", help=f"Print every piece, not the first {MOST_LINES} only.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the request as a page of its own.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Reads the store."""
    if html is not None and not id:
        raise BadParameter("--html", str(html), "is a page about one request: give its id")
    store = Store(store_path(config))
    try:
        if not id:
            _list(store.recent(limit), json)
            return
        request, calls = store.trace(id)
        told = store.pieces(request["id"])
    finally:
        asyncio.run(store.close())
    if html is not None:
        _write(html, request, calls, told)
    if json:
        print_json({"request": request, "calls": calls, "pieces": [step_json(event) for event in told]})
    elif html is None:
        print("\n".join(screen(request, calls, told, most=None if pieces else MOST_LINES)))


def _write(file: Path, request: Row, calls: Sequence[Row], pieces: Sequence[PieceEvent]) -> None:
    from septet.cli._piece_page import page

    try:
        file.write_text(page(request, calls, pieces), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error}") from error


def _list(requests: Sequence[Row], json: bool) -> None:
    if json:
        print_json(requests)
        return
    table = new_table("id", "when", "asked", "status", "seconds", "usd", "question", "answer")
    for row in requests:
        when = datetime.fromtimestamp(row["at"]).strftime("%m-%d %H:%M:%S")
        said = row["error"] if row["error"] else row["answer"]
        question = short(query_of(row["query"]).text, 36)
        cells = (
            row["id"],
            when,
            row["ensemble"],
            row["status"],
            f"{row['seconds']:.1f}",
            dollars(row["usd"]),
        )
        table.add_row(*cells, question, short(said, 36))
    print_table(table)


def screen(
    request: Row, calls: Sequence[Row], pieces: Sequence[PieceEvent] = (), *, most: int | None = MOST_LINES
) -> list[str]:
    """The lines of one request: what was asked and decided, one line per call, then one per piece; of pieces,
    at most so many."""
    count = f"{len(calls)} call{'' if len(calls) == 1 else 's'}"
    head = (
        f"{request['id']}  {request['ensemble']} ({request['method']})  {request['status']}  "
        f"{request['seconds']:.2f} s  {dollars(request['usd'])}  {count}"
    )
    said = [head, f"  asked: {short(query_of(request['query']).text, 100)}"]
    if request["answer"]:
        said.append(f"  answer: {short(request['answer'], 100)}")
    if request["reason"]:
        said.append(f"  why: {short(request['reason'], 200)}")
    if request["error"]:
        said.append(f"  error: {short(request['error'], 300)}")
    said += [f"  note: {note}" for note in request["notes"]]
    names = [member_of(call, request["ensemble"]) for call in calls]
    width = max((len(name) for name in names), default=0)
    total = max([request["seconds"], *(call["finished"] for call in calls)], default=0.0)
    longest = max((c["finished"] - c["queued"] for c in calls), default=0.0)
    said += [
        f"  {name:<{width}}  {_call(call, total, longest)}" for name, call in zip(names, calls, strict=True)
    ]
    return [*said, f"  {_sums(request, calls)}", *(f"  {line}" for line in lines(pieces, most=most))]


def _sums(request: Row, calls: Sequence[Row]) -> str:
    """The sums of the calls; the request's own numbers beside them where they are not the same."""
    kinds = ("prompt_tokens", "completion_tokens")
    read, wrote = (sum(c["usage"][kind] for c in calls) for kind in kinds)
    usd = sum(c["usd"] for c in calls)
    said = f"sum of the calls: {read}→{wrote} tokens  {dollars(usd)}"
    own = tuple(request["usage"][kind] for kind in kinds)
    if own == (read, wrote) and abs(usd - request["usd"]) <= 1e-9 * max(usd, 1.0):
        return said
    return f"{said}  (the request says {own[0]}→{own[1]} tokens  {dollars(request['usd'])})"


def member_of(call: Row, root: str) -> str:
    """The member with the ensembles between the root and it."""
    inner = call["path"].removeprefix(root).lstrip("/")
    return f"{inner}/{call['member']}" if inner else str(call["member"])


def _call(call: Row, total: float, longest: float) -> str:
    """One call: seconds, bar, tokens, USD, purpose, and whatever is out of the ordinary."""
    seconds, usage = call["finished"] - call["queued"], call["usage"]
    does = call["do"] if call["purpose"] == call["do"] else f"{call['do']} ({call['purpose']})"
    parts = [
        f"{seconds:7.2f} s {bar(call['queued'], call['started'], call['finished'], total)} ",
        f"{usage['prompt_tokens']}→{usage['completion_tokens']} tokens".ljust(16),
        dollars(call["usd"]).ljust(9),
        does,
        *_remarks(call),
    ]
    if seconds == longest and seconds > SLOW * total:
        parts.append(f" <- {seconds / total:.0%} of the wait")
    return " ".join(parts).rstrip()


def _remarks(call: Row) -> list[str]:
    remarks = [f"{count:g} {step}" for step, count in call["steps"].items() if step not in UNCOUNTED]
    waited = call["started"] - call["queued"]
    if waited >= 0.05:
        remarks.append(f"queue {waited:.1f} s")
    if call["retries"]:
        remarks.append(f"{len(call['retries'])} retries: {short('; '.join(call['retries']), 120)}")
    if call["cached"]:
        remarks.append("cached")
    if call["error"]:
        remarks.append(f"error: {short(call['error'], 160)}")
    if call["purpose"] in WRITTEN:
        remarks += [short(quoted(text), 60) for text in written(call) if text]
    return [f" {'  '.join(remarks)}"] if remarks else []


def written(call: Row) -> list[str]:
    """The texts that a call came to."""
    return [c["text"] for c in call["output"].get("completions", ())]


def bar(queued: float, started: float, finished: float, total: float) -> str:
    """When a call waited (░) and ran (█) within the request.

    >>> bar(6.0, 12.0, 24.0, 24.0)
    '      ░░░░░░████████████'
    """
    if total <= 0:
        return " " * BAR
    a, b, c = (min(BAR, round(t / total * BAR)) for t in (queued, started, finished))
    a = min(a, BAR - 1)
    b, c = max(a, b), max(c, a + 1)  # even the shortest call has one column
    b = min(b, c - 1)
    return (" " * a + "░" * (b - a) + "█" * (c - b)).ljust(BAR)
