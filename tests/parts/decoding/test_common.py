"""Members over one list of strings, on the dossier's toys (K1, K4)."""

from __future__ import annotations

import numpy as np
import pytest
from full_views import P_A, P_B, A, B, full_view, vocabulary

from septet.core.errors import RunError
from septet.parts.decoding.aggregate import arithmetic
from septet.parts.decoding.common import common, whole_mean
from septet.parts.decoding.union import UnionTable
from septet.testing.scripted import view

HALF = np.array([0.5, 0.5])


def test_K1_the_union_of_whole_vocabularies_with_end_merged() -> None:
    table = UnionTable.of([A, B])
    both = common([full_view(A, P_A), full_view(B, P_B)], table, 3)
    assert both.whole
    p = arithmetic(both.logp, HALF)
    found = dict(zip(both.texts, p.round(6).tolist(), strict=True))
    assert found == pytest.approx(
        {b"": 0.075, b" the": 0.075, b" cat": 0.35, b" cats": 0.275, b"s": 0.15, b"\n": 0.075}
    )
    assert both.texts[int(p.argmax())] == b" cat"
    assert p.sum() == pytest.approx(1.0, abs=1e-9)


def test_K4_ends_that_are_spelled_differently_are_one_end_and_win() -> None:
    a = vocabulary([b"</s>", b" x", b" y"])
    b = vocabulary([b"<|im_end|>", b" x", b" z"])
    both = common(
        [full_view(a, (0.45, 0.30, 0.25)), full_view(b, (0.35, 0.40, 0.25))], UnionTable.of([a, b]), 3
    )
    p = arithmetic(both.logp, HALF)
    assert p[0] == pytest.approx(0.40)
    assert p[both.texts.index(b" x")] == pytest.approx(0.35)
    assert both.texts[int(p.argmax())] == b""


def test_a_member_with_several_end_ids_ends_with_their_sum() -> None:
    many = vocabulary([b"<eos>", b"x", b"<eot>"], end_ids=(0, 2))
    both = common([full_view(many, (0.2, 0.5, 0.3))], UnionTable.of([many]), 1)
    assert np.exp(both.logp[0]).round(5).tolist() == pytest.approx([0.5, 0.5])


def test_an_absent_member_has_a_row_without_mass_and_its_weight_goes_to_the_others() -> None:
    both = common([None, full_view(B, P_B)], UnionTable.of([A, B]), 3)
    assert both.present.tolist() == [False, True]
    p = arithmetic(both.logp, HALF)
    assert p[both.texts.index(b" cats")] == pytest.approx(0.55)
    assert both.fused(p, HALF).support[3].tolist() == pytest.approx([0.0, 1.0])


def test_shares_are_by_weight_and_probability() -> None:
    both = common([full_view(A, P_A), full_view(B, P_B)], UnionTable.of([A, B]), 3)
    fused = both.fused(arithmetic(both.logp, HALF), HALF)
    cat = both.texts.index(b" cat")
    assert fused.support[cat].tolist() == pytest.approx([0.5 / 0.7, 0.2 / 0.7])
    assert fused.ordered


def test_without_full_distributions_the_union_is_of_the_top_k() -> None:
    first = view({b" cat": 0.6, b" dog": 0.3, b"": 0.1})
    second = view({b" cats": 0.7, b" cat": 0.2, b"": 0.1})
    both = common([first, second], None, 2)
    assert not both.whole
    assert list(both.texts) == [b" cat", b" cats", b" dog"]
    # " cats" is no token of the first, and " dog" none of the second: impossible for them.
    expected = [[0.6, 0.0, 0.3], [0.2, 0.7, 0.0]]
    np.testing.assert_allclose(np.exp(both.logp), expected, rtol=1e-6)


def test_a_table_does_not_help_a_member_that_shows_only_its_best() -> None:
    both = common([full_view(A, P_A), view({b" cat": 1.0})], UnionTable.of([A, B]), 2)
    assert not both.whole
    assert list(both.texts) == [b" cat", b"s"]


def test_the_mean_of_whole_vocabularies_is_that_over_one_list_of_strings() -> None:
    rng = np.random.default_rng(0)
    a = vocabulary([b"</s>", b" a", b" b", b" a", b"c"])  # both have a string twice
    b = vocabulary([b"<eos>", b" b", b"c", b"d", b"c"])
    table, weights = UnionTable.of([a, b]), np.array([0.3, 0.7])
    for _ in range(20):
        views = [full_view(v, tuple(rng.dirichlet(np.ones(5)))) for v in (a, b)]
        seen = common(views, table, 3)
        want = arithmetic(seen.logp, weights)
        got = whole_mean(views, table, weights)
        assert got is not None
        assert got.p == pytest.approx(want, abs=1e-6)
        shares = seen.fused(want, weights).support
        for j in range(len(table.strings)):
            assert got.support[j] == pytest.approx(shares[j], abs=1e-6)


def test_the_mean_of_whole_vocabularies_leaves_out_who_is_absent_and_needs_somebody_with_weight() -> None:
    table, views = UnionTable.of([A, B]), [full_view(A, P_A), None]
    alone = whole_mean(views, table, HALF)
    assert alone is not None
    assert alone.p[table.strings.find(b" cat")] == pytest.approx(0.5, abs=1e-6)
    with pytest.raises(RunError, match="any weight"):
        whole_mean(views, table, np.array([0.0, 1.0]))
    assert whole_mean([view({b"x": 1.0})], table, np.ones(1)) is None
