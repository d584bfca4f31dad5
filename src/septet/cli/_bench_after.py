"""`septet bench after`: methods after inference, replayed on recorded answers or asked live."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from septet.cli._options import AsJson
from septet.cli._terminal import new_table, print_json, print_table, progress, short

if TYPE_CHECKING:
    from septet.bench.results import Results
    from septet.bench.routers import Comparison, Failure

SENTENCE = (
    "Compare methods that combine complete answers on recorded ones: quality, cost, trust; nobody is asked."
)
"""What the list of verbs says."""


def after(
    data: Annotated[
        list[str],
        typer.Option(
            help="Recorded answers: a file, a folder, the name of a set under SEPTET_DATA, or all; may be repeated."
        ),
    ],
    method: Annotated[
        list[str],
        typer.Option(
            help="name or name:param=value,param=value; may be repeated. Without it, every method after inference."
        ),
    ] = [],  # noqa: B006  # typer reads the default and never changes it
    seeds: Annotated[int, typer.Option(min=1, help="How many, from 0.")] = 1,
    limit: Annotated[
        int, typer.Option(min=0, help="Questions to fit and to test on, at most; 0: as the set says.")
    ] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Processes side by side.")] = 1,
    out: Annotated[
        Path, typer.Option(help="Where results are kept; a stopped run goes on from there.")
    ] = Path("bench-after"),
    html: Annotated[Path | None, typer.Option(help="Write the report here, as one page.")] = None,
    record: Annotated[
        Path | None, typer.Option("--save", help="Write after-SET.json into this folder: numbers, no texts.")
    ] = None,
    draws: Annotated[int, typer.Option(min=10, max=100_000, help="Resamples for intervals.")] = 1000,
    give_up_after: Annotated[
        float, typer.Option(min=0, help="Seconds that one method may take on one set; 0: any time.")
    ] = 0.0,
    json: AsJson = False,
) -> None:
    """Replays and compares. What failed is listed at the end, with exit code 3; the rest is kept."""
    from septet.bench.after.contenders import Contender
    from septet.bench.after.runs import carry_out, comparison, results
    from septet.bench.after.sets import EVERY

    run = comparison(
        [part for of in data for part in (EVERY if of == "all" else (of,))],
        [Contender.of(text) for text in method],
        seeds=seeds,
        limit=limit,
        draws=draws,
    )
    with progress("reading", len(run.jobs)) as bars:
        failed = carry_out(
            run,
            out,
            workers=jobs,
            seconds=give_up_after,
            progress=lambda what, n_done, total: bars.update(
                bars.task_ids[0], completed=n_done, total=total, description=short(what, 60)
            ),
        )
    found = results(run, out, made=date.today().isoformat())
    found["failed"] = [{"job": f.job, "error": f.error} for f in failed]
    _write(run, found, html, record)
    if json:
        print_json(found)
    else:
        _print(found, failed)
    if failed:
        raise typer.Exit(3)


def _write(run: Comparison, found: Results, html: Path | None, record: Path | None) -> None:
    """The report and the records, where they are wanted."""
    if html is not None:
        from septet.bench.html import page

        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(page(found, title="Methods on recorded answers", noun="method"), encoding="utf-8")
    if record is not None:
        from septet.bench.after.standings import save

        save(found, record, {r.name: r.facts for r in run.sets.values()})


def _print(found: Results, failed: list[Failure]) -> None:
    from septet.bench.after import standings

    table = new_table(*standings.COLUMNS)
    for row in standings.rows(found):
        table.add_row(*row)
    print_table(table)
    for note in standings.notes(found):
        print(note)
    for failure in failed:
        print(f"failed: {failure.job}: {failure.error}", file=sys.stderr)
