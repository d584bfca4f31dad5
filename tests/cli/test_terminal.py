"""Text that is safe to show, and numbers that are short to read."""

from __future__ import annotations

import doctest

import pytest

import septet.cli._terminal as terminal
from septet.core.money import dollars


def test_the_examples_in_the_docstrings_hold():
    result = doctest.testmod(terminal)
    assert result.attempted >= 2
    assert result.failed == 0


@pytest.mark.parametrize(
    ("usd", "said"),
    [(0.0, "$0"), (0.5, "$0.5000"), (1.0, "$1.00"), (2e-7, "$0.0000002"), (1e-12, "<$0.00000001")],
)
def test_an_amount_has_the_digits_it_needs(usd: float, said: str):
    assert dollars(usd) == said


def test_a_long_text_is_cut_with_an_ellipsis_and_a_short_one_is_not():
    assert terminal.short("abcdef", 6) == "abcdef"
    assert terminal.short("abcdefg", 6) == "abcde…"


def test_tabs_and_line_breaks_stay_and_other_controls_become_pictures():
    assert terminal.visible("a\tb\n\0\x7f\x9b") == "a\tb\n␀␡�"
