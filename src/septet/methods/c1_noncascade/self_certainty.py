"""Self-certainty: samples are ranked by how far from even their token distributions are, and vote by their rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np

from septet.core.caps import Caps
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Asking, Card, Rng, Seat, SeatPool, method, param
from septet.core.money import Load
from septet.core.types import Completion, Floats, Query, Verdict
from septet.methods.c1_noncascade._family import NonCascadeMethod
from septet.parts.answers import certainty
from septet.parts.answers.aggregate import borda
from septet.parts.answers.vote import VOID, Equality, outcomes, shares, winner

CARD = Card(
    paper="2502.18581",
    title="Scalable Best-of-N Selection for Large Language Models via Self-Certainty",
    facets=Facets(
        family=Family.NONCASCADE,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.PERFORMANCE,
        supervised=False,
    ),
    differs=(
        "approximate by default: from the listed alternatives of each token, the rest spread evenly, which is a lower"
        " bound of the paper's measure; rows = full reads the whole distributions and needs members that offer them",
        "without full rows the size of the vocabulary is a hyper-parameter, on which ranks hardly depend",
        "with full rows the answer is read once more by its member, token by token as it was written",
        "each member's samples are ranked among themselves, since certainty grows with the vocabulary; with one"
        " model, as in the paper, it is the same",
        "equal certainties share the mean of their votes; the paper does not say",
        "samples, temperature and power are ours: the paper's values for each number of samples could not be verified",
        "an answer that was cut off, or has no final answer, has no rank and no vote while there are others",
    ),
)


@method(CARD)
class SelfCertainty(NonCascadeMethod):
    """Borda voting by self-certainty (2502.18581, section 3).

    c(y) = (1/T) Σ_t KL(uniform ‖ p_t) = −(1/(T·V)) Σ_t Σ_v ln(V·p_tv) over T tokens and V words of the vocabulary. Of
    a member's N whole answers the one of rank r (1: most certain) has (N − r + 1)^power votes, times its seat's weight;
    the class of equal final answers with most votes wins (ties → the first seen), and in it the most certain answer.
    power 0 is plurality; a great one takes the most certain. Cost: n answers; full rows: each is read once more, which
    holds (T + 1)·V numbers. Fails where a model is surest of its habits, and with one sample per member (plurality).

    >>> from septet.core.types import Tokens
    >>> from septet.testing.scripted import drive, seat
    >>> def said(text, p):
    ...     top = ((b"x", np.log(p)), (b"y", np.log((1 - p) / 2)))
    ...     return Completion(member="ada", text=text, tokens=Tokens((b"x",), np.log([p]), (top,)))
    >>> answers = [said("The answer is 4.", .5), said("5", .9), said("4", .6), said("5", .8)]
    >>> pool = SeatPool((seat("ada"),))
    >>> plan = SelfCertainty(samples=4).plan(Query.of("2+2?"), pool, None, np.random.default_rng(0))
    >>> verdict, _ = drive(plan, {"ada": answers})
    >>> verdict.chosen, verdict.reason  # 2 + 1.732 against 1.414 + 1
    (1, "2 of 4 answers say '5', with 3.73 of 6.15 votes by self-certainty")
    """

    samples: Annotated[int, param("N: answers that each member gives.", ge=1, le=100)] = 8
    temperature: Annotated[float, param("Temperature of the samples.", ge=0, le=2)] = 0.6
    power: Annotated[float, param("p: how much more the more certain count; 0: all alike.", ge=0, le=100)] = (
        0.5
    )
    measure: Annotated[
        Literal["self-certainty", "negentropy", "logp"],
        param(
            "KL of the uniform from p, of p from the uniform, or the mean log-probability of what was said."
        ),
    ] = "self-certainty"
    rows: Annotated[
        Literal["top", "full"],
        param("Distributions by their likeliest tokens, or whole ones, in a second reading."),
    ] = "top"
    alternatives: Annotated[
        int, param("Listed alternatives per token, where rows are not full.", ge=1, le=1000)
    ] = 20
    vocabulary: Annotated[
        int,
        param(
            "V where rows are not full: it shifts all certainties nearly alike, so ranks hardly depend on it.",
            ge=2,
        ),
    ] = 100_000
    equality: Annotated[Equality, param("When final answers are equal: as written, or as mathematics.")] = (
        "exact"
    )

    @property
    def logprobs(self) -> int:  # type: ignore[override]
        """As many alternatives as are read."""
        return self.alternatives if self.rows == "top" and self.measure != "logp" else 1

    @property
    def _reads(self) -> bool:
        return self.rows == "full" and self.measure != "logp"

    def needs(self) -> Caps:
        return super().needs() | Caps(full=self._reads)

    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        loads = super().worst(query, pool)
        if self._reads:  # one session: opened, looked into once for each answer, closed
            more = Load(self.samples + 2, self.samples + 1, 0)
            loads = {m.name: loads[m.name] + more for m in pool.members}
        return loads

    def combine(
        self, query: Query, candidates: Sequence[Completion], pool: SeatPool, state: Any, rng: Rng
    ) -> Asking[Verdict]:
        found = outcomes(candidates, self.equality)
        able = [i for i, o in enumerate(found) if o not in VOID] or list(range(len(candidates)))
        seats: Mapping[str, Seat] = {m.name: m for m in pool.members}
        certain, votes = np.full(len(candidates), np.nan), np.zeros(len(candidates))
        notes = []
        for name in dict.fromkeys(candidates[i].member for i in able):
            own = [i for i in able if candidates[i].member == name]
            kept = [candidates[i] for i in own]
            certain[own], note = yield from self._certainties(query, seats[name], kept)
            votes[own] = borda(certain[own], self.power) * [c.weight for c in kept]
            notes += [f"; {note}"] if note else []
        posterior = shares(found, votes)
        best = winner(posterior)
        alike = [i for i in able if posterior.of[i] == best]
        chosen = alike[int(np.nan_to_num(certain[alike], nan=-np.inf).argmax())]
        total = f"{votes[alike].sum():.2f} of {votes.sum():.2f} votes by {self.measure}"
        return Verdict(
            chosen=chosen,
            posterior=posterior,
            weights=votes,
            confidence=float(posterior.p[best]),
            reason=f"{len(alike)} of {len(able)} answers say {posterior.classes[best]!r}, with {total}{''.join(notes)}",
        )

    def _certainties(
        self, query: Query, seat: Seat, kept: Sequence[Completion]
    ) -> Asking[tuple[Floats, str]]:
        """(n,) certainties of a member's answers, NaN where unknown; and what has to be said about them."""
        if self.measure == "logp":
            return np.array([certainty.mean_logp(c.tokens) for c in kept]), ""
        if self._reads:
            (opened,) = yield [seat.open(query)]
            if not opened.ok:
                return np.full(len(kept), np.nan), f"{seat.name} could not read its answers: {opened.error}"
            session = opened.value
            values = []
            for c in kept:
                pieces = [] if c.tokens is None else [t for t in c.tokens.texts if t]
                (reply,) = yield [session.look(pieces, None)]
                # a piece is judged by the distribution before it, so the one after the last is that of the end
                rows = [view.logp for view in reply.value[:-1]] if reply.ok else []
                values.append(self._measured(rows, 0))
            yield [session.close()]
            return np.array(values), ""
        tops = [c.tokens.top or () if c.tokens is not None else () for c in kept]
        return np.array(
            [self._measured([np.array([p for _, p in t]) for t in top], self.vocabulary) for top in tops]
        ), ""

    def _measured(self, rows: Sequence[Floats], size: int) -> float:
        measure = certainty.negentropy if self.measure == "negentropy" else certainty.self_certainty
        return measure(rows, size)
