"""`septet replay`: a stored request once more, with the same seed; with --from-trace, without calling anything."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import typer

from septet.cli._options import DEFAULT_CONFIG, AsJson, ConfigFile, Settings, open_house
from septet.cli._recorded import Recorded, Recording
from septet.cli._terminal import print_json, short, visible, waiting
from septet.core.errors import RunError
from septet.core.types import Answer
from septet.engine.house import House
from septet.engine.wire import answer_json, query_of, verdict_json

Row = Mapping[str, Any]


def replay(
    id: Annotated[str, typer.Argument(metavar="ID", help="A trace id, or its beginning.")],
    config: ConfigFile = DEFAULT_CONFIG,
    from_trace: Annotated[
        bool, typer.Option("--from-trace", help="Answer every call from the trace; call nothing.")
    ] = False,
    settings: Settings = [],  # noqa: B006  # typer reads the default and never changes it
    json: AsJson = False,
) -> None:
    """Asks again and says whether the decision is the same."""
    house = open_house(config, settings)
    facts = asyncio.run(_replayed(house, id, from_trace))
    if json:
        print_json(facts)
    else:
        print("\n".join(lines(facts)))


async def _replayed(house: House, id: str, from_trace: bool) -> dict[str, Any]:
    async with house:
        request, calls = house.store.trace(id)
        recording = Recording(calls) if from_trace else None
        if recording is not None:
            seat_recorded(house, recording)
        with waiting(f"asking {request['ensemble']} again …"):
            outcome = await _outcome(house, request)
    missed = recording.missed if recording is not None else []
    return compared(request, outcome, missed)


def seat_recorded(house: House, recording: Recording) -> None:
    """Puts a recorded stand-in before every member; must be done before the first ensemble is built."""
    members = house.builder.members
    for name in house.config.members:
        member = house.builder.member(name)
        members[name] = replace(member, actor=Recorded(member.actor, recording))


async def _outcome(house: House, request: Row) -> Answer | RunError:
    """The new answer; a request that fails may be what was to be repeated."""
    try:
        return await house[request["ensemble"]].ask(query_of(request["query"]))
    except RunError as error:
        return error


def compared(request: Row, outcome: Answer | RunError, missed: Sequence[str]) -> dict[str, Any]:
    """Both decisions, and whether they are the same: the choice, the weights and the text."""
    then, now = _stored(request), _now(outcome)
    return {
        "ensemble": request["ensemble"],
        "same_decision": then["status"] == now["status"] and _same(then["verdict"], now["verdict"]),
        "same_text": then["text"] == now["text"],
        "missed": list(missed),
        "then": then,
        "now": now,
    }


def _stored(request: Row) -> dict[str, Any]:
    return {
        "trace_id": request["id"],
        "status": request["status"],
        "text": request["answer"],
        "verdict": request["verdict"],
        "error": request["error"],
    }


def _now(outcome: Answer | RunError) -> dict[str, Any]:
    if isinstance(outcome, RunError):
        failed = {"trace_id": outcome.request, "status": "failed", "text": "", "verdict": {}}
        return {**failed, "error": str(outcome)}
    return {
        "trace_id": outcome.trace_id,
        "status": "done",
        "text": outcome.text,
        "verdict": verdict_json(outcome.verdict),
        "error": "",
        "answer": answer_json(outcome),
    }


def _same(then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """The same choice with the same weights, up to the rounding of JSON."""
    if any(then.get(key) != now.get(key) for key in ("chosen", "abstained")):
        return False
    a, b = then.get("weights") or [], now.get("weights") or []
    return len(a) == len(b) and all(_near(x, y) for x, y in zip(a, b, strict=True))


def _near(x: float | None, y: float | None) -> bool:
    return x == y if x is None or y is None else abs(x - y) <= 1e-6 * max(1.0, abs(x))


def lines(facts: Mapping[str, Any]) -> list[str]:
    """The comparison in words."""
    said = ["the decision is " + ("the same" if facts["same_decision"] else "not the same")]
    said.append("the text is " + ("the same" if facts["same_text"] else "not the same"))
    for when in ("then", "now"):
        part = facts[when]
        reason = part["error"] or part["verdict"].get("reason", "")
        said.append(f"  {when + ':':<5} {part['trace_id']}  {part['status']}  {short(part['text'], 80)}")
        if reason:
            said.append(f"        {visible(reason)}")
    said += [f"  not in the trace: {missed}" for missed in facts["missed"]]
    return said
