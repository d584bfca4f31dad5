"""Spans of text: where a draft is cut, and how surprised members are by it."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

import numpy as np

from septet.core.session import Draft
from septet.core.types import Floats, Tokens

SPACES = b" \t\n\r\x0b\x0c"


def aligned(draft: Draft) -> bytes | None:
    """The draft up to its first word boundary for every tokenizer: before white space that follows a word.

    Every tokenizer may start a token at white space, so no member has to score half a token. None: the
    boundary has not been written yet.
    """
    text = draft.text
    for place in range(1, len(text)):
        if text[place] in SPACES and text[place - 1] not in SPACES:
            return text[:place]
    return text if draft.ended else None


def shortest(draft: Draft) -> bytes | None:
    """The draft up to the first end of one of its writer's tokens that is the end of a word for the writer:
    no letter, digit or half a character goes on behind it. None: it has not been written yet."""
    text, place = draft.text, 0
    for piece in draft.tokens.texts:
        place += len(piece)
        if place >= len(text):
            break
        if text[:place].strip(SPACES) and not (_in_word(text[place - 1]) and _in_word(text[place])):
            return text[:place]
    return text if draft.ended else None


def _in_word(byte: int) -> bool:
    """Letters, digits, and every byte of a character beyond ASCII."""
    return byte >= 0x80 or chr(byte).isalnum()


def whole_characters(text: bytes) -> bytes:
    """The text without an unfinished character at its end; a text that is nothing else stays as it is."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    return decoder.decode(text).encode("utf-8", "surrogateescape") or text


def perplexity(tokens: Tokens | None) -> float:
    """exp(mean negative log-probability per token); NaN where there is nothing to read.

    >>> round(perplexity(Tokens((b"a", b"b"), np.log([.5, .125]))), 3)
    4.0
    """
    if tokens is None or not len(tokens):
        return float("nan")
    with np.errstate(over="ignore"):
        return float(np.exp(-np.mean(tokens.logp)))


def mean_perplexities(scores: Sequence[Sequence[Tokens | None]]) -> Floats:
    """(n_candidates,): the arithmetic mean of the members' perplexities of each candidate, from
    [member][candidate] tokens; absent members are left out, and a candidate that nobody read is infinite."""
    table = np.array([[perplexity(tokens) for tokens in row] for row in scores])  # (n_members, n_candidates)
    known = ~np.isnan(table)
    total = np.where(known, table, 0.0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.inf)
