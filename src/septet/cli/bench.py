"""`septet bench`: ensembles × tasks, with accuracy and its interval, USD and seconds.

`routers` compares routers on recorded outcomes and `after` methods on recorded answers; `options` scores given
answers, `bits` members and their mixtures along given texts.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import date
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer

from septet.bench.live import Results, task_of
from septet.bench.live import bench as measured
from septet.bench.report import COLUMNS, record, rows, save
from septet.cli._bench_after import SENTENCE as AFTER
from septet.cli._bench_after import after as after
from septet.cli._options import DEFAULT_CONFIG, AsJson, ConfigFile, Settings, open_house
from septet.cli._standings import conclude
from septet.cli._terminal import new_table, print_json, print_table, progress, telling
from septet.engine.house import House
from septet.tasks.loader import Task

SUBVERBS = {
    "routers": "Compare routers on recorded outcomes: quality, cost, intervals; nobody is asked.",
    "after": AFTER,
    "options": "Multiple choice by score: the likeliest option per byte; nothing is generated.",
    "bits": "Bits per byte of members, and of their byte-exact mixtures, along given texts.",
}


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


def routers(
    data: Annotated[
        list[str],
        typer.Option(
            help="Recorded outcomes: a file, a folder, or the name of a set under SEPTET_DATA; may be repeated."
        ),
    ],
    router: Annotated[
        list[str],
        typer.Option(
            help="name or name:param=value,param=value; may be repeated. Without it, every router that needs neither"
            " torch nor a role, where it fits."
        ),
    ] = [],  # noqa: B006
    seeds: Annotated[
        int, typer.Option(min=1, help="How many, from 0; with more than 5000 questions to train on, one.")
    ] = 1,
    split: Annotated[
        str, typer.Option(help="What to train and test on: own, random, grouped or leave-one-task-out.")
    ] = "own",
    jobs: Annotated[int, typer.Option(min=1, help="Processes side by side.")] = 1,
    out: Annotated[
        Path, typer.Option(help="Where results and features are kept; a stopped run goes on from there.")
    ] = Path("bench-routers"),
    html: Annotated[Path | None, typer.Option(help="Write the report here, as one page.")] = None,
    record: Annotated[
        Path | None,
        typer.Option("--save", help="Write routers-TABLE.json into this folder: numbers, no texts."),
    ] = None,
    grid: Annotated[int, typer.Option(min=1, max=10_000, help="Prices of cost beside 0 and infinity.")] = 100,
    draws: Annotated[int, typer.Option(min=10, max=100_000, help="Resamples for intervals.")] = 1000,
    give_up_after: Annotated[
        float, typer.Option(min=0, help="Seconds that one router may take on one split; 0: any time.")
    ] = 0.0,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream", help="Let every router that can learn while it serves learn from the test questions."
        ),
    ] = False,
    json: AsJson = False,
) -> None:
    """Fits, decides and compares. What failed is listed at the end, with exit code 3; the rest is kept."""
    from septet.bench import standings
    from septet.bench.contenders import Contender
    from septet.bench.routers import carry_out, comparison, results
    from septet.bench.splits import kind_of

    run = comparison(
        data,
        [Contender.of(text) for text in router],
        split=kind_of(split),
        seeds=seeds,
        grid=grid,
        draws=draws,
        stream=stream,
    )
    with progress("reading", len(run.jobs)) as bars:
        failed = carry_out(
            run,
            out,
            workers=jobs,
            seconds=give_up_after,
            progress=telling(bars),
        )
    found = results(run, out, made=date.today().isoformat())
    sets = {r.name: r for r in run.sets.values()}
    conclude(found, failed, sets, standings, html=html, record=record, json=json)


def options(
    task: Annotated[
        list[str], typer.Option("--task", "-t", help="A task whose questions have choices; may be repeated.")
    ],
    ensemble: Annotated[
        list[str],
        typer.Option("--ensemble", "-e", help="An ensemble, with its members; may be repeated."),
    ],
    config: ConfigFile = DEFAULT_CONFIG,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first questions of each task.")] = None,
    folder: Annotated[
        Path, typer.Option("--out", help="Where marks are kept; a stopped run goes on from there.")
    ] = Path("bench-options"),
    out: Annotated[Path | None, typer.Option("--save", help="Write the JSON record here, too.")] = None,
    settings: Settings = [],  # noqa: B006
    json: AsJson = False,
) -> None:
    """Scores every option after its question, under every ensemble and all of their members."""
    from septet.bench import options as by_score

    house = open_house(config, settings)
    tasks = [task_of(t, limit) for t in task]
    members = {m.name for name in ensemble for m in house[name].ensemble.members}

    async def run() -> list[by_score.Scored]:
        async with house:
            with progress("scoring", len({*members, *ensemble}) * sum(map(len, tasks))) as bars:
                return await by_score.options(
                    house,
                    ensemble,
                    tasks,
                    folder=folder,
                    progress=lambda name, of, done, n: bars.update(
                        bars.task_ids[0], advance=1, description=f"{name} on {of}"
                    ),
                )

    found = asyncio.run(run())
    kept = by_score.record(found, tasks, made=date.today().isoformat())
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(dumps(kept, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
    if json:
        print_json(kept)
    else:
        table = new_table(*by_score.COLUMNS)
        for row in by_score.rows(found):
            table.add_row(*row)
        print_table(table)
    errors = [f"{s.name} on {s.task}, {error}" for s in found for error in s.errors]
    for error in errors:
        print(f"failed: {error}", file=sys.stderr)
    if errors:
        raise typer.Exit(3)


def bits(
    member: Annotated[
        list[str], typer.Option("--member", "-m", help="A member, or a byte-exact ensemble; may be repeated.")
    ],
    text: Annotated[
        list[str],
        typer.Option(
            "--text",
            "-t",
            help='A text, or JSON lines with a "text" each, as PATH or KIND=PATH; may be repeated.',
        ),
    ],
    fit: Annotated[
        list[str],
        typer.Option(help="Other texts, of the same kinds, on which the weight of two members is fitted."),
    ] = [],  # noqa: B006
    config: ConfigFile = DEFAULT_CONFIG,
    epsilon: Annotated[
        float, typer.Option(min=0, max=0.5, help="The share of the mass that a step may leave unasked for.")
    ] = 1e-2,
    variant: Annotated[str, typer.Option(help="masked, canonical or full.")] = "masked",
    most: Annotated[int, typer.Option(min=0, help="Bytes of each text that are scored at most; 0: all.")] = 0,
    context: Annotated[
        int, typer.Option(min=1, help="Bytes that are read before each window, unscored.")
    ] = 64,
    window: Annotated[int, typer.Option(min=16, help="Bytes that are scored at a stretch.")] = 1500,
    out: Annotated[Path | None, typer.Option("--save", help="Write the JSON record here, too.")] = None,
    settings: Settings = [],  # noqa: B006
    json: AsJson = False,
) -> None:
    """Scores every byte under every member, and under their arithmetic and geometric mixtures."""
    from septet.bench.bits_per_byte import bits as measured
    from septet.bench.bits_per_byte import documents, members_of, rows_of
    from septet.methods.b1_token.byte_exact import ByteExact

    method = ByteExact(variant=variant, epsilon=epsilon)  # type: ignore[arg-type]
    house = open_house(config, settings)
    names = members_of(house, member)
    texts = [d for t in text for d in documents(t, context=context, window=window, most=most)]
    fits = [d for t in fit for d in documents(t, context=context, window=window, most=most)]

    async def run() -> dict[str, Any]:
        async with house:
            with progress("reading", sum(len(d.text) for d in (*texts, *fits))) as bars:
                found = await measured(
                    house,
                    names,
                    texts,
                    fits,
                    method=method,
                    progress=lambda kind, done, total: bars.update(
                        bars.task_ids[0], completed=done, description=kind
                    ),
                )
        return found.record()

    found = {**asyncio.run(run()), "made": date.today().isoformat()}
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(dumps(found, indent=1) + "\n", encoding="utf-8")
    if json:
        print_json(found)
        return
    columns, cells = rows_of(found)
    table = new_table(*columns)
    for row in cells:
        table.add_row(*row)
    print_table(table)
    print(f"{found['bytes_per_second']:.0f} bytes a second; epsilon {epsilon:g}, variant {variant}")
