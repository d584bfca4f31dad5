"""`septet check`: what fits, in which order, and the worst case of one request, before anything is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer

from septet.cli._options import DEFAULT_CONFIG, AsJson, ConfigFile, Settings, open_house
from septet.cli._terminal import print_json
from septet.core.errors import ConfigError, NotFitted, UnfitPool
from septet.core.money import dollars
from septet.core.types import Query
from septet.engine.ensemble import Ensemble
from septet.engine.house import Asked, House
from septet.engine.limits import out_of_order

QUESTION = "x" * 400
"""What the worst case is stated for, unless a question is given: about 130 tokens."""


def check(
    config: ConfigFile = DEFAULT_CONFIG,
    question: Annotated[str, typer.Option(help="State the worst case for this question.")] = QUESTION,
    settings: Settings = [],  # noqa: B006  # typer reads the default and never changes it
    json: AsJson = False,
) -> int:
    """Checks every ensemble of a file; returns 2 if one cannot be asked."""
    house = open_house(config, settings)
    reports = [report_on(house, name, question) for name in house.config.ensembles]
    if json:
        print_json(reports)
    else:
        _print(house, reports, len(question.encode("utf-8", "replace")))
    return 0 if all(r["status"] == "fits" for r in reports) else ConfigError.exit_code


def report_on(house: House, name: str, question: str) -> dict[str, Any]:
    """Everything that is known about an ensemble before its first call."""
    stated = house.config.ensembles[name]
    report: dict[str, Any] = {
        "ensemble": name,
        "method": stated.method,
        "members": list(stated.members),
        "status": "fits",
        "problems": [],
        "notes": [],
    }
    try:
        asked = house[name]
    except ConfigError as error:
        inner = isinstance(error, UnfitPool) and error.ensemble == name
        problems = list(error.problems) if inner and isinstance(error, UnfitPool) else [str(error)]
        return {**report, "status": "does not fit", "problems": problems}
    report["problems"] = [*_unfitted(asked.ensemble), *_too_many_calls(asked, question)]
    if report["problems"]:
        fitted = not _unfitted(asked.ensemble)
        report["status"] = "exceeds a limit" if fitted else "not fitted"
    report["notes"] = _order(asked, question)
    return {**report, "worst": _worst(asked, question)}


def _unfitted(ensemble: Ensemble) -> list[str]:
    """The command that fits each ensemble, this one or one inside it, whose state is missing."""
    found = []
    if ensemble.method.card.trained and ensemble.cell.value is None:
        found.append(str(NotFitted(ensemble.name, ensemble.method.name)))
    for actor in ensemble.actors():
        if isinstance(actor, Ensemble):
            found += _unfitted(actor)
    return found


def _too_many_calls(asked: Asked, question: str) -> list[str]:
    calls, allowed = asked.worst(question).calls, asked.ensemble.config.limits.calls
    if calls <= allowed:
        return []
    return [f"every request would be refused: its worst case is {calls} calls, limits.calls is {allowed}"]


def _worst(asked: Asked, question: str) -> dict[str, Any]:
    worst = asked.worst(question)
    limits = asked.ensemble.config.limits
    return {
        "calls": worst.calls,
        "tokens": worst.tokens,
        "usd": worst.usd,
        "priced_by_the_second": list(worst.timed),
        "loads": {name: asdict(load) for name, load in worst.loads.items()},
        "limits": {
            "calls": limits.calls,
            "seconds": limits.seconds,
            "usd_per_request": limits.usd_per_request,
        },
    }


def _order(asked: Asked, question: str) -> list[str]:
    """What the order of the members means to the method, and whether the prices agree with it."""
    rule, names = asked.ensemble.method.card.pool.order, [m.name for m in asked.ensemble.members]
    if rule == "primary-first":
        return [f"{names[0]} is the primary member"]
    if rule == "none":
        return []
    first = {"cost": "cheapest", "strong-weak": "strongest"}.get(rule, "weakest")
    said = f"order: {' → '.join(names)} ({first} first)"
    return [said, *out_of_order(asked.ensemble, Query.of(question))]


def _print(house: House, reports: list[dict[str, Any]], size: int) -> None:
    n, m = len(reports), len(house.config.members)
    print(f"{house.config.path}: {n} ensemble{'' if n == 1 else 's'}, {m} member{'' if m == 1 else 's'}")
    width = max((len(r["ensemble"]) for r in reports), default=0)
    for r in reports:
        members = ", ".join(r["members"])
        print(f"{r['ensemble']:<{width}}  {r['status']}: {r['method']} over {members}")
        for line in (*r["problems"], *r["notes"]):
            print(f"  - {line}")
        if "worst" in r:
            print(f"  - worst case for a question of {size} bytes: {_costs(r['worst'])}")


def _costs(worst: Mapping[str, Any]) -> str:
    timed = worst["priced_by_the_second"]
    plus = f" plus the seconds of {', '.join(timed)}" if timed else ""
    return f"{worst['calls']} calls, {worst['tokens']} tokens written, {dollars(worst['usd'])}{plus}"
