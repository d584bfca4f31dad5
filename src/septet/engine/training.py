"""Fits with torch: runs the trainer that a method names, and keeps the weights that it made.

`septet.training` is loaded by name when a fit needs it, so that nothing else loads torch. What a trainer fits
are the roles of its method: before the fit they wait, after it they answer with the weights of that ensemble.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from septet.core.backend import Endpoint
from septet.core.errors import ConfigError
from septet.core.method import Method
from septet.core.state import Trained
from septet.core.table import Table

WEIGHTS = "weights"

Say = Callable[[str], None]


async def train(
    method: Method,
    table: Table,
    roles: Mapping[str, tuple[Endpoint, ...]],
    seed: int,
    say: Say | None = None,
) -> Trained:
    """Runs the trainer in a thread of its own. `roles`: the endpoint of each role's actors; `say` is told
    how far it is."""
    module = f"septet.training.{method.trainer.replace('-', '_')}"
    try:
        trainer: Any = import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise  # the trainer is there, and something that it needs is not
        raise ConfigError(
            f"{method.name} names the trainer {method.trainer!r}, which there is not"
        ) from error
    rng = np.random.default_rng(seed)
    trained: Trained = await asyncio.to_thread(trainer.fit, method, table, roles, rng, say or _silent)
    return trained


def keep(trained: Trained, folder: Path, version: int) -> str:
    """Writes the weights into a new folder beside the state, and gives its name; half a folder never has it."""
    name = f"{WEIGHTS}-{version:06d}-{os.getpid()}"
    partial = folder / f".{name}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        trained.write(partial)
        shutil.rmtree(folder / name, ignore_errors=True)
        partial.replace(folder / name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return name


def _silent(said: str) -> None:
    """Where nobody is told how far a fit is."""
