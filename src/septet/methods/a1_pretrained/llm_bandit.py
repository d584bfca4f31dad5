"""LLM Bandit: members as identity vectors, and a policy over them that is told how much cost matters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from septet.core.facets import Facets, Family, Goal, Granularity, Strategy, Utility
from septet.core.method import Card, Rng, method, param
from septet.core.types import Floats
from septet.methods.a1_pretrained._family import PretrainedRouter
from septet.parts.learning.adam import sigmoid, softmax
from septet.parts.learning.features import FeatureKind, Featurizer
from septet.parts.learning.rows import Features, dense
from septet.parts.routing.cost import Spending
from septet.parts.routing.policy import (
    Identities,
    Policy,
    Ppo,
    World,
    fit_identities,
    improve,
    in_precision,
    pretrain,
    untrained_policy,
)
from septet.parts.routing.records import Fitted, Known

CARD = Card(
    paper="2502.02743",
    title="LLM Bandit: Cost-Efficient LLM Generation via Preference-Conditioned Dynamic Routing",
    facets=Facets(
        family=Family.PRETRAINED,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.COST,
        supervised=True,
        efficiency_aware=True,
        utility=Utility.CONTINUOUS,
    ),
    trained=True,
    differs=(
        "the equations come from an unofficial re-implementation; what it chose itself is unverified: the"
        " identities' length, the weight of KL, clip, epochs, the weights of value and entropy",
        "the context is pooled by a mean over members, not by a set transformer",
        "the value network sees the query and the mean and largest prediction, not the whole context",
        "a member's cost is its mean in the outcomes, in tokens or calls where no USD are recorded",
        "few questions get fewer steps: at most 100 passes over them",
        "the policy is fitted in single precision",
        "the most likely member answers; whether the paper draws from the policy is unverified",
        "a new member needs a new fit; the paper fits its identity alone on 20 to 50 questions",
        "a price of cost per USD is taken off the policy's probability, beside its own preference w: ours",
    ),
)

BLOCK = 512
"""Questions whose nearest neighbour is looked for at once."""


@dataclass(frozen=True)
class Bandit(Fitted):
    """The members' identities, the policy (none for "supervised"), and relative costs (m,), the largest 1."""

    who: Identities
    policy: Policy | None
    relative_cost: Floats


@method(CARD)
class LlmBandit(PretrainedRouter):
    """Identity vectors I_m and a preference-conditioned policy (2502.02743, by a re-implementation).

    p̂_m(x) = σ(f(x, I_m)), (n, m). π(m | x, C, w) = softmax_m I_mᵀ h(x, C, w), with C = {(I_m, c̄_m, p̂_m)}.
    "pretrained": cross-entropy towards argmax_m p̄_m/max p̄ − w·c_m/max c, p̄ calibrated, w ∼ U(0, 2);
    "ppo": then clipped policy gradient on (score, −cost)·(1, w). Utility is π at the `preference` w.
    "supervised": utility p̄, without a policy: given the scores of all members, argmax p̄ − λ·c is what the
    policy learns to imitate.
    Cost: two small networks; the fit some thousand steps. Fails like its p̂: the policy knows nothing else.

    >>> from septet.core.table import Table
    >>> rows = [{"query": q, "model": m, "score": float(m == right)}
    ...         for q, right in [("add two and two", "sum"), ("who wrote Faust", "wit")] for m in ("sum", "wit")]
    >>> router, rng = LlmBandit(decision="supervised", features="tf-idf", lr=0.05, epochs=60), np.random.default_rng(0)
    >>> state = router.fit(Table.of(rows), {}, rng)
    >>> router.utility(state.featurizer.rows(["add two", "who wrote"]), state).argmax(axis=1).tolist()
    [0, 1]
    """

    decision: Annotated[
        Literal["ppo", "pretrained", "supervised"],
        param("The whole policy, the policy after supervised pre-training, or predicted quality alone."),
    ] = "ppo"
    preference: Annotated[
        float, param("What the dearest member's cost is worth, in shares of the best score.", ge=0, le=2)
    ] = 0.0
    size: Annotated[int, param("Length of an identity vector.", ge=1, le=1024)] = 16
    kl: Annotated[float, param("Weight of the identities' KL to the prior.", ge=0, le=10)] = 1e-3
    hidden: Annotated[int, param("Hidden units of the policy's networks.", ge=1, le=4096)] = 64
    lr: Annotated[float, param("Learning rate of all stages.", gt=0, le=1)] = 1e-3
    epochs: Annotated[int, param("Passes over the questions for the identities.", ge=1, le=10000)] = 10
    batch: Annotated[int, param("Questions per step for identities and PPO.", ge=1, le=65536)] = 256
    pretrain_batch: Annotated[int, param("Questions per step of pre-training.", ge=1, le=65536)] = 1024
    steps: Annotated[int, param("Steps of pre-training, and of PPO.", ge=1, le=100000)] = 500
    clip: Annotated[float, param("How far PPO lets a probability's ratio move.", gt=0, lt=1)] = 0.2
    ppo_epochs: Annotated[int, param("Updates from one batch of episodes.", ge=1, le=100)] = 4
    value_weight: Annotated[float, param("Weight of the value network's loss.", ge=0, le=10)] = 0.5
    entropy: Annotated[float, param("Weight of the policy's entropy.", ge=0, le=10)] = 0.01
    mixup: Annotated[
        float, param("Parameter of the Beta that blends questions with their nearest; 0: no.", ge=0, le=10)
    ] = 0.2
    features: FeatureKind = "lsa"

    state_type = Bandit

    @property
    def quality(self) -> str:  # type: ignore[override]
        """What the utility is."""
        supervised = self.decision == "supervised"
        return "chance to be right" if supervised else "probability that the policy asks it"

    def learn(self, known: Known, featurizer: Featurizer, x: Features, rng: Rng) -> Bandit:
        """Identities first, then the policy on what they predict."""
        rows = dense(x)
        who = fit_identities(
            rows,
            known.scores,
            known.members,
            rng,
            size=self.size,
            kl=self.kl,
            rate=self.lr,
            batch=self.batch,
            epochs=self.epochs,
        )
        cost = relative_cost(known.spending)
        if self.decision == "supervised":
            return Bandit(featurizer, known.spending, 0.0, who, None, cost)
        policy = in_precision(untrained_policy(rows.shape[1], self.size, self.hidden, rng), np.float32)
        raw = sigmoid(who.logits(rows))
        world = World(rows, who.calibrated(rows), raw, known.scores, known.members, who.mean, cost)
        world = world.in_precision(np.float32)
        pretrain(policy, world, rng, rate=self.lr, batch=self.pretrain_batch, steps=self.steps, w_max=2.0)
        if self.decision == "ppo":
            how = Ppo(
                rate=self.lr,
                batch=self.batch,
                steps=self.steps,
                clip=self.clip,
                epochs=self.ppo_epochs,
                value=self.value_weight,
                entropy=self.entropy,
                mixup=self.mixup,
            )
            near = nearest_other(rows) if self.mixup else np.arange(len(rows))  # without mix-up nobody looks
            improve(policy, world, near, rng, how)
        return Bandit(featurizer, known.spending, 0.0, who, in_precision(policy, np.float64), cost)

    def utility(self, x: Features, state: Bandit) -> Floats:
        """(n, m) π at the preference, or the calibrated chance to be right."""
        rows = dense(x)
        if state.policy is None:
            return state.who.calibrated(rows)
        raw = sigmoid(state.who.logits(rows))
        w = np.full(len(rows), self.preference)
        return softmax(state.policy.logits(rows, raw, w, state.who.mean, state.relative_cost))


def relative_cost(spending: Spending) -> Floats:
    """(m,) cost of a call over the largest: in USD, else in tokens, else alike; an unknown one is the mean.

    >>> nan = np.full(2, np.nan)
    >>> relative_cost(Spending(np.array([0.001, 0.004]), nan, nan, nan)).tolist()
    [0.25, 1.0]
    """
    for cost in (spending.usd, spending.prompt_tokens + spending.completion_tokens):
        known = ~np.isnan(cost)
        if known.any() and cost[known].max() > 0:
            filled = np.where(known, cost, cost[known].mean())
            shares: Floats = filled / filled.max()
            return shares
    return np.ones(len(spending.usd))


def nearest_other(x: Floats) -> NDArray[np.int64]:
    """(r,) the most similar other row of each row of x (r, d); the first of equally similar ones.

    >>> nearest_other(np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])).tolist()
    [1, 0, 1]
    """
    found, rows = [], x.astype(np.float32)  # half the time; which of two near equals it is matters little
    for first in range(0, len(x), BLOCK):
        similarity = rows[first : first + BLOCK] @ rows.T
        at = np.arange(len(similarity))
        similarity[at, first + at] = -np.inf
        found.append(similarity.argmax(axis=1))
    return np.concatenate(found)
