"""Hashed TF-IDF: texts as rows of weighted words and word pairs.

Written here and not taken from scikit-learn, because serving a router must not import it: a request needs
one row of one question, and the import alone costs more than a second and 100 MB.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from zlib import crc32

import numpy as np

from septet.core.types import Floats
from septet.parts.learning.rows import Rows

_WORD = re.compile(r"[぀-ヿ㐀-鿿]|[^\W぀-ヿ㐀-鿿]+")
"""A run of letters, digits and underscores; kana and Chinese characters, which know no spaces, one by one."""


def terms(text: str) -> list[str]:
    """The lower-case words of a text and its pairs of neighbouring words.

    >>> terms("The sky, the Sky")
    ['the', 'sky', 'the', 'sky', 'the sky', 'sky the', 'the sky']
    """
    words = _WORD.findall(text.lower())
    return words + [f"{a} {b}" for a, b in pairwise(words)]


@dataclass(frozen=True)
class TfIdf:
    """`idf` (d,): the weight of each bucket, ln((1 + n) / (1 + n_texts with it)) + 1.

    A term goes to bucket crc32(term) mod d. A row is (1 + ln tf) · idf, of length one; a text without
    words is a row of zeros. With d = 4096 and short questions, few terms share a bucket.
    """

    idf: Floats

    @classmethod
    def of(cls, texts: Sequence[str], n_buckets: int = 2**12) -> TfIdf:
        """The weights that these texts give to their terms."""
        seen = np.zeros(n_buckets)
        for text in texts:
            seen[list({crc32(t.encode("utf-8", "replace")) % n_buckets for t in terms(text)})] += 1
        return cls(np.log((1 + len(texts)) / (1 + seen)) + 1)

    @classmethod
    def unused(cls) -> TfIdf:
        """Stands in a state whose rows come from a role."""
        return cls(np.empty(0))

    def rows(self, texts: Sequence[str]) -> Rows:
        """The rows (n, d) of texts."""
        columns: list[int] = []
        values: list[float] = []
        starts = [0]
        for text in texts:
            counts = Counter(crc32(t.encode("utf-8", "replace")) % len(self.idf) for t in terms(text))
            buckets = sorted(counts)
            weights = (1 + np.log([counts[b] for b in buckets])) * self.idf[np.array(buckets, dtype=int)]
            columns += buckets
            values += (weights / max(float(np.linalg.norm(weights)), 1e-300)).tolist()
            starts.append(len(columns))
        return Rows(
            np.array(values, dtype=np.float64),
            np.array(columns, dtype=np.int32),
            np.array(starts, dtype=np.int64),
            len(self.idf),
        )
