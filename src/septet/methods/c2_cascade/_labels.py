"""Class probabilities of a text member: of the labels of a question, read where the answer states one of them.

A classifier gives p over its classes; a language model gives it at the token with which its answer names a label.
The alternatives of that one token, gathered by label and made to add up to 1, are p. Nothing more is asked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from septet.core.types import Completion, Floats, Tokens
from septet.parts.answers.extract import final_answer

LETTERS = "ABCDEFGHIJ"
"""Labels of options; an answer that is one of them is a choice, whatever the question looks like."""

_OPTION = re.compile(r"(?:^|[\s(])([A-J])[.):]\s*\S", re.MULTILINE)
_EDGE = re.compile(r"^[^\w]+|[^\w]+$")


def labels_in(question: str) -> tuple[str, ...]:
    """The letters of a question's options, of which there must be A and B, without a gap; else none.

    >>> labels_in("Which is blue?\\nA. grass\\nB. sky\\nC. blood"), labels_in("Say A) or nothing.")
    (('A', 'B', 'C'), ())
    """
    found = set(_OPTION.findall(question))
    n = next((i for i, letter in enumerate(LETTERS) if letter not in found), len(LETTERS))
    return tuple(LETTERS[:n]) if n > 1 else ()


def class_probabilities(answer: Completion, labels: Sequence[str]) -> Floats | None:
    """(k,) the member's probability of each label; alike for all where the answer names none of them.

    Without labels they are the letters among the alternatives, if the answer is a letter; else None: there is
    nothing to be classified. An answer whose tokens are not known is None too.

    >>> top = ((b" B", np.log(.6)), (b" A", np.log(.2)), (b"A", np.log(.1)), (b" it", np.log(.1)))
    >>> answer = Completion(member="m", text=" B", tokens=Tokens((b" B",), np.log([.6]), (top,)))
    >>> class_probabilities(answer, "AB").round(3).tolist()  # .3 and .6 of .9
    [0.333, 0.667]
    """
    tokens = answer.tokens
    if tokens is None or tokens.top is None:
        return None
    said = final_answer(answer.text)
    if not labels:
        if said is None or said not in LETTERS:
            return None
        place = _place(tokens, [said])
        labels = [] if place is None else _letters(tokens, place)
        if len(labels) < 2:
            return None
    exact = [label for label in labels if said is not None and label.lower() == said.lower()]
    place = _place(tokens, exact or labels)
    if place is None:
        return np.full(len(labels), 1 / len(labels))
    mass = np.zeros(len(labels))
    for piece, logp in _alternatives(tokens, place):
        if (index := _label_of(piece, labels)) is not None:
            mass[index] += np.exp(logp)
    return mass / mass.sum() if mass.sum() > 0 else np.full(len(labels), 1 / len(labels))


def named(text: str, labels: Sequence[str]) -> str | None:
    """The label that a text comes to: its final answer, else the last one that it mentions; None: it names none.

    >>> named("It is even, not odd; so even.", ["odd", "even"]), named("Who knows?", ["odd", "even"])
    ('even', None)
    """
    said = (final_answer(text) or "").lower()
    exact = [label for label in labels if label.lower() == said]
    if exact:
        return exact[0]
    found = [(mention, label) for label in labels if (mention := _last_mention(text, label)) is not None]
    return max(found)[1] if found else None


def _last_mention(text: str, label: str) -> int | None:
    """Where a label last stands as a word of its own; one letter has to be written as it is."""
    flags = 0 if len(label) == 1 else re.IGNORECASE
    places = [m.start() for m in re.finditer(rf"(?<!\w){re.escape(label)}(?!\w)", text, flags)]
    return places[-1] if places else None


def _place(tokens: Tokens, labels: Sequence[str]) -> int | None:
    """The token in which the last mention of a label begins, as a word of its own."""
    text = b"".join(tokens.texts).decode("utf-8", "surrogateescape")
    mentions = [at for label in labels if (at := _last_mention(text, label)) is not None]
    if not mentions:
        return None
    offset = len(text[: max(mentions)].encode("utf-8", "surrogateescape"))
    ends = np.cumsum([len(piece) for piece in tokens.texts])
    return int(np.searchsorted(ends, offset, side="right"))


def _alternatives(tokens: Tokens, place: int) -> list[tuple[bytes, float]]:
    """The listed alternatives of a token, and the token itself where it is not among them."""
    assert tokens.top is not None
    listed = list(tokens.top[place])
    own = tokens.texts[place]
    return listed if any(piece == own for piece, _ in listed) else [*listed, (own, float(tokens.logp[place]))]


def _letters(tokens: Tokens, place: int) -> list[str]:
    """The option letters among the alternatives of a token, in order."""
    pieces = [_EDGE.sub("", p.decode("utf-8", "replace")) for p, _ in _alternatives(tokens, place)]
    return [letter for letter in LETTERS if letter in pieces]


def _label_of(piece: bytes, labels: Sequence[str]) -> int | None:
    """The one label that a token says or begins; a letter has to be the whole word."""
    word = _EDGE.sub("", piece.decode("utf-8", "replace"))
    if not word:
        return None
    exact = [
        i
        for i, label in enumerate(labels)
        if label == word or (len(label) > 1 and label.lower() == word.lower())
    ]
    begun = exact or [
        i for i, label in enumerate(labels) if len(label) > 1 and label.lower().startswith(word.lower())
    ]
    return begun[0] if len(begun) == 1 else None
