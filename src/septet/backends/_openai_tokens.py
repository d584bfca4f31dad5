"""Log-probabilities as servers write them, read as exact bytes: entries, and the tokens that spell a text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from septet.backends._openai_flavours import END_SPELLINGS, Flavour
from septet.core.session import END
from septet.core.types import Tokens

LOWEST = -9999.0
"""What servers write for −inf, which JSON does not have."""

LOST = "\ufffd"
"""What stands in a token's text where its bytes are not a whole character."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One token: its bytes (None where the server did not give them exactly), its log-probability (NaN:
    unknown), and the best alternatives as (bytes, logp), those with exact bytes only."""

    piece: bytes | None
    logp: float
    top: tuple[tuple[bytes, float], ...] = ()


def entries_of(logprobs: Any, flavour: Flavour) -> list[Entry] | None:
    """The entries of a choice's `logprobs`, in the chat or in the older completions format; None: none given."""
    if not isinstance(logprobs, Mapping):
        return None
    content = logprobs.get("content")
    if isinstance(content, list):
        return [entry_of(item, flavour) for item in content if isinstance(item, Mapping)]
    if isinstance(logprobs.get("tokens"), list):
        return _older_entries(logprobs, flavour)
    return None


def entry_of(item: Mapping[str, Any], flavour: Flavour) -> Entry:
    """One token in the chat format: {token, bytes, logprob, top_logprobs}."""
    listed = [x for x in item.get("top_logprobs") or () if isinstance(x, Mapping)]
    top = [(_exact(x, flavour), number(x.get("logprob"))) for x in listed]
    logp, piece = number(item.get("logprob")), _exact(item, flavour)
    twin = next((x for x in listed if x.get("id") is not None and x["id"] == item.get("id")), None)
    if twin is not None and _exact(twin, flavour) != piece:
        # llama-server merges the tokens of a character into the last one, and gives only that one's logprob
        logp = math.nan
    return Entry(piece, logp, tuple((p, x) for p, x in top if p is not None))


def _exact(item: Mapping[str, Any], flavour: Flavour) -> bytes | None:
    text, numbers = str(item.get("token") or ""), item.get("bytes")
    if flavour.spells_end and text in END_SPELLINGS:
        return END
    if isinstance(numbers, list) and all(isinstance(b, int) and 0 <= b < 256 for b in numbers):
        given = bytes(numbers)
        # a server that knows only the text encodes the replacement character itself
        return None if LOST in text and given == text.encode() else given
    return spelled(text)


def spelled(text: str) -> bytes | None:
    """The bytes of a token that is given as text; None where the text does not say them.

    >>> spelled("bytes:\\\\xf0\\\\x9f"), spelled(" a"), spelled("\\ufffd")
    (b'\\xf0\\x9f', b' a', None)
    """
    if re.fullmatch(r"bytes:(\\x[0-9a-fA-F]{2})+", text):
        return bytes.fromhex(text.removeprefix("bytes:").replace("\\x", ""))
    return None if LOST in text else text.encode("utf-8", "replace")


def _older_entries(logprobs: Mapping[str, Any], flavour: Flavour) -> list[Entry]:
    """{tokens, token_logprobs, top_logprobs: a map per token}."""
    texts = [str(t) for t in logprobs["tokens"]]
    values = list(logprobs.get("token_logprobs") or ())
    tops = list(logprobs.get("top_logprobs") or ())
    found = []
    for i, text in enumerate(texts):
        top = tops[i] if i < len(tops) and isinstance(tops[i], Mapping) else {}
        listed = [(_exact({"token": t}, flavour), number(x)) for t, x in top.items()]
        found.append(
            Entry(
                _exact({"token": text}, flavour),
                number(values[i] if i < len(values) else None),
                tuple((p, x) for p, x in listed if p is not None),
            )
        )
    return found


def number(value: Any) -> float:
    """A log-probability: NaN where there is none, −inf where the server wrote its lowest."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return -math.inf if value <= LOWEST else float(value)


def spelling(text: bytes, entries: Sequence[Entry], *, top: bool = True) -> Tokens:
    """The tokens that spell a text, whatever the server left out or cut off.

    Their bytes put together are the text. Entries whose bytes are unknown or that are not in the text are
    merged into what stands in their place, with the sum of their log-probabilities; text without an entry
    is a token of log-probability NaN; the token that the end of the text cuts through is shortened.
    """
    found: list[Entry] = []
    waiting: list[Entry] = []
    at = 0
    for entry in entries:
        start = _place(text, at, entry.piece, gap=bool(waiting))
        if start is None:
            waiting.append(entry)
            continue
        if start > at:
            found.append(_merged(text[at:start], waiting))
        waiting = []
        piece = text[start : start + len(entry.piece or b"")]
        if piece:
            found.append(Entry(piece, entry.logp, entry.top))
        at = start + len(piece)
    if at < len(text):
        found.append(_merged(text[at:], waiting))
    logp = np.array([entry.logp for entry in found], dtype=np.float64)
    return Tokens(tuple(e.piece or b"" for e in found), logp, tuple(e.top for e in found) if top else None)


def _place(text: bytes, at: int, piece: bytes | None, *, gap: bool) -> int | None:
    """Where an entry stands at or after `at`; None if it cannot be placed."""
    if not piece or at >= len(text):
        return None
    rest = text[at:]
    if rest.startswith(piece) or piece.startswith(rest):
        return at
    # after entries of unknown bytes, or inside a character whose first bytes were not reported
    if gap or piece[0] & 0xC0 == 0x80:
        start = text.find(piece, at)
        return None if start < 0 else start
    return None


def _merged(piece: bytes, entries: Sequence[Entry]) -> Entry:
    return Entry(piece, math.fsum(e.logp for e in entries) if entries else math.nan)
