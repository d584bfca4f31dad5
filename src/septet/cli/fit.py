"""`septet fit`: learns the state of one or more ensembles from recorded outcomes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from septet.bench.tables import read_table
from septet.cli._options import DEFAULT_CONFIG, AsJson, ConfigFile, Settings, open_house
from septet.cli._terminal import print_json, waiting
from septet.core.errors import BadParameter
from septet.core.state import Learned, pack
from septet.core.table import Table
from septet.engine.house import House


def fit(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="The ensembles.")],
    data: Annotated[
        Path,
        typer.Option(
            help="Outcomes: JSON lines, parquet, or a folder with queries.parquet and outcomes.parquet."
        ),
    ],
    config: ConfigFile = DEFAULT_CONFIG,
    seed: Annotated[int, typer.Option(min=0, help="Fixes every draw of the fit.")] = 0,
    split: Annotated[
        str, typer.Option(help='The split to fit on; without it "train" where the data have one, else all.')
    ] = "",
    budget_usd_per_1k: Annotated[
        float | None,
        typer.Option(
            min=0, help="Set the router's price of cost so that 1000 requests cost at most so many USD."
        ),
    ] = None,
    settings: Settings = [],  # noqa: B006  # typer reads the default and never changes it
    json: AsJson = False,
) -> None:
    """Fits, saves the state, and says where."""
    house = open_house(config, settings)
    for name in names:
        if name not in house.config.ensembles:
            raise BadParameter("fit", name, f"must be an ensemble: {', '.join(house.config.ensembles)}")
    labelled = any(house[name].ensemble.method.card.labels == "scores" for name in names)
    table, provenance = read_table(data, split, labelled=labelled)
    budget = None if budget_usd_per_1k is None else budget_usd_per_1k / 1000
    options = {"seed": seed, "provenance": provenance, "budget_usd": budget}
    asyncio.run(_fit_each(house, names, table, options, print_json if json else _print))


async def _fit_each(
    house: House,
    names: Sequence[str],
    table: Table,
    options: Mapping[str, Any],
    say: Callable[[Mapping[str, Any]], None],
) -> None:
    async with house:
        for name in names:
            began = time.monotonic()
            doing = f"fitting {name} on {len(table)} rows …"
            with waiting(doing) as shown:

                def progress(said: str, doing: str = doing, shown: Any = shown) -> None:
                    shown.update(f"{doing} {said}")

                learned = await house[name].fit(table, progress=progress, **options)
            folder = house.builder.state_folder(house.config.ensembles[name])
            say(summary(name, learned, folder, time.monotonic() - began))


def summary(name: str, learned: Learned, folder: Path, seconds: float) -> dict[str, Any]:
    """What was learned, without the numbers themselves."""
    arrays, facts = pack(learned.value)
    return {
        "ensemble": name,
        "method": learned.method,
        "members": list(learned.members),
        "state": str(folder),
        "version": learned.version,
        "provenance": dict(learned.provenance),
        "arrays": {key: list(array.shape) for key, array in arrays.items()},
        "facts": {key: value for key, value in facts.items() if isinstance(value, int | float | str)},
        "seconds": round(seconds, 3),
    }


def _print(facts: Mapping[str, Any]) -> None:
    made = facts["provenance"]
    print(
        f"{facts['ensemble']} ({facts['method']}) fitted in {facts['seconds']:.1f} s on {made['rows']} rows of"
        f" {made['queries']} questions × {', '.join(facts['members'])}; {made['data']}, split {made['split']},"
        f" seed {made['seed']}, sha256 {made['sha256'][:12]}"
    )
    parts = [f"{key} {tuple(shape)}" for key, shape in facts["arrays"].items()]
    parts += [f"{key} {value}" for key, value in facts["facts"].items()]
    print(f"state: {', '.join(parts)}")
    if "expected" in made:
        print(_expectation(made["budget_usd"], made["expected"]))
    print(f"saved as version {facts['version']} in {facts['state']}")


def _expectation(budget_usd: float, expected: Mapping[str, Any]) -> str:
    """What the calibration expects, in words."""
    low, high = expected["quality_95"]
    cheap, dear = expected["usd_per_1k_95"]
    shares = ", ".join(f"{name} {share:.0%}" for name, share in expected["shares"].items() if share >= 0.005)
    return (
        f"for at most ${1000 * budget_usd:.4g} per 1000 requests: price of cost {expected['prefer']:.4g} per USD;"
        f" expected quality {expected['quality']:.3f} [{low:.3f}, {high:.3f}], cost"
        f" ${expected['usd_per_1k']:.4g} [{cheap:.4g}, {dear:.4g}] per 1000 (n = {expected['n']},"
        f" {expected['folds']}-fold); answering: {shares}"
    )
