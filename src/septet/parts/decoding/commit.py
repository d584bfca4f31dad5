"""How a member takes over a piece of shared text: which of its ids stay, and which are appended.

Text is shared as bytes; each member keeps its own ids for it. Two rules. `canonical` always holds the
tokenizer's reading of the whole answer. `own` keeps a member on its own path: a model's greedy output is
at moments not what its tokenizer would read (a blank line at the end of the text, an emoji's bytes), and
only by appending the very id that the member ranked first does an ensemble of one equal that one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from septet.core.errors import BackendError
from septet.core.session import Vocab

Rule = Literal["own", "canonical"]


@dataclass(frozen=True, slots=True)
class Commit:
    """Keep the first `keep` ids of the answer, then append these."""

    keep: int
    append: tuple[int, ...]


def commit(
    rule: Rule,
    vocab: Vocab,
    ids: Sequence[int],
    byte_end: Sequence[int],
    committed: bytes,
    piece: bytes,
    own_id: int | None,
) -> Commit:
    """The commit of a piece by the named rule; `byte_end[i]` is where id i ends in `committed`.

    `own_id` is the id that the member itself ranked first or drew at this place, None where unknown.
    """
    if rule == "canonical":
        return canonical(vocab, ids, byte_end, committed, piece)
    return own(vocab, ids, byte_end, committed, piece, own_id)


def own(
    vocab: Vocab,
    ids: Sequence[int],
    byte_end: Sequence[int],
    committed: bytes,
    piece: bytes,
    own_id: int | None,
) -> Commit:
    """The member's own id where it has the piece's bytes; else a new reading from the last safe boundary."""
    if own_id is not None and vocab.bytes_of(own_id) == piece:
        return Commit(len(ids), (own_id,))
    text = committed + piece
    kept = _ids_before_safe_boundary(byte_end, text, len(committed))
    start = byte_end[kept - 1] if kept else 0
    return _with_reading(vocab, ids, kept, text[start:])


def canonical(
    vocab: Vocab, ids: Sequence[int], byte_end: Sequence[int], committed: bytes, piece: bytes
) -> Commit:
    """The tokenizer's own reading of the whole answer."""
    return _with_reading(vocab, ids, 0, committed + piece)


def exactly(vocab: Vocab, ids: Sequence[int], piece: bytes, token_id: int) -> Commit:
    """This id and no other, whatever the tokenizer would read (ABE's beams); its bytes must be the piece."""
    if vocab.bytes_of(token_id) != piece:
        raise BackendError(f"id {token_id} has the bytes {vocab.bytes_of(token_id)!r}, not {piece!r}")
    return Commit(len(ids), (token_id,))


def _with_reading(vocab: Vocab, ids: Sequence[int], kept: int, tail: bytes) -> Commit:
    """Replaces everything after the first `kept` ids by the reading of `tail`; what is equal stays."""
    reading = vocab.tokenise(tail)
    same = 0
    for old, new in zip(ids[kept:], reading, strict=False):
        if old != new:
            break
        same += 1
    return Commit(kept + same, tuple(reading[same:]))


def _ids_before_safe_boundary(byte_end: Sequence[int], text: bytes, limit: int) -> int:
    """How many ids end at or before the last place, at most `limit`, where no tokenizer joins left and right.

    Such a place stands between a byte that is no space, nor ">", and a space: of 311,296 entries of two
    vocabularies one holds a non-space before a space ("> </"), and 9,998 readings cut there were right.
    """
    for kept in range(len(byte_end), 0, -1):
        place = byte_end[kept - 1]
        if place <= limit and text[place : place + 1] == b" " and text[place - 1 : place] not in (b" ", b">"):
            return kept
    return 0
