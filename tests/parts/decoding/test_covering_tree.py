"""Exact bytes by hand and by brute force: K24, K25, and random tables of merges."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from byte_toys import (
    K24,
    K24_P,
    after,
    context_free,
    covers,
    known,
    lattice,
    masked,
    random_merges,
    random_model,
    random_text,
    read,
    vocabulary,
    writable,
)
from septet.parts.decoding.aggregate import arithmetic, geometric
from septet.parts.decoding.covering_tree import CoveringTree, Variant

ONE = vocabulary(K24, b"ab")
P = context_free(ONE, K24_P)
A, B, END = 97, 98, 256


def next_symbols(text: bytes, variant: Variant) -> list[float]:
    p = np.exp(after(ONE, P, text, variant).symbols().logp)
    assert p.sum() == pytest.approx(1, abs=1e-12)
    return [round(float(p[i]), 4) for i in (A, B, END)]


@pytest.mark.parametrize(
    ("text", "variant", "expected"),
    [
        # after "a": canonical covers [a] .2, [ab] .3, [aba] .2
        (b"a", "full", [0.2, 0.7714, 0.0286]),
        (b"a", "canonical", [0.2121, 0.7576, 0.0303]),
        (b"a", "masked", [0.25, 0.7143, 0.0357]),
        (b"ab", "full", [0.8111, 0.1259, 0.0630]),
        (b"ab", "canonical", [0.7955, 0.1364, 0.0682]),
        (b"ab", "masked", [0.775, 0.15, 0.075]),
        (b"aba", "full", [0.4283, 0.5105, 0.0612]),
        (b"aba", "canonical", [0.4516, 0.4839, 0.0645]),
        (b"aba", "masked", [0.4516, 0.4839, 0.0645]),
    ],
)
def test_k24_the_next_byte_of_each_variant(text: bytes, variant: Variant, expected: list[float]) -> None:
    assert next_symbols(text, variant) == expected


@pytest.mark.parametrize(
    ("text", "variant", "z"),
    [
        (b"a", "canonical", 0.70),
        (b"aba", "canonical", 0.35),
        (b"aba", "full", 0.438),
        (b"aba", "masked", 0.3875),
    ],
)
def test_k24_the_mass_of_the_covers(text: bytes, variant: Variant, z: float) -> None:
    assert np.exp(after(ONE, P, text, variant).log_z) == pytest.approx(z)


def test_k24_the_heads_after_each_byte() -> None:
    # "a": nothing certain, or [a]; "ab": nothing, or [ab]; "aba": [ab] and "a", or [aba]
    def heads(text: bytes) -> list[list[bytes]]:
        return [[ONE.bytes_of(i) for i in h.path] for h in after(ONE, P, text, "masked").heads]

    assert heads(b"a") == [[], [b"a"]]
    assert heads(b"ab") == [[], [b"ab"]]
    assert sorted(heads(b"aba")) == [[b"ab"], [b"aba"]]


def test_k25_two_members_on_257_symbols() -> None:
    letters = vocabulary([], b"ab")
    other = after(letters, context_free(letters, {b"": 0.1, b"a": 0.5, b"b": 0.4}), b"a", "masked")
    half = np.array([0.5, 0.5])

    def fused(variant: Variant) -> list[list[float]]:
        rows = np.array([after(ONE, P, b"a", variant).symbols().logp, other.symbols().logp])
        both = arithmetic(rows, half), geometric(rows, half)
        return [[round(float(p[i]), 4) for i in (A, B, END)] for p in both]

    assert fused("canonical") == [[0.3561, 0.5788, 0.0652], [0.3497, 0.5912, 0.0591]]
    assert fused("masked") == [[0.375, 0.5571, 0.0679], [0.373, 0.5639, 0.0631]]


@pytest.mark.parametrize("seed", range(25))
def test_k25_z_is_the_sum_over_all_covers(seed: int) -> None:
    merges, alphabet = random_merges(seed)
    vocab = vocabulary(merges, alphabet)
    model = random_model(vocab, seed)
    text = random_text(seed, alphabet, 5)
    for n in range(len(text) + 1):
        for variant, p, ok in (
            ("full", model, lambda path: True),
            ("canonical", model, lambda path: writable(vocab, merges, path)),
            ("masked", masked(vocab, merges, model), lambda path: writable(vocab, merges, path)),
        ):
            tree = after(vocab, model, text[:n], variant)  # type: ignore[arg-type]
            brute = sum(q for _, q in covers(vocab, p, text[:n], ok)) if n else 1.0
            assert np.exp(tree.log_z) == pytest.approx(brute, abs=1e-9)


@pytest.mark.parametrize("seed", range(40))
def test_k25_the_bytes_of_a_text_have_the_probability_of_its_masked_reading(seed: int) -> None:
    merges, alphabet = random_merges(seed)
    vocab = vocabulary(merges, alphabet)
    model = random_model(vocab, seed)
    behind = masked(vocab, merges, model)
    ids = {vocab.bytes_of(i): i for i in range(vocab.size)}
    made = lattice(vocab)
    for text in [random_text(seed + n, alphabet, n) for n in (0, 1, 2, 3, 5, 7, 8)]:
        tree, logp = CoveringTree.begun(made.order, made.grammar, "masked"), 0.0
        for symbol in (*text, 256):
            tree = known(tree, model)
            logp += float(tree.symbols().logp[symbol])
            tree = tree if symbol == 256 else tree.typed(symbol)
        path, expected = (), 0.0
        for piece in (*read(text, merges), b""):
            expected += float(np.log(behind(path)[ids[piece]]))
            path = (*path, ids[piece])
        assert logp == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("variant", ["full", "masked"])
def test_the_answers_of_up_to_three_bytes_and_all_beginnings_of_four_share_the_probability(
    variant: Variant,
) -> None:
    grammar = None if variant == "full" else lattice(ONE).grammar

    def probability(symbols: tuple[int, ...]) -> float:
        tree, logp = CoveringTree.begun(lattice(ONE).order, grammar, variant), 0.0
        for symbol in symbols:
            tree = known(tree, P)
            logp += float(tree.symbols().logp[symbol])
            tree = tree if symbol == END else tree.typed(symbol)
        return float(np.exp(logp))

    ended = [(*text, END) for n in range(4) for text in itertools.product(b"ab", repeat=n)]
    begun = list(itertools.product(b"ab", repeat=4))
    assert sum(map(probability, [*ended, *begun])) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("epsilon", [0.3, 0.05])
def test_what_is_not_looked_at_bounds_the_error(seed: int, epsilon: float) -> None:
    merges, alphabet = random_merges(seed)
    vocab = vocabulary(merges, alphabet)
    model = random_model(vocab, seed)
    text = random_text(seed, alphabet, 7)
    for n in range(len(text) + 1):
        rough = after(vocab, model, text[:n], "masked", epsilon).symbols()
        exact = after(vocab, model, text[:n], "masked").symbols()
        assert rough.dropped <= epsilon
        assert np.abs(np.exp(rough.logp) - np.exp(exact.logp)).sum() / 2 <= rough.dropped + 1e-12
        assert exact.dropped == 0


@pytest.mark.parametrize("seed", range(30))
def test_k25_at_most_one_head_is_born_per_byte(seed: int) -> None:
    merges, alphabet = random_merges(seed)
    vocab = vocabulary(merges, alphabet)
    text = random_text(seed, alphabet, 10)
    for n in range(1, len(text) + 1):
        born = [h for h in after(vocab, random_model(vocab, seed), text[:n], "masked").heads if h.at == n]
        assert len(born) <= 1
        for head in born:
            assert [vocab.bytes_of(i) for i in head.path] == read(text[:n], merges)


def test_a_text_that_no_token_spells_leaves_no_head() -> None:
    assert after(ONE, P, b"", "masked").typed(ord("z")).heads == ()
