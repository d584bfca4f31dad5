"""FrugalGPT: ask a learned list of members, and stop at the first answer that a learned scorer trusts enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import numpy as np

from septet.core.caps import Caps, PoolRule
from septet.core.errors import ConfigError
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Asking, Card, Kept, Plan, Rng, Seat, SeatPool, method, param
from septet.core.money import Load
from septet.core.table import Table
from septet.core.types import Floats, Query, Verdict
from septet.methods.c2_cascade._family import Cascade, Tried, verdict_of
from septet.methods.c2_cascade._frugal import (
    Completed,
    Divided,
    read_by_encoder,
    setting_of,
    trusted,
    worth_keeping,
)
from septet.parts.answers.certainty import mean_logp
from septet.parts.deferral.chain import Chain, Seen, search
from septet.parts.deferral.scorer import AnswerScorer, Given, fit_scorer
from septet.parts.deferral.semantic_cache import Hit, SemanticCache

CARD = Card(
    paper="2305.05176",
    title="FrugalGPT: How to Use Large Language Models While Reducing Cost and Improving Performance",
    facets=Facets(
        family=Family.CASCADE,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.COST,
        supervised=True,
        efficiency_aware=True,
    ),
    pool=PoolRule(at_least=2),
    trained=True,
    permutes=False,
    differs=(
        "the default scorer is a logistic regression on hashed TF-IDF, the answer's length and end, and its mean"
        " log-probability; the paper fine-tunes DistilBERT on the text, as scorer = encoder does with a role's encoder",
        "the fine-tuned encoder has one output for each member; the paper trains an encoder for each",
        "question and answer share the tokens that the encoder reads, the question at most half; a tenth of the"
        " scorer's questions choose its best epoch; its learning rate in the paper could not be verified",
        "scorer and thresholds are fitted on different questions; the released code uses the same ones",
        "an answer is accepted when its score is at least the threshold; the released code stores one minus it",
        "only the ten best lists of the grid are refined",
        "if every member of the list fails, the members that are not on it are asked",
        "the completion cache is off unless asked for: an answer is kept if it came to its end, and returned to the"
        " same tenant under the same instructions, never within a conversation; how alike a question has to be is ours,"
        " as the paper does not say it",
        "of prompt adaptation, prompts of different length are members of their own (like = …, prompt = …) among which"
        " the list is searched; which demonstrations a prompt keeps is not searched",
        "query concatenation is not built: it answers several users' questions in one call, and a request here is one"
        " question",
        "a surrogate fine-tuned on a member's answers is a member like any other; it is not made here",
    ),
)


HELD_OUT = 0.1
"""The share of the scorer's questions by which an encoder's best weights are chosen."""


@dataclass(frozen=True)
class Frugal:
    """What was learned: the scorer (None: the role `encoder` has it), and the list with its thresholds. `cache`: the
    answers that were kept since; another fit forgets them."""

    scorer: AnswerScorer | None
    chain: Chain
    cache: SemanticCache = field(default_factory=SemanticCache.empty)


@method(CARD)
class FrugalGPT(Cascade):
    """LLM cascade (2305.05176, section 3): max E[quality] subject to E[cost] ≤ b.

    g(query, answer, member) ∈ [0, 1] is the probability that the answer is right. The members of the list
    L = (l_1 … l_d), d ≤ depth, are asked in turn; the first with g ≥ τ_i is accepted, the last always.
    L and τ maximise the mean score on questions that the scorer has not seen, with mean cost ≤ b.
    Cost: between one call and d, the encoder's look at each answer if it is the scorer; none where the cache has the
    answer. Fails where g cannot tell right from wrong: then every saving costs quality.

    >>> from septet.core.method import SeatPool
    >>> from septet.parts.learning.tfidf import TfIdf
    >>> from septet.testing.scripted import drive, seat
    >>> words = TfIdf(np.ones(8))
    >>> weights = np.zeros((2, 11))
    >>> weights[:, 9] = -1.0      # a longer answer is less trusted
    >>> scorer = AnswerScorer(words, weights, np.full(2, 1.5), np.zeros(3), np.ones(3))
    >>> state = Frugal(scorer, Chain((0, 1), (0.6,), quality=0.8, cost=0.002))
    >>> pool = SeatPool((seat("smol"), seat("gemma")))
    >>> plan = FrugalGPT(features="text").plan(Query.of("2+3?"), pool, state, np.random.default_rng(0))
    >>> verdict, _ = drive(plan, {"smol": "It may be 4 or 5, who knows.", "gemma": "5"})
    >>> verdict.chosen, verdict.reason
    (1, 'confidence 0.13 < 0.60 after smol, so gemma was asked; it is last and always accepted')
    """

    depth: Annotated[int, param("The most members that one question may be put to.", ge=1, le=3)] = 3
    budget_usd: Annotated[
        float | None, param("The most that a question may cost on average; none: the best quality.", gt=0)
    ] = None
    features: Annotated[
        Literal["text", "text+logp"],
        param("What the scorer reads; log-probabilities must be offered by all."),
    ] = "text+logp"
    scorer_share: Annotated[
        float, param("Share of the questions that fit the scorer; the rest fit the thresholds.", gt=0, lt=1)
    ] = 0.45
    inverse_penalty: Annotated[
        float, param("Inverse strength of the linear scorer's squared penalty on weights.", gt=0, le=1000)
    ] = 1.0
    scorer: Annotated[
        Literal["linear", "encoder"],
        param(
            "linear: a regression on words and signs; encoder: an encoder fine-tuned for it, by that role."
        ),
    ] = "linear"
    lr: Annotated[float, param("Encoder: learning rate.", gt=0, le=0.1)] = 5e-5
    epochs: Annotated[int, param("Encoder: times that the answers are seen.", ge=1, le=1000)] = 8
    batch: Annotated[int, param("Encoder: answers per step.", ge=1, le=4096)] = 8
    max_length: Annotated[
        int, param("Encoder: tokens of question and answer that are read.", ge=16, le=8192)
    ] = 256
    l2: Annotated[float, param("Encoder: penalty of its first head.", ge=0)] = 1e-2
    cache: Annotated[
        Literal["off", "exact", "similar"],
        param("Whether an earlier answer is returned: to the same question, or also to one much like it."),
    ] = "off"
    alike: Annotated[
        float, param("The cosine with a kept question from which its answer is returned.", gt=0, le=1)
    ] = 0.95
    capacity: Annotated[int, param("Answers that are kept; the oldest go first.", ge=1, le=1_000_000)] = (
        10_000
    )

    state_type = Frugal

    @property
    def trainer(self) -> str:
        """The module of `septet.training` that fits it in place of `fit`; empty: none."""
        return "frugal-gpt" if self.scorer == "encoder" else ""

    @property
    def logprobs(self) -> int:  # type: ignore[override]
        """One alternative per token, where the scorer reads log-probabilities."""
        return int(self.features == "text+logp" and self.scorer == "linear")

    def needs(self) -> Caps:
        """Text; and log-probabilities, where the scorer reads them."""
        return Caps(text=True, logprobs=self.logprobs > 0, topk=self.logprobs)

    def roles(self) -> Mapping[str, Caps]:
        """The scorer, where it is an encoder, and who says how alike questions are."""
        found = {"encoder": Caps(rate=True)} if self.scorer == "encoder" else {}
        return found | ({"embedder": Caps(embed=True)} if self.cache == "similar" else {})

    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        """Every member once, each answer scored, and the question embedded."""
        loads, n = super().worst(query, pool), len(pool.members)
        asked = [(seat, Load(n, n)) for seat in (pool.role("encoder") if self.scorer == "encoder" else ())]
        asked += [(seat, Load(1, 1)) for seat in (pool.role("embedder") if self.cache == "similar" else ())]
        for seat, load in asked:
            loads[seat.name] = loads.get(seat.name, Load()) + load
        return loads

    # --- the fit ----------------------------------------------------------------------------------------

    def fit(self, table: Table, roles: Mapping[str, tuple[Seat, ...]], rng: Rng) -> Frugal:
        """The scorer on a share of the questions, the list and its thresholds on the others."""
        if self.scorer == "encoder":
            raise ConfigError("frugal-gpt with scorer = 'encoder' is fitted by septet.training")
        data = self.divided(table, rng)
        given = self._given(data.rows)
        scorer = fit_scorer(
            given.only(data.for_scorer),
            data.right[data.for_scorer],
            len(table.members),
            inverse_penalty=self.inverse_penalty,
        )
        return Frugal(scorer, self.listed(data, scorer.p_right(given.only(~data.for_scorer))))

    def divided(self, table: Table, rng: Rng) -> Divided:
        """The answers of a table, those that teach the scorer apart from the others."""
        return Divided.of(table, self.scorer_share, self.budget_usd, rng)

    def listed(self, data: Divided, confidence: Floats) -> Chain:
        """The best list and thresholds, by the confidence (h,) in each of the answers that taught no scorer."""
        held = ~data.for_scorer
        seen = Seen.of_rows(data.rows.rows(held), confidence, data.cost[held])
        return search(seen, depth=self.depth, budget=self.budget_usd, unit=data.unit)

    def _given(self, rows: Table) -> Given:
        logp = rows.numbers["logp"] if self.logprobs else np.full(len(rows), np.nan)
        return Given([rows.questions[q] for q in rows.query], [str(t) for t in rows.text], rows.member, logp)

    # --- the decision -----------------------------------------------------------------------------------

    def chain(self, pool: SeatPool, state: Frugal) -> Sequence[int]:
        """The learned list."""
        return state.chain.order

    def threshold_after(self, position: int, state: Frugal) -> float:
        """The learned threshold."""
        return state.chain.thresholds[position]

    def confidence(
        self, query: Query, so_far: Sequence[Tried], pool: SeatPool, state: Frugal
    ) -> Asking[float]:
        """g of the last answer."""
        last = so_far[-1]
        assert last.completion is not None
        if state.scorer is None:
            text = read_by_encoder(query.text, last.completion.text, self.max_length)
            (reply,) = yield [pool.role("encoder")[0].rate(query, [text], purpose="scoring")]
            logits = np.asarray(reply.value, dtype=np.float64)[0]  # (m,) one for each member
            return float(trusted(logits[last.member]))
        logp = mean_logp(last.completion.tokens) if self.logprobs else float("nan")
        member = np.array([last.member], dtype=np.int32)
        given = Given([query.text], [last.completion.text], member, np.array([logp]))
        return float(state.scorer.p_right(given)[0])

    # --- the completion cache ---------------------------------------------------------------------------

    def keep(self, event: Completed, state: Frugal, rng: Rng) -> Kept:
        """The state with one more answer."""
        kept = state.cache.keeping(event.row, event.question, event.text, event.setting, self.capacity)
        return Kept(len(kept), replace(state, cache=kept))

    def plan(self, query: Query, pool: SeatPool, state: Frugal, rng: Rng) -> Plan:
        """A kept answer, or down the list."""
        setting = None if self.cache == "off" else setting_of(query)
        if setting is None:
            return (yield from super().plan(query, pool, state, rng))
        hit, row, failed = state.cache.same(query.text, setting), np.empty(0), ""
        if hit is None and self.cache == "similar":
            (reply,) = yield [pool.role("embedder")[0].embed([query.text])]
            if reply.ok:
                row = np.asarray(reply.value, dtype=np.float64)[0]
                hit = state.cache.found(row, setting, self.alike)
            else:
                failed = f"{reply.error}, so no like question was looked for; "
        if hit is not None:
            return Verdict(text=hit.text, reason=_told(hit, query))
        so_far, stop = yield from self.walk(query, pool, state, rng)
        said = so_far[stop.index].samples[stop.sample]
        if worth_keeping(said) and not failed:
            yield [pool.keep(Completed(query.text, row, said.text, setting))]
        return verdict_of(so_far, replace(stop, reason=failed + stop.reason))


def _told(hit: Hit, query: Query) -> str:
    """Why nobody was asked."""
    if hit.question == query.text:
        return "the same question was answered before"
    return f"{hit.question!r} was answered before, which is like it (cosine {hit.similarity:.3f})"
