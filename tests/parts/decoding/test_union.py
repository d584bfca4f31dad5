"""Union tables: every string once, END one string, and each id's mass where its bytes are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from full_views import A, B, vocabulary

from septet.core.state import pack, unpack
from septet.parts.decoding.union import Strings, UnionTable, union_key
from septet.parts.decoding.vocabulary import GrowingVocab


def logp(*p: float) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.array(p, dtype=np.float32))


def test_the_strings_of_two_vocabularies_stand_in_byte_order_once_with_end_first() -> None:
    table = UnionTable.of([A, B])
    assert list(table.strings) == [b"", b"\n", b" cat", b" cats", b" the", b"s"]
    assert [table.strings[j] for j in range(6)] == list(table.strings)
    assert table.strings[-1] == b"s"
    with pytest.raises(IndexError):
        table.strings[6]


def test_a_string_that_a_vocabulary_lacks_gets_nothing_where_no_row_is_masked() -> None:
    table = UnionTable.of([A, B])
    found = np.exp(table.gather(0, logp(0.05, 0.10, 0.50, 0.25, 0.10)))
    assert found.round(4).tolist() == pytest.approx([0.05, 0.10, 0.50, 0.0, 0.10, 0.25])


def test_a_string_that_a_vocabulary_lacks_gets_nothing_where_a_row_is_masked() -> None:
    masked = vocabulary([b"</s>", b"<pad>", b"a"], masked_ids=(1,))
    table = UnionTable.of([masked, vocabulary([b"</s>", b"b"])])
    found = table.gather(0, logp(0.25, 0.0, 0.75))  # a masked row is −inf in every distribution
    assert np.exp(found).round(4).tolist() == pytest.approx([0.25, 0.75, 0.0])


def test_what_stands_for_many_ids_is_the_sum_of_all_of_them() -> None:
    # "a" is id 1, 3 and 4, the last a byte piece; "b" is 2 and 5.
    normal = np.array([True, True, True, True, False, True])
    doubled = vocabulary([b"</s>", b"a", b"b", b"a", b"a", b"b"], normal=normal)
    table = UnionTable.of([doubled])
    found = np.exp(table.gather(0, logp(0.1, 0.2, 0.05, 0.3, 0.15, 0.2)))
    assert found.round(4).tolist() == pytest.approx([0.1, 0.65, 0.25])
    assert np.isneginf(table.gather(0, logp(1.0, 0, 0, 0, 0, 0))[1:]).all()


def test_the_way_back_from_a_string_is_the_tokenizers_own_id() -> None:
    normal = np.array([True, False, True, True])
    doubled = vocabulary([b"</s>", b"a", b"a", b"b"], normal=normal)  # id 1 is a byte piece
    column = UnionTable.of([doubled]).columns[0]
    assert column.ids.tolist() == [0, 2, 3]
    assert column.place.tolist() == [0, 1, 1, 2]


def test_every_end_id_is_the_first_string_and_masked_ids_are_none() -> None:
    ends = vocabulary([b"<eos>", b"x", b"<eot>", b"<pad>"], end_ids=(0, 2), masked_ids=(3,))
    assert UnionTable.of([ends]).columns[0].place.tolist() == [0, 1, 0, -1]


def test_a_vocabulary_without_end_never_ends() -> None:
    endless = vocabulary([b"a", b"b"], end_ids=())
    found = UnionTable.of([endless, A]).gather(0, logp(0.5, 0.5))
    assert np.isneginf(found[0])


def test_random_vocabularies_keep_all_their_mass_and_every_string_is_found() -> None:
    rng = np.random.default_rng(0)
    makes = [[b"", *(rng.bytes(int(n)) for n in rng.integers(1, 9, size=n))] for n in (700, 400)]
    # Long runs of one byte share more than fits into a block's first string.
    makes[0] += [b"\xff" * n for n in range(1, 300)]
    vocabs = [vocabulary(pieces) for pieces in makes]
    table = UnionTable.of(vocabs)
    expected = sorted({piece for pieces in makes for piece in pieces})
    assert list(table.strings) == expected
    assert [table.strings.find(piece) for piece in expected] == list(range(len(expected)))
    assert table.strings.find(b"\x00" * 12) is None
    for i, (vocab, pieces) in enumerate(zip(vocabs, makes, strict=True)):
        p = rng.dirichlet(np.ones(vocab.size)).astype(np.float32)
        found = np.exp(table.gather(i, np.log(p)).astype(np.float64))
        by_hand = dict.fromkeys(expected, 0.0)
        for piece, share in zip(pieces, p.tolist(), strict=True):
            by_hand[piece] += share
        np.testing.assert_allclose(found, list(by_hand.values()), rtol=1e-4, atol=1e-9)


def test_no_strings_at_all_are_strings_too() -> None:
    assert list(Strings.of([b""])) == [b""]
    assert Strings.of([b""]).find(b"a") is None


@dataclass(frozen=True)
class Prepared:
    table: UnionTable
    name: str


def test_a_table_inside_what_a_method_prepares_comes_back_from_disk() -> None:
    arrays, facts = pack(Prepared(UnionTable.of([A, B]), "both"))
    assert all(array.ndim == 1 for array in arrays.values())
    back = unpack(Prepared, arrays, facts).table
    assert list(back.strings) == [b"", b"\n", b" cat", b" cats", b" the", b"s"]
    found = np.exp(back.gather(1, logp(0.10, 0.05, 0.20, 0.55, 0.05, 0.05)))
    assert found.round(4).tolist() == pytest.approx([0.10, 0.05, 0.20, 0.55, 0.05, 0.05])


def test_a_key_names_the_contents_and_their_order_and_is_empty_where_one_is_not_known() -> None:
    same = vocabulary([b"<eos>", b" the", b" cat", b"s", b"\n"])  # END is spelled otherwise: no matter
    assert union_key([A, B]) == union_key([same, B]) != union_key([B, A])
    assert union_key([A, GrowingVocab()]) == ""
    with pytest.raises(TypeError, match="not known as a whole"):
        UnionTable.of([A, GrowingVocab()])
