"""What was learned, on disk and in memory: npz + JSON, no pickle; one writer per ensemble, versioned."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from septet.core.errors import ConfigError
from septet.core.method import Method
from septet.core.state import Learned, pack, unpack

ARRAYS, FACTS = "arrays.npz", "state.json"


def save(folder: Path, learned: Learned) -> None:
    """Writes a state beside the old one and swaps them, so that a reader never meets half of it."""
    arrays, facts = pack(learned.value)
    folder.mkdir(parents=True, exist_ok=True)
    header = {
        "method": learned.method,
        "members": list(learned.members),
        "parameters": dict(learned.parameters),
        "provenance": dict(learned.provenance),
        "version": learned.version,
        "facts": facts,
    }
    arrays_name = f"{learned.version:06d}-{os.getpid()}-{ARRAYS}"
    with (folder / arrays_name).open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # numpy types all keywords as allow_pickle
    partial = folder / f".{FACTS}.{os.getpid()}"
    text = json.dumps({**header, "arrays": arrays_name}, indent=1, ensure_ascii=False)
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(folder / FACTS)
    for old in folder.glob(f"*-{ARRAYS}"):
        if old.name != arrays_name:
            old.unlink(missing_ok=True)


def load(folder: Path, method: Method) -> Learned | None:
    """The saved state of a method, or None where nothing was saved; another method's state is refused."""
    if not (folder / FACTS).exists():
        return None
    try:
        header = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        with np.load(folder / header["arrays"], allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"the state in {folder} cannot be read: {error}") from error
    if header["method"] != method.name:
        raise ConfigError(f"the state in {folder} was made for {header['method']}, not for {method.name}")
    if method.state_type is None:
        raise ConfigError(f"{method.name} keeps no state, but the ensemble names one ({folder})")
    return Learned(
        method=header["method"],
        members=tuple(header["members"]),
        value=unpack(method.state_type, arrays, header["facts"]),
        parameters=header["parameters"],
        provenance=header["provenance"],
        version=header["version"],
    )


@dataclass
class Cell:
    """The learned state of one ensemble: a snapshot to read, one writer at a time."""

    folder: Path
    learned: Learned | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def value(self) -> Any:
        """The latest snapshot, or None."""
        return None if self.learned is None else self.learned.value

    async def update(self, change: Callable[[Any], Awaitable[Any]]) -> Learned:
        """Replaces the state by what `change` makes of the latest one, and saves it."""
        async with self.lock:
            if self.learned is None:
                raise ConfigError(f"there is no state in {self.folder} to update; fit it first")
            value = await change(self.learned.value)
            self.learned = replace(self.learned, value=value, version=self.learned.version + 1)
            await asyncio.to_thread(save, self.folder, self.learned)
            return self.learned
