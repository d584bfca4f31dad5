"""Several members' next distributions over one list of strings: what every rule of aggregation starts from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from septet.core.errors import RunError
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
        return Fused(self.texts, p, Shares(lambda j: self.logp[:, j], weights), ordered=True)


class Shares:
    """Each member's share in a string, w_i p_i(x) / Σ_j w_j p_j(x), worked out for the strings that are asked
    for; negative weights count as none, and a string that nobody likes is everybody's. `logp_of(j)`: (n_members,)."""

    def __init__(self, logp_of: Callable[[int], Floats | Logp], weights: Floats) -> None:
        self._logp_of, self._weights = logp_of, np.maximum(weights, 0.0)

    def __getitem__(self, j: int, /) -> Floats:
        parts = self._weights * np.exp(self._logp_of(j), dtype=np.float64)
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


def whole_mean(views: Sequence[View | None], table: UnionTable | None, weights: Floats) -> Fused | None:
    """The arithmetic mean of whole distributions, as `arithmetic` over `common`; None where some are not whole.

    Exponentials are taken of each member's own entries, and no member has a row of all strings: for 49,152 and
    262,144 entries that takes half the time. Sums of two probabilities are float32, their total float64.
    """
    if table is None or not all(v is None or v.next.full for v in views):
        return None
    live = [(i, v) for i, v in enumerate(views) if v is not None and weights[i] > 0]
    if not live:
        raise RunError("no member that has an opinion has any weight")
    mixed = np.zeros(len(table.strings), dtype=np.float32)
    for i, view in live:
        p = np.zeros(len(view.next.logp) + 1, dtype=np.float32)
        np.exp(view.next.logp, out=p[:-1])
        p *= np.float32(weights[i])
        table.columns[i].add(p, mixed)

    def logp_of(j: int) -> Floats:
        return np.array(
            [-np.inf if v is None else table.columns[i].logp_at(j, v.next.logp) for i, v in enumerate(views)]
        )

    mixed *= np.float32(1 / mixed.sum(dtype=np.float64))
    return Fused(table.strings, mixed.astype(np.float64), Shares(logp_of, weights), ordered=True)


def _known(_: int, following: Next, piece: bytes) -> float:
    logp = following.logp_of(piece)
    return -np.inf if logp is None else logp
