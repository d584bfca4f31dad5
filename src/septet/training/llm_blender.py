"""Fine-tunes a cross-encoder to say which of two answers is better: PairRanker (2306.02561)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from septet.core.backend import Endpoint
from septet.core.method import Rng
from septet.core.state import Trained
from septet.core.table import Table
from septet.methods.c1_noncascade.llm_blender import HELD_OUT, LlmBlender
from septet.parts.answers.pair_ranker import LinearRanker, Pairs
from septet.parts.learning.targets import Targets
from septet.training._fine_tune import Say
from septet.training.encoder import learned


def fit(
    method: LlmBlender, table: Table, roles: Mapping[str, tuple[Endpoint, ...]], rng: Rng, say: Say
) -> Trained:
    """The weights that the role `encoder` will compare with; pairs of a tenth of the questions choose the best ones."""
    pairs = Pairs.of(table, method.pairs, rng)
    kept = pairs.held_out(HELD_OUT, rng)
    targets = Targets.even(pairs.first_wins[:, None], "bce")
    found = learned(method, roles, pairs.texts(method.max_length), targets, kept, rng, say)
    pairs_of = {"pairs": len(pairs), "held_out_pairs": int(np.count_nonzero(kept))}
    return Trained(LinearRanker.unused(), found.write, {**found.provenance, **pairs_of})
