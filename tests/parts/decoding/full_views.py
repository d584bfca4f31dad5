"""Full views of toy vocabularies, made as a local session makes them: END ids summed, masked rows −inf."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from septet.core.session import Next, View
from septet.parts.decoding.topk import read_row
from septet.parts.decoding.vocabulary import PackedVocab


def vocabulary(pieces: Sequence[bytes], **more: Any) -> PackedVocab:
    """A vocabulary without a tokenizer; id 0 is END unless said otherwise."""
    return PackedVocab.of(pieces, **{"end_ids": (0,), "tokenise": list, **more})


def full_view(vocab: PackedVocab, p: Sequence[float]) -> View:
    """What a member sees that gives id i the probability p[i]."""
    with np.errstate(divide="ignore"):
        logits = np.log(np.array(p, dtype=np.float32))
    row = read_row(logits, end_ids=vocab.end_ids, masked_ids=vocab.masked_ids)
    ids = np.arange(vocab.size, dtype=np.int32)
    following = Next(0, ids, row.full(), lambda piece, _: row.logp_of(vocab.ids_of(piece)), full=True)
    return View(following, vocab, None)


# The toys of the dossier: a SentencePiece-like and a byte-level-like tokenizer, and what each says next.
A = vocabulary([b"</s>", b" the", b" cat", b"s", b"\n"])
B = vocabulary([b"<|endoftext|>", b" the", b" cat", b" cats", b"\n", b"s"])
P_A = (0.05, 0.10, 0.50, 0.25, 0.10)
P_B = (0.10, 0.05, 0.20, 0.55, 0.05, 0.05)
