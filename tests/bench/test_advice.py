"""UniTE's rule for choosing models, by hand on a few recorded answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from septet.bench.advice import Limits, Pair, of_record, of_table
from septet.core.errors import BadParameter
from septet.core.table import Table
from septet.parts.stats.intervals import Estimate, wilson


def table(**answers: list[tuple[float, str | None]]) -> Table:
    """One task; each member's (score, text) of question 0, 1, …"""
    return Table.of(
        {"query_id": f"q{i}", "task": "t", "model": member, "score": score, "response": text}
        for member, rows in answers.items()
        for i, (score, text) in enumerate(rows)
    )


def only_pair(found: Any) -> Pair:
    (pair,) = found.pairs
    assert isinstance(pair, Pair)
    return pair


def advice(outcomes: Table, **limits: float) -> Any:
    return of_table(outcomes, Limits(**limits), np.random.default_rng(0))


def test_members_that_are_alike_in_everything_go_together() -> None:
    found = advice(table(ada=[(1, "B"), (0, "A"), (1, "C")], bob=[(1, "D"), (1, "C"), (0, "A")]))
    pair = only_pair(found)
    assert (pair.gap.value, pair.longer, pair.style, pair.reasons) == (0.0, 1.0, 0.0, ())
    assert found.pool == ("ada", "bob")


def test_a_gap_above_ten_points_parts_them_and_the_better_one_is_named_first() -> None:
    # 1/4 against 3/4 on the same four questions
    found = advice(table(ada=[(1, "B")] + [(0, "B")] * 3, bob=[(1, "B")] * 3 + [(0, "B")]))
    pair = only_pair(found)
    assert (pair.a, pair.b, pair.gap.value) == ("bob", "ada", 0.5)
    assert pair.reasons == ("bob is 50 points better",)
    assert found.pool == ("bob",)
    assert only_pair(
        advice(table(ada=[(0.7, "B")], bob=[(0.8, "B")]))
    ).fits  # ten points, to a rounding error


def test_the_gap_is_that_of_the_questions_that_both_answered() -> None:
    rows = table(ada=[(1, "B"), (0, "B"), (float("nan"), None)], bob=[(1, "B"), (0, "B"), (1, "B")])
    pair = only_pair(advice(rows))
    assert (pair.gap.value, pair.gap.n) == (0.0, 2)


def test_answers_more_than_twice_as_long_part_them() -> None:
    # lengths 4 and 4, 13 and 10: in the middle 4 and 11.5
    pair = only_pair(
        advice(table(ada=[(1, "a bc"), (1, "de f")], bob=[(1, "a bcd efgh ij"), (1, "a bcd efgh")]))
    )
    assert pair.longer == pytest.approx(11.5 / 4)
    assert pair.reasons == ("bob answers 2.88 times as long",)


def test_answers_of_another_form_part_them() -> None:
    # ada: one word, one word, one line, several; bob: one line twice, several twice: (.5, .25, .25), (0, .5, .5)
    ada = [(1.0, "yes"), (1.0, "no"), (1.0, "it is"), (1.0, "x\ny")]
    bob = [(1.0, "a b"), (1.0, "c d"), (1.0, "x\ny"), (1.0, "z\nw")]
    pair = only_pair(advice(table(ada=ada, bob=bob)))
    assert (pair.style, pair.reasons) == (0.5, ())
    pair = only_pair(advice(table(ada=ada, bob=bob), style=0.4))
    assert pair.reasons == ("50% of the answers differ in form",)


def test_without_texts_the_lengths_are_those_of_the_tokens_and_the_form_is_not_known() -> None:
    rows = [
        {"query_id": "q", "task": "t", "model": m, "score": 1.0, "completion_tokens": n}
        for m, n in (("ada", 10), ("bob", 15))
    ]
    pair = only_pair(advice(Table.of(rows)))
    assert (pair.longer, pair.style, pair.fits) == (1.5, None, True)


def test_the_pool_holds_the_best_member_and_who_fits_all_that_are_in_it() -> None:
    # cyd fits ada and bob in quality but not bob in length: 4, 6 and 9 characters
    found = advice(
        table(
            ada=[(1, "abcdef")] * 10,
            bob=[(1, "abcd")] * 9 + [(0, "abcd")],
            cyd=[(1, "abcdefghi")] * 9 + [(0, "x")],
        )
    )
    apart = [(p.a, p.b) for p in found.pairs if not p.fits]
    assert apart == [("bob", "cyd")]
    assert found.pool == ("ada", "bob")


def test_an_interval_that_holds_the_limit_is_said_to_be_unsure() -> None:
    rows = table(ada=[(1, "B")] * 11 + [(0, "B")] * 9, bob=[(1, "B")] * 10 + [(0, "B")] * 10)
    assert only_pair(advice(rows)).unsure  # .05, of twenty questions
    same = table(ada=[(1, "B")] * 20, bob=[(1, "B")] * 20)
    assert not only_pair(advice(same)).unsure


# --- records of a bench ------------------------------------------------------------------------------------


def measured(member: str, right: int, n: int, tokens: int, method: str = "member") -> dict[str, Any]:
    e = wilson(right, n)
    share = {"value": e.value, "low": e.low, "high": e.high, "n": n, "level": e.level}
    return {"task": "t", "ensemble": member, "method": method, "accuracy": share, "completion_tokens": tokens}


def test_a_record_gives_gaps_and_mean_lengths_of_the_members_that_were_asked_alone() -> None:
    entries = [
        measured("ada", 80, 100, 500),
        measured("bob", 50, 100, 1500),
        measured("both", 1, 100, 1, "unite"),
    ]
    found = of_record({"measured": entries}, Limits())
    pair = only_pair(found)
    assert (pair.a, pair.b, pair.longer, pair.style) == ("ada", "bob", 3.0, None)
    assert pair.reasons == ("ada is 30 points better", "bob answers 3.00 times as long")
    assert {s.member for s in found.seen} == {"ada", "bob"}


def test_a_gap_of_shares_has_newcombe_s_interval() -> None:
    # 56/70 and 48/80 (Newcombe 1998, table II, case a, method 10): 0.0524 to 0.3339
    found = of_record({"measured": [measured("ada", 56, 70, 70), measured("bob", 48, 80, 80)]}, Limits())
    gap: Estimate = only_pair(found).gap
    assert (round(gap.low, 4), round(gap.high, 4)) == (0.0524, 0.3339)


@pytest.mark.parametrize("record", [{}, {"measured": [{"method": "member"}]}, {"measured": 3}])
def test_what_is_no_record_is_refused(record: Any) -> None:
    with pytest.raises(BadParameter, match="septet bench --save"):
        of_record(record, Limits())
