"""`septet bench`: ensembles × tasks, with accuracy and its interval, USD and seconds."""

from __future__ import annotations

import asyncio
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from septet.bench.live import Results, task_of
from septet.bench.live import bench as measured
from septet.bench.report import COLUMNS, record, rows, save
from septet.cli._options import DEFAULT_CONFIG, AsJson, ConfigFile, Settings, open_house
from septet.cli._terminal import new_table, print_json, print_table, progress
from septet.engine.house import House
from septet.tasks.loader import Task


def bench(
    task: Annotated[list[str], typer.Option("--task", "-t", help="A task or its file; may be repeated.")],
    ensemble: Annotated[
        list[str],
        typer.Option("--ensemble", "-e", help="An ensemble or a member; without it, all ensembles."),
    ] = [],  # noqa: B006  # typer reads the default and never changes it
    config: ConfigFile = DEFAULT_CONFIG,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first questions of each task.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Fixes every draw of the house.")] = 0,
    concurrency: Annotated[int, typer.Option(min=1, help="Questions at once.")] = 4,
    fresh: Annotated[bool, typer.Option(help="Ask again what an earlier run has answered.")] = False,
    out: Annotated[Path | None, typer.Option("--save", help="Write the JSON record here, too.")] = None,
    settings: Settings = [],  # noqa: B006
    json: AsJson = False,
) -> None:
    """Asks, marks, and prints a table. A run that was stopped goes on where it stopped."""
    house = open_house(config, settings)
    names = ensemble or list(house.config.ensembles)
    for name in names:
        house[name]  # what does not fit is refused before anything is asked
    tasks = [task_of(t, limit) for t in task]
    results = asyncio.run(_run(house, names, tasks, seed=seed, concurrency=concurrency, fresh=fresh))
    if out is not None:
        save(results, out, made=date.today().isoformat())
    if json:
        print_json(record(results))
    else:
        _print(results)


async def _run(
    house: House, names: list[str], tasks: list[Task], *, seed: int, concurrency: int, fresh: bool
) -> Results:
    total = len(names) * sum(len(t) for t in tasks)
    async with house:
        with progress("asking", total) as bars:
            # one more question is done; of which ensemble and task stands before the bar
            return await measured(
                house,
                names,
                tasks,
                seed=seed,
                concurrency=concurrency,
                fresh=fresh,
                progress=lambda name, task, done, n: bars.update(
                    bars.task_ids[0], advance=1, description=f"{name} on {task}"
                ),
            )


def _print(results: Results) -> None:
    table = new_table(*COLUMNS)
    for row in rows(results):
        table.add_row(*row)
    print_table(table)
