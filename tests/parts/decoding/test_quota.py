"""Quotas by hand: case K26 of the check list."""

from __future__ import annotations

import numpy as np
import pytest

from septet.core.errors import BadParameter
from septet.parts.decoding.quota import quotas

KEPT = np.array([2, 1, 1])  # the kept beams are by {m1}, {m1, m2} and {m3}


@pytest.mark.parametrize(
    ("tau", "shares"),
    [
        (1.0, [4, 2, 2]),  # softmax .5761, .2119, .2119: 4.609, 1.696, 1.696, so two left for the last two
        (0.1, [8, 0, 0]),  # .9999: 7.9993
        (
            100.0,
            [3, 3, 2],
        ),  # nearly 8/3 each: of 2.69, 2.66, 2.66 two get one more, of the equal two the first
    ],
)
def test_k26_candidates_are_shared_out_by_softmax_and_largest_remainders(
    tau: float, shares: list[int]
) -> None:
    assert quotas(KEPT, 8, tau).tolist() == shares


def test_a_floor_is_given_first_and_only_the_rest_is_shared_out() -> None:
    # 5 are left: 2.88, 1.06, 1.06, so the last one goes to the first
    assert quotas(KEPT, 8, 1.0, floor=1).tolist() == [4, 2, 2]
    assert quotas(KEPT, 8, 0.1, floor=1).tolist() == [6, 1, 1]


def test_without_a_history_shares_are_equal_and_a_tie_goes_to_the_earlier() -> None:
    assert quotas(np.zeros(3, dtype=np.int64), 8, 0.1).tolist() == [3, 3, 2]
    assert quotas(np.zeros(3, dtype=np.int64), 2, 0.1).tolist() == [1, 1, 0]


def test_shares_are_whole_and_sum_to_the_total() -> None:
    rng = np.random.default_rng(5)
    for _ in range(300):
        kept = rng.integers(0, 9, size=rng.integers(1, 7))
        total, floor = int(rng.integers(len(kept), 40)), int(rng.integers(0, 2))
        shares = quotas(kept, total, float(rng.uniform(0.05, 5)), floor)
        assert shares.sum() == total
        assert shares.min() >= floor
        assert (np.diff(shares[np.argsort(kept, kind="stable")]) >= -1).all()  # more kept, not fewer by a tie


def test_fewer_candidates_than_the_floor_takes_are_refused() -> None:
    with pytest.raises(BadParameter, match=r"candidates: must be at least 3: 1 for each of 3 members, got 2"):
        quotas(KEPT, 2, 1.0, floor=1)
