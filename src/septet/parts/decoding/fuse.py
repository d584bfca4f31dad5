"""Putting several next-token distributions over one list of byte strings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from septet.core.session import Next, View, Vocab
from septet.core.types import Floats
from septet.parts.decoding.topk import top_k


def strings_of(view: View, k: int) -> dict[bytes, float]:
    """The strings of a view's top k with their log-probabilities; ids with equal bytes are summed.

    END ids count once. The sum is over all ids with these bytes, not only over those in the top k.
    """
    found: dict[bytes, float] = {}
    ids, logps = view.next.ids[:k], view.next.logp[:k]
    if view.next.full:  # in the order of ids
        ids = top_k(view.next.logp, k)
        logps = view.next.logp[ids]
    for token_id, logp in zip(ids.tolist(), logps.tolist(), strict=True):
        piece = view.vocab.bytes_of(token_id)
        if piece in found:
            continue
        summed = logp if single(view.vocab, piece) else view.next.logp_of(piece)
        found[piece] = logp if summed is None else summed
    return found


def single(vocab: Vocab, piece: bytes) -> bool:
    """Whether no second id has these bytes."""
    return len(vocab.ids_of(piece)) <= 1


def union(tops: Sequence[dict[bytes, float]]) -> tuple[bytes, ...]:
    """Every string of any member, in byte order."""
    return tuple(sorted(set().union(*tops)))


Missing = Callable[[int, Next, bytes], float]
"""(member, its distribution, string) -> log-probability of a string that is not in the member's top k."""


def logp_table(
    views: Sequence[View | None], tops: Sequence[dict[bytes, float]], texts: Sequence[bytes], missing: Missing
) -> Floats:
    """(n_members, t) log-probabilities of each string; −inf in the whole row of a member without a view."""
    table = np.full((len(views), len(texts)), -np.inf)
    for i, (view, top) in enumerate(zip(views, tops, strict=True)):
        if view is None:
            continue
        for j, piece in enumerate(texts):
            known = top.get(piece)
            table[i, j] = missing(i, view.next, piece) if known is None else known
    return table


def renormalised(logp: Floats) -> Floats:
    """(n, t) rows as probabilities that sum to one over the union; a row of only −inf stays zero."""
    peak = logp.max(axis=1, keepdims=True)
    p = np.exp(logp - np.where(np.isfinite(peak), peak, 0.0))
    total = p.sum(axis=1, keepdims=True)
    out: Floats = np.divide(p, total, out=np.zeros_like(p), where=total > 0)
    return out


def mixture(p: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """The weighted arithmetic mean (t,), and each member's share (t, n) in each string.

    Rows that are zero everywhere (absent members) lose their weight to the others.
    """
    live = weights * (p.sum(axis=1) > 0)
    parts = (live / live.sum())[:, None] * p
    mean = parts.sum(axis=0)
    share = np.divide(parts, mean, out=np.zeros_like(parts), where=mean > 0)
    return mean, share.T
