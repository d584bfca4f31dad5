"""What a method prepares for its members, on disk: made once for the same contents, then read."""

from __future__ import annotations

import json
import logging
import os
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from septet.core.actor import Pool
from septet.core.errors import SeptetError
from septet.core.method import Method
from septet.core.state import pack, unpack

FACTS = "facts"
"""The array that holds, as JSON, what is no array."""


def prepared(method: Method, pool: Pool, cache: Path) -> Any:
    """What `prepare` makes of these members; read from the cache where the method names it and keeps it."""
    key = method.prepared_key(pool) if method.prepared_type is not None else ""
    if not key:
        return method.prepare(pool)
    name = sha256(f"{method.name} {key}".encode()).hexdigest()[:32]
    file = cache / "prepared" / f"{name}.npz"
    found = _stored(method, file)
    if found is None:
        found = method.prepare(pool)
        _store(file, found)
    return found


def _stored(method: Method, file: Path) -> Any:
    assert method.prepared_type is not None
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in kept.files}
        facts = json.loads(arrays.pop(FACTS).tobytes())
        return unpack(method.prepared_type, arrays, facts)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, SeptetError) as error:
        logging.getLogger(__name__).warning("%s of %s is made again: %s", file.name, method.name, error)
        return None


def _store(file: Path, value: Any) -> None:
    """Written beside its place and moved there: another process sees the whole file or none."""
    arrays, facts = pack(value)
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as stream:
            said = np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8)
            np.savez(stream, **arrays, **{FACTS: said})  # type: ignore[arg-type]
        part.replace(file)
    except OSError as error:
        # The method works without; only the next start is slower.
        logging.getLogger(__name__).warning("cannot be kept in %s: %s", file.parent, error)
        part.unlink(missing_ok=True)
