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
        return np.array(
            [
                recorded if not np.isnan(recorded) else self._priced(i, price)
                for i, (recorded, price) in enumerate(zip(self.usd, prices, strict=True))
            ]
        )

    def _priced(self, i: int, price: Price | None) -> float:
        if price is None:
            return float("nan")
        parts = (
            (price.usd_per_mtok_in / 1e6, self.prompt_tokens[i]),
            (price.usd_per_mtok_out / 1e6, self.completion_tokens[i]),
            (price.usd_per_second, self.seconds[i]),
        )
        return float(sum(rate * amount for rate, amount in parts if rate))


def member_mean(table: Table, column: str) -> Floats:
    """(m,) mean of a numeric column over the rows of each member; NaN where it is never known."""
    values, n = table.numbers[column], len(table.members)
    known = ~np.isnan(values)
    total = np.bincount(table.member[known], values[known], minlength=n)
    with np.errstate(invalid="ignore"):
        mean: Floats = total / np.bincount(table.member[known], minlength=n)
    return mean
