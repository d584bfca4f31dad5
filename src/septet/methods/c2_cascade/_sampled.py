"""What the cascades over repeated samples share: every sample of everybody in one row, and a vote over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from septet.core.errors import NoCandidate
from septet.core.method import SeatPool
from septet.core.types import Completion
from septet.methods.c2_cascade._family import Stop, Tried
from septet.parts.answers.vote import outcome, shares, winner


@dataclass(frozen=True)
class Sample:
    """One answer of one member: where it stands (`index` into what was tried, `sample` there), what it says, and
    the text to be given instead of it, where it is a program."""

    index: int
    sample: int
    completion: Completion
    outcome: str
    text: str | None = None


def samples_of(so_far: Sequence[Tried]) -> list[Sample]:
    """All samples, in the order in which they were asked for."""
    return [
        Sample(index, sample, completion, outcome(completion))
        for index, tried in enumerate(so_far)
        for sample, completion in enumerate(tried.samples)
    ]


def voted(samples: Sequence[Sample], weights: Sequence[float], reason: str) -> Stop:
    """The answer with the largest weight; of its samples the first that counts and is no program, else the first.

    Ties → the answer that was seen first. `reason` may name it: "{answer}".
    """
    posterior = shares([s.outcome for s in samples], np.array(weights, dtype=np.float64))
    best = winner(posterior)
    counted = [w > 0 for w in weights] if any(w > 0 for w in weights) else [True] * len(samples)
    said = [(s, counts) for s, of, counts in zip(samples, posterior.of, counted, strict=True) if of == best]
    # where all that counts is void, an answer that does not count stands
    for_it = [s for s, counts in said if counts] or [s for s, _ in said]
    chosen = next((s for s in for_it if s.text is None), for_it[0])
    return Stop(
        chosen.index,
        reason.replace("{answer}", repr(posterior.classes[best])),
        sample=chosen.sample,
        posterior=posterior,
        confidence=float(posterior.p[best]),
        text=chosen.text,
    )


def nobody(so_far: Sequence[Tried], pool: SeatPool) -> NoCandidate:
    """The error where every member has failed, which names each."""
    failures = "; ".join(f"{pool.names[t.member]}: {t.error}" for t in so_far if t.completion is None)
    return NoCandidate(f"every member failed: {failures}")


def failed(so_far: Sequence[Tried], pool: SeatPool) -> str:
    """What is added to a reason where somebody failed."""
    names = [pool.names[t.member] for t in so_far if t.completion is None]
    return f"; failed: {', '.join(names)}" if names else ""
