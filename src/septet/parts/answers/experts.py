"""What a question and the answers of several experts say about whether each of the answers is right (2305.14628)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from septet.core.types import Floats
from septet.parts.answers.similarity import similarity, words

UNKNOWN = -1.0
"""What stands for a value that is not known."""

ASKS = ("what", "who", "which", "when", "where", "how much", "how many", "how", "why")
"""Question words, each a feature: "how" is any other how."""

_NUMBER = re.compile(r"\d[\d,.]*")


@dataclass(frozen=True)
class Said:
    """What one expert gave: its final `answer`, the whole `text` ("" where only the answer is known), and the answer's
    probability per token, NaN unknown."""

    answer: str
    text: str
    p: float = float("nan")


def width(n_experts: int) -> int:
    """How many features an answer has among those of n experts."""
    return 2 * n_experts + len(ASKS) + 10


def agreement(answers: Sequence[str]) -> Floats:
    """(n,) how many of the answers are the same as each, itself among them: lower case, no punctuation, no articles.

    >>> agreement(["Paris", "Paris", "Lyon", "paris."]).tolist()
    [3.0, 3.0, 1.0, 3.0]
    """
    plain = [" ".join(words(a)) or a.strip() for a in answers]
    return np.array([float(plain.count(a)) for a in plain])


def features(question: str, said: Sequence[Said | None], *, agree: bool = True) -> Floats:
    """(n, width) of the answers of n experts; a row of an expert that said nothing (None) is of no use.

    In order: which expert (n); question words; words and numbers of the question; the answer's probability, words,
    numbers, and words shared with the question; the text's words, and words shared with the question; how many
    experts gave the same answer, and what share of those that answered; token F1 with each expert's answer (n, its
    own unknown). Without `agree` all that compares experts is unknown.
    """
    n, asked = len(said), words(question)
    found = np.full((n, width(n)), UNKNOWN)
    here = [i for i, s in enumerate(said) if s is not None]
    given = [s for s in said if s is not None]
    answers = [s.answer for s in given]
    same, alike = agreement(answers), similarity("token-f1", answers) if given else np.zeros((0, 0))
    lower = question.lower()
    kinds = [float(bool(re.search(rf"\b{kind}\b", lower))) for kind in ASKS]
    how = ASKS.index("how")
    kinds[how] *= 1 - max(kinds[how - 2 : how])
    common = [*kinds, float(len(asked)), float(len(_NUMBER.findall(question)))]
    for place, (i, s) in enumerate(zip(here, given, strict=True)):
        own, whole = words(s.answer), words(s.text)
        row = found[i]
        row[:n] = np.eye(n)[i]
        row[n : n + len(common)] = common
        row[n + len(common) : n + len(common) + 6] = [
            UNKNOWN if np.isnan(s.p) else s.p,
            len(own),
            len(_NUMBER.findall(s.answer)),
            len(set(own) & set(asked)),
            len(whole) if s.text else UNKNOWN,
            len(set(whole) & set(asked)) if s.text else UNKNOWN,
        ]
        if agree:
            row[-n - 2] = same[place]
            row[-n - 1] = same[place] / len(given)
            row[[j - n for j in here]] = alike[place]
            row[i - n] = UNKNOWN
    return found
