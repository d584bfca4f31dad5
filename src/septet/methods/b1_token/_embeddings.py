"""What methods that compare tokens by their embeddings share: whole vocabularies, and a member's best tokens."""

from __future__ import annotations

from typing import Any

import numpy as np

from septet.core.errors import BackendError
from septet.core.session import Ids, View
from septet.core.types import Floats
from septet.parts.decoding.topk import top_k
from septet.parts.decoding.vocabulary import PackedVocab


def whole_vocabulary(member: Any, method: str) -> PackedVocab:
    """All tokens of an actor; a BackendError that names it where they are not known."""
    if not isinstance(member.vocab, PackedVocab):
        raise BackendError(
            f"{method} needs all tokens of {member.name}, and they are not known",
            hint="it has to be loaded, and to run in this process",
        ).at(member=member.name)
    return member.vocab


def best_tokens(view: View, k: int, tail: float = 0.0) -> tuple[Ids, Floats]:
    """The ids (≤ k,) of a member's most probable tokens, best first, with probabilities that sum to one over
    them. `tail`: the probability that the least of them may lose; the best always stays."""
    following = view.next
    places = top_k(following.logp, k) if following.full else np.arange(min(k, len(following.ids)))
    p = np.exp(following.logp[places], dtype=np.float64)
    before = np.cumsum(p) - p
    kept = (before < 1 - tail) & (p > 0)
    kept[:1] = True
    p = p[kept]
    return following.ids[places[kept]], p / p.sum()
