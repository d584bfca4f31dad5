"""Which tokens a tokenizer can write after which, words and white space included: grammars of real tokenizers.

Merges (`pair_validity`) settle what happens inside a word. Around it stand the rules that cut a text into words, and
they look ahead: a run of blanks gives its last one to the next word, so that "\\n\\n" is one token at the end of a
text and two before a letter. A state therefore says what the last token leaves open. What a grammar allows is never
less than what the tokenizer can write; where a character is not complete yet it may be more, and the readings that
turn out to be impossible end there.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import ConfigError
from septet.parts.decoding.next_bytes import ByteOrder, Mask
from septet.parts.decoding.pair_validity import Merges, from_pairs, from_scores
from septet.parts.decoding.vocabulary import PackedVocab

Split = Literal["none", "gpt2", "gpt2-digits"]
"""How a text is cut into words: not at all; by GPT-2's pattern; the same after every digit was set apart."""

LETTER, NUMBER, MARK, BLANK = 1, 2, 4, 8
"""Classes of characters, as bits: MARK is what is none of the others."""

CONTRACTIONS = (b"'s", b"'t", b"'re", b"'ve", b"'m", b"'ll", b"'d")

_BLANKS = frozenset(
    [*range(9, 14), 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000]
)

_CACHED = 256
"""States whose masks are kept: a mask of 262,144 entries takes a quarter of a megabyte."""


@dataclass(frozen=True)
class Reading:
    """How a tokenizer makes tokens of a text, as its files say.

    `merges`: pairs, best first, with any bytes as single symbols. Else `scores` (V,): any two neighbours whose
    join is an entry, the highest first, between characters; `whole` ids are cut out of the text before, and
    `single` ids spell the bytes of characters that are no entry.
    """

    split: Split = "none"
    merges: Sequence[tuple[bytes, bytes]] | None = None
    scores: NDArray[np.float32] | None = None
    whole: tuple[int, ...] = ()
    single: tuple[int, ...] = ()


@dataclass(frozen=True)
class KnownReading:
    """A reading that is read when it is asked for; `key` names it by its contents."""

    key: str
    read: Callable[[], Reading]


ByteState = tuple[int, str | int | bytes]
"""(place of the last token, what it leaves open): "" nothing; "split": the words were cut before this blank, so a
letter or a mark has to come; "'": this apostrophe begins a word, and may begin a contraction; bytes: the beginning
of a character; a number: the class of a character that this token completed."""


@dataclass(frozen=True, eq=False)
class ByteGrammar:
    """Byte-level BPE with a split into words.

    (n,) facts by place: `first` and `last` possible classes of the first and last character, `second` of what
    follows a leading space (0: there is none), `blank` how many characters, where all are blank; `begins`: it
    begins inside a character; `tail`: how many of its last bytes begin one; `contraction`: it is one;
    `contracted`: 1 where it is one without the apostrophe, 2 where it begins like that.
    `packed`: the last three bytes of each, (n, 3).
    """

    merges: Merges
    split: Split
    first: NDArray[np.uint8]
    second: NDArray[np.uint8]
    last: NDArray[np.uint8]
    blank: NDArray[np.int32]
    begins: Mask
    tail: NDArray[np.uint8]
    contraction: Mask
    contracted: NDArray[np.uint8]
    packed: NDArray[np.uint8]
    apostrophe: int
    space: int

    @cached_property
    def _masks(self) -> Callable[[Any], Mask]:
        return lru_cache(_CACHED)(self._allowed)

    @cached_property
    def _joined(self) -> Callable[[int], Mask]:
        return lru_cache(_CACHED)(self.merges.following)

    def start(self) -> ByteState:
        """Before the first token."""
        return -1, ""

    def step(self, state: ByteState, place: int) -> ByteState:
        """After one more token."""
        if self.split == "none":
            return place, ""
        before, left = state
        if tail := int(self.tail[place]):
            begun = self.packed[place, 3 - tail :].tobytes()
            if self.begins[place] and isinstance(left, bytes):
                begun = left + begun
                if _complete(begun):
                    return place, _class_of(*code_points(begun))
            return place, begun
        if self.blank[place] == 1 and before >= 0 and self.blank[before] and not self._joined(before)[place]:
            return place, "split"
        if place == self.apostrophe and (before < 0 or self._last(state) != MARK):
            return place, "'"
        return place, ""

    def allowed(self, state: ByteState) -> Mask:
        """(n,) the tokens that may follow."""
        return self._masks(state)

    def may_end(self, state: ByteState) -> bool:
        """Not inside a character, and not where a letter has to come."""
        return state[1] != "split" and not isinstance(state[1], bytes)

    def _last(self, state: ByteState) -> int:
        return state[1] if isinstance(state[1], int) else int(self.last[state[0]])

    def _allowed(self, state: ByteState) -> Mask:
        place, left_open = state
        whole = self.merges.reached & ~self.begins
        if self.split == "none":
            return self.merges.reached if place < 0 else self._joined(place)
        if place < 0:
            return whole
        joined = self._joined(place)
        if isinstance(left_open, bytes):
            return joined & self.begins
        return whole & self._across(state, joined)

    def _across(self, state: ByteState, joined: Mask) -> Mask:
        """(n,) whether a word may begin with, or go on into, each token behind this one."""
        place, left_open = state
        # a token that begins with a space and goes on begins a word, wherever it stands
        letter, number, mark = (self.first & bit != 0 for bit in (LETTER, NUMBER, MARK))
        lone, run = self.blank == 1, self.blank > 1
        unsure = (self.first & BLANK != 0) & (self.blank == 0) & (self.tail > 0)
        word = self.second != 0
        letter, number, mark = letter & ~word, number & ~word, mark & ~word
        apart = self.split == "gpt2-digits"
        last = self._last(state)
        found: Mask = lone | run | word
        if last == BLANK and self.blank[place]:
            if self.blank[place] > 1:  # its last blank would belong to the letter
                near = np.zeros_like(joined)
            else:  # a space is glued to the word, so that "'s" is none there; any other blank stands alone
                near = joined & ~self.contraction if place == self.space else np.ones_like(joined)
            close: Mask = (letter | mark | (number & (not apart))) & near
            if left_open == "split":
                return close
            found = close | (number & apart) | lone | (run & joined) | word | unsure
        elif last == LETTER:
            found = found | number | mark | (letter if self.contraction[place] else letter & joined)
        elif last == NUMBER:
            found = found | letter | mark | (number if apart else number & joined)
        else:
            if left_open == "'":  # "'s", but not "'run"
                letter = letter & ((self.contracted == 0) | (joined & (self.contracted == 1)))
            found = found | letter | number | (mark & joined & ~self.contraction)
        return found


@dataclass(frozen=True, eq=False)
class PieceGrammar:
    """SentencePiece's BPE with byte fallback, and entries that are cut out of the text first.

    A state is (place of the last token, the bytes of an unfinished character). (n,) facts by place: `whole`
    the entries that are cut out, `run` the byte that such an entry repeats (−1: none), `longest`: none repeats
    it more often; `front` and `back` first and last byte, `single` the byte of a byte entry (−1: none).
    `absent` (0x110000,): the characters that are no entries, which byte entries spell.
    """

    merges: Merges
    whole: Mask
    run: NDArray[np.int16]
    longest: Mask
    front: NDArray[np.int16]
    back: NDArray[np.int16]
    single: NDArray[np.int16]
    absent: Mask

    @cached_property
    def _masks(self) -> Callable[[Any], Mask]:
        return lru_cache(_CACHED)(self._allowed)

    @cached_property
    def _fitting(self) -> Callable[[bytes], Mask]:
        return lru_cache(_CACHED)(self._fits)

    def _fits(self, begun: bytes) -> Mask:
        """(256,) the bytes with which a character that is no entry goes on."""
        ranges = [code_points(begun + bytes([byte])) for byte in range(256)]
        return np.array([self.absent[low:high].any() for low, high in ranges], dtype=np.bool_)

    def start(self) -> tuple[int, bytes]:
        """Before the first token."""
        return -1, b""

    def step(self, state: tuple[int, bytes], place: int) -> tuple[int, bytes]:
        """After one more token."""
        byte = int(self.single[place])
        if byte < 0:
            return place, b""
        begun = state[1] + bytes([byte])
        return place, b"" if _complete(begun) else begun

    def allowed(self, state: tuple[int, bytes]) -> Mask:
        """(n,) the tokens that may follow."""
        return self._masks(state)

    def may_end(self, state: tuple[int, bytes]) -> bool:
        """Not inside a character."""
        return not state[1]

    def _allowed(self, state: tuple[int, bytes]) -> Mask:
        place, begun = state
        spelling = (self.single >= 0) & self._fitting(begun)[np.maximum(self.single, 0)]
        if begun:
            return spelling
        inside = place >= 0 and self.single[place] < 0 and not self.whole[place]
        normal = self.merges.following(place) if inside else self.merges.reached
        found = normal | self.whole | spelling
        if place < 0:
            return found
        back = int(self.back[place])
        if (self.run == back).any() and not (self.longest[place] and self.run[place] == back):
            # two neighbours of a run would have been cut out as one longer entry
            found &= self.front != back
        return found


@dataclass(frozen=True, eq=False)
class Lattice:
    """What a member's byte distributions are made with: its vocabulary in byte order, and its grammar; both
    grammars None: how it makes its tokens is not known."""

    order: ByteOrder
    by_bytes: ByteGrammar | None = None
    by_pieces: PieceGrammar | None = None

    @property
    def grammar(self) -> ByteGrammar | PieceGrammar | None:
        """The member's grammar."""
        return self.by_bytes or self.by_pieces


def lattice_of(vocab: PackedVocab, reading: Reading | None) -> Lattice:
    """The lattice of a vocabulary; without a grammar where its reading is not known."""
    order = ByteOrder.of(vocab)
    if reading is None:
        return Lattice(order)
    if reading.merges is not None:
        return Lattice(order, by_bytes=_byte_grammar(order, vocab, reading))
    if reading.scores is not None:
        return Lattice(order, by_pieces=_piece_grammar(order, vocab, reading))
    raise ConfigError("a reading has either merges or scores; this one has neither")


def _byte_grammar(order: ByteOrder, vocab: PackedVocab, reading: Reading) -> ByteGrammar:
    pieces = [order.bytes_at(place) for place in range(len(order))]
    places: dict[bytes, int] = {}
    for place, piece in enumerate(pieces):
        places.setdefault(piece, place)
    single = np.array([len(p) == 1 and places[p] == j for j, p in enumerate(pieces)], dtype=np.bool_)
    rules = from_pairs(reading.merges or (), places)
    merges = Merges.of(single, [len(p) for p in pieces], rules)
    if reading.split != "none":
        _check_split(reading.split, vocab)
        merges.reached[:] &= [_alone(vocab, piece, i) for piece, i in zip(pieces, order.ids, strict=True)]
    spans = [_classes(piece) for piece in pieces]
    return ByteGrammar(
        merges,
        reading.split,
        np.array([s[0] for s in spans], dtype=np.uint8),
        np.array([s[1] for s in spans], dtype=np.uint8),
        np.array([s[2] for s in spans], dtype=np.uint8),
        np.array([s[3] for s in spans], dtype=np.int32),
        np.array([0x80 <= p[0] < 0xC0 for p in pieces], dtype=np.bool_),
        np.array([_tail(p) for p in pieces], dtype=np.uint8),
        np.array([p in CONTRACTIONS for p in pieces], dtype=np.bool_),
        np.array([_contracted(p) for p in pieces], dtype=np.uint8),
        np.frombuffer(b"".join(p[-3:].rjust(3, b"\0") for p in pieces), dtype=np.uint8).reshape(-1, 3),
        places.get(b"'", -2),
        places.get(b" ", -2),
    )


def _piece_grammar(order: ByteOrder, vocab: PackedVocab, reading: Reading) -> PieceGrammar:
    assert reading.scores is not None
    pieces = [order.bytes_at(place) for place in range(len(order))]
    whole = np.isin(order.ids, reading.whole)
    spelling = np.isin(order.ids, reading.single)
    places = {p: j for j, p in enumerate(pieces) if not (whole[j] or spelling[j])}
    scores = {p: float(reading.scores[order.ids[j]]) for p, j in places.items()}
    characters = np.zeros(len(order), dtype=np.bool_)
    absent = np.ones(0x110000, dtype=np.bool_)
    absent[0xD800:0xE000] = False
    for piece, place in places.items():
        if _complete(piece):
            characters[place] = True
            absent[ord(piece.decode())] = False
    for place in np.flatnonzero(whole).tolist():
        if _complete(pieces[place]):
            absent[ord(pieces[place].decode())] = False
    merges = Merges.of(characters, [len(p) for p in pieces], from_scores(scores, places))
    cut_out = [pieces[j] for j in np.flatnonzero(whole).tolist()]
    if cut_out:
        found = re.compile(b"|".join(map(re.escape, cut_out))).search
        merges.reached[:] &= [found(piece) is None for piece in pieces]
    run = np.full(len(order), -1, dtype=np.int16)
    for place in np.flatnonzero(whole).tolist():
        if len(set(pieces[place])) == 1 and pieces[place][:1] * 2 in cut_out:
            run[place] = pieces[place][0]
    longest = np.zeros(len(order), dtype=np.bool_)
    for byte in set(run.tolist()) - {-1}:
        longest[max(np.flatnonzero(run == byte).tolist(), key=lambda j: len(pieces[j]))] = True
    return PieceGrammar(
        merges,
        whole,
        run,
        longest,
        np.array([p[0] for p in pieces], dtype=np.int16),
        np.array([p[-1] for p in pieces], dtype=np.int16),
        np.array([p[0] if s else -1 for p, s in zip(pieces, spelling, strict=True)], dtype=np.int16),
        absent,
    )


def _alone(vocab: PackedVocab, piece: bytes, token: int) -> bool:
    """Whether the tokenizer reads a token's bytes as that token; true where they are no whole characters, which
    it cannot be asked."""
    try:
        piece.decode()
    except UnicodeDecodeError:
        return True
    return vocab.tokenise(piece) == [int(token)]


PROBES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("it's we'll 'tis x'S", ("it", "'s", " we", "'ll", " '", "tis", " x", "'", "S")),
    ("a\n\nb \n c", ("a", "\n", "\n", "b", " \n", " c")),
    ("a  b   ", ("a", " ", " b", "   ")),
    ("x?! y--'z", ("x", "?!", " y", "--'", "z")),
    ("tab\t\tx", ("tab", "\t", "\t", "x")),
)
"""Texts and the words that GPT-2's pattern cuts them into."""


def _check_split(split: Split, vocab: PackedVocab) -> None:
    """Probes the real tokenizer: no token may cross a border between words."""
    digits = ("a12 3", ("a", "1", "2", " ", "3")) if split == "gpt2-digits" else ("a12 3", ("a", "12", " 3"))
    for text, words in (*PROBES, digits):
        read = vocab.tokenise(text.encode())
        if read != [i for word in words for i in vocab.tokenise(word.encode())]:
            raise ConfigError(
                f"this tokenizer cuts {text!r} into {[vocab.bytes_of(i) for i in read]}, which the split {split!r}"
                ' does not; use variant = "full" for this member'
            )


def _contracted(piece: bytes) -> int:
    ends = tuple(c[1:] for c in CONTRACTIONS)
    return 1 if piece in ends else 2 if piece.startswith(ends) else 0


def _classes(piece: bytes) -> tuple[int, int, int, int]:
    """The classes of the first character, of the one behind a leading space, and of the last one; how many
    characters there are, where all are blank."""
    characters = _characters(piece)
    kinds = [_class_of(*code_points(c)) for c in characters]
    blank = len(kinds) if all(k == BLANK for k in kinds) else 0
    leads = piece[:1] == b" " and not blank and len(kinds) > 1
    return kinds[0], kinds[1] if leads else 0, kinds[-1], blank


def _characters(piece: bytes) -> list[bytes]:
    """The characters of some bytes; an unfinished one counts."""
    cuts = [i for i, byte in enumerate(piece) if i == 0 or byte & 0xC0 != 0x80] + [len(piece)]
    return [piece[a:b] for a, b in pairwise(cuts)]


def _class_of(low: int, high: int) -> int:
    """All classes among some code points, as bits; all of them for what is no beginning of a character."""
    if high - low == 1:
        return _class_at(low)
    return int(np.bitwise_or.reduce(_table()[low:high])) if high > low else LETTER | NUMBER | MARK | BLANK


def _class_at(point: int) -> int:
    if point in _BLANKS:
        return BLANK
    return {"L": LETTER, "N": NUMBER}.get(unicodedata.category(chr(point))[0], MARK)


@lru_cache(1)
def _table() -> NDArray[np.uint8]:
    """(0x110000,) the class of every code point."""
    return np.fromiter(map(_class_at, range(0x110000)), dtype=np.uint8, count=0x110000)


def code_points(begun: bytes) -> tuple[int, int]:
    """The code points [low, high) whose UTF-8 begins with these bytes; (0, 0) for none.

    >>> code_points(b"A"), [hex(p) for p in code_points(b"\\xe2\\x80")]
    ((65, 66), ['0x2000', '0x2040'])
    """
    lead = begun[0]
    size = (
        1
        if lead < 0x80
        else 2
        if 0xC2 <= lead < 0xE0
        else 3
        if 0xE0 <= lead < 0xF0
        else 4
        if 0xF0 <= lead < 0xF5
        else 0
    )
    if not size or len(begun) > size or any(byte & 0xC0 != 0x80 for byte in begun[1:]):
        return 0, 0
    bits = lead if size == 1 else lead & (0x7F >> size)
    for byte in begun[1:]:
        bits = bits << 6 | byte & 0x3F
    missing = 6 * (size - len(begun))
    least = (0, 0, 0x80, 0x800, 0x10000)[size]
    low, high = max(bits << missing, least), min((bits + 1) << missing, 0x110000)
    return (low, high) if low < high else (0, 0)


def _complete(begun: bytes) -> bool:
    """Whether these bytes are one character."""
    low, high = code_points(begun)
    return high - low == 1


def _tail(piece: bytes) -> int:
    """How many of the last bytes begin a character without ending it, or go on with one that began before."""
    tail = _characters(piece)[-1]
    if tail[0] & 0xC0 == 0x80:
        return min(len(tail), 3)
    low, high = code_points(tail)
    return len(tail) if high - low > 1 else 0


__all__ = [
    "ByteGrammar",
    "KnownReading",
    "Lattice",
    "PieceGrammar",
    "Reading",
    "Split",
    "code_points",
    "lattice_of",
]
