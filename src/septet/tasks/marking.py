"""Marks an answer: what the final answer in a model's text is, and whether it is right."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from septet.core.errors import MissingExtra
from septet.core.types import Finish
from septet.parts.answers.extract import final_answer, has_final_answer, without_reasoning

Extractor = Literal["number", "choice", "text"]
"""What kind of final answer is looked for."""

Metric = Literal["number", "choice", "exact", "short", "chrf"]
"""number: equal as numbers · choice: the same letter · exact: the same words, up to case and punctuation ·
short: the same words as an alias, also up to articles · chrf: how much of a reference's character n-grams the whole
text has, in 0..1 (chrF2 as sacreBLEU computes it, the best of the references)."""

TOLERANCE = 1e-6
"""Relative; numbers closer than this are equal."""

_STATED = re.compile(r"\W*([A-Z])(?:[.:)\]]|\s*\n)")
"""A letter that stands first and is closed off: complete, even where the text is cut later."""

_NAMED = re.compile(r'\(([A-Za-z])\)|\b(?i:option|choice|letter|answer is|letter is)\s+["“]?([A-Z])\b')
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_NUMBER = re.compile(r"-?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:/\d+)?")


@dataclass(frozen=True, slots=True)
class Mark:
    """The final answer as it was understood (None: there is none), and its score in 0..1."""

    answer: str | None
    score: float


def mark(
    extractor: Extractor,
    metric: Metric,
    text: str,
    gold: Sequence[str],
    *,
    choices: Sequence[str] = (),
    finish: Finish = "stop",
) -> Mark:
    """Marks a model's text against the aliases of the right answer.

    >>> mark("number", "number", "16 - 7 = 9, so she earns 9 * 2 = $18.", ["18"])
    Mark(answer='18', score=1.0)
    """
    if metric == "chrf":
        return _chrf(without_reasoning(text), gold)
    answer = _cut_short(extractor, text, choices) if finish == "length" else found(extractor, text, choices)
    right = answer is not None and any(_agree(metric, answer, g) for g in gold)
    return Mark(answer, float(right))


def _chrf(text: str, references: Sequence[str]) -> Mark:
    """A whole text is its own answer, and one that was cut off has the n-grams that it has."""
    try:
        from sacrebleu.metrics import CHRF
    except ModuleNotFoundError:
        raise MissingExtra("sacrebleu", "answers") from None
    chrf = CHRF()
    return Mark(text or None, max(chrf.sentence_score(text, [r]).score for r in references) / 100)


def found(extractor: Extractor, text: str, choices: Sequence[str] = ()) -> str | None:
    """The final answer in a whole text."""
    if extractor == "choice":
        return chosen(text, choices)
    answer = final_answer(text)
    if extractor == "number" and answer is not None and not _NUMBER.fullmatch(answer):
        # "Answer: so there are 18 eggs" is a sentence for the extractor; its last number is the answer
        return next(reversed(_NUMBER.findall(answer)), None)
    return answer


def _cut_short(extractor: Extractor, text: str, choices: Sequence[str]) -> str | None:
    """The answer of a truncated text, which is not read as if it were whole: only a closed-off letter at
    its beginning counts, or a final answer that it announced in a complete line."""
    text = without_reasoning(text)
    if extractor == "choice" and (stated := _STATED.match(text)) and stated[1] in _letters(choices):
        return stated[1]
    lines = text.rpartition("\n")[0]
    return found(extractor, lines, choices) if has_final_answer(lines) else None


def chosen(text: str, choices: Sequence[str]) -> str | None:
    """The letter of the choice that a text names, by its letter or by its words; None: none, or several.

    >>> [chosen(t, ["day", "the night"]) for t in ("(b)", "B. night", "Night.", "It is night.", "day or night")]
    ['B', 'B', 'B', 'B', None]
    """
    text, letters, options = without_reasoning(text), _letters(choices), [words(c) for c in choices]
    said = (final_answer(text) or "").strip("()")
    if len(said) == 1 and said.upper() in letters:
        return said.upper()
    wholes = {words(text), words(said)} - {""}
    named = {k for k, option in zip(letters, options, strict=True) if option in wholes}
    named = named or {(a or b).upper() for a, b in _NAMED.findall(text)} & set(letters)
    if not named:
        spoken = f" {words(text)} "
        named = {k for k, option in zip(letters, options, strict=True) if option and f" {option} " in spoken}
    return named.pop() if len(named) == 1 else None


def _letters(choices: Sequence[str]) -> str:
    return string.ascii_uppercase[: len(choices)]


def words(text: str, *, articles: bool = False) -> str:
    """Lower case, single spaces, no punctuation except inside numbers, and no articles unless asked for.

    >>> words("The  12.5 km/h, (about).")
    '12.5 km h about'
    """
    bare = re.sub(r"(?<!\d)[^\w\s-]|[^\w\s](?!\d)", " ", text.casefold())
    return " ".join((bare if articles else _ARTICLE.sub(" ", bare)).split())


def _agree(metric: Metric, answer: str, gold: str) -> bool:
    if metric == "number":
        values = _value(answer), _value(gold)
        return None not in values and math.isclose(*map(float, values), rel_tol=TOLERANCE)  # type: ignore[arg-type]
    return words(answer, articles=metric != "short") == words(gold, articles=metric != "short")


def _value(written: str) -> Fraction | None:
    """The number that is written; None: it is none, or divides by zero."""
    try:
        return Fraction(written.replace(",", ""))
    except (ValueError, ZeroDivisionError):
        return None
