"""Stop strings across pieces."""

from __future__ import annotations

import pytest

from septet.parts.decoding.stopping import Stopping


def told(answer: Stopping, *pieces: bytes) -> Stopping:
    for piece in pieces:
        answer = answer.after(piece)
    return answer


def test_a_stop_string_across_three_pieces_ends_the_answer_before_it() -> None:
    got = told(Stopping(stop=(b"\nQuestion:",)), b"Yes.\n", b"Quest", b"ion: Why?")
    assert (got.passed, got.held, got.ended) == (b"Yes.", b"", "stop")


def test_an_until_string_stays_in_the_text() -> None:
    got = told(Stopping(until=(b"END",)), b"the E", b"ND of it")
    assert (got.passed, got.ended) == (b"the END", "until")


def test_what_only_looked_like_a_stop_string_is_passed_on() -> None:
    got = told(Stopping(stop=(b"\n\n",)), b"one\n")
    assert (got.passed, got.held) == (b"one", b"\n")
    assert told(got, b"two").passed == b"one\ntwo"


def test_at_the_end_what_was_held_back_belongs_to_the_answer() -> None:
    assert Stopping(stop=(b"\n\n",)).after(b"one\n").closed().passed == b"one\n"


@pytest.mark.parametrize(
    ("stop", "until", "passed", "ended"),
    [((b"bc",), (b"abcd",), b"a", "stop"), ((b"abcd",), (b"b",), b"ab", "until")],
)
def test_the_string_that_is_complete_first_ends_the_answer(
    stop: tuple[bytes, ...], until: tuple[bytes, ...], passed: bytes, ended: str
) -> None:
    got = Stopping(stop=stop, until=until).after(b"abcde")
    assert (got.passed, got.ended) == (passed, ended)
