"""`septet methods`: what there is, and what works with the members of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from septet.cli._facts import methods_json, shown, words
from septet.cli._options import AsJson, Settings
from septet.cli._terminal import new_table, print_json, print_table
from septet.core.caps import Caps
from septet.core.errors import BadParameter
from septet.core.facets import Family
from septet.engine.catalogue import Broken, get
from septet.engine.house import House, load


def methods(
    family: Annotated[
        list[str], typer.Option(help="Only this family: a1, a2, b1, b2, b3, c1 or c2; may be repeated.")
    ] = [],  # noqa: B006  # typer reads the default and never changes it
    json: AsJson = False,
    fits: Annotated[
        Path | None, typer.Option(help="A configuration file: show method × member instead.")
    ] = None,
    settings: Settings = [],  # noqa: B006  # typer reads the default and never changes it
) -> None:
    """Prints a table, or JSON."""
    codes = [f.code for f in Family]
    unknown = [name for name in family if name not in codes]
    if unknown:
        raise BadParameter("--family", unknown[0], f"must be one of {', '.join(codes)}")
    found, broken = methods_json()
    if family:
        found = [m for m in found if m["family"][:2] in family]
    if fits is not None:
        rows = fit_table(load(fits, set=settings), [m["name"] for m in found])
        if json:
            print_json(rows)
        else:
            _print_fits(rows)
    elif json:
        print_json(found)
    else:
        _print_methods(found)
    _say_broken(broken)


def _print_methods(found: Sequence[Mapping[str, Any]]) -> None:
    table = new_table("method", "family", "paper", "learns", "needs", "parameters")
    for m in found:
        parameters = ", ".join(f"{p['name']}={shown(p['default'])}" for p in m["parameters"])
        needs = "; ".join([words(m["needs"]), *(f"{r}: {words(c)}" for r, c in m["roles"].items())])
        table.add_row(m["name"], m["family"], m["paper"], learns(m), needs, parameters)
    print_table(table)


def learns(method: Mapping[str, Any]) -> str:
    """Whether a method is fitted, learns while it serves, both, or nothing."""
    kinds = [word for word, is_so in (("fitted", method["trained"]), ("online", method["online"])) if is_so]
    return ", ".join(kinds) or "–"


def _say_broken(broken: Sequence[Broken]) -> None:
    # not part of the list of methods, so that `--json` stays a list of what can be used
    for b in broken:
        typer.echo(f"cannot be used: {b.name} of {b.owner}: {b.reason}", err=True)


def fit_table(house: House, names: Sequence[str]) -> list[dict[str, Any]]:
    """For every method, what each member of the file lacks for it with its default parameters."""
    caps = {name: house.builder.member(name).caps for name in house.config.members}
    rows = []
    for name in names:
        record = get("methods", name)
        method = record()
        needs, rule = method.needs(), record.card.pool
        lacks = {member: needs.missing(offers) for member, offers in caps.items()}
        if rule.priced:
            for member in caps:
                lacks[member] += [] if house.builder.member(member).price else ["price"]
        roles = {role: _able(wanted, caps) for role, wanted in method.roles().items()}
        few = max(0, rule.at_least - sum(not lack for lack in lacks.values()))
        rows.append({"method": name, "members": lacks, "roles": roles, "members_missing": few})
    return rows


def _able(wanted: Caps, caps: Mapping[str, Caps]) -> list[str]:
    """The members that could play a role."""
    return [member for member, offers in caps.items() if not wanted.missing(offers)]


def _print_fits(rows: Sequence[Mapping[str, Any]]) -> None:
    members = list(rows[0]["members"]) if rows else []
    table = new_table("method", *members, "roles", "pool")
    for row in rows:
        cells = [", ".join(row["members"][m]) or "fits" for m in members]
        roles = "; ".join(f"{role}: {' or '.join(able) or 'nobody'}" for role, able in row["roles"].items())
        few = row["members_missing"]
        pool = f"{few} more member{'s' if few > 1 else ''} needed" if few else "fits"
        table.add_row(row["method"], *cells, roles or "–", pool)
    print_table(table)
