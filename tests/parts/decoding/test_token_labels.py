"""Labels of positions: CITER's three kinds (K27), critical bytes, and which recorded texts are walked."""

from __future__ import annotations

import numpy as np
import pytest

from septet.core.errors import BadParameter
from septet.core.table import Table
from septet.parts.decoding.token_labels import critical, goes_on, may_write, recorded

ROWS = [
    {"query_id": "a", "query": "1+1?", "model": "small", "response": "It is 2.", "score": 1.0},
    {"query_id": "a", "query": "1+1?", "model": "large", "response": "2", "score": 1.0},
    {"query_id": "b", "query": "2+2?", "model": "small", "response": "It is 4.", "score": 1.0},
    {"query_id": "b", "query": "2+2?", "model": "large", "response": "5", "score": 0.0},
    {"query_id": "c", "query": "3+3?", "model": "small", "response": "7", "score": 0.0},
    {"query_id": "c", "query": "3+3?", "model": "large", "response": " ", "score": 1.0},
]


@pytest.mark.parametrize(
    ("small", "large", "label"),
    [(b"x", b"x", 1), (b"x", b"z", 1), (b"y", b"x", 0), (b"y", b"z", None), (b"", b"x", 0), (b"", b"", None)],
)
def test_k27_the_first_model_that_is_right_says_the_label(
    small: bytes, large: bytes, label: int | None
) -> None:
    assert may_write(b"x", small, large) == label


def test_a_token_is_right_by_its_bytes_whatever_the_tokenizer() -> None:
    assert goes_on(b"12 apples", b"1")
    assert goes_on(b"12 apples", b"12 ap")
    assert not goes_on(b"12", b"123")


def test_at_the_end_of_a_text_only_the_end_is_right() -> None:
    assert goes_on(b"", b"")
    assert not goes_on(b"", b"x")
    assert not goes_on(b"x", b"")


def marked(text: str) -> list[bytes]:
    """The runs of critical bytes of a text."""
    data, mask = text.encode(), critical(text)
    assert len(mask) == len(data)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return [data[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("She paid $1,250.50 on 2024-05-06.", ["1,250.50", "2024-05-06"]),
        ("On Friday I saw Émile.", ["Friday", "Émile"]),
        ("May I? Perhaps. I'm here, and so is Ann.", ["May", "Ann"]),
        ('He left. "Then" came\nPaul and Mary.', ["Mary"]),
        ("nothing at all", []),
        ("", []),
    ],
)
def test_numbers_dates_and_names_within_a_sentence_are_critical(text: str, runs: list[str]) -> None:
    assert marked(text) == [run.encode() for run in runs]


def test_of_each_question_the_first_member_s_right_text_is_taken() -> None:
    table, rng = Table.of(ROWS), np.random.default_rng(0)
    by_large = {(r.question, r.text) for r in recorded(table, (1, 0), 9, rng)}
    assert by_large == {("1+1?", "2"), ("2+2?", "It is 4.")}  # large is wrong on b; c has no right text
    by_small = {(r.question, r.text) for r in recorded(table, (0, 1), 9, rng)}
    assert by_small == {("1+1?", "It is 2."), ("2+2?", "It is 4.")}
    assert len(recorded(table, (0, 1), 1, rng)) == 1


def test_a_table_without_a_right_text_is_refused() -> None:
    wrong = Table.of([row | {"score": 0.0} for row in ROWS])
    with pytest.raises(BadParameter, match="must hold the text"):
        recorded(wrong, (0, 1), 9, np.random.default_rng(0))
