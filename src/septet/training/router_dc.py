"""Fine-tunes a text encoder and the members' embeddings with RouterDC's two contrastive losses (2409.19886)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from septet.backends._encoder_model import write_weights
from septet.backends._encoder_source import Fitted
from septet.core.backend import Endpoint
from septet.core.method import Rng
from septet.core.state import Trained
from septet.core.table import Table
from septet.core.types import Floats
from septet.methods.a1_pretrained.router_dc import RouterDc
from septet.parts.learning.features import Featurizer, unit
from septet.parts.learning.targets import held_out
from septet.parts.routing.contrastive import to_members
from septet.parts.routing.records import Known
from septet.training._fine_tune import (
    Course,
    Index,
    Say,
    check_held_out,
    fine_tune,
    loaded,
    only_encoder,
    rows_of,
)

LOOKS = 10
"""How often the held-out questions are looked at."""

PATIENCE = 4
"""Looks without a better one after which it ends."""


def fit(
    method: RouterDc, table: Table, roles: Mapping[str, tuple[Endpoint, ...]], rng: Rng, say: Say
) -> Trained:
    """The state of RouterDC with an encoder, and the weights that its role will answer with."""
    endpoint = only_encoder(roles)
    known = Known.of(table)
    kept = held_out(len(known), 0.1, rng)
    check_held_out(len(known), int(kept.sum()))
    model = loaded(endpoint, method.max_length, rng)
    model.fitted = replace(model.fitted, truncated="left")
    chances = method.chances(known, kept)

    say("reading the questions once")
    rows = rows_of(model, known.questions)
    sets = method.contrast(known, rows, rng)
    first = method.first_arms(len(known.members), rows.shape[1], rng)
    if method.start == "frozen":
        _, first = method.descend(rows, None, first, sets, chances, rng)
    arms = model.torch.tensor(first, dtype=model.torch.float32, device=model.device, requires_grad=True)

    judged = np.flatnonzero(kept)
    held_texts, held_sets = [known.questions[i] for i in judged], sets.only(judged)

    def members() -> Floats:
        return np.asarray(arms.detach().cpu().numpy(), dtype=np.float64)

    def look() -> float:
        cosines = rows_of(model, held_texts) @ unit(members()).T
        return to_members(cosines / method.temperature, held_sets)[0]

    def learn(index: Index, batch: Any) -> float:
        batch = model.unit(batch)
        e = np.asarray(batch.detach().cpu().numpy(), dtype=np.float64)
        value, slope, arms_slope = method.pull.loss(e, members(), sets.only(index), rng)
        batch.backward(model.torch.tensor(slope, dtype=batch.dtype, device=batch.device))
        arms.grad = model.torch.tensor(arms_slope, dtype=arms.dtype, device=arms.device)
        return value

    def restore(copied: Floats) -> None:
        with model.torch.no_grad():
            arms.copy_(model.torch.tensor(copied, dtype=arms.dtype, device=arms.device))

    report = fine_tune(
        model,
        known.questions,
        drawn(chances, method.batch, rng),
        learn,
        look,
        Course(lr=method.lr, steps=method.steps, every=max(1, method.steps // LOOKS), patience=PATIENCE),
        beside=(arms,),
        layers=endpoint.options.trained_layers,
        snapshot=members,
        restore=restore,
        say=say,
    )
    state = method.state(
        known, Featurizer.unused(), np.empty((0, 0)), members(), rows_of(model, known.questions), kept
    )
    written = Fitted(
        base=endpoint.source.print,
        outputs=0,
        max_length=model.fitted.max_length,
        truncated="left",
        pooling=endpoint.source.pooling,
    )
    weights = model.copied()

    def write(folder: Path) -> None:
        write_weights(folder, weights, written)

    return Trained(state, write, {"encoder": endpoint.source.name, "training": report.json()})


def drawn(chances: Floats, size: int, rng: Rng) -> Iterator[Index]:
    """Batches for ever, each of different questions, drawn by their chances (r,)."""
    size = min(size, int(np.count_nonzero(chances)))
    while True:
        yield rng.choice(len(chances), size, replace=False, p=chances)
