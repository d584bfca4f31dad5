"""Fine-tunes an encoder with a linear head on targets: a router's (`NetworkRouter`, and what is like it), or others.

The head is first fitted on the rows of the encoder as it is (the linear probe), then both are trained together from
there: head first keeps the encoder's rows from being torn by a random one (2202.10054). The weights of the best
epoch on the held-out questions are kept; that may be the probe, so a fit is never worse on them than the probe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from septet.backends._encoder_model import write_weights
from septet.backends._encoder_source import Fitted
from septet.core.backend import Endpoint
from septet.core.method import Rng
from septet.core.state import Trained
from septet.core.table import Table
from septet.core.types import Floats
from septet.parts.learning.targets import Targets, activated, fit_head, loss_of
from septet.parts.routing.network import Head
from septet.parts.routing.records import Known
from septet.training._fine_tune import (
    Course,
    Index,
    Say,
    check_held_out,
    epochs,
    fine_tune,
    loaded,
    only_encoder,
    rows_of,
    steps_per_epoch,
)

PATIENCE = 2
"""Epochs without a better one on the held-out questions, after which it ends."""


class Schedule(Protocol):
    """How an encoder is fine-tuned: `lr`, `epochs` and `batch`, `max_length` the tokens of a text that are read, `l2`
    the penalty of the first head."""

    @property
    def lr(self) -> float: ...
    @property
    def epochs(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def max_length(self) -> int: ...
    @property
    def l2(self) -> float: ...


class Learns(Schedule, Protocol):
    """What a router states to have an encoder fine-tuned for it; its role `encoder` then rates questions."""

    def targets(self, known: Known) -> Targets:
        """What the outputs should say about the known questions."""

    def held_out(self, n_rows: int, rng: Rng) -> NDArray[np.bool_]:
        """(r,) true for the questions that are not learned from."""

    def finish(self, head: Head, known: Known, held: NDArray[np.int64], p: Floats) -> Any:
        """The state, from what the head says, p (v, c), about the held-out questions."""


def fit(
    method: Learns,
    table: Table,
    roles: Mapping[str, tuple[Endpoint, ...]],
    rng: Rng,
    say: Say,
) -> Trained:
    """The state of a router with network = "encoder", and the weights that its role will answer with."""
    known = Known.of(table)
    targets, kept = method.targets(known), method.held_out(len(known), rng)
    found = learned(method, roles, known.questions, targets, kept, rng, say)
    head = Head.of_encoder(known.spending, targets)
    state = method.finish(head, known, np.flatnonzero(kept), activated(found.outputs + head.bias, head.loss))
    return Trained(state, found.write, found.provenance)


@dataclass(frozen=True)
class Learned:
    """A fine-tuned encoder: what it says, raw outputs (v, c), about the held-out texts; what it says about others,
    `read` (n texts) -> (n, c); how its weights are written into a folder; how it went."""

    outputs: Floats
    read: Callable[[Sequence[str]], Floats]
    write: Callable[[Path], None]
    provenance: Mapping[str, Any]


def learned(
    schedule: Schedule,
    roles: Mapping[str, tuple[Endpoint, ...]],
    texts: Sequence[str],
    targets: Targets,
    kept: NDArray[np.bool_],
    rng: Rng,
    say: Say,
) -> Learned:
    """Fine-tunes the role `encoder` on r texts and their targets (r, c); `kept` (r,) are held out."""
    endpoint = only_encoder(roles)
    check_held_out(len(texts), int(kept.sum()))
    model = loaded(endpoint, schedule.max_length, rng)
    fitted, judged = np.flatnonzero(~kept), np.flatnonzero(kept)

    say("reading the texts once")
    rows = rows_of(model, texts, "pooled")
    weight, bias = fit_head(rows[fitted], targets.only(~kept), schedule.l2)  # (d, c), (c,)
    model.give_head(weight.T, np.nan_to_num(bias))
    for tensor in (model.head_weight, model.head_bias):
        tensor.requires_grad_(True)

    held_texts = [texts[i] for i in judged.tolist()]

    def look() -> float:
        return loss_of(rows_of(model, held_texts, "outputs"), targets.only(kept))[0]

    def learn(index: Index, batch: Any) -> float:
        outputs = model.apply_head(batch)  # (b, c)
        z = np.asarray(outputs.detach().cpu().numpy(), dtype=np.float64)
        value, slope = loss_of(z, Targets(targets.y[index], targets.weight[index], targets.loss))
        outputs.backward(model.torch.tensor(slope, dtype=outputs.dtype, device=outputs.device))
        return value

    every = steps_per_epoch(len(fitted), schedule.batch)
    report = fine_tune(
        model,
        texts,
        epochs(fitted, [len(text) for text in texts], schedule.batch, rng),
        learn,
        look,
        Course(lr=schedule.lr, steps=every * schedule.epochs, every=every, patience=PATIENCE),
        beside=(model.head_weight, model.head_bias),
        layers=endpoint.options.trained_layers,
        say=say,
    )
    written = Fitted(
        base=endpoint.source.print,
        outputs=targets.y.shape[1],
        max_length=model.fitted.max_length,
        pooling=endpoint.source.pooling,
    )
    outputs, weights = rows_of(model, held_texts, "outputs"), model.copied()

    def write(folder: Path) -> None:
        write_weights(folder, weights, written)

    def read(some: Sequence[str]) -> Floats:
        return rows_of(model, some, "outputs")

    return Learned(outputs, read, write, {"encoder": endpoint.source.name, "training": report.json()})
