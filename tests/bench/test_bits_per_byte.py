"""Bits per byte: windows and mixtures by hand, a scorer that looks ahead against one that goes byte by byte."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from byte_toys import K24, after, lattice, random_merges, random_model, random_text, vocabulary
from septet.bench.bits_per_byte import (
    Count,
    Document,
    Read,
    bits,
    documents,
    fitted,
    lines,
    members_of,
    mixed,
    read_along,
    rows_of,
)
from septet.core.errors import BadParameter, ConfigError, UnfitPool
from septet.core.session import Next
from septet.methods.b1_token.byte_exact import ByteExact
from septet.testing.toys import toy_config, toy_house


class Session:
    """A toy member's session, of which only `after` and `fork` are used."""

    def __init__(self, vocab: Any, model: Any) -> None:
        self.vocab, self.model, self.calls, self.n_open = vocab, model, list[int](), [1]

    async def after(self, paths: Sequence[Sequence[int]]) -> list[Next]:
        self.calls.append(len(paths))
        found = []
        for path in paths:
            logp = np.log(self.model(tuple(path)))
            found.append(Next(0, np.zeros(0, np.int32), logp, lambda piece, first: None, full=True))
        return found

    async def fork(self) -> Session:
        self.n_open[0] += 1
        return self

    async def close(self) -> None:
        self.n_open[0] -= 1


@pytest.mark.parametrize("variant", ["masked", "canonical", "full"])
@pytest.mark.parametrize("seed", range(6))
async def test_looking_ahead_gives_what_going_byte_by_byte_gives(seed: int, variant: Any) -> None:
    merges, alphabet = random_merges(seed)
    vocab = vocabulary(merges, alphabet)
    model, text = random_model(vocab, seed), random_text(seed, alphabet, 9)
    session: Any = Session(vocab, model)
    method = ByteExact(variant=variant, epsilon=0.0, heads=10_000)
    found = [s.logp async for s, _ in read_along(session, lattice(vocab), method, text)]
    assert len(found) == len(text)
    for n, logp in enumerate(found):
        expected = np.exp(after(vocab, model, text[:n], variant).symbols().logp)
        np.testing.assert_allclose(np.exp(logp), expected, atol=1e-9)
    assert session.n_open == [1]


async def test_the_own_reading_is_read_in_one_call_and_only_what_stands_beside_it_in_others() -> None:
    # "ababab" is [ab, ab, ab]; [a], [ab a] and [ab ab a] are the heads beside it, foreseen in one pass
    vocab = vocabulary(K24, b"ab")
    session: Any = Session(vocab, random_model(vocab, 3))
    count = Count()
    own = 0.0
    async for _, token in read_along(session, lattice(vocab), ByteExact(epsilon=0.0), b"ababab", count):
        own += token
    assert session.calls[0] == 3
    assert count.own == 3
    assert sum(session.calls[1:]) == count.beside
    row = random_model(vocab, 3)
    ab = vocab.ids_of(b"ab")[0]
    assert own == pytest.approx(sum(np.log(row((ab,) * k)[ab]) for k in range(3)))


def read_of(p: Sequence[Sequence[float]], number: int = 0) -> Read:
    """A document "aa…" whose bytes have these probabilities under each of n members; "b" has the rest."""
    logp = np.full((len(p), len(p[0]), 257), -50.0, dtype=np.float32)
    logp[:, :, 97] = np.log(p)
    logp[:, :, 98] = np.log1p(-np.array(p))
    document = Document("toy", "x", b"a" * len(p[0]), number)
    return Read(document, logp, np.zeros(len(p)), np.zeros(len(p)), (Count(),) * len(p))


def test_mixtures_by_hand() -> None:
    # .9 and .2: mean .55; product 3/(3+√(.1·.8/.18·…)): √(.9·.2) = .4243, √(.1·.8) = .2828: .6
    read = read_of([[0.9], [0.2]])
    half = np.array([0.5, 0.5])
    assert np.exp(mixed(read, half, "arithmetic")) == pytest.approx([0.55], abs=1e-6)
    assert np.exp(mixed(read, half, "geometric")) == pytest.approx([0.6], abs=1e-6)
    for aggregate in ("arithmetic", "geometric"):
        assert np.exp(mixed(read, np.array([0.0, 1.0]), aggregate)) == pytest.approx([0.2], abs=1e-6)


def test_the_fitted_weight_is_the_one_with_the_fewest_bits() -> None:
    # two bytes, (.9, .1) and (.1, .9): the best mean is the even one; of (.9, .8) and (.5, .1) the first alone
    assert fitted([read_of([[0.9, 0.1], [0.1, 0.9]])], "arithmetic").tolist() == [0.5, 0.5]
    assert fitted([read_of([[0.9, 0.8], [0.5, 0.1]])], "arithmetic").tolist() == [1.0, 0.0]


def test_the_table_has_members_and_mixtures_and_windows_of_a_document_count_once() -> None:
    # member m0: 1 bit for each of 3 bytes; m1: 2 bits
    reads = [read_of([[0.5, 0.5], [0.25, 0.25]], 0), read_of([[0.5], [0.25]], 0)]
    found = lines(["m0", "m1"], reads, {"arithmetic": np.array([1.0, 0.0]), "geometric": None}, "toy")
    assert [line.model for line in found] == [
        "m0",
        "m1",
        "arithmetic, uniform",
        "arithmetic, fitted",
        "geometric, uniform",
    ]
    assert [round(line.bits.value, 4) for line in found[:4]] == [1.0, 2.0, round(-np.log2(0.375), 4), 1.0]
    assert found[0].n_documents == 1
    assert found[0].n_bytes == 3


def test_documents_are_cut_into_windows_that_begin_at_a_space(tmp_path: Path) -> None:
    file = tmp_path / "prose.txt"
    file.write_text("one two three four five six")
    first, second = documents(f"kind={file}", context=5, window=16)
    assert (first.kind, first.context, first.text) == ("kind", "one two", b" three fo")
    assert (second.context, second.text) == ("ee fo"[0:5] + "ur", b" five six")
    assert first.number == second.number == 0
    lines_file = tmp_path / "many.jsonl"
    lines_file.write_text('{"text": "a b c d"}\n{"text": "e f g h"}\n')
    assert [d.number for d in documents(str(lines_file), context=2, window=99)] == [0, 1]
    assert documents(str(lines_file), context=2, window=99, most=1)[0].kind == "many"
    with pytest.raises(ConfigError, match="cannot read the text"):
        documents(str(tmp_path / "missing.txt"), context=2, window=99)


async def test_a_house_s_members_are_scored_and_what_cannot_be_is_refused(tmp_path: Path) -> None:
    text = [Document("toy", "The answer", b" is Paris.", 0)]
    other = [Document("toy", "The answer", b" is blue.", 0)]
    house = toy_house(toy_config("byte-exact", folder=tmp_path, order=("ada", "bob")))
    async with house:
        assert members_of(house, ["toys", "bob"]) == ["ada", "bob"]
        found = await bits(house, ["ada", "bob"], text, other, method=ByteExact(epsilon=0.01))
        with pytest.raises(BadParameter, match="must not be among"):
            await bits(house, ["ada", "bob"], text, text)
    columns, rows = rows_of(found.record())
    assert [row[1] for row in rows][:3] == ["ada", "bob", "arithmetic, uniform"]
    assert len(columns) == len(rows[0])
    fit = next(line for line in found.lines if line.model == "arithmetic, fitted")
    assert sum(fit.weights) == pytest.approx(1)
    lacking = toy_config(
        "byte-exact", folder=tmp_path / "l", order=("ada",), members={"ada": {"lacks": ["full"]}}
    )
    async with toy_house(lacking.replace("[ensembles.toys]", "[ensembles.toys]")) as house:
        with pytest.raises(UnfitPool, match="full"):
            members_of(house, ["ada"])
