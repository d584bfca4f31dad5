"""Tokens by how alike they are to anchors that all vocabularies have, and the way back to one member's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import ConfigError
from septet.core.session import END, Ids
from septet.core.types import Floats
from septet.parts.decoding.vocabulary import PackedVocab

SHARPNESS = 100.0
"""1 / temperature of the softmax over the anchors (DeePEn's code: temperature .01)."""

BETAS, EPSILON, DECAY = (0.9, 0.999), 1e-8, 0.01
"""AdamW's constants in DeePEn's code, which are torch's defaults."""

PERIOD, FLOOR = 10, 0.25
"""The learning rate falls along half a cosine of ten steps to a quarter of itself."""

ROWS = 8192


@dataclass(frozen=True, eq=False)
class Relative:
    """One member's tokens beside the anchors: `rows` (V, d) unit embeddings in float16, `anchors` (a, d) unit
    embeddings in float32.

    Rows of the relative representation R, (V, a), are made when they are asked for: all of R takes 4.3 GB for
    262,144 tokens and 4,096 anchors, and is no sparse matrix. A cosine is off by at most 2⁻¹¹ from float16.
    """

    rows: NDArray[np.float16]
    anchors: NDArray[np.float32]

    @classmethod
    def of(cls, embeddings: NDArray[np.floating], anchors: Ids) -> Relative:
        """From a member's input embeddings (V, d) and the ids of the anchors (a,), in the order of all members."""
        rows = np.empty(embeddings.shape, dtype=np.float16)
        for start in range(0, len(rows), ROWS):
            rows[start : start + ROWS] = _unit(embeddings[start : start + ROWS].astype(np.float32))
        return cls(rows, _unit(embeddings[anchors].astype(np.float32)))

    def represent(self, ids: Ids, *, normalised: bool) -> NDArray[np.float32]:
        """(k, a) rows of R: softmax over the anchors of 100 · cosine; `normalised` brings each row of cosines to
        length one first, as DeePEn's code does."""
        cosines = self.rows[ids].astype(np.float32) @ self.anchors.T
        if normalised:
            cosines = _unit(cosines)
        cosines *= np.float32(SHARPNESS)
        cosines -= cosines.max(axis=1, keepdims=True)
        found: NDArray[np.float32] = np.exp(cosines, out=cosines)
        found /= found.sum(axis=1, keepdims=True)
        return found


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    found: NDArray[np.float32] = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    return found


def anchors_of(vocabs: Sequence[PackedVocab], most: int) -> list[Ids]:
    """The ids (a,) of the strings that all vocabularies have, by vocabulary, in one order: at most `most`, those
    first whose ids are lowest in all of them, since tokenizers number frequent strings first. END is one of
    them, whatever its ids.

    >>> from septet.testing.scripted import vocabulary
    >>> [ids.tolist() for ids in anchors_of([vocabulary([b"a", b"b", b"c"]), vocabulary([b"c", b"a"])], 3)]
    [[0, 1, 3], [0, 2, 1]]
    """
    own = [_own_ids(vocab) for vocab in vocabs]
    shared = sorted(set.intersection(*(set(ids) for ids in own)))
    if len(shared) < 2:
        raise ConfigError(
            f"the members' vocabularies share {len(shared)} strings, and tokens cannot be compared by fewer than 2; "
            "choose members whose tokens overlap"
        )
    ids = np.array([[found[piece] for piece in shared] for found in own])  # (n_members, shared)
    ranks = ids.argsort(axis=1, kind="stable").argsort(axis=1).sum(axis=0)
    chosen = np.argsort(ranks, kind="stable")[:most]
    return [row.astype(np.int32) for row in ids[:, chosen]]


def _own_ids(vocab: PackedVocab) -> dict[bytes, int]:
    """The tokenizer's own id of each string; of the END ids the first."""
    pieces, ids = vocab.spelled()
    found: dict[bytes, int] = {END: vocab.end_ids[0]} if vocab.end_ids else {}
    for piece, token_id in zip(pieces, ids.tolist(), strict=True):
        found.setdefault(piece, token_id)
    return found


def search(logits: Floats, r: NDArray[np.floating], target: Floats, *, rate: float, steps: int) -> Floats:
    """(k,) logits moved so that their softmax, through `r` (k, a), comes nearer to `target` (a,): DeePEn's way
    back from the anchors (2404.12715, section 3.3).

    `steps` of AdamW on KL(target ‖ p·r), averaged over the anchors as the released code averages it, with a
    learning rate that begins at `rate`. Adam's first step moves every logit by about `rate`, however far it
    has to go, so this is no solution of p·r = target. Logits that reach the target already stay: weight decay
    would lead them off it, and Adam make that small way back a large step.

    >>> z = search(np.log([.6, .4]), np.eye(2), np.array([.4, .6]), rate=.15, steps=2)    # K7
    >>> (np.exp(z) / np.exp(z).sum()).round(4).tolist()
    [0.4553, 0.5447]
    """
    z, r = logits.astype(np.float64), r.astype(np.float64)
    if np.allclose(_softmax(z) @ r, target, rtol=1e-9, atol=0.0):
        return z
    first, second = np.zeros_like(z), np.zeros_like(z)
    for step in range(steps):
        p = _softmax(z)
        reached = p @ r
        # An anchor that no token comes near is out of reach, however much the target wants it.
        ratio = np.divide(target, reached, out=np.zeros_like(reached), where=reached > 0)
        pull = -(r @ ratio) / len(target)  # ∂loss/∂p
        gradient = p * (pull - p @ pull)
        first = BETAS[0] * first + (1 - BETAS[0]) * gradient
        second = BETAS[1] * second + (1 - BETAS[1]) * gradient**2
        now = rate * (FLOOR + (1 - FLOOR) * (1 + np.cos(np.pi * step / PERIOD)) / 2)
        unbiased = first / (1 - BETAS[0] ** (step + 1))
        size = np.sqrt(second / (1 - BETAS[1] ** (step + 1))) + EPSILON
        z = z * (1 - now * DECAY) - now * unbiased / size
    return z


def _softmax(z: Floats) -> Floats:
    p: Floats = np.exp(z - z.max())
    p /= p.sum()
    return p
