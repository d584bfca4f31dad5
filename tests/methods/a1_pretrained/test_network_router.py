"""What all routers with one network share: the seam of the encoder, held-out questions, and features."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from septet.core.caps import Caps
from septet.core.errors import BadParameter, ConfigError
from septet.core.method import SeatPool
from septet.core.types import Completion, Floats, Query
from septet.methods.a1_pretrained.routoo import Routoo
from septet.methods.a1_pretrained.zooter import Zooter
from septet.parts.learning.targets import Targets
from septet.parts.routing.cost import Spending
from septet.parts.routing.network import Head
from septet.testing.scripted import drive, seat
from septet.testing.toys import toy_table

FREE = Spending(*(np.full(2, np.nan) for _ in range(4)))
TWO = Head.of_encoder(FREE, Targets.even(np.full((1, 2), 0.5), "kl"))


def encoder(name: str) -> Any:
    return seat(name, rate=True)


def plan_with(outputs: dict[tuple[str, str], list[float]], questions: list[str], encoders: list[str]) -> Any:
    """Who is asked for each question, where encoder e says outputs[e, question]."""
    router, rng = Zooter(network="encoder"), np.random.default_rng(0)

    def script(ask: Any) -> Any:
        if ask.do == "decide":
            return router.choose(**ask.args, state=TWO, rng=rng)
        if ask.do == "rate":
            (text,) = ask.args["texts"]
            assert ask.args["query"].text == text
            return np.array([outputs[ask.to.name, text]])
        return [Completion(member=ask.to.name, text="4")]

    pool = SeatPool((seat("a"), seat("b")), {"encoder": tuple(encoder(e) for e in encoders)})
    plans, asked = drive(router.plan_many([Query.of(q) for q in questions], pool, TWO, rng), script)
    return [next(p)[0].to.name for p in plans], len(asked[0])


def test_with_an_encoder_its_raw_outputs_are_the_features() -> None:
    assert Zooter(network="encoder").roles() == {"encoder": Caps(rate=True)}
    assert Zooter(network="encoder").trainer == "encoder"
    chosen, n_asks = plan_with(
        {("e", "sums"): [2.0, 0.0], ("e", "poets"): [0.0, 1.0]}, ["sums", "poets"], ["e"]
    )
    assert chosen == ["a", "b"]
    assert n_asks == 2  # one per question, all in one step


def test_several_encoders_are_averaged() -> None:
    # raw outputs (2, 0) and (0, 3): the mean (1, 1.5) prefers b
    chosen, _ = plan_with({("e", "sums"): [2.0, 0.0], ("f", "sums"): [0.0, 3.0]}, ["sums"], ["e", "f"])
    assert chosen == ["b"]


def test_an_encoder_with_other_outputs_than_members_is_refused() -> None:
    with pytest.raises(BadParameter, match="must give 2 outputs"):
        plan_with({("e", "sums"): [2.0, 0.0, 1.0]}, ["sums"], ["e"])


def test_what_an_encoder_needs_is_not_fitted_here() -> None:
    with pytest.raises(ConfigError, match=r"septet\.training"):
        Zooter(network="encoder").fit(toy_table(20), {}, np.random.default_rng(0))


def test_a_linear_head_needs_no_role_and_no_trainer() -> None:
    assert dict(Zooter().roles()) == {}
    assert Zooter().trainer == ""


def test_questions_are_held_out_only_for_what_is_set_on_them() -> None:
    rng = np.random.default_rng(0)
    assert Routoo().held_out(60, rng).sum() == 0
    assert Routoo(budget_usd=1e-3).held_out(60, rng).sum() == 6
    assert Routoo(network="encoder").held_out(60, rng).sum() == 6


@pytest.mark.parametrize("features", ["lsa", "tf-idf", "surface", "task"])
def test_every_kind_of_features_fits_and_predicts(features: Any) -> None:
    router = Zooter(features=features)
    state = router.fit(toy_table(24), {}, np.random.default_rng(0))
    x = state.featurizer.rows(["Is 8 plus two even or odd? Say even."], ["parity-even"])
    q: Floats = router.utility(x, state)
    np.testing.assert_allclose(q.sum(axis=1), 1.0)
