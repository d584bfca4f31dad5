"""Spans of text: where a draft is cut, and how surprised members are by it."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence

import numpy as np

from septet.core.session import END, Draft, Next
from septet.core.types import Floats, Tokens

SPACES = b" \t\n\r\x0b\x0c"


# --- where a draft is cut --------------------------------------------------------------------------


def word_ends(draft: Draft) -> list[int]:
    """The places in a draft where a word ends for every tokenizer: before white space that follows a word.

    Every tokenizer may start a token at white space, so no member has to read half a token. A place in the
    middle of one of the writer's own tokens (".\\n" is one in some vocabularies) does not count: cut there,
    the writer would be led off its own path. The end of a draft is never such a place: more may come.

    >>> word_ends(Draft(b" a cat sat", Tokens((b" a", b" cat", b" sat"), np.zeros(3)), False))
    [2, 6]
    """
    text, ends = draft.text, _token_ends(draft)
    return [
        place
        for place in range(1, len(text))
        if text[place] in SPACES and text[place - 1] not in SPACES and (ends is None or place in ends)
    ]


def _token_ends(draft: Draft) -> set[int] | None:
    """Where the writer's tokens end; None where they are not known."""
    ends = np.cumsum([len(piece) for piece in draft.tokens.texts if piece])
    return set(ends.tolist()) if len(ends) and ends[-1] == len(draft.text) else None


def words(draft: Draft, n: int) -> bytes | None:
    """The first n words of a draft, each with the white space before it; what a member wrote before it ended,
    if that is less. None: the n-th has not been written to its end."""
    ends = word_ends(draft)
    if len(ends) >= n:
        return draft.text[: ends[n - 1]]
    return draft.text if draft.ended else None


def aligned(draft: Draft) -> bytes | None:
    """The draft up to its first word end for every tokenizer; None: it has not been written yet."""
    return words(draft, 1)


def whole_words(draft: Draft) -> bytes:
    """The draft without the word that it breaks off in, and without white space behind the last one.

    A draft that ended, and one that holds a single word, stay as they are; so does one that breaks off
    behind a sign that is no letter, digit or part of one.

    >>> def wrote(*pieces): return Draft(b"".join(pieces), Tokens(pieces, np.zeros(len(pieces))), False)
    >>> whole_words(wrote(b" a", b" red", b" ca")), whole_words(wrote(b" a", b" cat", b","))
    (b' a red', b' a cat,')
    """
    text = draft.text
    if draft.ended:
        return text
    kept = text.rstrip(SPACES)
    if len(kept) == len(text) and kept and _in_word(kept[-1]):
        ends = word_ends(draft)
        kept = kept[: ends[-1]] if ends else kept
    return kept or text


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


def starts_word(piece: bytes, before: bytes) -> bool:
    """Whether a next token shows that the word before it is complete: it is white space behind something
    that is not, or the end of the answer.

    >>> starts_word(b" cat", b" the"), starts_word(b"re", b" the"), starts_word(b" the", b"\\n")
    (True, False, False)
    """
    return piece == END or (piece[0] in SPACES and bool(before) and before[-1] not in SPACES)


def whole_characters(text: bytes) -> bytes:
    """The text without an unfinished character at its end; a text that is nothing else stays as it is."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    return decoder.decode(text).encode("utf-8", "surrogateescape") or text


# --- how sure a member is, and how surprised ----------------------------------------------------------


def margin(following: Next) -> float:
    """p(1) − p(2) of a next-token distribution, END being one token (AdaFuse, 2601.06022, Δ).

    >>> none = lambda piece, first: None
    >>> p = np.array([.84, .13], dtype=np.float32)
    >>> round(margin(Next(0, np.array([5, 9], dtype=np.int32), np.log(p), none)), 3)
    0.71
    """
    p = np.exp(following.logp.astype(np.float64))
    if len(p) < 2:
        return float(p.sum())
    second, best = np.partition(p, -2)[-2:] if following.full else (p[1], p[0])
    return float(best - second)


def surprise(tokens: Tokens | None) -> float:
    """The mean negative log-probability per token, in nats; NaN where there is nothing to read.

    >>> surprise(Tokens((b"a", b"b"), np.array([-0.25, -0.75])))
    0.5
    """
    return float("nan") if tokens is None or not len(tokens) else float(-np.mean(tokens.logp))


def perplexity(tokens: Tokens | None) -> float:
    """exp(mean negative log-probability per token); NaN where there is nothing to read.

    >>> round(perplexity(Tokens((b"a", b"b"), np.log([.5, .125]))), 3)
    4.0
    """
    with np.errstate(over="ignore"):
        return float(np.exp(surprise(tokens)))


def readings(scores: Sequence[Sequence[Tokens | None]], of: Callable[[Tokens | None], float]) -> Floats:
    """(n_members, n_candidates): a number for each reading, from [member][candidate] tokens; NaN: absent."""
    return np.array([[of(tokens) for tokens in row] for row in scores], dtype=np.float64)


def mean_over_members(table: Floats) -> Floats:
    """(n_candidates,): the mean of each column of (n_members, n_candidates) without what is absent; a
    candidate that nobody read is infinite.

    >>> mean_over_members(np.array([[1.0, np.nan], [3.0, np.nan]]))
    array([ 2., inf])
    """
    known = ~np.isnan(table)
    total = np.where(known, table, 0.0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.inf)


def mean_perplexities(scores: Sequence[Sequence[Tokens | None]]) -> Floats:
    """(n_candidates,): the arithmetic mean of the members' perplexities of each candidate (Cool-Fusion)."""
    return mean_over_members(readings(scores, perplexity))


def mean_surprises(scores: Sequence[Sequence[Tokens | None]]) -> Floats:
    """(n_candidates,): the mean over members of their mean negative log-probabilities (AdaFuse)."""
    return mean_over_members(readings(scores, surprise))


def without_outliers(table: Floats, spread: float) -> Floats:
    """(n_members, n_candidates) ratings with NaN for unfaithful ones: in a column whose highest is more than
    `spread` times its lowest, the highest and the lowest go, or, where nothing else is there, the highest.

    >>> without_outliers(np.array([[1.2], [1.5], [30.0]]), 10.0).ravel()
    array([nan, 1.5, nan])
    """
    kept = table.copy()
    for j, column in enumerate(table.T):
        known = column[~np.isnan(column)]
        if not len(known):
            continue
        low, high = known.min(), known.max()
        if not high > spread * low:
            continue
        between = (column > low) & (column < high)
        kept[~(between if between.any() else column < high), j] = np.nan
    return kept
