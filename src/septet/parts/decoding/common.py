"""Several members' next distributions over one list of strings: what every rule of aggregation starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from septet.core.session import Fused, Next, View
from septet.core.types import Floats
from septet.parts.decoding.fuse import logp_table, strings_of, union
from septet.parts.decoding.union import Logp, UnionTable


@dataclass(frozen=True, eq=False)
class Common:
    """`logp` (n_members, t) of `texts` (t,); a member without a view has a row of −inf. `whole`: the strings
    are all that any member could say next, so that each row sums to one; else they are a union of top k."""

    texts: Sequence[bytes]
    logp: Floats | Logp
    whole: bool

    @property
    def present(self) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        """(n_members,) whose view there is."""
        return np.asarray(self.logp.max(axis=1) > -np.inf)

    def fused(self, p: Floats, weights: Floats) -> Fused:
        """The fused distribution: `p` (t,), with each member's share in a string by weight and probability."""
        return Fused(self.texts, p, Shares(self.logp, weights), ordered=True)


class Shares:
    """Each member's share in a string, w_i p_i(x) / Σ_j w_j p_j(x), worked out for the strings that are asked
    for; negative weights count as none, and a string that nobody likes is everybody's."""

    def __init__(self, logp: Floats | Logp, weights: Floats) -> None:
        self._logp, self._weights = logp, np.maximum(weights, 0.0)

    def __getitem__(self, j: int, /) -> Floats:
        parts = self._weights * np.exp(self._logp[:, j], dtype=np.float64)
        total = parts.sum()
        n = len(parts)
        return parts / total if total > 0 else np.full(n, 1 / n)


def common(views: Sequence[View | None], table: UnionTable | None, k: int) -> Common:
    """The views over one list of strings, in byte order.

    With a table and full distributions: the union of the vocabularies, b"" first. Else the union of the top
    k, where a string that a member lacks, or is not known to have, is impossible for it (`approximate`).
    """
    if table is not None and all(v is None or v.next.full for v in views):
        logp = np.full((len(views), len(table.strings)), -np.inf, dtype=np.float32)
        for i, view in enumerate(views):
            if view is not None:
                logp[i] = table.gather(i, view.next.logp)
        return Common(table.strings, logp, whole=True)
    tops = [{} if v is None else strings_of(v, k) for v in views]
    texts = union(tops)
    return Common(texts, logp_table(views, tops, texts, _known), whole=False)


def _known(_: int, following: Next, piece: bytes) -> float:
    logp = following.logp_of(piece)
    return -np.inf if logp is None else logp
