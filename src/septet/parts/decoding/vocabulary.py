"""A tokenizer's vocabulary as exact bytes: which id is which bytes, and how a text is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import BackendError
from septet.core.session import END, Ids

if TYPE_CHECKING:
    from septet.parts.decoding.pretokenise import KnownReading

Tokeniser = Callable[[bytes], list[int]]
"""Reads valid UTF-8 that stands in the middle of an answer: no BOS, no dummy prefix, nothing special parsed."""


class Unspellable(BackendError):
    """A text that a vocabulary has no tokens for, not even single bytes."""


class PackedVocab:
    """Every id of a model as exact bytes, in arrays: 6 MB for 262,144 entries instead of 15 MB of objects.

    `masked` (V,) are the rows that no text is made of: control tokens, unused and empty ones. END ids have
    the bytes b"" and are not masked. Ids with equal bytes are found together, the tokenizer's own first.
    """

    def __init__(
        self,
        packed: NDArray[np.uint8],  # (n_bytes,) the bytes of all ids, one after the other
        offsets: NDArray[np.integer[Any]],  # (V+1,) where each id's bytes begin
        order: Ids,  # (n,) unmasked ids that are not END, by (bytes, normal pieces first, id)
        end_ids: Sequence[int],
        masked_ids: Ids,
        tokenise: Tokeniser,
    ) -> None:
        self._packed, self._offsets, self._order = packed, offsets, order
        self.size = len(offsets) - 1
        self.end_ids = tuple(sorted(end_ids))
        self.masked_ids = masked_ids
        self._tokeniser = tokenise
        self.reading: KnownReading | None = None  # how it makes its tokens, where its backend knows
        # Plain buffers: reading one item of a numpy array costs five times as much.
        self._bytes, self._at, self._sorted = packed.tobytes(), offsets.data, order.data
        self._found = lru_cache(1 << 16)(self._search)
        self._firsts = lru_cache(1 << 16)(lambda piece: self.tokenise(piece)[0])

    @classmethod
    def of(
        cls,
        pieces: Sequence[bytes],
        *,
        end_ids: Sequence[int],
        masked_ids: Sequence[int] = (),
        normal: NDArray[np.bool_] | None = None,
        tokenise: Tokeniser,
    ) -> PackedVocab:
        """From the bytes of each id. `normal` (V,): False for byte pieces, which rank after others of equal bytes."""
        ends = frozenset(end_ids)
        masked = set(masked_ids) | {i for i, piece in enumerate(pieces) if not piece}
        masked -= ends
        spelled = [END if i in ends else piece for i, piece in enumerate(pieces)]
        # Normal pieces come first, so the stable sort leaves them first among equal bytes.
        ranked = range(len(pieces)) if normal is None else np.argsort(~normal, kind="stable").tolist()
        order = [i for i in ranked if i not in ends and i not in masked]
        order.sort(key=spelled.__getitem__)
        lengths = np.fromiter((len(piece) for piece in spelled), dtype=np.int64, count=len(spelled))
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        small = np.int32 if offsets[-1] < 2**31 else np.int64
        return cls(
            np.frombuffer(b"".join(spelled), dtype=np.uint8),
            offsets.astype(small),
            np.array(order, dtype=np.int32),
            tuple(ends),
            np.array(sorted(masked), dtype=np.int32),
            tokenise,
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All but the tokenizer, for a cache on disk; `of_arrays` reads it back."""
        return {
            "packed": self._packed,
            "offsets": self._offsets,
            "order": self._order,
            "end_ids": np.array(self.end_ids, dtype=np.int32),
            "masked_ids": self.masked_ids,
        }

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]], tokenise: Tokeniser) -> PackedVocab:
        """The vocabulary that `arrays` took apart."""
        ends = tuple(int(i) for i in arrays["end_ids"])
        return cls(arrays["packed"], arrays["offsets"], arrays["order"], ends, arrays["masked_ids"], tokenise)

    @cached_property
    def digest(self) -> str:
        """What this vocabulary is: equal for equal bytes, END ids and masked rows, whoever holds it."""
        found = sha256(self._bytes)
        for part in (self._offsets.astype(np.int64), np.array(self.end_ids, np.int64), self.masked_ids):
            found.update(np.ascontiguousarray(part).tobytes())
        return found.hexdigest()

    def spelled(self) -> tuple[list[bytes], Ids]:
        """The bytes of every unmasked id that is not END, in byte order, and those ids; equal bytes stand
        together, the tokenizer's own id first."""
        return [self.bytes_of(i) for i in self._order.tolist()], self._order

    @property
    def masked(self) -> NDArray[np.bool_]:
        """(V,) the rows that no text is made of."""
        rows = np.zeros(self.size, dtype=np.bool_)
        rows[self.masked_ids] = True
        return rows

    def bytes_of(self, token_id: int) -> bytes:
        """The exact bytes of an id; b"" for an END id."""
        return self._bytes[self._at[token_id] : self._at[token_id + 1]]

    def join(self, ids: Sequence[int]) -> bytes:
        """The bytes of several ids, one after the other."""
        return b"".join(map(self.bytes_of, ids))

    def ids_of(self, piece: bytes) -> tuple[int, ...]:
        """Every unmasked id with exactly these bytes, the tokenizer's own first; b"" gives the END ids."""
        return self._found(piece)

    def _search(self, piece: bytes) -> tuple[int, ...]:
        if piece == END:
            return self.end_ids
        low = self._lowest(piece)
        high = low
        while high < len(self._sorted) and self.bytes_of(self._sorted[high]) == piece:
            high += 1
        return tuple(self._sorted[low:high])

    def _lowest(self, piece: bytes, low: int = 0) -> int:
        """The place of the first id, in byte order, that is not below the piece."""
        high = len(self._sorted)
        while low < high:
            middle = (low + high) // 2
            if self.bytes_of(self._sorted[middle]) < piece:
                low = middle + 1
            else:
                high = middle
        return low

    def agreeing(self, piece: bytes) -> Ids:
        """(n,) unmasked ids, ascending, that are a prefix of the piece or extend it. END is neither."""
        prefixes = [i for n in range(1, len(piece)) for i in self.ids_of(piece[:n])]
        low = self._lowest(piece)
        after = _successor(piece)
        high = len(self._sorted) if after is None else self._lowest(after, low)
        return np.sort(np.concatenate([np.array(prefixes, dtype=np.int32), self._order[low:high]]))

    def tokenise(self, text: bytes) -> list[int]:
        """The tokenizer's own reading of a text in the middle of an answer; the ids' bytes are the text's.

        The tokenizer itself sees valid UTF-8 only: some turn other bytes into U+FFFD, and one ends the
        process. Those bytes, and characters that it would change, are spelled by single-byte tokens.
        """
        ids: list[int] = []
        for span, valid in utf8_spans(text):
            ids += self._reading(span) if valid else self._byte_by_byte(span)
        return ids

    def first_id(self, piece: bytes) -> int:
        """The first token of the tokenizer's own reading of a piece that is not empty."""
        return self._firsts(piece)

    def _reading(self, span: bytes) -> list[int]:
        ids = self._tokeniser(span)
        if self.join(ids) == span:
            return ids
        return self._around_lost_characters(span)

    def _around_lost_characters(self, span: bytes) -> list[int]:
        """Spells byte by byte the characters that the tokenizer drops or changes, and reads the rest."""
        kept, ids = b"", list[int]()
        for character in (c.encode() for c in span.decode()):
            if self.join(self._tokeniser(character)) == character:
                kept += character
                continue
            ids += (self._tokeniser(kept) if kept else []) + self._byte_by_byte(character)
            kept = b""
        ids += self._tokeniser(kept) if kept else []
        return ids if self.join(ids) == span else self._in_halves(span)

    def _in_halves(self, span: bytes) -> list[int]:
        """Of a text whose characters are changed only where others stand beside them (a letter and its accent
        joined to one): what can be read is read, and the place where it happens is cut in two."""
        text = span.decode()
        middle = len(text) // 2
        ids: list[int] = []
        for half in (text[:middle].encode(), text[middle:].encode()):
            read = self._tokeniser(half)
            if self.join(read) != half:
                read = self._in_halves(half) if len(half.decode()) > 1 else self._byte_by_byte(half)
            ids += read
        return ids

    def _byte_by_byte(self, span: bytes) -> list[int]:
        ids = []
        for byte in span:
            same = self.ids_of(bytes([byte]))
            if not same:
                raise Unspellable(
                    f"the vocabulary has no token for the byte 0x{byte:02X}, so it cannot spell {span[:20]!r}",
                    hint="leave this member out for texts with such characters",
                )
            ids.append(same[0])
        return ids


class GrowingVocab:
    """The vocabulary of a model behind a server: it knows only the ids that it was shown. END is id 0."""

    digest = ""

    def __init__(self, tokenise: Tokeniser | None = None) -> None:
        self._pieces: list[bytes] = [END]
        self._ids: dict[bytes, int] = {END: 0}
        self._tokeniser = tokenise

    @property
    def size(self) -> int:
        return len(self._pieces)

    @property
    def end_ids(self) -> tuple[int, ...]:
        return (0,)

    def add(self, piece: bytes) -> int:
        """The id of these bytes, a new one if they were not shown before."""
        known = self._ids.setdefault(piece, len(self._pieces))
        if known == len(self._pieces):
            self._pieces.append(piece)
        return known

    def bytes_of(self, token_id: int) -> bytes:
        """The bytes of an id that was shown."""
        return self._pieces[token_id]

    def ids_of(self, piece: bytes) -> tuple[int, ...]:
        """The id of these bytes, or none: then the model may still have such a token."""
        known = self._ids.get(piece)
        return () if known is None else (known,)

    def tokenise(self, text: bytes) -> list[int]:
        """The model's own reading, where the server tells it."""
        if self._tokeniser is None:
            raise BackendError("this server does not tokenise, so the member's own reading is not known")
        return self._tokeniser(text)


def utf8_spans(text: bytes) -> Iterator[tuple[bytes, bool]]:
    """The longest spans of valid UTF-8, and what stands between them, each with whether it is valid.

    >>> list(utf8_spans(b"a\\xf0\\x9f b"))
    [(b'a', True), (b'\\xf0\\x9f', False), (b' b', True)]
    """
    while text:
        try:
            text.decode()
        except UnicodeDecodeError as error:
            if error.start:
                yield text[: error.start], True
            yield text[error.start : error.end], False
            text = text[error.end :]
        else:
            yield text, True
            return


def _successor(piece: bytes) -> bytes | None:
    """The lowest bytes above everything that begins with the piece; None where there are none."""
    shortened = piece.rstrip(b"\xff")
    return shortened[:-1] + bytes([shortened[-1] + 1]) if shortened else None
