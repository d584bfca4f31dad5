"""`septet bench after`: methods after inference, replayed on recorded answers or asked live."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from septet.bench.live import task_of
from septet.cli._options import DEFAULT_CONFIG, AsJson, ConfigFile, Settings, open_house
from septet.cli._standings import conclude
from septet.cli._terminal import progress, telling
from septet.core.errors import ConfigError

if TYPE_CHECKING:
    from septet.bench.processes import Failure
    from septet.bench.results import Results
    from septet.bench.sets import Recorded

SENTENCE = "Compare methods that combine complete answers, on recorded ones or live: quality, cost, trust."
"""What the list of verbs says."""


def after(
    data: Annotated[
        list[str],
        typer.Option(
            help="Recorded answers: a file, a folder, the name of a set under SEPTET_DATA, or all; may be repeated."
        ),
    ] = [],  # noqa: B006  # typer reads the default and never changes it
    task: Annotated[
        list[str],
        typer.Option("--task", "-t", help="Live, instead of --data: a task or its file; may be repeated."),
    ] = [],  # noqa: B006
    config: ConfigFile = DEFAULT_CONFIG,
    method: Annotated[
        list[str],
        typer.Option(
            help="name or name:param=value,param=value; live: an ensemble of the file, or a method; may be repeated."
            " Without it, every method after inference."
        ),
    ] = [],  # noqa: B006
    temperature: Annotated[
        float, typer.Option(min=0.0, max=2.0, help="Live: of the samples that all methods share.")
    ] = 1.0,
    max_tokens: Annotated[
        int, typer.Option(min=0, help="Live: tokens of an answer, at most; 0: as the task says.")
    ] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="How many, from 0.")] = 1,
    limit: Annotated[
        int,
        typer.Option(
            min=0, help="Questions to fit and to test on, at most; live: of each task; 0: as the set says."
        ),
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
    settings: Settings = [],  # noqa: B006
    json: AsJson = False,
) -> None:
    """Replays and compares. What failed is listed at the end, with exit code 3; the rest is kept.

    Live, every member answers every question once in its own way, and as often more as a method wants samples; all
    methods share these answers, and judges, fusers and the like are asked.
    """
    if bool(data) == bool(task):
        raise ConfigError("say either with --data which recorded answers, or with --task what to ask live")
    if task:
        from septet.bench.after.live import live

        house = open_house(config, settings)
        tasks = [task_of(t, limit or None) for t in task]
        if max_tokens:
            tasks = [replace(t, max_tokens=min(t.max_tokens, max_tokens)) for t in tasks]
        with progress("asking", 1) as bars:
            found, failed, sets = live(
                house,
                tasks,
                method,
                folder=out,
                temperature=temperature,
                draws=draws,
                made=date.today().isoformat(),
                progress=telling(bars),
            )
        _conclude(found, failed, sets, html, record, json)
        return
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
            progress=telling(bars),
        )
    found = results(run, out, made=date.today().isoformat())
    _conclude(found, failed, {r.name: r for r in run.sets.values()}, html, record, json)


def _conclude(
    found: Results,
    failed: list[Failure],
    sets: Mapping[str, Recorded],
    html: Path | None,
    record: Path | None,
    json: bool,
) -> None:
    from septet.bench.after import standings

    conclude(found, failed, sets, standings, html=html, record=record, json=json, methods=True)
