"""Where members with other tokenizers can be compared: at places that no token of a member's own reading spans."""

from __future__ import annotations

from collections.abc import Sequence

from septet.core.session import Vocab


def last_safe(text: bytes, limit: int) -> int:
    """The last place in a text, at most `limit`, where no tokenizer joins left and right; 0 if there is none.

    It stands between a byte that is no space, nor ">", and a space, as for commits (`parts.decoding.commit`),
    so what is before it need not be read again.

    >>> last_safe(b"one two three", 9)
    7
    """
    for place in range(min(limit, len(text) - 1), 0, -1):
        if text[place : place + 1] == b" " and text[place - 1 : place] not in (b" ", b">"):
            return place
    return 0


def ends_of_tokens(vocab: Vocab, text: bytes, start: int) -> set[int]:
    """The places in a text where a token ends as the tokenizer reads it from `start` on; `start` is one of them."""
    ends = [start]
    for token_id in vocab.tokenise(text[start:]):
        ends.append(ends[-1] + len(vocab.bytes_of(token_id)))
    return set(ends)


def eligible(vocab: Vocab, answer: bytes, draft: Sequence[bytes]) -> list[int]:
    """The positions of a draft that are boundaries of a member's own reading of answer and draft together.

    Position j stands after the first j pieces, so 0 is the end of the answer. Inside one of the member's
    tokens it would be asked about text that it never saw begin so (2510.15346, OOV-like tokens).

    >>> from septet.testing.scripted import vocabulary
    >>> eligible(vocabulary([b" Sofia", b" So", b"fia"]), b"", [b" So", b"fia"])    # K16
    [0, 2]
    """
    text = answer + b"".join(draft)
    ends = ends_of_tokens(vocab, text, last_safe(text, len(answer)))
    places = [len(answer)]
    for piece in draft:
        places.append(places[-1] + len(piece))
    return [j for j, place in enumerate(places) if place in ends]
