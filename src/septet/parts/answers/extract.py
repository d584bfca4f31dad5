"""From a text to the answer it gives: reasoning stripped, the final answer found and written one way."""

from __future__ import annotations

import re
from decimal import Decimal
from json import JSONDecodeError, JSONDecoder
from typing import Any

_THINKING = re.compile(r"<(think|thinking|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_SAID = re.compile(
    r"(?:final\s+)?answer\s*(?:\*\*)?\s*(?:is|:|=)\s*(?:\*\*)?\s*:?\s*(?=(?P<said>\S[^\n]*))", re.IGNORECASE
)
_HASHES = re.compile(r"####\s*(?P<said>\S[^\n]*)")
_OPTION = re.compile(r"\(?(?P<letter>[A-J])(?:\)|[.:](?=\s|$)|(?=\s*$))")
_NUMBER = re.compile(r"(?<![\w./])-?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:/\d+)?(?![\w/])")
_FRACTION = re.compile(r"\\[dt]?frac\{(-?\d+)\}\{(\d+)\}")
_LATEX_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mbox)\{([^{}]*)\}")
_LATEX_LAYOUT = re.compile(r"\\(?:left|right|[()\[\]!,;$% ])")
_CODE = re.compile(r"```[\w+-]*\n(?P<code>.*?)```", re.DOTALL)
# a sentence ends after a word or a number, not after "St." or an option letter
_SENTENCE = re.compile(r"(?:(?<=\w{4})|(?<=[\d)]))\.\s+")
_WRAPPING = " \t\n*_`$\"'“”‘’.,;:!?"


def without_reasoning(text: str) -> str:
    """The text without its reasoning block; a block that never closes takes the rest of the text with it."""
    return _THINKING.sub("", text).strip()


def final_answer(text: str) -> str | None:
    r"""The answer that a text ends in, written so that equal answers are equal strings; None: there is none.

    Looked for in this order: the last \boxed{…}; `#### …`; "answer is …" or "Answer: …", the last one; a
    text that is an option letter, alone or before its option; the last number; else the whole text.

    >>> final_answer("So she pays 3 times. The answer is $1,250.00.")
    '1250'
    >>> final_answer("(B) the second one")
    'B'
    >>> final_answer("It is Paris.") == final_answer("it is  paris")
    True
    """
    text = without_reasoning(text)
    said = boxed(text) or _last(_HASHES, text) or _last(_SAID, text, _SENTENCE)
    if said is not None:
        return canonical(said)
    option = _OPTION.match(text)
    if option:
        return option["letter"]
    numbers = _NUMBER.findall(text)
    return number(numbers[-1]) if numbers else canonical(text)


def has_final_answer(text: str) -> bool:
    r"""Whether a text announces its final answer: a line "Answer: …", `#### …` or \boxed{…}.

    >>> has_final_answer("2 + 3 = 5\nAnswer: 5"), has_final_answer("An answer is needed.")
    (True, False)
    """
    text = without_reasoning(text)
    line = re.search(r"^\W*(?:final\s+)?answer\W*:\W*\w", text, re.IGNORECASE | re.MULTILINE)
    return bool(line or _HASHES.search(text) or boxed(text))


def canonical(said: str) -> str | None:
    """One way of writing an answer: an option letter, a number, or lower-case words.

    >>> canonical("**(C)** because it rains"), canonical("42 apples."), canonical("New  York!")
    ('C', '42', 'new york')
    """
    said = _LATEX_LAYOUT.sub("", _LATEX_TEXT.sub(r"\1", _FRACTION.sub(r"\1/\2", said))).strip(_WRAPPING)
    said = re.sub(r"^\{(.*)\}$", r"\1", said)
    option = _OPTION.match(said)
    if option:
        return option["letter"]
    numbers = _NUMBER.findall(said)
    if len(numbers) > 1 and "=" in said:
        numbers = _NUMBER.findall(said.rpartition("=")[2])
    # a sentence with one number says that number; with several it may be a date; a formula is neither
    if len(numbers) == 1 and not set("\\^_") & set(said):
        return number(numbers[0])
    return " ".join(said.lower().split()) or None


def number(written: str) -> str:
    """A number without commas and trailing zeros.

    >>> [number(n) for n in ("1,250.00", "-.50", "3/4", "007")]
    ['1250', '-0.5', '3/4', '7']
    """
    if "/" in written:
        return written.replace(",", "")
    value = Decimal(written.replace(",", ""))
    plain = format(value.normalize(), "f") if value else "0"
    return plain


def boxed(text: str) -> str | None:
    r"""What stands in the last \boxed{…}, braces inside it balanced.

    >>> boxed(r"so \boxed{\frac{3}{4}} it is")
    '\\frac{3}{4}'
    """
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth, begin = 0, start + len("\\boxed{")
    for place, character in enumerate(text[begin:], begin):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth < 0:
            return text[begin:place].strip() or None
    return None  # the box was cut off


def option_of(text: str, n: int = 10) -> str | None:
    """The letter of the option that a text chooses among n ≤ 10, or None: its final answer is no such letter.

    >>> option_of("So the answer is (C)."), option_of("C", 2), option_of("I cannot say.")
    ('C', None, None)
    """
    said = final_answer(text)
    return said if said is not None and len(said) == 1 and said in "ABCDEFGHIJ"[:n] else None


def json_of(text: str) -> Any:
    """The last JSON object or list in a text, in a fence or bare; None: there is none that is whole.

    What only looks like one, such as a set in mathematics, is passed over; one inside another is not taken by itself.

    >>> json_of('Here it is: {"scores": [3, 5]} as you wished.')
    {'scores': [3, 5]}
    """
    text = without_reasoning(text)
    decoder, found, place = JSONDecoder(), None, 0
    while start := re.compile(r"[\[{]").search(text, place):
        try:
            found, place = decoder.raw_decode(text, start.start())
        except JSONDecodeError:
            place = start.end()  # not JSON from here; it may begin later
        except RecursionError:
            break  # nested deeper than any answer; to try each bracket anew would take for ever
    return found


def code_of(text: str) -> str:
    """The code in a text: its last fenced block, else all of it."""
    text = without_reasoning(text)
    blocks = _CODE.findall(text)
    return str(blocks[-1]) if blocks else text


def _last(pattern: re.Pattern[str], text: str, end: re.Pattern[str] | None = None) -> str | None:
    """What the last match says, up to where the sentence ends."""
    found = [match["said"] for match in pattern.finditer(text)]
    if not found:
        return None
    return str(found[-1] if end is None else end.split(found[-1])[0])
