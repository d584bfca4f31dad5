"""Toy tokenizers for exact bytes: merges by hand, a brute force over token sequences, vocabularies for both."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from septet.core.types import Floats
from septet.parts.decoding.covering_tree import CoveringTree, Variant
from septet.parts.decoding.pretokenise import KnownReading, Lattice, Reading, lattice_of
from septet.parts.decoding.vocabulary import PackedVocab

Merge = tuple[bytes, bytes]
Model = Callable[[tuple[int, ...]], Floats]
"""The next-token probabilities (V,) after some ids; id 0 is END."""

K24 = [(b"a", b"b"), (b"ab", b"a")]
"""The merges of check case K24, which make ab and aba."""

K24_P = {b"": 0.1, b"a": 0.2, b"ab": 0.3, b"aba": 0.2, b"b": 0.2}


def read(text: bytes, merges: Sequence[Merge]) -> list[bytes]:
    """Byte-pair encoding, merge by merge: the best rule first, the leftmost pair of it."""
    parts = [bytes([byte]) for byte in text]
    rank = {pair: i for i, pair in reversed(list(enumerate(merges)))}
    while True:
        found = [(rank[p], i) for i, p in enumerate(itertools.pairwise(parts)) if p in rank]
        if not found:
            return parts
        _, i = min(found)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


def vocabulary(merges: Sequence[Merge], alphabet: bytes) -> PackedVocab:
    """END is id 0, then the alphabet and what the merges make, in byte order; the reading is known."""
    made = {bytes([byte]) for byte in alphabet} | {left + right for left, right in merges}
    pieces = [b"", *sorted(made)]
    ids = {piece: i for i, piece in enumerate(pieces)}
    vocab = PackedVocab.of(pieces, end_ids=[0], tokenise=lambda text: [ids[p] for p in read(text, merges)])
    vocab.reading = KnownReading(repr(merges), lambda: Reading(merges=merges))
    return vocab


def lattice(vocab: PackedVocab) -> Lattice:
    """The lattice of a toy."""
    return lattice_of(vocab, None if vocab.reading is None else vocab.reading.read())


def context_free(vocab: PackedVocab, p: Mapping[bytes, float]) -> Model:
    """The same probabilities after everything."""
    row = np.array([p[vocab.bytes_of(i)] for i in range(vocab.size)])
    return lambda path: row


def random_model(vocab: PackedVocab, seed: int) -> Model:
    """Probabilities that depend on the last two tokens and on how many there are."""

    def after(path: tuple[int, ...]) -> Floats:
        rng = np.random.default_rng([seed, len(path) % 5, *path[-2:]])
        return rng.dirichlet(np.full(vocab.size, 0.7))

    return after


def random_merges(seed: int) -> tuple[list[Merge], bytes]:
    """A table as training makes it: every rule joins what is there already."""
    rng = random.Random(seed)
    alphabet = b"abc"[: rng.choice([1, 2, 2, 3])]
    tokens, merges = [bytes([byte]) for byte in alphabet], list[Merge]()
    for _ in range(rng.randint(1, 12)):
        pair = rng.choice(tokens), rng.choice(tokens)
        if pair not in merges and len(pair[0] + pair[1]) < 7:
            merges.append(pair)
            tokens += [pair[0] + pair[1]] if pair[0] + pair[1] not in tokens else []
    return merges, alphabet


def random_text(seed: int, alphabet: bytes, n: int) -> bytes:
    """n bytes of an alphabet."""
    return bytes(random.Random(seed).choices(alphabet, k=n))


def known(tree: CoveringTree, model: Model, epsilon: float = 0.0) -> CoveringTree:
    """The tree with everything told that it wants to know."""
    while wanted := tree.wanted(epsilon):
        for path in wanted:
            with np.errstate(divide="ignore"):
                tree = tree.told(path, np.log(model(path)), 0)
    return tree.settled()


def after(
    vocab: PackedVocab, model: Model, text: bytes, variant: Variant, epsilon: float = 0.0
) -> CoveringTree:
    """The tree of a toy after a text."""
    made = lattice(vocab)
    tree = CoveringTree.begun(made.order, None if variant == "full" else made.grammar, variant)
    tree = known(tree, model, epsilon)
    for byte in text:
        tree = known(tree.typed(byte), model, epsilon)
    return tree


# --- brute force --------------------------------------------------------------------------------------


def covers(
    vocab: PackedVocab, model: Model, text: bytes, ok: Callable[[tuple[int, ...]], bool]
) -> Iterator[tuple[tuple[int, ...], float]]:
    """Every sequence of tokens that covers a text, with its probability; `ok` says which may be written."""

    def grow(path: tuple[int, ...], done: int, p: float) -> Iterator[tuple[tuple[int, ...], float]]:
        row = model(path)
        for i in range(1, vocab.size):
            piece, longer = vocab.bytes_of(i), (*path, i)
            rest = text[done:]
            if not ok(longer) or not (rest.startswith(piece) or piece.startswith(rest)):
                continue
            if len(piece) >= len(rest):
                yield longer, p * float(row[i])
            else:
                yield from grow(longer, done + len(piece), p * float(row[i]))

    yield from grow((), 0, 1.0)


def masked(vocab: PackedVocab, merges: Sequence[Merge], model: Model) -> Model:
    """The model without what its tokenizer cannot write next, renormalised."""

    def row(path: tuple[int, ...]) -> Floats:
        p = model(path).copy()
        for i in range(1, vocab.size):
            if not writable(vocab, merges, (*path, i)):
                p[i] = 0.0
        return p / p.sum()

    return row


def writable(vocab: PackedVocab, merges: Sequence[Merge], path: tuple[int, ...]) -> bool:
    """Whether the tokenizer reads the bytes of these tokens as these tokens."""
    pieces = [vocab.bytes_of(i) for i in path]
    return read(b"".join(pieces), merges) == pieces
