"""Span level: members write short continuations, all score all of them, and one is committed to everyone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from septet.core.caps import Caps
from septet.core.method import Asking, Method, Plan, Rng, SeatPool, asking
from septet.core.money import Load
from septet.core.types import Query, Verdict
from septet.methods.b2_span._together import Candidate, Scores, Spans, Together


class SpanMethod(Method):
    """Gives `start`, `spans` and `choose`; one whose members do not each write one span gives `propose`, too.
    Candidates come sorted by bytes, so that a tie does not depend on the members' order. A method whose
    `conclude` may take another text does not stream."""

    def start(self, query: Query, pool: SeatPool, prepared: Any, state: Any) -> Any:
        """The request's value s, before the first span."""
        return None

    def spans(self, s: Any) -> Spans:
        """How the next spans are written."""
        return Spans()

    def propose(self, together: Together, s: Any) -> Asking[tuple[list[Candidate], Any]]:
        """The candidates for the next span, and the next s; by default a span of each member."""
        return (yield from together.written(self.spans(s))), s

    def choose(
        self, candidates: Sequence[Candidate], tokens: Scores, s: Any
    ) -> tuple[int, Any] | Asking[tuple[int, Any]]:
        """The index of the span that is committed, and the next s; may be a generator of asks.

        `tokens` is [member][candidate]; all are None where a sole candidate was not scored.
        """
        raise NotImplementedError

    def conclude(self, query: Query, verdict: Verdict, pool: SeatPool, s: Any) -> Verdict | Asking[Verdict]:
        """The final verdict, or a generator of asks that comes to it."""
        return verdict

    @property
    def streams(self) -> bool:
        """Whether a committed span is sure to be in the answer."""
        return True

    def needs(self) -> Caps:
        return Caps(text=True, continues=True, score=True, topk=1)

    def offers(self, members: Sequence[Caps]) -> Caps:
        """It streams, and continues a partial answer where all members do."""
        continues = all(m.continues for m in members)
        return replace(super().offers(members), stream=self.streams, continues=continues)

    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        """One session per member, fed once, and as many tokens as the answer may have."""
        return {m.name: Load(1, 1, query.max_tokens or 0) for m in pool.members}

    def plan(self, query: Query, pool: SeatPool, state: Any, rng: Rng) -> Plan:
        s = self.start(query, pool, pool.prepared, state)
        together = Together(query, pool, int(rng.integers(2**32)))
        together.opened((yield [m.open(query) for m in pool.members]))
        while together.finish is None:
            spans = self.spans(s)
            yield from together.staying(spans.who)
            candidates, s = yield from self.propose(together, s)
            if not candidates:
                break  # every context is full
            if spans.ended_wins:
                candidates = [c for c in candidates if c.ended] or candidates
            tokens = yield from together.scored(candidates, spans)
            index, s = yield from asking(self.choose(candidates, tokens, s))
            yield from together.committed(candidates[index], self.streams)
        return (yield from asking(self.conclude(query, together.verdict(), pool, s)))
