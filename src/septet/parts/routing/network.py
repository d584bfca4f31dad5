"""A linear head on features, as a router's state: one output per member, class or label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from septet.core.errors import BadParameter
from septet.core.types import Floats
from septet.parts.learning.features import Featurizer
from septet.parts.learning.rows import Features, times
from septet.parts.learning.targets import Targets
from septet.parts.routing.cost import Spending
from septet.parts.routing.records import Fitted


@dataclass(frozen=True)
class Head(Fitted):
    """z = x·`weights` (d, c) + `bias` (c,); the bias of an output that was never seen is NaN.

    Of an encoder, which has a head of its own, `weights` has no rows, and x (n, c) are its raw outputs.
    """

    weights: Floats
    bias: Floats
    loss: str

    @classmethod
    def of_encoder(cls, spending: Spending, targets: Targets) -> Head:
        """Stands in the state of a router whose outputs come from the role `encoder`."""
        n_outputs = targets.y.shape[1]
        bias = np.where(np.isnan(targets.y).all(axis=0), np.nan, 0.0)
        return cls(Featurizer.unused(), spending, 0.0, np.empty((0, n_outputs)), bias, targets.loss)


def outputs(x: Features, head: Head) -> Floats:
    """(n, c) raw outputs z for features x (n, d), or for an encoder's outputs x (n, c)."""
    if not len(head.weights):
        raw = np.asarray(x, dtype=np.float64)
        if raw.shape[1:] != head.bias.shape:
            raise BadParameter(
                "encoder", raw.shape[1], f"must give {len(head.bias)} outputs, as it was fitted to"
            )
        return raw + head.bias
    return times(x, head.weights) + head.bias
