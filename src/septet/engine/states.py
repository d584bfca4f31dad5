"""What was learned, on disk and in memory: npz + JSON, no pickle; one writer per ensemble, versioned."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

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
        "weights": learned.weights,
        "facts": facts,
    }
    arrays_name = f"{learned.version:06d}-{os.getpid()}-{ARRAYS}"
    with (folder / arrays_name).open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy types all keywords as allow_pickle
    partial = folder / f".{FACTS}.{os.getpid()}"
    text = json.dumps({**header, "arrays": arrays_name}, indent=1, ensure_ascii=False)
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(folder / FACTS)
    for old in folder.glob(f"*-{ARRAYS}"):
        if old.name != arrays_name:
            old.unlink(missing_ok=True)
    for old in folder.glob("weights-*"):
        if old.name != learned.weights:
            shutil.rmtree(old, ignore_errors=True)


def load(folder: Path, method: Method) -> Learned | None:
    """The saved state of a method, or None where nothing was saved; another method's state is refused."""
    if not (folder / FACTS).exists():
        return None
    try:
        header = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        path = folder / Path(header["arrays"]).name
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            arrays = dict(found)
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, zlib.error) as error:
        said = str(error) or type(error).__name__
        raise ConfigError(f"the state in {folder} cannot be read: {said}; fit it again") from error
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
        weights=_weights(folder, header.get("weights", "")),
    )


def _weights(folder: Path, name: str) -> str:
    """The name of the folder of trained weights; it has to be there."""
    if name and (Path(name).name != name or not (folder / name).is_dir()):
        raise ConfigError(
            f"the state in {folder} needs the trained weights {name!r} beside it, which are missing; copy them"
            " there too, or fit it again"
        )
    return name


REST = 2.0
"""Seconds between two savings of a state that keeps changing: one that learns from every request would
otherwise write its file for each. What it learned from is in the store at once."""


@dataclass
class Cell:
    """The learned state of one ensemble: a snapshot to read, one writer at a time, saved now and then."""

    folder: Path
    learned: Learned | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    saved: int = -1
    """The version that is on disk."""
    saved_at: float = -REST

    @property
    def value(self) -> Any:
        """The latest snapshot, or None."""
        return None if self.learned is None else self.learned.value

    async def update(self, change: Callable[[Any], Awaitable[Any]]) -> Learned:
        """Replaces the state by what `change` makes of the latest one."""
        async with self.lock:
            if self.learned is None:
                raise ConfigError(f"there is no state in {self.folder} to update; fit it first")
            learned = self.replaced(await change(self.learned.value))
            if time.monotonic() - self.saved_at >= REST:
                await self._save()
            return learned

    def replaced(self, value: Any) -> Learned:
        """The next version, with another value; whoever calls holds the lock."""
        assert self.learned is not None
        self.learned = replace(self.learned, value=value, version=self.learned.version + 1)
        return self.learned

    async def keep(self) -> None:
        """Saves what has changed since it was last saved."""
        async with self.lock:
            if self.learned is not None and self.learned.version != self.saved:
                await self._save()

    async def set(self, learned: Learned) -> None:
        """Replaces the state and saves it at once."""
        async with self.lock:
            self.learned = learned
            await self._save()

    async def _save(self) -> None:
        assert self.learned is not None
        await asyncio.to_thread(save, self.folder, self.learned)
        self.saved, self.saved_at = self.learned.version, time.monotonic()
