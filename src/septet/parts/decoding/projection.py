"""From one model's tokens to another's, by their embeddings: a common space, and the nearest tokens in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import ConfigError
from septet.core.session import Ids
from septet.core.types import Floats
from septet.parts.decoding.vocabulary import PackedVocab

FORM = 1
"""Of a projection on disk; a change of its arrays or of how they are made raises it."""

Embeddings = NDArray[np.floating]
"""(V, d) of any width and float type."""

Unit = NDArray[np.float32]
"""(n, r) rows of length one; a row without direction is zero."""

Progress = Callable[[int, int], object]
"""Told how many rows are done, and of how many."""

ROWS = 8192
"""Rows whose products are summed in float32; the sums of these sums are float64."""

CELLS = 1 << 23
"""Cosines at a time: 32 MB of float32."""

SAMPLE = 2048
"""Source rows, evenly spaced, from which the maxima of the target's rows are first known."""

MANY, FLAT = 5, 0.01
"""More than five neighbours whose scores have a standard deviation of at most .01 say nothing (EVA's code)."""


@dataclass(frozen=True, eq=False)
class Projection:
    """For each of V_source ids some of the target's ids with a score, as rows one after the other.

    `starts` (V_source + 1,): the row of id i is `ids[starts[i]:starts[i+1]]` with `scores` (float32). Scores are
    similarities, so a row need not sum to one; an empty one says that the id is like none of the target's.
    """

    starts: NDArray[np.int32]
    ids: Ids
    scores: NDArray[np.float32]

    @classmethod
    def of(cls, rows: Sequence[Sequence[tuple[int, float]]]) -> Projection:
        """From (target id, score) pairs of each source id.

        >>> x_and_y = Projection.of([[(0, .9), (1, .3)], [(2, .8)]])
        >>> ids, mass = x_and_y.project(np.array([0, 1]), np.array([.6, .4]))
        >>> ids.tolist(), mass.round(2).tolist()
        ([0, 1, 2], [0.54, 0.18, 0.32])
        """
        counts = np.array([len(row) for row in rows], dtype=np.int32)
        pairs = [pair for row in rows for pair in row]
        return cls(
            _starts(counts),
            np.array([token_id for token_id, _ in pairs], dtype=np.int32),
            np.array([score for _, score in pairs], dtype=np.float32),
        )

    @classmethod
    def identity(cls, vocab: PackedVocab) -> Projection:
        """Every unmasked id as itself, with score one; END as its first id."""
        own = _unmasked(vocab)
        counts = np.zeros(vocab.size, dtype=np.int32)
        counts[own] = 1
        return cls(_starts(counts), own, np.ones(len(own), dtype=np.float32))

    def project(self, ids: Ids, p: Floats, *, normalised: bool = False) -> tuple[Ids, Floats]:
        """The target's ids (m,), ascending, that these source ids (k,) of probability `p` (k,) come to, and what
        each gets: Σ_v p_v · score. `normalised`: each row is brought to sum one before."""
        counts = self.starts[ids + 1] - self.starts[ids]
        at = np.repeat(self.starts[ids], counts) + _within(counts)
        scores = self.scores[at].astype(np.float64)
        row = np.repeat(np.arange(len(ids)), counts)
        if normalised:
            scores /= np.bincount(row, scores, minlength=len(ids))[row]
        found, place = np.unique(self.ids[at], return_inverse=True)
        mass: Floats = np.bincount(place, p[row] * scores, minlength=len(found)).astype(np.float64)
        return found.astype(np.int32), mass


def project_onto(
    source: tuple[PackedVocab, Embeddings],
    target: tuple[PackedVocab, Embeddings],
    *,
    keep: int,
    threshold: float,
    progress: Progress | None = None,
) -> Projection:
    """EVA's similarity matrix (2404.09492, section 3.1) from a source vocabulary onto a target one.

    Output embeddings (V, d) are brought into one space by the strings that both have, and each source id gets
    its `keep` nearest target ids of score ≥ `threshold`. END is END, with score one, and nothing else is.
    """
    (of, rows), (onto, columns) = source, target
    if of.digest == onto.digest:
        return Projection.identity(of)
    ids, targets = _spelling(of), _spelling(onto)
    own, their = np.sort(np.unique(list(ids.values()))), np.sort(np.unique(list(targets.values())))
    shared = sorted(ids.keys() & targets.keys())
    if len(shared) < 2:
        raise ConfigError(
            f"the two vocabularies share {len(shared)} strings, and their embeddings cannot be brought together "
            "by fewer than 2; choose members whose tokens overlap"
        )
    pairs = np.array(
        [
            np.searchsorted(own, [ids[s] for s in shared]),
            np.searchsorted(their, [targets[s] for s in shared]),
        ]
    )
    x, z = common_space(unit_centred(rows, own), unit_centred(columns, their), pairs)
    counts, near, scores = nearest(x, z, keep=keep, threshold=threshold, progress=progress)
    whole = np.zeros(of.size, dtype=np.int32)
    whole[own] = counts
    found = their[near].astype(np.int32)
    return _with_end(Projection(_starts(whole), found, scores), of, onto)


def _spelling(vocab: PackedVocab) -> dict[bytes, int]:
    """The tokenizer's own id of each string that is not END."""
    pieces, ids = vocab.spelled()
    found: dict[bytes, int] = {}
    for piece, token_id in zip(pieces, ids.tolist(), strict=True):
        found.setdefault(piece, token_id)
    return found


def _unmasked(vocab: PackedVocab) -> Ids:
    """Every id that a distribution may name, ascending: of the END ids only the first."""
    _, ids = vocab.spelled()
    return np.sort(np.concatenate([ids, np.array(vocab.end_ids[:1], dtype=np.int32)])).astype(np.int32)


def _with_end(rows: Projection, of: PackedVocab, onto: PackedVocab) -> Projection:
    if not of.end_ids or not onto.end_ids:
        return rows
    at = int(rows.starts[of.end_ids[0]])
    starts = rows.starts.copy()
    starts[of.end_ids[0] + 1 :] += 1
    ids = np.insert(rows.ids, at, onto.end_ids[0]).astype(np.int32)
    return Projection(starts, ids, np.insert(rows.scores, at, 1.0).astype(np.float32))


def _starts(counts: NDArray[np.int32]) -> NDArray[np.int32]:
    starts = np.zeros(len(counts) + 1, dtype=np.int32)
    np.cumsum(counts, out=starts[1:])
    return starts


def _within(counts: NDArray[np.integer]) -> NDArray[np.int64]:
    """0, 1, … count−1 for each count, one after the other."""
    ends = np.cumsum(counts)
    places: NDArray[np.int64] = np.arange(counts.sum()) - np.repeat(ends - counts, counts)
    return places


# --- one space --------------------------------------------------------------------------------------


def unit_centred(rows: Embeddings, ids: Ids) -> Unit:
    """(n, d) the rows of these ids at length one, less their mean, at length one again: VecMap's normalisation."""
    found = rows[ids].astype(np.float32)
    _to_unit(found)
    found -= found.mean(axis=0, dtype=np.float64).astype(np.float32)
    return _to_unit(found)


def _to_unit(rows: Unit) -> Unit:
    """In place."""
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS]
        length = np.linalg.norm(part, axis=1, keepdims=True)
        np.divide(part, length, out=part, where=length > 0)
    return rows


def common_space(x: Unit, z: Unit, pairs: NDArray[np.integer]) -> tuple[Unit, Unit]:
    """Both sets of rows, (n, d) and (m, e), in one space of r = min(d, e) dimensions, as unit rows.

    `pairs` (2, p): rows of x and of z that mean the same. After Artetxe et al. (AAAI 2018), as VecMap's
    supervised mapping has it: whiten each side, W = (XᵀX)^(−1/2); rotate both by the singular vectors of the
    cross-covariance of the pairs, U S Vᵀ = (X_p W_x)ᵀ (Z_p W_z); weigh each direction by S^(1/2); undo the
    whitening in the rotated space. With different widths the wider side loses the directions that have no
    partner, which is what brings both to one width. With whitening and weights left out it would be the
    orthogonal Procrustes map.
    """
    white_x, back_x = _whitening(x)
    white_z, back_z = _whitening(z)
    paired = np.zeros((x.shape[1], z.shape[1]))
    for start in range(0, pairs.shape[1], ROWS):
        one, other = pairs[:, start : start + ROWS]
        paired += x[one].T @ z[other]
    u, weight, vt = np.linalg.svd(white_x @ paired @ white_z, full_matrices=False)
    root = np.sqrt(weight)
    x_map = white_x @ u * root @ (u.T @ back_x @ u)
    z_map = white_z @ vt.T * root @ (vt @ back_z @ vt.T)
    return _to_unit(x @ x_map.astype(np.float32)), _to_unit(z @ z_map.astype(np.float32))


def _whitening(rows: Unit) -> tuple[Floats, Floats]:
    """(d, d) W = (RᵀR)^(−1/2), and its inverse; directions without variance are left as they are."""
    second = np.zeros((rows.shape[1], rows.shape[1]))
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS]
        second += part.T @ part
    values, vectors = np.linalg.eigh(second)
    values = np.where(values > values.max() * 1e-9, values, 1.0)
    return vectors / np.sqrt(values) @ vectors.T, vectors * np.sqrt(values) @ vectors.T


# --- nearest tokens ---------------------------------------------------------------------------------


def nearest(
    x: Unit, z: Unit, *, keep: int, threshold: float, progress: Progress | None = None
) -> tuple[NDArray[np.int32], Ids, NDArray[np.float32]]:
    """The `keep` rows of z that are nearest to each row of x: (n,) how many, their places, their scores.

    The score is cross-domain similarity local scaling with the one nearest neighbour, 2·cos(x_i, z_j) −
    max_i' cos(x_i', z_j): a row of z that is near to everything is near to nothing. Only scores ≥ `threshold`
    count, and rows that say nothing (`MANY`, `FLAT`) are empty. Best first, ties to the lower place.

    Cost: n·m·r multiplications, once. While the maxima are not known yet, a score is taken with what is known of
    them; they only rise and scores only fall, so what is below the threshold once stays below it.
    """
    n, m = len(x), len(z)
    size = max(1, min(n, CELLS // max(m, 1)))
    best = np.full(m, -1.0, dtype=np.float32)
    some = x[:: max(1, n // SAMPLE)]
    for start in range(0, len(some), size):
        np.maximum(best, (some[start : start + size] @ z.T).max(axis=0), out=best)
    found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []
    for start in range(0, n, size):
        block = x[start : start + size] @ z.T
        np.maximum(best, block.max(axis=0), out=best)
        # A little less, since the score is rounded otherwise than its half.
        row, place = np.nonzero(block >= (best + np.float32(threshold)) / 2 - np.float32(1e-6))
        found.append((row + start, place, block[row, place]))
        if progress:
            progress(min(start + size, n), n)
    row = np.concatenate([rows for rows, _, _ in found])
    place = np.concatenate([places for _, places, _ in found])
    score = 2 * np.concatenate([cosines for _, _, cosines in found]) - best[place]
    enough = score >= threshold
    row, place, score = row[enough], place[enough], score[enough]
    order = np.lexsort((place, -score, row))
    counts = np.bincount(row, minlength=n)
    order = order[_within(counts) < keep]
    row, score = row[order], score[order]
    kept = ~_says_nothing(row, score, n)[row]
    lengths: NDArray[np.int32] = np.bincount(row[kept], minlength=n).astype(np.int32)
    return lengths, place[order][kept].astype(np.int32), score[kept].astype(np.float32)


def _says_nothing(row: NDArray[np.int64], score: NDArray[np.float32], n: int) -> NDArray[np.bool_]:
    """(n,) whether a row's neighbours, given as (row, score), are many and their scores flat."""
    counts = np.maximum(np.bincount(row, minlength=n), 1)
    mean = np.bincount(row, score, minlength=n) / counts
    variance = np.bincount(row, (score - mean[row]) ** 2, minlength=n) / counts
    flat: NDArray[np.bool_] = (counts > MANY) & (variance <= FLAT**2)
    return flat
