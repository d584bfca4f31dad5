"""LLM-Blender: answers are compared in pairs; the best ones are put together into one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal

import numpy as np

from septet.core.caps import Caps, PoolRule
from septet.core.errors import BadParameter, ConfigError
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Asking, Card, Rng, Seat, SeatPool, method, param
from septet.core.money import Load
from septet.core.table import Table
from septet.core.types import Completion, Floats, Query, Verdict
from septet.methods.c1_noncascade._family import NonCascadeMethod
from septet.methods.c1_noncascade._regeneration import FUSER, last_word, with_fuser
from septet.parts.answers.aggregate import Tie, best_of
from septet.parts.answers.judging import Judging, judged
from septet.parts.answers.pair_ranker import LinearRanker, Pairs, fit_linear, joined
from septet.parts.answers.ranking import bubble, max_logits, max_wins
from septet.parts.answers.vote import VOID, outcome, shares
from septet.parts.learning.adam import softmax

CARD = Card(
    paper="2306.02561",
    title="LLM-Blender: Ensembling Large Language Models with Pairwise Ranking and Generative Fusion",
    facets=Facets(
        family=Family.NONCASCADE,
        strategy=Strategy.REGENERATION,
        granularity=Granularity.RESPONSE,
        goal=Goal.PERFORMANCE,
        supervised=True,
    ),
    pool=PoolRule(at_least=2),
    trained=True,
    permutes=False,  # judges see pairs with a nonce that is drawn, and so is the winner of a tie
    differs=(
        "the encoder has one output, the logit that the first answer is better; the paper's has one for each, and"
        " their difference is this logit",
        "one score of the table says which answer is better; the paper averages the loss over several measures",
        "question and answers have a third each of the tokens that are read; the paper has 128 for each",
        "the default ranker is a logistic regression on features of single answers, which cannot see how two answers"
        " relate; a judge that is asked in words stands in for a ranker without a fit",
        "the fuser is any model under a prompt; the paper fine-tunes Flan-T5-XL for it",
        "an answer that was cut off or is empty is neither compared nor fused while there are whole ones",
        "seats' weights are not used: an answer counts by its comparisons alone",
        "all pairs that differ in score are learned from, at most `pairs` of a question; how many the paper draws could"
        " not be verified",
    ),
)

HELD_OUT = 0.1
"""The share of the questions by which an encoder's best weights are chosen."""


@method(CARD)
class LlmBlender(NonCascadeMethod):
    """PairRanker and GenFuser (2306.02561, sections 3 and 4).

    L (n, n): the logit that answer i beats answer j where i is shown first. max-logits: argmax_i Σ_j (L_ij − L_ji);
    max-wins counts the signs; bubble: who stands so far against the next, n − 1 comparisons in both orders. The fuser
    writes from the `fuse` best; 0: the best one is the answer. Cost: n answers; n(n − 1) passes of the encoder, or as
    many judgements; 1 call of the fuser. Fails where the ranker was learned on other kinds of answers, and where a
    weak fuser spoils what was right.

    >>> from septet.testing.scripted import drive, seat
    >>> rows = [{"query_id": f"q{i}", "query": f"Sum {i}?", "model": m, "response": text, "score": s}
    ...         for i in range(9) for m, text, s in (("ada", f"it is {i}", 1), ("bob", "no idea at all, sorry", 0))]
    >>> blender = LlmBlender(fuse=0)
    >>> state = blender.fit(Table.of(rows), {}, np.random.default_rng(0))
    >>> plan = blender.plan(Query.of("Sum 3?"), SeatPool((seat("ada"), seat("bob"))), state, np.random.default_rng(0))
    >>> drive(plan, {"ada": "it is 3", "bob": "no idea at all, sorry"})[0].chosen
    0
    """

    ranker: Annotated[
        Literal["linear", "encoder", "judge"],
        param(
            "linear: a regression on features; encoder: a cross-encoder fine-tuned for it, by the role of that name;"
            " judge: models that are asked in words, without a fit."
        ),
    ] = "linear"
    aggregate: Annotated[
        Literal["max-logits", "max-wins", "bubble"], param("How comparisons make an order.")
    ] = "max-logits"
    fuse: Annotated[int, param("K: answers that the fuser reads; 0: the best one is taken.", ge=0, le=50)] = 3
    tie: Annotated[Tie, param("Which of answers with the same score is better.")] = "best-member"
    pairs: Annotated[int, param("Pairs of a question that are learned from, at most.", ge=1, le=10_000)] = 10
    l2: Annotated[float, param("Penalty of the regression, and of the encoder's first head.", ge=0)] = 1e-2
    lr: Annotated[float, param("Encoder: learning rate.", gt=0, le=0.1)] = 1e-5
    epochs: Annotated[int, param("Encoder: times that the pairs are seen.", ge=1, le=1000)] = 5
    batch: Annotated[int, param("Encoder: pairs per step.", ge=1, le=4096)] = 64
    max_length: Annotated[
        int, param("Encoder: tokens of a question and two answers that are read.", ge=24, le=8192)
    ] = 384

    state_type = LinearRanker

    def __post_init__(self) -> None:
        if self.aggregate == "bubble" and self.fuse:
            raise BadParameter(
                "llm-blender.fuse",
                self.fuse,
                "must be 0 with aggregate = bubble: one pass finds the best answer only, not the best K",
            )

    @property
    def trainer(self) -> str:
        """The module of `septet.training` that fits it in place of `fit`; empty: none."""
        return "llm-blender" if self.ranker == "encoder" else ""

    def roles(self) -> Mapping[str, Caps]:
        asked = {"linear": {}, "encoder": {"encoder": Caps(rate=True)}, "judge": {"judge": Caps(text=True)}}
        return {**asked[self.ranker], **(FUSER if self.fuse else {})}

    def begin(self, members: Sequence[str]) -> LinearRanker | None:
        """Judges need nothing that was learned."""
        return LinearRanker.unused() if self.ranker == "judge" else None

    def fit(self, table: Table, roles: Mapping[str, tuple[Seat, ...]], rng: Rng) -> LinearRanker:
        """The regression, from pairs of recorded answers whose scores differ."""
        if self.ranker != "linear":
            why = "is fitted by septet.training" if self.ranker == "encoder" else "learns nothing"
            raise ConfigError(f"llm-blender with ranker = {self.ranker!r} {why}")
        return fit_linear(Pairs.of(table, self.pairs, rng), self.l2)

    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        loads, n = super().worst(query, pool), len(pool.members)
        if self.ranker == "encoder":
            seats = {seat.name: Load(n - 1 if self.aggregate == "bubble" else 1, n * (n - 1), 0)
                     for seat in pool.role("encoder")}  # fmt: skip
        else:
            judges = pool.role("judge") if self.ranker == "judge" else ()
            seats = Judging("pair").loads(query, n, judges)
        for name, load in seats.items():
            loads[name] = loads.get(name, Load()) + load
        return with_fuser(loads, pool.role("fuser")[0], query) if self.fuse else loads

    def combine(
        self,
        query: Query,
        candidates: Sequence[Completion],
        pool: SeatPool,
        state: LinearRanker,
        rng: Rng,
    ) -> Asking[Verdict]:
        able = [i for i, c in enumerate(candidates) if outcome(c) not in VOID] or list(range(len(candidates)))
        kept = [candidates[i] for i in able]
        if len(kept) == 1:
            return Verdict(chosen=able[0], reason="one answer is whole, so it is taken and not compared")

        def logits(of: Sequence[int]) -> Asking[Floats]:
            return self._logits(query, [kept[i].text for i in of], pool, state, rng)

        if self.aggregate == "bubble":
            best = yield from _bubbled(logits, len(kept))
            who = kept[best].member
            return Verdict(
                chosen=able[best], reason=f"{who}'s answer won one pass of {len(kept) - 1} comparisons"
            )
        found = yield from logits(range(len(kept)))
        worth = max_logits(found) if self.aggregate == "max-logits" else max_wins(found)
        order = ranked(worth, kept, self.tie, rng)
        best, k = order[0], min(self.fuse, len(kept))
        if k > 1:
            names = ", ".join(kept[i].member for i in order[:k])
            what = f"the {k} best of {len(kept)} answers: {names}"
            return (
                yield from last_word(
                    pool.role("fuser")[0], query, [kept[i].text for i in order[:k]], what, "", rng
                )
            )
        full = np.zeros(len(candidates))
        full[able] = softmax(worth[None])[0]
        return Verdict(
            chosen=able[best],
            posterior=shares([c.text for c in candidates], full),
            reason=f"{kept[best].member}'s answer is the best of {len(kept)} by {self.aggregate}: {worth[best]:.2f}",
        )

    def _logits(
        self, query: Query, texts: Sequence[str], pool: SeatPool, state: LinearRanker, rng: Rng
    ) -> Asking[Floats]:
        """(n, n) the logit that answer i beats answer j where i is shown first; NaN: it is not known."""
        n = len(texts)
        if self.ranker == "linear":
            worth = state.worth(query.text, texts)
            return worth[:, None] - worth[None, :]
        if self.ranker == "judge":
            return (yield from _by_judges(query, texts, pool.role("judge"), rng))
        places = [(i, j) for i in range(n) for j in range(n) if i != j]
        read = [joined(query.text, texts[i], texts[j], self.max_length) for i, j in places]
        replies = yield [seat.rate(query, read, purpose="comparison") for seat in pool.role("encoder")]
        given = np.mean([np.asarray(r.value, dtype=np.float64)[:, 0] for r in replies], axis=0)
        found = np.zeros((n, n))
        for (i, j), value in zip(places, given, strict=True):
            found[i, j] = value
        return found


def ranked(worth: Floats, kept: Sequence[Completion], tie: Tie, rng: Rng) -> list[int]:
    """The places of the answers, best first."""
    left, order = list(range(len(kept))), list[int]()
    while left:
        best = left[best_of(worth[left], [kept[i] for i in left], tie, rng)]
        order.append(best)
        left.remove(best)
    return order


def _bubbled(logits: Callable[[Sequence[int]], Asking[Floats]], n: int) -> Asking[int]:
    """One pass; both orders of a comparison count."""

    def better(i: int, j: int) -> Asking[bool]:
        found = np.nan_to_num((yield from logits([i, j])))
        return bool(found[0, 1] > found[1, 0])

    return (yield from bubble(better, n))


def _by_judges(query: Query, texts: Sequence[str], judges: Sequence[Seat], rng: Rng) -> Asking[Floats]:
    """(n, n) by how many levels answer i is above answer j where i is shown first, the mean over the judges."""
    said = yield from judged(query, texts, judges, Judging("pair", unread="out"), rng)
    n = len(texts)
    total, count = np.zeros((n, n)), np.zeros((n, n))
    for levels, places in zip(said.views.reshape(-1, n), said.places.reshape(-1, n), strict=True):
        shown = np.flatnonzero(places >= 0)
        if len(shown) == 2:
            i, j = shown[np.argsort(places[shown])].tolist()
            if not np.isnan(levels[[i, j]]).any():
                total[i, j] += levels[i] - levels[j]
                count[i, j] += 1
    found: Floats = np.divide(total, count, out=np.full((n, n), np.nan), where=count > 0)
    return found
