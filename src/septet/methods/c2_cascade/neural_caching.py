"""Neural caching: a student learns from a member's answers and takes over what it is sure of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np

from septet.core.caps import Caps, PoolRule
from septet.core.errors import NoCandidate
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy, Tasks
from septet.core.method import Asking, Card, Kept, Plan, Rng, SeatPool, method, param
from septet.core.money import Load
from septet.core.types import Battle, Decision, Floats, Posterior, Query, Verdict
from septet.methods.c2_cascade._family import Cascade
from septet.methods.c2_cascade._streams import Answered, Arrived, Cache, Caches, Judged, stored
from septet.parts.answers.vote import VOID, outcome, shares, winner
from septet.parts.deferral.confidence import entropy, margin
from septet.parts.deferral.student import (
    agreeing,
    fit_student,
    obliged,
    softmax,
    top_two,
)
from septet.parts.learning.rows import Rows
from septet.parts.learning.tfidf import TfIdf

CARD = Card(
    paper="2310.13561",
    title="Cache me if you Can: an Online Cost-aware Teacher-Student framework to Reduce the Calls to Large"
    " Language Models",
    facets=Facets(
        family=Family.CASCADE,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.COST,
        supervised=False,
        tasks=Tasks.EXACT_MATCH,
        efficiency_aware=True,
    ),
    pool=PoolRule(at_least=1),
    online=True,
    scope="stream",
    permutes=False,
    differs=(
        "the student is a multinomial logistic regression on hashed words or on embeddings; the paper's is T5-base"
        " with LoRA",
        "labels are the final answers that the member has given so far, not a fixed set; a soft label is the share of"
        " the member's samples, one sample a hard one, where the paper has probabilities of class tokens",
        "the thresholds h are ours where none is given: the paper sets them by hand for each task and budget",
        "the margin is that of raw logits, as in the released code, so h is no probability",
        "an answer without a readable label is passed on and not stored",
        "the first member is the teacher; the next one is asked where it fails, and where all do the student answers;"
        " a call that failed has used up its unit of the budget",
        "a student is also fitted when the budget is spent, so that nothing that was paid for is left unlearned",
        "every tenant has a stream, a budget and a student of its own",
        "feedback teaches nothing",
    ),
)

N_BUCKETS = 1024
"""Buckets of the words that the student reads."""

N_OLDER = 4
"""Older students in the committee."""

Policy = Literal["front-load", "random", "margin", "entropy", "committee", "coreset"]

THRESHOLDS: Mapping[Policy, float] = {"margin": 1.0, "entropy": 0.5, "committee": 2.0, "coreset": 0.5}
"""h where none is given."""


@method(CARD)
class NeuralCaching(Cascade):
    """Student, policy and budget over a stream (2310.13561).

    Student: z = x·W + b (c,), fitted every `every` queries from zero weights on all stored pairs (x, soft label).
    The member is asked while there is budget and: seen < n_init, or what is left of the stream ≤ what is left of
    the budget, or there is no student; then by policy: front-load always; random with probability
    budget/(stream − n_init); margin if z₁ − z₂ < h; entropy if H(softmax z) > h; committee if at most h of 4 older
    students agree (always while there are fewer); coreset if the largest cosine with a stored question < h. Else
    the student answers.
    Cost: one call or none; now and then a fit of the student, which the request waits for.
    Fails on open answers, where hardly two questions share a label.

    >>> from septet.core.types import Completion
    >>> from septet.testing.scripted import drive, seat
    >>> cache, rng = NeuralCaching(n_init=4, every=4, budget=4, stream=9), np.random.default_rng(0)
    >>> states = [cache.begin(("gpt",))]
    >>> def script(ask):
    ...     if ask.do == "keep":
    ...         kept = cache.keep(ask.args["event"], states[-1], rng)
    ...         states.append(kept.state)
    ...         return kept.value
    ...     return [Completion(member="gpt", text="yes" if "good" in ask.args["query"].text else "no")]
    >>> for text in ("good film", "bad film", "a good play", "a bad play", "good food"):
    ...     verdict, _ = drive(cache.plan(Query.of(text), SeatPool((seat("gpt"),)), None, rng), script)
    >>> verdict.text, verdict.reason
    ('yes', 'the budget of calls is spent; so the student answered')
    """

    policy: Annotated[Policy, param("Which questions are put to the member beside those that must be.")] = (
        "margin"
    )
    budget: Annotated[int, param("Calls of the member over the whole stream.", ge=1, le=10**9)] = 1000
    stream: Annotated[int, param("Queries that the budget has to last for.", ge=1, le=10**9)] = 10_000
    n_init: Annotated[int, param("Queries at the start that are all put to the member.", ge=1, le=10**9)] = (
        100
    )
    every: Annotated[int, param("Queries between two fits of the student.", ge=1, le=100_000)] = 100
    h: Annotated[
        float | None,
        param("The policy's threshold; none: margin 1, entropy 0.5, committee 2, coreset 0.5.", ge=0),
    ] = None
    samples: Annotated[
        int, param("Answers per call of the member; their shares are the label.", ge=1, le=100)
    ] = 1
    min_margin: Annotated[
        float, param("Answers whose two largest shares are closer than this are not stored.", ge=0, le=1)
    ] = 0.0
    l2: Annotated[float, param("Squared penalty on the student's weights.", gt=0, le=10)] = 1e-3
    features: Annotated[
        Literal["words", "embedder"], param("What the student reads: hashed words, or a role's embeddings.")
    ] = "words"

    state_type = Caches

    def needs(self) -> Caps:
        """Text; several samples, where a label is a share of them."""
        return Caps(text=True, samples=self.samples > 1)

    def roles(self) -> dict[str, Caps]:
        """The embedder, where the student reads embeddings."""
        return {"embedder": Caps(embed=True)} if self.features == "embedder" else {}

    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        """One call."""
        n = self.samples
        loads = {m.name: Load(n, n, n * (query.max_tokens or 0)) for m in pool.members}
        for seat in pool.roles.get("embedder", ()):
            loads[seat.name] = loads.get(seat.name, Load()) + Load(1, 1)
        return loads

    # --- the state: changed by events, one after another ------------------------------------------------

    def begin(self, members: Sequence[str]) -> Caches:
        """No tenant has come yet."""
        return Caches((), ())

    def update(self, state: Caches, events: Sequence[Battle | Decision], rng: Rng) -> Caches:
        """Feedback teaches nothing."""
        return state

    def keep(self, event: Arrived | Answered, state: Caches, rng: Rng) -> Kept:
        """Decides on a query that arrived, or stores an answer."""
        place = {tenant: i for i, tenant in enumerate(state.tenants)}.get(event.tenant, len(state.tenants))
        if place == len(state.tenants):
            fresh = Cache(0, self.budget, event.row[[]], np.empty((0, 0)), (), (), 0)
            state = Caches((*state.tenants, event.tenant), (*state.caches, fresh))
        cache = state.caches[place]
        if isinstance(event, Arrived):
            cache = self._fitted(cache)
            said = self.judged(event.row, cache, rng)
            cache = replace(cache, seen=cache.seen + 1, left=cache.left - said.call)
        else:
            said, cache = None, stored(cache, event)
        return Kept(said, Caches(state.tenants, (*state.caches[:place], cache, *state.caches[place + 1 :])))

    def judged(self, row: Rows, cache: Cache, rng: Rng) -> Judged:
        """Whether to ask the member about a query with features `row` (1, d)."""
        x = row.dense()
        posterior = None
        if cache.students:
            student = cache.students[0]
            posterior = Posterior(classes=student.classes, p=softmax(student.logits(x))[0], of=())
        if cache.left <= 0:
            return Judged(False, "the budget of calls is spent", posterior)
        if cache.seen < self.n_init or posterior is None:
            return Judged(True, "it is the start of the stream", posterior)
        if obliged(cache.seen, cache.left, first=self.n_init, stream=self.stream):
            return Judged(True, "the budget covers the rest of the stream", posterior)
        return Judged(*self._by_policy(x, row, cache, rng), posterior)

    def _by_policy(self, x: Floats, row: Rows, cache: Cache, rng: Rng) -> tuple[bool, str]:
        h = THRESHOLDS.get(self.policy, 0.0) if self.h is None else self.h
        z = cache.students[0].logits(x)
        if self.policy == "front-load":
            return True, "there is budget"
        if self.policy == "random":
            p = min(1.0, self.budget / max(self.stream - self.n_init, 1))
            return bool(rng.random() < p), f"of such queries {p:.0%} are put to the member at random"
        if self.policy == "margin":
            value = float(top_two(z)[0])
            return value < h, f"the student's margin is {value:.3g}, the threshold {h:g}"
        if self.policy == "entropy":
            value = float(entropy(softmax(z))[0])
            return value > h, f"the student's entropy is {value:.3g}, the threshold {h:g}"
        if self.policy == "coreset":
            value = float(cache.rows.cosines(row).max(initial=-1.0))
            return value < h, f"the nearest stored question has cosine {value:.3g}, the threshold {h:g}"
        older = cache.students[1:]
        if len(older) < N_OLDER:
            return True, "the committee is not complete"
        votes = int(agreeing(cache.students[0], older, x)[0])
        return votes <= h, f"{votes} of {N_OLDER} older students agree, the threshold is {h:g}"

    def _fitted(self, cache: Cache) -> Cache:
        """With a new student, if one is due and anything was stored since the last."""
        due = cache.seen % self.every == 0 or cache.left <= 0
        if not due or len(cache.rows) == cache.learned:
            return cache
        student = fit_student(cache.rows.dense(), cache.shares, cache.classes, l2=self.l2)
        return replace(cache, students=(student, *cache.students[:N_OLDER]), learned=len(cache.rows))

    # --- the plan ---------------------------------------------------------------------------------------

    def plan(self, query: Query, pool: SeatPool, state: Caches, rng: Rng) -> Plan:
        """The student or the member; the decision is made on the latest state."""
        row = yield from self._row(query, pool)
        (reply,) = yield [pool.keep(Arrived(query.tenant, row))]
        judged: Judged = reply.value
        failed: list[str] = []
        for member in pool.members if judged.call else ():
            (reply,) = yield [member.complete(query, n=self.samples)]
            if not reply.ok:
                failed.append(f"{member.name} failed ({reply.error})")
                continue
            said = shares([outcome(c) for c in reply.value], np.ones(len(reply.value)))
            best = winner(said)
            labels = {n: float(p) for n, p in zip(said.classes, said.p, strict=True) if n not in VOID}
            if labels and margin(said.p) >= self.min_margin:
                yield [pool.keep(Answered(query.tenant, row, labels))]
            reason = "; ".join([judged.why, *failed, f"so {member.name} was asked"])
            return Verdict(
                chosen=said.of.index(best), posterior=said, confidence=float(said.p[best]), reason=reason
            )
        why = "; ".join([judged.why, *failed])
        if judged.posterior is None:
            raise NoCandidate(f"{why}; there is no student yet")
        best = int(judged.posterior.p.argmax())
        return Verdict(
            text=judged.posterior.classes[best],
            posterior=judged.posterior,
            confidence=float(judged.posterior.p[best]),
            reason=f"{why}; so the student answered",
        )

    def _row(self, query: Query, pool: SeatPool) -> Asking[Rows]:
        """(1, d) what the student reads, of length one."""
        if self.features == "words":
            return TfIdf(np.ones(N_BUCKETS)).rows([query.text])
        (reply,) = yield [pool.role("embedder")[0].embed([query.text])]
        return Rows.of(np.asarray(reply.value, dtype=np.float64))
