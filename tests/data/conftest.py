"""The shared data sets: the folder SEPTET_DATA, else ../shared/data; where it is absent, each test is skipped aloud."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from recorded import Joined, Read, Rows

from septet.core.table import Table

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of the sets. A relative SEPTET_DATA starts at the root of the repository, as in the Makefile."""
    folder = (ROOT / os.environ.get("SEPTET_DATA", "../shared/data")).resolve()
    if not (folder / "MANIFEST.json").is_file():
        pytest.skip(f"the shared data sets are not at {folder} (SEPTET_DATA says where they are)")
    return folder


@pytest.fixture(scope="session")
def read(data: Path) -> Read:
    """Reads a parquet file of a set: read("nq6/outcomes", columns=[…], model={…}) keeps the named models."""

    def rows(file: str, columns: Sequence[str] | None = None, **among: Any) -> Rows:
        from pyarrow.parquet import read_table  # in the extra `data`; not needed to collect the tests

        keep = [(column, "in", list(values)) for column, values in among.items()] or None
        found: Rows = read_table(data / f"{file}.parquet", columns=columns, filters=keep).to_pylist()
        return found

    return rows


@pytest.fixture(scope="session")
def joined(read: Read) -> Joined:
    """The outcomes of a set as a Table, each row with the facts of its question; `question` is the column of
    the text by which routers know it."""

    def table(of: str, *, columns: Sequence[str], question: str = "query", **among: Any) -> Table:
        facts = {
            row["query_id"]: {"query": row[question], "task": row["task"], "split": row["split"]}
            for row in read(f"{of}/queries", ["query_id", "task", "split", question])
        }
        return Table.of([row | facts[row["query_id"]] for row in _outcomes(read, of, columns, among)])

    return table


def _outcomes(read: Read, of: str, columns: Sequence[str], among: Mapping[str, Any]) -> Rows:
    return read(f"{of}/outcomes", ["query_id", "model", *columns], **among)
