"""Reading which of numbered answers a model has named, or that it has named none."""

from __future__ import annotations

import re

from septet.parts.answers.extract import without_reasoning

_NAMED = re.compile(
    r"\b(?:answer|response|candidate|option)\W{0,4}(?:(?:no\.?|number)\W{0,2})?(\d+)", re.IGNORECASE
)
_BARE = re.compile(r"\W*(\d+)\W*")


def named(text: str, n: int) -> int | None:
    """The index, from 0, of the one answer among n that a text names by its number, from 1; None: it names none.

    A text that is a number, or begins by naming one, names that; else the only number that it names. One that names
    several, one out of range or none at all is not guessed at.

    >>> [named(said, 3) for said in ("Response 2", "3.", "The most consistent is Answer #1.", "Answer 7", "Both.")]
    [1, 2, 0, None, None]
    """
    text = without_reasoning(text)
    bare = _BARE.fullmatch(text)
    numbers = [int(number) for number in _NAMED.findall(text)]
    if bare:
        numbers = [int(bare[1])]
    elif first := _NAMED.match(text.lstrip(" \t\n*_[(\"'")):
        numbers = [int(first[1])]
    if len(set(numbers)) != 1 or not 1 <= numbers[0] <= n:
        return None
    return numbers[0] - 1
