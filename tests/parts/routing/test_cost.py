"""What members are expected to cost."""

from __future__ import annotations

import numpy as np
import pytest

from septet.core.money import Price
from septet.core.table import Table
from septet.parts.routing.cost import Spending

TABLE = Table.of(
    [
        {"query": "a", "model": "billed", "cost_usd": 0.1, "prompt_tokens": 9},
        {"query": "b", "model": "billed", "cost_usd": 0.3},
        {"query": "a", "model": "priced", "prompt_tokens": 1000, "completion_tokens": 500, "seconds": 4.0},
        {"query": "a", "model": "silent"},
    ]
)


def test_a_bill_counts_before_a_price_and_tokens_fill_in_where_there_is_none() -> None:
    # 1000 tokens at 2 USD and 500 at 4 USD per million: 0.004
    price = Price(usd_per_mtok_in=2.0, usd_per_mtok_out=4.0)
    usd = Spending.of(TABLE).expected_usd([price, price, None])
    assert usd[:2] == pytest.approx([0.2, 0.004])
    assert np.isnan(usd[2])


def test_only_what_is_charged_for_must_be_known() -> None:
    by_second = Price(usd_per_second=0.01)
    usd = Spending.of(TABLE).expected_usd([None, by_second, by_second])
    assert usd[1] == pytest.approx(0.04)
    assert np.isnan(usd[2])


def test_a_price_of_every_kind_is_added_up_per_member() -> None:
    # 1000·2e-6 + 500·4e-6 + 4·0.01 = 0.044; a bill stays; tokens that nobody counted are unknown
    price = Price(usd_per_mtok_in=2.0, usd_per_mtok_out=4.0, usd_per_second=0.01)
    usd = Spending.of(TABLE).expected_usd([None, price, price])
    assert usd[:2] == pytest.approx([0.2, 0.044])
    assert np.isnan(usd[2])


def test_every_member_needs_a_price_or_none() -> None:
    with pytest.raises(ValueError, match="2 prices for 3 members"):
        Spending.of(TABLE).expected_usd([None, None])


def test_what_is_expected_can_be_changed_without_changing_what_was_seen() -> None:
    spending = Spending.of(TABLE)
    spending.expected_usd([None] * 3)[0] = 7.0
    assert spending.usd[0] == pytest.approx(0.2)
