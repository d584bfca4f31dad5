"""What the fixtures of these tests hand out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from septet.core.table import Table

Rows = list[dict[str, Any]]
"""Records of a parquet file."""

Read = Callable[..., Rows]
"""read("nq6/outcomes", ["query_id", …], model={…}): these columns of the rows of the named models."""

Joined = Callable[..., Table]
"""joined("nq6", columns=["score"], question="query"): outcomes with the facts of their questions."""


def split(table: Table, name: str) -> Table:
    """The questions of one split."""
    return table.of_queries(np.array(table.splits) == name)
