"""Views of members that report whole distributions: over one vocabulary, or over one each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from septet.core.caps import Caps
from septet.core.method import Seat
from septet.core.session import Next, View
from septet.parts.decoding.union import UnionTable
from septet.parts.decoding.vocabulary import PackedVocab
from septet.testing.scripted import vocabulary


def whole_view(vocab: PackedVocab, p: Mapping[bytes, float], name: str = "member") -> View:
    """A full view: logp (V,) in id order, −inf for what is not in `p`."""
    logp = np.full(vocab.size, -np.inf, dtype=np.float32)
    for piece, value in p.items():
        logp[vocab.ids_of(piece)[0]] = np.log(value)

    def lookup(piece: bytes, first: bool) -> float | None:
        ids = vocab.ids_of(piece)
        return float(logp[ids[0]]) if ids else -np.inf

    following = Next(0, np.arange(vocab.size, dtype=np.int32), logp, lookup, full=True)
    return View(following, vocab, Seat(name, Caps(text=True), vocab=vocab))


def of_one_vocabulary(*rows: Mapping[bytes, float]) -> tuple[list[View], UnionTable]:
    """One view per distribution, all over the same strings, and the table that they are put together by."""
    pieces = sorted({piece for row in rows for piece in row if piece})
    vocab = vocabulary(pieces)
    return [whole_view(vocab, row) for row in rows], UnionTable.of([vocab] * len(rows))


def of_own_vocabularies(*rows: Mapping[bytes, float]) -> tuple[list[View], UnionTable]:
    """One view per distribution, each over its own strings, and the union table of all."""
    vocabs = [vocabulary(sorted(piece for piece in row if piece)) for row in rows]
    return [whole_view(v, row) for v, row in zip(vocabs, rows, strict=True)], UnionTable.of(vocabs)


def probabilities(texts: Sequence[bytes], p: Sequence[float]) -> dict[bytes, float]:
    """A fused distribution by string, to four places, without what is impossible."""
    return {t: round(float(x), 4) for t, x in zip(texts, p, strict=True) if x > 0}
