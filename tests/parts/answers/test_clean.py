"""Runaway texts: where they are cut, what is kept, and what is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from septet.parts.answers.clean import trimmed


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("#### 5\n\nQuestion: Tom has 3?\n#### 3", "#### 5"),
        ("Paris.\nUser: and Spain?", "Paris."),
        ("Paris.\n### Instruction: next", "Paris."),
        ("Paris.\n**Question 2:** next", "Paris."),
        ("Paris.<|im_end|>\n<|im_start|>user", "Paris."),
        ("5\n5\n5\n5\n6", "5\n6"),
        ("yes yes\nyes yes\nno", "yes yes\nyes yes\nno"),  # twice may be meant
        ("No. No. No. Never.", "No. Never."),
        (
            "Question: what?\nAnswer: 4",
            "Question: what?\nAnswer: 4",
        ),  # it begins with the question: nothing before
        ("The question: why?\nBecause.", "The question: why?\nBecause."),
        ("def f():\n    return 1\n\n\n\n\nf()", "def f():\n    return 1\n\n\n\n\nf()"),
        ("", ""),
    ],
)
def test_a_runaway_text_is_cut_and_a_whole_one_is_left_alone(text: str, kept: str) -> None:
    assert trimmed(text) == kept


@given(st.text(alphabet="ab .\n:Q", max_size=60))
def test_trimming_never_adds_nor_leaves_nothing(text: str) -> None:
    once = trimmed(text)
    assert len(once) <= len(text)
    assert bool(once) == bool(text.strip())
