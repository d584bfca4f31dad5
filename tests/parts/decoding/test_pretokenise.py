"""Words and white space: what a tokenizer with GPT-2's split, and one with entries that are cut out, can write."""

from __future__ import annotations

import re

import numpy as np
import pytest

from byte_toys import read
from septet.core.errors import ConfigError
from septet.parts.decoding.pretokenise import Lattice, Reading, code_points, lattice_of
from septet.parts.decoding.vocabulary import PackedVocab

MERGES = [
    (b"\n", b"\n"),
    (b" ", b" "),
    (b"t", b"h"),
    (b"th", b"e"),
    (b" ", b"the"),
    (b"'", b"s"),
    (b"s", b"u"),
    (b" ", b"'"),
    (b"\xc3", b"\xa9"),
    (b"-", b"'"),
    (b"s", b"s"),
]
WORD = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+|\d")


def words(text: str) -> list[str]:
    """GPT-2's split with digits apart: digits are cut out first, and a run of blanks ends at them."""
    return [w for part in re.split(r"(\d)", text) for w in WORD.findall(part)]


def tokenizer() -> tuple[PackedVocab, Lattice]:
    alphabet = [bytes([b]) for b in (*b"\n\t", *range(0x20, 0x7F), *b"\xc3\xa9\xe2\x80\x9c\x83")]
    pieces = [b"", *sorted({*alphabet, *(a + b for a, b in MERGES)})]
    ids = {p: i for i, p in enumerate(pieces)}

    def tokenise(text: bytes) -> list[int]:
        return [ids[p] for w in words(text.decode()) for p in read(w.encode(), MERGES)]

    vocab = PackedVocab.of(pieces, end_ids=[0], tokenise=tokenise)
    return vocab, lattice_of(vocab, Reading("gpt2-digits", MERGES))


VOCAB, LATTICE = tokenizer()
PLACE = {int(i): j for j, i in enumerate(LATTICE.order.ids)}


def allowed(*pieces: bytes) -> bool:
    """Whether the last of some tokens may follow the others."""
    grammar = LATTICE.grammar
    assert grammar is not None
    state = grammar.start()
    for piece in pieces[:-1]:
        state = grammar.step(state, PLACE[VOCAB.ids_of(piece)[0]])
    if pieces[-1] == b"":
        return grammar.may_end(state)
    return bool(grammar.allowed(state)[PLACE[VOCAB.ids_of(pieces[-1])[0]]])


@pytest.mark.parametrize(
    ("pieces", "possible"),
    [
        ((b"x", b"\n\n", b"\n"), True),  # "\n\n\n" before a letter is "\n\n" and "\n"
        ((b"x", b"\n\n", b"x"), False),  # before a letter the last blank stands apart
        ((b"x", b"\n\n", b"1"), True),  # before a digit it does not
        ((b"x", b"\n\n", b""), True),  # nor at the end
        ((b"x", b"\n", b"\n"), True),
        ((b"x", b"\n", b"\n", b"x"), True),
        ((b"x", b"\n", b"\n", b"1"), False),  # then it would have been "\n\n"
        ((b"x", b"\n", b"\n", b""), False),
        ((b"x", b"\n", b"\n", b"\n"), False),
        ((b" ", b"the"), False),  # " the" is one token
        ((b" ", b"x"), True),  # " x" is one word and two tokens
        ((b"  ", b"x"), False),
        ((b"  ", b" the"), True),
        ((b" ", b"1"), True),
        ((b"1", b"2"), True),
        ((b"x", b"'", b"s"), False),  # a contraction
        ((b"x", b"'s"), True),
        ((b"x", b"'s", b"su"), True),  # "'ssu": the contraction ends the word
        ((b"x", b"'", b"su"), False),  # "'su" is "'s" and "u"
        ((b"!", b"'", b"su"), True),  # "!'" is a word of marks, so no contraction begins
        ((b" '", b"su"), True),
        ((b"\xc3", b"\xa9"), False),  # é is one token
        ((b"x", b"\xa9"), False),
        ((b"\xe2", b""), False),  # a character is not complete
        ((b"\xe2", b"\x80", b"\x9c"), True),
    ],
)
def test_what_may_follow_in_gpt2_s_split(pieces: tuple[bytes, ...], possible: bool) -> None:
    assert allowed(*pieces) is possible


TEXTS = [
    "it's the 'the' x'S '' 's !'su",
    "the\n\nthe \n the\n\n\n  x\t\tx",
    "x  12 \n\n1 the1",
    "é the “é \u2003x \u2003\u2003",
    "the   ",
    "\n\n",
]


@pytest.mark.parametrize("text", TEXTS)
def test_every_reading_of_the_tokenizer_is_allowed(text: str) -> None:
    pieces = [VOCAB.bytes_of(i) for i in VOCAB.tokenise(text.encode())]
    for n in range(1, len(pieces) + 1):
        assert allowed(*pieces[:n]), pieces[:n]
    assert allowed(*pieces, b"")


def test_what_is_allowed_inside_words_is_what_the_tokenizer_reads() -> None:
    # over all pairs of whole characters: some text behind the two must make the tokenizer write them
    pieces = [LATTICE.order.bytes_at(j) for j in range(len(LATTICE.order))]
    whole = [p for p in pieces if code_points(p[:1]) != (0, 0) and _is_text(p)]
    for left in whole:
        for right in whole:
            texts = [(left + right).decode() + end for end in ("", "x", "!", "1", "\n")]
            readings = [VOCAB.tokenise(t.encode())[:2] for t in texts]
            expected = [*VOCAB.ids_of(left), *VOCAB.ids_of(right)] in readings
            assert allowed(left, right) is expected, (left, right)


def _is_text(piece: bytes) -> bool:
    try:
        piece.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_a_tokenizer_with_another_split_is_refused_with_the_text_that_shows_it() -> None:
    ids = {VOCAB.bytes_of(i): i for i in range(1, VOCAB.size)}
    pieces = [VOCAB.bytes_of(i) for i in range(VOCAB.size)]
    whole = PackedVocab.of(pieces, end_ids=[0], tokenise=lambda text: [ids[p] for p in read(text, MERGES)])
    with pytest.raises(ConfigError, match=r"cuts .* into .* use variant"):
        lattice_of(whole, Reading("gpt2-digits", MERGES))


def test_a_tokenizer_whose_reading_is_not_known_has_no_grammar() -> None:
    assert lattice_of(VOCAB, None).grammar is None


def pieces_tokenizer() -> tuple[PackedVocab, Lattice]:
    """SentencePiece with scores: runs of blanks cut out, and two bytes for é, which is no entry."""
    pieces = [
        b"",
        b"a",
        b"b",
        b" ",
        b"ab",
        b" a",
        b"  ",
        b"   ",
        b"\n",
        b"\n\n",
        b"\xc3",
        b"\xa9",
        b"A",
        b"A",
    ]
    scores = np.array([0, -1, -1, -1, 5, 4, 0, 0, 0, 0, 0, 0, 0, -1], dtype=np.float32)
    normal = np.array([i not in (10, 11, 12) for i in range(len(pieces))])
    vocab = PackedVocab.of(pieces, end_ids=[0], normal=normal, tokenise=lambda text: [])
    return vocab, lattice_of(vocab, Reading(scores=scores, whole=(6, 7, 8, 9), single=(10, 11, 12)))


@pytest.mark.parametrize(
    ("ids", "possible"),
    [
        ((1, 2), False),  # a b is ab
        ((3, 1), False),  # " a" is one entry
        ((3, 4), True),  # " ab": ab is joined first, and " " + "ab" is no entry
        ((3, 3), False),  # two blanks are cut out as one
        ((6, 3), False),
        ((7, 3), True),  # the longest run is full
        ((6, 5), False),
        ((7, 5), True),
        ((8, 8), False),
        ((8, 6), True),
        ((10, 11), True),  # é by its bytes
        ((10, 1), False),
        ((10, 0), False),
        ((10, 11, 1), True),
        ((1, 12), False),  # A is an entry, so its byte is never written
        ((1, 13), True),
        ((1, 11), False),  # no character begins with this byte
    ],
)
def test_what_may_follow_with_scores_and_byte_entries(ids: tuple[int, ...], possible: bool) -> None:
    _, made = pieces_tokenizer()
    grammar = made.grammar
    assert grammar is not None
    place = {int(i): j for j, i in enumerate(made.order.ids)}
    state = grammar.start()
    for i in ids[:-1]:
        state = grammar.step(state, place[i])
    last = ids[-1]
    assert (grammar.may_end(state) if last == 0 else bool(grammar.allowed(state)[place[last]])) is possible


def test_code_points_of_the_beginning_of_a_character() -> None:
    assert code_points(b"\xf0\x9f\x98") == (0x1F600, 0x1F640)
    assert code_points(b"\xe0") == (0x800, 0x1000)  # shorter ones would be written with two bytes
    assert code_points(b"\xf4") == (0x100000, 0x110000)
    assert code_points(b"\xc0") == code_points(b"\xe2\x41") == code_points(b"\xff") == (0, 0)
