"""What a gate is taught about the positions of a recorded text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import BadParameter
from septet.core.method import Rng
from septet.core.session import END
from septet.core.table import Table

_DATES = (
    "January February March April May June July August September October November December Monday Tuesday Wednesday"
    " Thursday Friday Saturday Sunday"
)
_CRITICAL = re.compile(r"\d+(?:[.,:/-]\d+)*|\b(?:" + "|".join(_DATES.split()) + r")\b")
_WORD = re.compile(r"[^\W\d_][\w'’-]*")
_OPENS = re.compile(r"(?:^|[.!?:\n])[\s\"'“‘(*-]*$")


@dataclass(frozen=True)
class Recorded:
    """A question, and the text of a right answer to it."""

    question: str
    text: str


def recorded(table: Table, order: Iterable[int], most: int, rng: Rng) -> list[Recorded]:
    """One right text of each question, in random order, at most `most` questions: of the members in this order the
    first that has one. Right is a score of at least ½. None at all is a BadParameter."""
    rank = {member: place for place, member in enumerate(order)}
    best: dict[int, tuple[int, int]] = {}
    for row in range(len(table)):
        text, query = table.text[row], int(table.query[row])
        if table.score[row] >= 0.5 and isinstance(text, str) and text.strip():
            here = (rank[int(table.member[row])], row)
            best[query] = min(best.get(query, here), here)
    if not best:
        raise BadParameter("table", len(table), "rows must hold the text (`response`) of some right answer")
    chosen = rng.permutation(sorted(best))[:most].tolist()
    return [Recorded(table.questions[q], str(table.text[best[q][1]])) for q in chosen]


def goes_on(rest: bytes, token: bytes) -> bool:
    """Whether what is left of a text begins with a token; at its end, whether the token ends the answer.

    >>> goes_on(b" cat sat", b" ca"), goes_on(b" cat sat", b""), goes_on(b"", b"")
    (True, False, True)
    """
    return rest.startswith(token) and (token == END) == (rest == b"")


def may_write(rest: bytes, small: bytes, large: bytes) -> int | None:
    """CITER's label of a position (2502.01976): 1 where the small model's token goes on with the recorded text, 0
    where only the large one's does; None where neither does, which a roll-out has to decide.

    >>> may_write(b"x", b"x", b"y"), may_write(b"x", b"y", b"x"), may_write(b"x", b"y", b"z")
    (1, 0, None)
    """
    if goes_on(rest, small):
        return 1
    return 0 if goes_on(rest, large) else None


def critical(text: str) -> NDArray[np.bool_]:
    """Which bytes of a text are of a number, a date or a name: digits with what joins them, names of months and
    days, and capitalised words that do not open a sentence, "I" apart. The rule is ours, and made for English.

    >>> text = "The poet Goethe wrote it in May 1808. He was 58."
    >>> mask = critical(text)
    >>> "".join(c if m else "." for c, m in zip(text, mask))
    '.........Goethe.............May.1808.........58.'
    """
    mask = np.zeros(len(text), dtype=np.bool_)
    for found in _CRITICAL.finditer(text):
        mask[found.start() : found.end()] = True
    for found in _WORD.finditer(text):
        word = found.group()
        own = word[0].isupper() and re.match(r"I(?:['’]|$)", word) is None
        if own and _OPENS.search(text, 0, found.start()) is None:
            mask[found.start() : found.end()] = True
    return np.repeat(mask, [len(c.encode("utf-8", "replace")) for c in text])
