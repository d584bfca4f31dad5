"""The nearest token: exact against a plain recursion, on strings that vocabularies are made of."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from septet.parts.decoding.edit_distance import Reference, distance, nearest, references
from septet.testing.scripted import vocabulary


@cache
def plain(a: str, b: str) -> int:
    """The edit distance by its definition."""
    if not a or not b:
        return len(a) + len(b)
    return min(
        plain(a[1:], b[1:]) + (a[0] != b[0]),
        plain(a[1:], b) + 1,
        plain(a, b[1:]) + 1,
    )


@pytest.mark.parametrize(
    ("a", "b", "edits"),
    [
        ("kitten", "sitting", 3),
        (" cats", " cat", 1),
        ("flaw", "lawn", 2),
        ("", "abc", 3),
        ("né", "ne", 1),  # one letter, though two bytes
        ("日本", "日中", 1),
    ],
)
def test_distances_by_hand(a: str, b: str, edits: int) -> None:
    assert distance(a.encode(), b.encode()) == distance(b.encode(), a.encode()) == edits


def test_a_byte_that_is_part_of_no_character_is_one_of_its_own() -> None:
    assert distance(b"\xe6\x97", b"\xe6") == 1
    assert distance("日".encode(), b"\xe6\x97") == 2  # one takes the character's place, the other comes in


def test_a_string_that_is_a_target_is_its_own_nearest() -> None:
    assert nearest([b"b", b"a"], [b"a", b"ab", b"b"]).tolist() == [2, 0]


def test_a_string_that_shares_no_letter_with_any_target_has_no_nearest() -> None:
    assert nearest(["猫".encode(), b" x"], [b"a", b"\n\n", b"dog"]).tolist() == [-1, -1]


def test_of_equally_near_targets_what_the_string_begins_with_comes_first_then_its_end_then_the_length() -> (
    None
):
    assert nearest([b"abc"], [b"abd", b"bc", b"ab"]).tolist() == [2]
    assert nearest([b"abc"], [b"abd", b"bc"]).tolist() == [1]
    assert nearest([b"abc"], [b"abcd", b"abd", b"abe"]).tolist() == [1]


@pytest.mark.parametrize("seed", range(6))
def test_it_finds_what_a_search_through_all_pairs_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    letters = list("aabbbc dé日")

    def strings(n: int, longest: int) -> list[str]:
        made = ["".join(rng.choice(letters, size=rng.integers(1, longest + 1))) for _ in range(n)]
        return list(dict.fromkeys(made))

    queries, targets = strings(120, 9), strings(90, 12)
    found = nearest([q.encode() for q in queries], [t.encode() for t in targets])
    for query, at in zip(queries, found.tolist(), strict=True):
        least = min(plain(query, target) for target in targets)
        if least >= len(query):
            assert at == -1
        else:
            assert plain(query, targets[at]) == least


def test_it_finds_the_same_however_many_pairs_are_looked_at_together(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    texts = sorted({bytes(rng.integers(97, 101, size=rng.integers(1, 8)).tolist()) for _ in range(300)})
    queries, targets = texts[::2], texts[1::2]
    whole = nearest(queries, targets)
    monkeypatch.setattr("septet.parts.decoding.edit_distance.PAIRS", 7)
    assert nearest(queries, targets).tolist() == whole.tolist()


def test_letters_that_occur_three_times_and_more_are_counted() -> None:
    # all but the first letter are equal; a count that stops at two would hold them for far apart
    assert nearest([b"xaaaaaaaa"], [b"yaaaaaaaa", b"xbbbbbbbb"]).tolist() == [0]


def test_rare_letters_that_share_a_bit_are_told_apart() -> None:
    many = [chr(0x4E00 + i) for i in range(200)]
    targets = [f"{a}{b}".encode() for a, b in pairwise(many)]
    query = f"{many[70]}{many[71]}x".encode()
    assert nearest([query], targets).tolist() == [70]


def test_more_than_255_uncounted_letters_are_counted() -> None:
    # of 400 letters a count that stops at two, and then at 255, would know too few
    query, near_, far = b"x" + b"a" * 400, b"y" + b"a" * 400, b"a" * 200
    assert nearest([query], [far, near_]).tolist() == [1]


def test_strings_of_more_than_255_letters_are_compared() -> None:
    long, longer = b"ab" * 150, b"ab" * 150 + b"cdc"
    assert distance(long, longer) == 3
    assert nearest([b"x" + long + b"x"], [b"y" + long + b"y", b"x"]).tolist() == [0]


def test_a_reference_maps_every_member_s_strings_to_its_own_nearest() -> None:
    # the members' strings in byte order: END, " cat", "s" and END, " cats", "!", "s"
    a, b = vocabulary([b"s", b" cat"]), vocabulary([b"!", b"s", b" cats"])
    of_a, of_b = references([a, b])
    assert list(of_b.table.strings) == [b"", b" cats", b"!", b"s"]
    assert of_a.partner.tolist() == [[0, 1, 2], [0, 1, 3]]
    assert of_b.partner.tolist() == [[0, 1, -1, 2], [0, 1, 2, 3]]
    logp = np.array([-3.0, -1.0, -2.0], dtype=np.float32)
    assert of_b.mapped(0, logp).tolist() == [-3.0, -1.0, -np.inf, -2.0]


def test_equal_vocabularies_are_mapped_one_to_one() -> None:
    reference: Reference = references([vocabulary([b"ab", b"ac"])] * 2)[0]
    assert reference.partner.tolist() == [[0, 1, 2], [0, 1, 2]]
