"""How servers spell tokens, read as bytes: the tokens always spell the text."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from septet.backends._openai_flavours import FLAVOURS
from septet.backends._openai_http import EventLines
from septet.backends._openai_session import completions_of, prompt_of
from septet.backends._openai_tokens import Entry, entry_of, spelling

NAN = math.nan


@pytest.mark.parametrize(
    ("text", "entries", "texts", "logp"),
    [
        # what every good server does
        (b"ab c", [Entry(b"ab", -1), Entry(b" c", -2)], (b"ab", b" c"), [-1, -2]),
        # an END that is listed is no part of the text
        (b"ab", [Entry(b"ab", -1), Entry(b"", -2)], (b"ab",), [-1]),
        # two tokens of unknown bytes stand for what is between the known ones
        (b"a\xc3\xa9b", [Entry(b"a", -1), Entry(None, -2), Entry(None, -3), Entry(b"b", -4)],
         (b"a", b"\xc3\xa9", b"b"), [-1, -5, -4]),
        # llama-server leaves out the tokens that begin a character
        (b" \xf0\x9f\x98\x80", [Entry(b"\x80", -1)], (b" \xf0\x9f\x98", b"\x80"), [NAN, -1]),
        # the end of the text cuts a token short, which keeps its logp
        (b"One.", [Entry(b"One", -1), Entry(b".\n", -2), Entry(b"x", -3)], (b"One", b"."), [-1, -2]),
        # a string that was put back has no token
        (b"One.", [Entry(b"One", -1)], (b"One", b"."), [-1, NAN]),
        # no tokens at all
        (b"One", [], (b"One",), [NAN]),
        (b"", [Entry(b"", -1)], (), []),
        # a special token that is not in the text
        (b"hi", [Entry(b"<think>", -1), Entry(b"hi", -2)], (b"hi",), [-2]),
        # END stays impossible, never NaN
        (b"x", [Entry(None, -math.inf)], (b"x",), [-math.inf]),
    ],
)  # fmt: skip
def test_entries_become_the_tokens_of_the_text(
    text: bytes, entries: list[Entry], texts: tuple[bytes, ...], logp: list[float]
) -> None:
    found = spelling(text, entries)
    assert found.texts == texts
    np.testing.assert_array_equal(found.logp, logp)


@given(st.binary(max_size=12), st.lists(st.one_of(st.none(), st.binary(max_size=4)), max_size=6))
def test_whatever_a_server_lists_the_tokens_spell_the_text(text: bytes, pieces: list[bytes | None]) -> None:
    found = spelling(text, [Entry(piece, -1.0) for piece in pieces])
    assert b"".join(found.texts) == text and all(found.texts) and len(found.logp) == len(found.texts)


def test_merged_characters_of_llama_server_have_no_known_log_probability() -> None:
    # the last token of 💡 alone is b"\xa1"; the server lists it with the whole character's bytes
    item = {
        "id": 111,
        "token": "💡",
        "bytes": [240, 159, 146, 161],
        "logprob": -2.5,
        "top_logprobs": [{"id": 111, "token": "\ufffd", "bytes": [161], "logprob": -2.5}],
    }
    entry = entry_of(item, FLAVOURS["llama-server"])
    assert entry.piece == "💡".encode() and math.isnan(entry.logp)
    assert entry.top == ((b"\xa1", -2.5),)


def test_the_spelling_of_an_end_is_text_where_ends_are_not_spelled() -> None:
    item = {"token": "<|im_end|>", "bytes": list(b"<|im_end|>"), "logprob": -1.0}
    assert entry_of(item, FLAVOURS["vllm"]).piece == b""
    assert entry_of(item, FLAVOURS["generic"]).piece == b"<|im_end|>"


def test_half_a_character_becomes_ids_longest_first() -> None:
    ids = {b"\xf0": 1, b"\x9f": 2, b"\xf0\x9f": 3, b"\x98": 4}
    assert prompt_of("Q", b"ab", {}) == "Qab"
    assert prompt_of("Q", b"a\xf0\x9f\x98", ids) == ["Qa", 3, 4]
    assert prompt_of("Q", b"a\xf0\x9f\x99", ids) is None


def test_every_beginning_of_a_character_has_one_that_completes_it() -> None:
    for character in "éࠀ中퟿😀􏿿":
        whole = character.encode()
        for n in range(1, len(whole)):
            found = completions_of(whole[:n])
            assert found and all(c.encode().startswith(whole[:n]) and len(c) == 1 for c in found)
    assert completions_of(b"\xff") == completions_of(b"\x80") == []


@given(
    st.lists(st.text(max_size=8).map(lambda t: t.replace("\r", "").replace("\n", "")), max_size=5), st.data()
)
def test_events_are_the_same_however_their_bytes_are_cut(data: list[str], draw: st.DataObject) -> None:
    ends = draw.draw(st.sampled_from([b"\n", b"\r\n"]))
    text = b"".join(b"data: " + d.encode() + ends + b": note" + ends + ends for d in data)
    lines, found = EventLines(), list[bytes]()
    while text:
        n = draw.draw(st.integers(1, len(text)))
        found += lines.feed(text[:n])
        text = text[n:]
    found += lines.end()
    assert found == [d.encode() for d in data if d] and lines.ended
