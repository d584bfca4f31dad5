"""Cascades: members are asked one after the other until an answer is good enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from septet.core.errors import NoCandidate
from septet.core.method import Asking, Method, Plan, Rng, SeatPool, asking
from septet.core.money import Load
from septet.core.types import Completion, Posterior, Query, Verdict


@dataclass(frozen=True)
class Tried:
    """A member that was asked: its answer and the confidence in it, or None, NaN and why it failed.

    `samples` are all its answers, where several were asked for; `completion` is the first of them.
    """

    member: int
    completion: Completion | None
    confidence: float
    error: str = ""
    samples: tuple[Completion, ...] = ()


@dataclass(frozen=True)
class Stop:
    """The answer is `so_far[index].samples[sample]`; `reason` is one plain sentence.

    A method that weighs answers against each other gives its `posterior` over all candidates so far, in the order
    in which they were asked for, and a `confidence` that replaces that of the chosen one. `text` is what the user
    gets where that is not the answer itself: what a program printed.
    """

    index: int
    reason: str = ""
    sample: int = 0
    posterior: Posterior | None = None
    confidence: float | None = None
    text: str | None = None


@dataclass(frozen=True)
class Run:
    """Ask this member next, and those of `also` at the same time: with another query if one is given, each
    for `samples` answers, drawn at `temperature` if the query does not say."""

    member: int
    query: Query | None = None
    samples: int = 1
    temperature: float | None = None
    also: tuple[int, ...] = ()

    @property
    def members(self) -> tuple[int, ...]:
        """All who are asked now."""
        return (self.member, *self.also)


class Cascade(Method):
    """Gives `confidence`; or also `next_step`, for what is not a chain with thresholds.

    `confidence(query, so_far, pool, state)` -> confidence in so_far[-1] · `next_step(query, so_far, pool,
    state, rng)` -> Stop or Run. Both may be generators of asks. A chain gives `chain` and `threshold_after`.
    """

    logprobs: int = 0
    """How many alternatives per token the members report with their answers; 0: no log-probabilities."""

    def confidence(
        self, query: Query, so_far: Sequence[Tried], pool: SeatPool, state: Any
    ) -> float | Asking[float]:
        """The confidence in the last answer."""
        raise NotImplementedError

    def chain(self, pool: SeatPool, state: Any) -> Sequence[int]:
        """The members in the order in which they are asked; all, in the pool's order, if not said otherwise."""
        return range(len(pool.members))

    def threshold_after(self, position: int, state: Any) -> float:
        """The confidence from which the answer of the chain's member at this position is accepted."""
        raise NotImplementedError

    def next_step(
        self, query: Query, so_far: Sequence[Tried], pool: SeatPool, state: Any, rng: Rng
    ) -> Stop | Run | Asking[Stop | Run]:
        """Down the chain until an answer reaches its threshold; the last is always accepted.

        Members off the chain are asked only when every one on it has failed.
        """
        chain = list(self.chain(pool, state))
        if so_far and so_far[-1].completion is not None and self._accepted(so_far[-1], chain, state):
            return Stop(len(so_far) - 1, self.story(so_far, len(so_far) - 1, chain, pool, state))
        tried = {t.member for t in so_far}
        if (following := next((i for i in chain if i not in tried), None)) is not None:
            return Run(following)
        if any(t.completion is not None for t in so_far):
            index = most_confident(so_far)
            return Stop(index, self.story(so_far, index, chain, pool, state))
        spare = next((i for i in range(len(pool.members)) if i not in tried), None)
        if spare is None:
            failures = "; ".join(f"{pool.names[t.member]}: {t.error}" for t in so_far)
            raise NoCandidate(f"every member failed: {failures}")
        return Run(spare)

    def _accepted(self, last: Tried, chain: Sequence[int], state: Any) -> bool:
        if last.member not in chain or last.member == chain[-1]:
            return True
        return last.confidence >= self.threshold_after(chain.index(last.member), state)

    def story(
        self, so_far: Sequence[Tried], index: int, chain: Sequence[int], pool: SeatPool, state: Any
    ) -> str:
        """One sentence: why each member was left and the chosen one kept."""
        parts = []
        for i, tried in enumerate(so_far):
            name, last = pool.names[tried.member], tried.member not in chain or tried.member == chain[-1]
            following = f", so {pool.names[so_far[i + 1].member]} was asked" if i + 1 < len(so_far) else ""
            if tried.completion is None:
                parts.append(f"{name} failed{following}")
            elif last:
                parts.append(f"{name if not parts else 'it'} is last and always accepted")
            else:
                compared = comparison(
                    tried.confidence, self.threshold_after(chain.index(tried.member), state)
                )
                parts.append(f"confidence {compared} after {name}{following}")
        if index != len(so_far) - 1:
            parts.append(f"{pool.names[so_far[index].member]} is the most confident that answered")
        return "; ".join(parts)

    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        """Every member once."""
        return {m.name: Load(1, 1, query.max_tokens or 0) for m in pool.members}

    def plan(self, query: Query, pool: SeatPool, state: Any, rng: Rng) -> Plan:
        """Ask, judge, stop or go on."""
        so_far, stop = yield from self.walk(query, pool, state, rng)
        return verdict_of(so_far, stop)

    def walk(self, query: Query, pool: SeatPool, state: Any, rng: Rng) -> Asking[tuple[list[Tried], Stop]]:
        """All who were asked, and which answer is taken."""
        so_far: list[Tried] = []
        while True:
            asked: Asking[Stop | Run] = asking(self.next_step(query, tuple(so_far), pool, state, rng))
            step = yield from asked
            if isinstance(step, Stop):
                return so_far, step
            put = step.query or query
            if put.temperature is None and step.temperature is not None:
                put = put.but(temperature=step.temperature)
            replies = yield [
                pool.members[i].complete(put, n=step.samples, logprobs=self.logprobs) for i in step.members
            ]
            for i, reply in zip(step.members, replies, strict=True):
                if not reply.ok:
                    so_far.append(Tried(i, None, float("nan"), str(reply.error)))
                    continue
                so_far.append(Tried(i, reply.value[0], float("nan"), samples=tuple(reply.value)))
                confidence = yield from asking(self.confidence(query, tuple(so_far), pool, state))
                so_far[-1] = replace(so_far[-1], confidence=float(confidence))


def verdict_of(so_far: Sequence[Tried], stop: Stop) -> Verdict:
    """The verdict for a stop; `chosen` counts the answers that there are, in the order of the asks."""
    before = sum(len(tried.samples) for tried in so_far[: stop.index])
    known = so_far[stop.index].confidence if stop.confidence is None else stop.confidence
    return Verdict(
        text=stop.text,
        chosen=before + stop.sample,
        posterior=stop.posterior,
        confidence=known,
        reason=stop.reason,
    )


def comparison(confidence: float, threshold: float) -> str:
    """Both numbers and their order, with as many digits as show that they differ, two at least.

    >>> comparison(0.9, 0.6), comparison(0.0720, 0.0723)
    ('0.90 ≥ 0.60', '0.0720 < 0.0723')
    """
    digits = next((d for d in range(2, 9) if f"{confidence:.{d}f}" != f"{threshold:.{d}f}"), 2)
    sign = "≥" if confidence >= threshold else "<"
    return f"{confidence:.{digits}f} {sign} {threshold:.{digits}f}"


def most_confident(so_far: Sequence[Tried]) -> int:
    """The answer with the highest confidence, the first of equals; an unknown one counts least."""
    known = [-np.inf if t.completion is None else np.nan_to_num(t.confidence, nan=-1e9) for t in so_far]
    return int(np.argmax(known))
