"""What a call of each member costs, as seen in outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from septet.core.money import Price
from septet.core.table import Table
from septet.core.types import Floats


@dataclass(frozen=True)
class Spending:
    """Means per call of each member (m,), NaN where the outcomes do not say."""

    usd: Floats
    prompt_tokens: Floats
    completion_tokens: Floats
    seconds: Floats

    @classmethod
    def of(cls, table: Table) -> Spending:
        """The means over the rows of each member."""
        names = ("usd", "prompt_tokens", "completion_tokens", "seconds")
        return cls(*(member_mean(table, name) for name in names))

    def expected_usd(self, prices: Sequence[Price | None]) -> Floats:
        """(m,) USD of one call: as recorded, else price × mean tokens and seconds, else NaN.

        What the price does not charge for need not be known.
        """
        if len(prices) != len(self.usd):
            raise ValueError(f"{len(prices)} prices for {len(self.usd)} members")
        usd = self.usd.copy()
        unrecorded = [i for i in np.flatnonzero(np.isnan(usd)).tolist() if prices[i] is not None]
        if unrecorded:
            usd[unrecorded] = self._priced(
                unrecorded, [p for i in unrecorded if (p := prices[i]) is not None]
            )
        return usd

    def _priced(self, members: Sequence[int], prices: Sequence[Price]) -> Floats:
        """(k,) what one call of some members costs at their prices."""
        rates = np.array(
            [(p.usd_per_mtok_in / 1e6, p.usd_per_mtok_out / 1e6, p.usd_per_second) for p in prices]
        )
        amounts = np.column_stack(
            [a[members] for a in (self.prompt_tokens, self.completion_tokens, self.seconds)]
        )
        usd: Floats = np.where(rates != 0, rates * amounts, 0.0).sum(axis=1)  # 0 × unknown is 0
        return usd


def member_mean(table: Table, column: str) -> Floats:
    """(m,) mean of a numeric column over the rows of each member; NaN where it is never known."""
    values, n = table.numbers[column], len(table.members)
    known = ~np.isnan(values)
    total = np.bincount(table.member[known], values[known], minlength=n)
    with np.errstate(invalid="ignore"):
        mean: Floats = total / np.bincount(table.member[known], minlength=n)
    return mean
