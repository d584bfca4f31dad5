"""`septet fit`: learns the state of one or more ensembles from recorded outcomes."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from septet.cli._options import DEFAULT_CONFIG, AsJson, ConfigFile, Settings, open_house
from septet.cli._terminal import print_json, waiting
from septet.core.errors import BadParameter, ConfigError
from septet.core.state import Learned, pack
from septet.core.table import Table
from septet.engine.house import House


def fit(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="The ensembles.")],
    data: Annotated[Path, typer.Option(help="Outcomes, one JSON object per line.")],
    config: ConfigFile = DEFAULT_CONFIG,
    seed: Annotated[int, typer.Option(min=0, help="Fixes every draw of the fit.")] = 0,
    split: Annotated[
        str, typer.Option(help='The split to fit on; without it "train" where the data have one, else all.')
    ] = "",
    settings: Settings = [],  # noqa: B006  # typer reads the default and never changes it
    json: AsJson = False,
) -> None:
    """Fits, saves the state, and says where."""
    house = open_house(config, settings)
    for name in names:
        if name not in house.config.ensembles:
            raise BadParameter("fit", name, f"must be an ensemble: {', '.join(house.config.ensembles)}")
    table, provenance = read_table(data, split)
    asyncio.run(_fit_each(house, names, table, seed, provenance, print_json if json else _print))


def read_table(path: Path, split: str) -> tuple[Table, dict[str, Any]]:
    """The outcomes of a split, and where they come from."""
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the outcomes {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"the outcomes {path} are not UTF-8 text") from None
    # not splitlines: a JSON string may hold U+2028 and the like as they are
    table = Table.of_lines(text.split("\n"), path.name)
    split = split or ("train" if "train" in table.splits else "")
    if split:
        keep = np.array([s == split for s in table.splits], dtype=np.bool_)  # (q,)
        if not keep.any():
            raise BadParameter("--split", split, f"must be one of {sorted(set(table.splits))}")
        table = table.of_queries(keep)
    if not len(table):
        raise ConfigError(f"{path} holds no outcomes")
    return table, {"data": path.name, "sha256": hashlib.sha256(raw).hexdigest(), "split": split or "all"}


async def _fit_each(
    house: House,
    names: Sequence[str],
    table: Table,
    seed: int,
    provenance: Mapping[str, Any],
    say: Callable[[Mapping[str, Any]], None],
) -> None:
    async with house:
        for name in names:
            began = time.monotonic()
            with waiting(f"fitting {name} on {len(table)} rows …"):
                learned = await house[name].fit(table, seed=seed, provenance=provenance)
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
    print(f"saved as version {facts['version']} in {facts['state']}")
