"""Fine-tunes an encoder to say whether a member's answer is right: the scorer of FrugalGPT (2305.05176)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from septet.core.backend import Endpoint
from septet.core.errors import BadParameter
from septet.core.method import Rng
from septet.core.state import Trained
from septet.core.table import Table
from septet.methods.c2_cascade._frugal import trusted
from septet.methods.c2_cascade.frugal_gpt import HELD_OUT, Frugal, FrugalGPT
from septet.parts.learning.targets import Targets
from septet.parts.stats.calibration import auc
from septet.training._fine_tune import Say
from septet.training.encoder import learned


def fit(
    method: FrugalGPT, table: Table, roles: Mapping[str, tuple[Endpoint, ...]], rng: Rng, say: Say
) -> Trained:
    """The weights that the role `encoder` will score answers with, and the list with its thresholds.

    The encoder learns from the questions that teach the scorer, less a tenth of them, which choose its best epoch;
    the list is searched on all others. `auc_held_out` is that of the scores of those, all members together.
    """
    data = method.divided(table, rng)
    taught = np.flatnonzero(data.for_scorer)
    questions = np.unique(data.rows.query[taught])
    if len(questions) < 2:
        raise BadParameter("table", len(questions), "must hold two questions or more that teach the scorer")
    n_kept = max(1, round(HELD_OUT * len(questions)))
    kept = np.isin(data.rows.query[taught], rng.permutation(questions)[:n_kept])

    y = np.full((len(taught), len(table.members)), np.nan)  # of the other members nothing is known
    member = data.rows.member[taught]
    y[np.arange(len(taught)), member] = data.right[taught]
    texts = data.texts(method.max_length)
    found = learned(
        method, roles, [texts[i] for i in taught.tolist()], Targets.even(y, "bce"), kept, rng, say
    )

    held = np.flatnonzero(~data.for_scorer)
    say("scoring the answers that the list is searched on")
    outputs = found.read([texts[i] for i in held.tolist()])
    confidence = trusted(outputs[np.arange(len(held)), data.rows.member[held]])
    facts = {
        "scorer_answers": len(taught),
        "auc_held_out": round(float(auc(confidence, data.right[held].astype(np.float64))), 4),
    }
    return Trained(Frugal(None, method.listed(data, confidence)), found.write, {**found.provenance, **facts})
