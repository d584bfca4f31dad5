"""Which positions of a draft another tokenizer can speak about."""

from __future__ import annotations

import pytest

from septet.parts.decoding.boundary import eligible, ends_of_tokens, last_safe
from septet.testing.scripted import vocabulary

SINGLES = [bytes([b]) for b in range(32, 127)]


def test_k16_the_middle_of_the_verifier_s_token_is_not_eligible() -> None:
    vocab = vocabulary([b" Sofia", b" So", b"fia", *SINGLES])
    assert eligible(vocab, b"", [b" So", b"fia"]) == [0, 2]


def test_a_draft_in_the_verifier_s_own_tokens_is_eligible_everywhere() -> None:
    vocab = vocabulary([b" So", b"fia", *SINGLES])
    assert eligible(vocab, b"", [b" So", b"fia", b"."]) == [0, 1, 2, 3]


def test_the_end_of_the_answer_is_not_eligible_where_the_draft_goes_on_with_its_last_token() -> None:
    # the answer is "in So"; read with the draft, " Sofia" is one token that spans position 0
    vocab = vocabulary([b" Sofia", b" So", b"fia", b" is", b"in", *SINGLES])
    assert eligible(vocab, b"in So", [b"fia", b" is"]) == [1, 2]


def test_a_token_of_the_draft_that_is_several_of_the_verifier_s_keeps_both_ends() -> None:
    vocab = vocabulary([b" cat", b"s", *SINGLES])
    assert eligible(vocab, b"two", [b" cats", b" sat"]) == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "limit", "place"),
    [
        (b"one two three", 13, 7),  # before " three"
        (b"one two three", 7, 7),
        (b"one two three", 6, 3),
        (b"a  b", 4, 1),  # a run of spaces may be one token, so only before it
        (b"<b> c", 5, 0),  # one vocabulary holds "> </"
        (b"abc ", 3, 3),
        (b"", 0, 0),
    ],
)
def test_a_safe_place_stands_before_the_space_of_a_word(text: bytes, limit: int, place: int) -> None:
    assert last_safe(text, limit) == place


def test_only_what_follows_the_safe_place_is_read() -> None:
    vocab = vocabulary([b" two", b" three", *SINGLES])
    assert ends_of_tokens(vocab, b"one two three", 3) == {3, 7, 13}
