"""Features of the questions of a split, computed once and kept on disk: every router of one kind shares them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from septet.bench.sources import code_of
from septet.core.state import pack, unpack
from septet.parts.learning.features import Featurizer, Kind
from septet.parts.learning.rows import Features


@dataclass(frozen=True, eq=False)
class Featured:
    """A featurizer fitted on the questions to train on, their rows (r, d), and those to test on (n, d)."""

    featurizer: Featurizer
    train: Features
    test: Features


@dataclass(frozen=True, eq=False)
class Recalled(Featurizer):
    """A featurizer that has seen its questions before: `row` (text -> place) finds them in `x` (n, d)."""

    row: Mapping[str, int]
    x: Features

    @classmethod
    def of_rows(cls, featurizer: Featurizer, texts: Sequence[str], x: Features) -> Recalled:
        """The same featurizer with the rows x (n, d) that it gives these texts; those of tasks are not kept."""
        own = {f.name: getattr(featurizer, f.name) for f in fields(Featurizer)}
        row = {} if featurizer.kind == "task" else {text: i for i, text in enumerate(texts)}
        return cls(**own, row=row, x=x)

    def rows(self, texts: Sequence[str], tasks: Sequence[str] = ()) -> Features:
        """(n, d) as before, without work for what was seen."""
        if all(text in self.row for text in texts):
            return self.x[np.array([self.row[text] for text in texts], dtype=np.int64)]
        return super().rows(texts, tasks)


def featured(
    folder: Path,
    kind: Kind,
    train: tuple[Sequence[str], Sequence[str]],
    test: tuple[Sequence[str], Sequence[str]],
) -> Featured:
    """The features of (texts, tasks) to train and to test on; from the folder where they are there already.

    Their key is the hash of the texts, the tasks, the kind and the code that makes them.
    """
    facts = [kind, code_of("septet.parts.learning.features"), *map(list, (*train, *test))]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
    file = folder / f"{kind}-{key}.npz"
    if file.is_file():
        return _read(file)
    featurizer = Featurizer.of(kind, *train)
    found = Featured(featurizer, featurizer.rows(*train), featurizer.rows(*test))
    _write(found, file)
    return found


def _read(file: Path) -> Featured:
    with np.load(file, allow_pickle=False) as held:
        facts = json.loads(held["facts"].tobytes())
        found: Featured = unpack(Featured, {k: held[k] for k in held.files if k != "facts"}, facts)
    return found


def _write(found: Featured, file: Path) -> None:
    """Whole or not at all, whoever else writes the same."""
    arrays, facts = pack(found)
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f"{file.stem}.{os.getpid()}.part.npz")
    np.savez(unfinished, facts=np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8), **arrays)  # type: ignore[arg-type]
    os.replace(unfinished, file)
