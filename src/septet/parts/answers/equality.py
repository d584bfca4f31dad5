"""Whether two final answers say the same: written alike, equal as numbers, or equal as mathematics."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

from septet.core.errors import MissingExtra

LONGEST = 160
"""Characters of a formula that is compared as mathematics; the algebra of longer ones may take minutes."""

GREATEST_POWER = 9999
"""The product of all exponents in a formula may not exceed it: algebra works whole powers out."""

_COMMAND = re.compile(r"\\[A-Za-z]+")
_NAMES = re.compile(r"(?<!\\)\b(?:sqrt|frac|pi|sin|cos|tan|cot|sec|csc|log|ln|exp|infty|theta|alpha|beta)\b")
_MATHEMATICS = re.compile(r"[\d\\^_=+*/<>|-]")
_POWER = re.compile(r"(?:\^|\*\*)\s*(?:\{([^{}]*)\}|\(([^()]*)\)|(-?\w))")
_ENDLESS = re.compile(r"\\(?:sum|prod|int|lim|binom|i?iint|oint|limits|underset|overset)\b|!|\d{40}")


def same_answer(a: str, b: str) -> bool:
    r"""Whether two final answers, as `final_answer` writes them, are equal; needs the extra "answers" for formulas.

    Equal strings, equal numbers (fractions exactly, so 1/3 is not 0.333), else equal as mathematics by math-verify,
    asked in both directions. Only what looks like a formula is asked about, since words are products of letters to
    algebra: "no" would be "on". Formulas that could take for ever (long ones, great powers, sums, factorials) are
    compared as strings.

    >>> same_answer("0.5", "1/2"), same_answer("B", "b"), same_answer(r"2\sqrt{3}", r"\sqrt{12}")
    (True, False, True)
    """
    if a == b:
        return True
    numbers = _number(a), _number(b)
    if None not in numbers:
        return numbers[0] == numbers[1]
    if not (_is_formula(a) and _is_formula(b)):
        return False
    return _equal(a, b)


def _number(written: str) -> Fraction | None:
    try:
        return Fraction(written.replace(" ", ""))
    except (ValueError, ZeroDivisionError):
        return None


def _is_formula(said: str) -> bool:
    """Whether it looks like mathematics, and is of a size that algebra can answer for at once."""
    if len(said) > LONGEST or not _MATHEMATICS.search(said) or _ENDLESS.search(said):
        return False
    letters = _COMMAND.sub(" ", _NAMES.sub(" ", said))
    return not re.search(r"[^\W\d_]{3}", letters) and _powers_are_small(said)


def _powers_are_small(said: str) -> bool:
    product = 1
    for power in _POWER.finditer(said):
        exponent = next(part for part in power.groups() if part is not None)
        if re.search(r"\^|\*\*", exponent):
            return False
        for digits in re.findall(r"\d+", exponent):
            product *= max(int(digits), 1)
    # a power whose exponent the pattern cannot read, such as one with braces in it, is not trusted either
    unread = re.sub(_POWER, "", said)
    return product <= GREATEST_POWER and not re.search(r"\^|\*\*", unread)


@lru_cache(maxsize=4096)
def _equal(a: str, b: str) -> bool:
    verify = _math_verify().verify
    # two trees that are equal may be found so from one side only; no clock in `parts`, hence no time limit
    x, y = _parsed(a), _parsed(b)
    return bool(x and y) and any(bool(verify(p, q, timeout_seconds=None)) for p, q in ((x, y), (y, x)))


@lru_cache(maxsize=4096)
def _parsed(said: str) -> Any:
    """What math-verify reads: a list of expressions, empty where it reads none."""
    return _math_verify().parse(f"${said}$", fallback_mode="no_fallback", parsing_timeout=None)


def _math_verify() -> Any:
    try:
        import math_verify
    except ImportError:
        raise MissingExtra("equality of formulas", "answers") from None
    return math_verify
