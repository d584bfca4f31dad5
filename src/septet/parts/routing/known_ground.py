"""Known questions that feedback adds to, and how they are shown in an explanation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from septet.core.types import Floats
from septet.parts.learning.rows import Features, joined
from septet.parts.routing.records import Fitted
from septet.parts.routing.smoothed import Index, Smoothed, known_mean, light

EXCERPT = 60
"""Characters of a known question that an explanation shows."""


@dataclass(frozen=True)
class KnownGround(Fitted):
    """Known questions and what was made of them; those that feedback brought come last.

    `rows` (r, d); `table` and `usd` (r, m): scores and USD; `excerpts` (r,): how each question begins; `k` and
    `pseudo` as chosen; `reach`: mean cosine to the nearest, below which a question is far; `recorded`: rows of
    the fit; `surprise` (m,): the sum of score − estimate over `heard` (m,) decisions with a score.
    """

    members: tuple[str, ...]
    rows: Features
    table: Smoothed
    usd: Floats
    excerpts: tuple[str, ...]
    k: int
    pseudo: float
    reach: float
    recorded: int
    surprise: Floats
    heard: Floats

    def grown(
        self, texts: Sequence[str], x: Features, member: Index, score: Floats, spent: Floats, remembered: int
    ) -> KnownGround:
        """With one more known question for each of e scored decisions: their `texts` and features x (e, d), who
        was asked, `score` and `spent` (e,). The newest `remembered` of all fed-back questions are kept."""
        kept = slice(max(0, len(texts) - remembered), None)
        asked = np.arange(len(texts)), member
        scores, usd = (np.full((len(texts), len(self.members)), np.nan) for _ in range(2))
        scores[asked], usd[asked] = score, spent
        over = max(0, len(self.rows) - self.recorded + len(texts[kept]) - remembered)
        stays = np.r_[: self.recorded, self.recorded + over : len(self.rows)]
        value, prior = np.concatenate([self.table.value[stays], scores[kept]]), self.table.prior
        prior = np.where(np.isnan(prior), known_mean(value), prior)  # of a member first heard of here
        return replace(
            self,
            rows=light(joined(self.rows[stays], x[kept])),
            table=Smoothed(value, prior),
            usd=np.concatenate([self.usd[stays], usd[kept]]),
            excerpts=(*(self.excerpts[i] for i in stays), *(excerpt(text) for text in texts[kept])),
        )

    def surprised(self, member: Index, surprise: Floats) -> KnownGround:
        """With more surprises (e,), score − estimate, of members (e,); NaN where nothing was expected."""
        m, known = len(self.members), ~np.isnan(surprise)
        more = np.bincount(member[known], surprise[known], minlength=m)
        heard = self.heard + np.bincount(member[known], minlength=m)
        return replace(self, surprise=self.surprise + more, heard=heard)

    def shown(self, row: int, similarity: float, member: int, names: Sequence[str]) -> str:
        """A known question, how alike it is, and what a member scored on it for which price."""
        score, usd = self.table.value[row, member], self.usd[row, member]
        made = "was not asked" if np.isnan(score) else f"scored {score:.3g}"
        paid = "" if np.isnan(usd) else f" for ${usd:.3g}"
        return f"“{self.excerpts[row]}” ({similarity:.2f}; {names[member]} {made}{paid})"


def excerpt(text: str) -> str:
    """How a question begins, on one line."""
    line = " ".join(text[: 2 * EXCERPT].split())
    return line if len(line) <= EXCERPT else line[: EXCERPT - 1] + "…"
