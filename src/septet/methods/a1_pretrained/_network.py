"""Routers with one network: a head on features that is fitted here, or a text encoder fine-tuned elsewhere.

`network` = "linear" fits a head on the question's features. "encoder" asks the role `encoder`, a text encoder
with a head of its own, which `septet.training` fine-tunes on the same targets; its raw outputs are x (n, c).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from septet.core.caps import Caps
from septet.core.errors import ConfigError
from septet.core.method import Asking, Rng, SeatPool, param
from septet.core.types import Floats, Query
from septet.methods.a1_pretrained._family import PretrainedRouter
from septet.parts.learning.features import Featurizer
from septet.parts.learning.rows import Features
from septet.parts.learning.targets import Targets, activated, fit_head, held_out
from septet.parts.routing.network import Head, outputs
from septet.parts.routing.records import Known

NetworkKind: TypeAlias = Annotated[
    Literal["linear", "encoder"],
    param(
        "linear: a head on the features; encoder: a text encoder fine-tuned for it, by the role of that name."
    ),
]
Penalty: TypeAlias = Annotated[
    float, param("Weight of half the squared norm of the linear head in its loss.", ge=0, le=10)
]
LearningRate: TypeAlias = Annotated[float, param("Encoder: learning rate.", gt=0, le=0.1)]
Epochs: TypeAlias = Annotated[int, param("Encoder: times that the questions are seen.", ge=1, le=1000)]
Batch: TypeAlias = Annotated[int, param("Encoder: questions per step.", ge=1, le=4096)]
MaxLength: TypeAlias = Annotated[int, param("Encoder: tokens of a question that are read.", ge=8, le=8192)]


class NetworkRouter(PretrainedRouter):
    """Gives `targets(known)` -> Targets, and `to_quality(p, state)` -> q (n, m) where outputs are not members.

    p (n, c) are the activated outputs: probabilities, or predicted numbers with loss "mse". What is set on
    questions that the network was not fitted on (a threshold, a regression on its outputs) is set in `finish`;
    `sets_on_held_out` says that there is such a thing, and keeps a share of the questions for it.
    A trainer does what `learn` does: `targets`, `held_out`, `Head.of_encoder`, and `finish` at the end.
    A subclass declares `network`, `l2`, and `lr`, `epochs`, `batch`, `max_length` with its paper's values.
    """

    network: str = "linear"
    l2: float
    lr: float
    epochs: int
    batch: int
    max_length: int

    state_type: ClassVar[type | None] = Head
    held_out_share: ClassVar[float] = 0.1

    # --- what a method gives ------------------------------------------------------------------------

    def targets(self, known: Known) -> Targets:
        """What the outputs should say about the known questions."""
        raise NotImplementedError

    def to_quality(self, p: Floats, state: Any) -> Floats:
        """(n, m) quality from activated outputs p (n, c)."""
        return p

    @property
    def sets_on_held_out(self) -> bool:
        """Whether `finish` needs questions that the network was not fitted on."""
        return False

    def finish(self, head: Head, known: Known, held: NDArray[np.int64], p: Floats) -> Any:
        """The state, from the fitted head, all known questions, and what the head says, p (v, c), about those
        of them that were held out, `held` (v,)."""
        return head

    # --- the fit ------------------------------------------------------------------------------------

    @property
    def trainer(self) -> str:
        """The module of `septet.training` that fits it in place of `fit`; empty: none."""
        return "encoder" if self.network == "encoder" else ""

    def held_out(self, n_rows: int, rng: Rng) -> NDArray[np.bool_]:
        """(r,) true for the questions that the network is not fitted on; a fine-tuned encoder stops early on
        them, too."""
        wanted = self.sets_on_held_out or self.network == "encoder"
        return held_out(n_rows, self.held_out_share if wanted else 0.0, rng)

    def learn(self, known: Known, featurizer: Featurizer, x: Features, rng: Rng) -> Any:
        """Fits the head on the features x (r, d), then whatever is set on held-out questions."""
        if self.network == "encoder":
            raise ConfigError(f"{self.name} with network = 'encoder' is fitted by septet.training")
        targets, kept = self.targets(known), self.held_out(len(known), rng)
        weights, bias = fit_head(x[~kept], targets.only(~kept), self.l2)
        head = Head(featurizer, known.spending, 0.0, weights, bias, targets.loss)
        held = np.flatnonzero(kept)
        return self.finish(head, known, held, activated(outputs(x[held], head), head.loss))

    # --- the short form -----------------------------------------------------------------------------

    def roles(self) -> dict[str, Caps]:
        """The encoder, if there is one, else what the features need."""
        return {"encoder": Caps(rate=True)} if self.network == "encoder" else super().roles()

    def featurise(self, queries: Sequence[Query], pool: SeatPool, state: Any) -> Features | Asking[Features]:
        """(n, d) features, or (n, c) raw outputs of the role `encoder`."""
        if self.network == "encoder":
            return encoded(queries, pool)
        return super().featurise(queries, pool, state)

    def utility(self, x: Features, state: Any) -> Floats:
        """(n, m) quality from the activated outputs."""
        return self.to_quality(activated(outputs(x, state), state.loss), state)


def encoded(queries: Sequence[Query], pool: SeatPool) -> Asking[Features]:
    """(n, c) raw outputs of the role `encoder`, the mean over its actors; one call per query and actor."""
    seats = pool.role("encoder")
    replies = yield [seat.rate(q, [q.text]) for seat in seats for q in queries]
    rows = np.array([np.asarray(r.value, dtype=np.float64)[0] for r in replies])  # (actors·n, c)
    mean: Floats = rows.reshape(len(seats), len(queries), -1).mean(axis=0)
    return mean
