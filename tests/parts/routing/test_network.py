"""The head of a router: what it says, of an encoder too, and what is unknown."""

from __future__ import annotations

import numpy as np
import pytest

from septet.core.errors import BadParameter
from septet.core.state import pack, unpack
from septet.core.types import Floats
from septet.parts.learning.features import Featurizer
from septet.parts.learning.targets import Loss, Targets, activated, fit_head
from septet.parts.routing.cost import Spending
from septet.parts.routing.network import Head, outputs

FREE = Spending(*(np.full(2, np.nan) for _ in range(4)))
LOSSES: list[Loss] = ["bce", "mse", "ce", "kl"]


def some(loss: Loss, rows: int = 40, classes: int = 3) -> tuple[Floats, Targets]:
    rng = np.random.default_rng(0)
    y = rng.dirichlet(np.ones(classes), rows)
    return rng.normal(size=(rows, 5)), Targets(y, rng.uniform(0.5, 2.0, size=y.shape), loss)


@pytest.mark.parametrize("loss", LOSSES)
def test_an_output_that_was_never_seen_is_unknown(loss: Loss) -> None:
    x, targets = some(loss)
    targets.y[:, 2] = np.nan
    weights, bias = fit_head(x, targets, 0.01)
    head = Head(Featurizer.unused(), FREE, 0.0, weights, bias, loss)
    p = activated(outputs(x, head), loss)
    assert np.isnan(p[:, 2]).all()
    assert not np.isnan(p[:, :2]).any()
    if loss in ("ce", "kl"):
        np.testing.assert_allclose(p[:, :2].sum(axis=1), 1.0)


def test_an_encoder_gives_the_outputs_itself_and_a_wrong_number_of_them_is_refused() -> None:
    targets = Targets.even(np.array([[1.0, np.nan, 0.0]]), "bce")
    head = Head.of_encoder(FREE, targets)
    np.testing.assert_array_equal(outputs(np.array([[0.5, 7.0, -1.0]]), head), [[0.5, np.nan, -1.0]])
    with pytest.raises(BadParameter, match="must give 3 outputs"):
        outputs(np.ones((1, 2)), head)


def test_a_head_survives_saving() -> None:
    x, targets = some("kl")
    head = Head(Featurizer.unused(), FREE, 0.25, *fit_head(x, targets, 0.01), "kl")
    again = unpack(Head, *pack(head))
    np.testing.assert_array_equal(outputs(x, again), outputs(x, head))
    assert (again.loss, again.prefer) == ("kl", 0.25)
