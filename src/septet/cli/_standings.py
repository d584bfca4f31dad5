"""How a bench that compares ends: the report and the records, where they are wanted; the table, and what failed."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import typer

from septet.cli._terminal import new_table, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from septet.bench.processes import Failure
    from septet.bench.results import Results
    from septet.bench.sets import Recorded


class Standings(Protocol):
    """The module that knows how those compared stand."""

    @property
    def COLUMNS(self) -> tuple[str, ...]: ...  # noqa: N802

    def rows(self, results: Results) -> list[tuple[str, ...]]: ...
    def notes(self, results: Results) -> Iterable[str]: ...
    def save(self, results: Results, folder: Path, facts: Mapping[str, Mapping[str, Any]]) -> list[Path]: ...


def conclude(
    found: Results,
    failed: Sequence[Failure],
    sets: Mapping[str, Recorded],
    standings: Standings,
    *,
    html: Path | None,
    record: Path | None,
    json: bool,
    methods: bool = False,
) -> None:
    """Writes what is wanted, prints how they stand, and ends with code 3 if anything failed. `sets` by name;
    `methods`: the report is about methods on answers, not routers."""
    found["failed"] = [{"job": f.job, "error": f.error} for f in failed]
    if html is not None:
        from septet.bench.html import METHODS, ROUTERS, page

        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(page(found, METHODS if methods else ROUTERS), encoding="utf-8")
    if record is not None:
        standings.save(found, record, {name: r.facts for name, r in sets.items()})
    if json:
        print_json(found)
    else:
        table = new_table(*standings.COLUMNS)
        for row in standings.rows(found):
            table.add_row(*row)
        print_table(table)
        for note in standings.notes(found):
            print(note)
        for failure in failed:
            print(f"failed: {failure.job}: {failure.error}", file=sys.stderr)
    if failed:
        raise typer.Exit(3)
