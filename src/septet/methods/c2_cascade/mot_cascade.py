"""Mixture of thought: an answer on which a weak model's ways of thinking agree stands; else a strong one is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from septet.core.caps import Caps, PoolRule
from septet.core.errors import BadParameter
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Asking, Card, Rng, SeatPool, method, param
from septet.core.money import Load
from septet.core.types import Query
from septet.methods.c2_cascade._family import Cascade, Run, Stop, Tried, comparison
from septet.methods.c2_cascade._programs import executed
from septet.methods.c2_cascade._sampled import Sample, failed, nobody, samples_of, voted
from septet.parts.answers.vote import VOID, outcome
from septet.parts.deferral.consistency import agreed

CARD = Card(
    paper="2310.03094",
    title="Large Language Model Cascades with Mixture of Thoughts Representations for Cost-efficient Reasoning",
    facets=Facets(
        family=Family.CASCADE,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.COST,
        supervised=False,
        efficiency_aware=True,
    ),
    pool=PoolRule(at_least=2, order="weak-strong"),
    permutes=False,
    differs=(
        "the prompts are members (`like` and `prompt`), so the paper's ten variants are two rules over pools: one or"
        " two demonstration sets, chain or program of thought; demonstrations stand in the members' prompts",
        "10 samples of each weak member, as with two prompts and the paper's K = 20; the paper shares K among the"
        " prompts so that the cost of demonstrations is matched",
        "programs are run only with execute = true: a fenced block, or a text that is a program by itself; what they"
        " print is the answer, or the variable `ans`; else they count as they are written",
        "an answer that was cut off counts as one that could not be read",
        "a weak member that fails is left out of the vote; with verify, one that is left alone is not believed",
        "if the strong member fails, or nothing that it says can be read, what most weak samples say is returned",
    ),
)


@method(CARD)
class MotCascade(Cascade):
    """Mixture-of-thought cascade (2310.03094, section 3.2).

    The weak members, all but the last, give K samples each, at once; s = max_a n_a / n over the union of all n
    samples, those that could not be read counting in n. vote: the answer stands if s ≥ threshold; verify: if the
    majority answers of all weak members coincide. Else the last member answers (the majority of its own samples).
    Cost: (n_members − 1)·K weak samples, and the strong member for the share that is handed on. Fails where the
    weak model is sure and wrong in both ways of thinking.

    >>> from numpy.random import default_rng
    >>> from septet.testing.scripted import drive, seat
    >>> pool = SeatPool((seat("cot"), seat("pot"), seat("strong")))
    >>> said = {"cot": ["18", "18", "20"], "pot": ["18", "I do not know what to say", "18"], "strong": "17"}
    >>> verdict, _ = drive(MotCascade(samples=3).plan(Query.of("9+9?"), pool, None, default_rng(0)), said)
    >>> verdict.chosen, verdict.reason
    (0, "0.67 ≥ 0.60: 4 of 6 samples of cot, pot say '18'")
    """

    rule: Annotated[
        Literal["vote", "verify"],
        param(
            "vote: the share of the most frequent answer decides; verify: the members' majorities coincide."
        ),
    ] = "vote"
    threshold: Annotated[float, param("Share from which vote accepts.", ge=0, le=1)] = 0.6
    samples: Annotated[int, param("Answers of each weak member.", ge=1, le=100)] = 10
    temperature: Annotated[float, param("Temperature of samples, where there are several.", ge=0, le=2)] = 0.4
    strong_samples: Annotated[
        int, param("Answers of the strong member, of which the most frequent counts.", ge=1, le=100)
    ] = 1
    execute: Annotated[
        bool, param("Programs among the answers are run by the role `executor`, and their output counts.")
    ] = False

    def needs(self) -> Caps:
        """Of a weak member."""
        return Caps(text=True, samples=self.samples > 1)

    def needs_of(self, place: int, n_members: int) -> Caps:
        """The last member is the strong one."""
        n = self.strong_samples if place == n_members - 1 else self.samples
        return Caps(text=True, samples=n > 1)

    def roles(self) -> Mapping[str, Caps]:
        return {"executor": Caps(run=True)} if self.execute else {}

    def prepare(self, pool: Any) -> None:
        if self.rule == "verify" and len(pool.members) < 3:
            raise BadParameter(
                f"{self.name}.rule",
                self.rule,
                "compares weak members, so the pool must hold two of them and a strong one",
            )

    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        """All samples of all; an ensemble gives its samples one by one. If the strong member fails, the programs of
        the weak ones are run once more."""
        *weak, strong = pool.members
        counts = {m.name: self.samples for m in weak} | {strong.name: self.strong_samples}
        loads = {name: Load(n, n, n * (query.max_tokens or 0)) for name, n in counts.items()}
        if self.execute:
            executor = pool.role("executor")[0].name
            runs = 2 * self.samples * len(weak) + self.strong_samples
            loads[executor] = loads.get(executor, Load()) + Load(runs)
        return loads

    def confidence(self, query: Query, so_far: Sequence[Tried], pool: SeatPool, state: Any) -> float:
        """The share of a member's most frequent answer among its own samples, programs not run."""
        return agreed([outcome(c) for c in so_far[-1].samples], VOID).share

    def next_step(
        self, query: Query, so_far: Sequence[Tried], pool: SeatPool, state: Any, rng: Rng
    ) -> Asking[Stop | Run]:
        strong = len(pool.members) - 1
        if not so_far:
            return Run(
                0, samples=self.samples, temperature=self._at(self.samples), also=tuple(range(1, strong))
            )
        weak = [t for t in so_far if t.member != strong]
        if len(weak) == len(so_far):
            stop = yield from self._weak(weak, pool, final=False)
            n = self.strong_samples
            return stop or Run(strong, samples=n, temperature=self._at(n))
        if so_far[-1].completion is None:
            stop = yield from self._weak(weak, pool, final=True)
            if stop is None:
                raise nobody(so_far, pool)
            return replace(stop, reason=f"{stop.reason}; {pool.names[strong]} was asked, which failed")
        every = samples_of(so_far)
        n_weak = len(every) - len(so_far[-1].samples)
        own = yield from self._read(every[n_weak:], pool)
        if all(s.outcome in VOID for s in own) and any(s.outcome not in VOID for s in every[:n_weak]):
            stop = yield from self._weak(weak, pool, final=True)
            if stop is not None:
                unread = f"{pool.names[strong]} was asked, whose answer could not be read"
                return replace(stop, reason=f"{stop.reason}; {unread}")
        read = every[:n_weak] + own
        weights = [float(so_far[s.index].member == strong) for s in read]
        why = self._why(weak, [s for s, w in zip(read, weights, strict=True) if not w], pool)
        return voted(read, weights, f"{why}, so {pool.names[strong]} was asked")

    def _at(self, n: int) -> float | None:
        return self.temperature if n > 1 else None

    def _weak(self, weak: Sequence[Tried], pool: SeatPool, *, final: bool) -> Asking[Stop | None]:
        """The weak members' answer if it is accepted, or if it is final and there is any."""
        read = yield from self._read(samples_of(weak), pool)
        if not read or not (final or self._accepted_by_rule(weak, read)):
            return None
        return voted(read, [1.0] * len(read), self._why(weak, read, pool))

    def _accepted_by_rule(self, weak: Sequence[Tried], read: Sequence[Sample]) -> bool:
        if self.rule == "vote":
            whole = agreed([s.outcome for s in read], VOID)
            return whole.answer is not None and whole.share >= self.threshold
        majorities = self._majorities(weak, read)
        return len(majorities) > 1 and None not in majorities and len(set(majorities)) == 1

    def _majorities(self, weak: Sequence[Tried], read: Sequence[Sample]) -> list[str | None]:
        """What each weak member that answered says most."""
        own = [[s.outcome for s in read if s.index == i] for i in range(len(weak))]
        return [agreed(outcomes, VOID).answer for outcomes in own if outcomes]

    def _why(self, weak: Sequence[Tried], read: Sequence[Sample], pool: SeatPool) -> str:
        """What the weak members say, as the beginning of a sentence."""
        names = ", ".join(pool.names[t.member] for t in weak if t.completion is not None)
        if not read:
            return f"every weak member failed ({', '.join(pool.names[t.member] for t in weak)})"
        if self.rule == "verify":
            said = [repr(a) if a else "nothing" for a in self._majorities(weak, read)]
            return f"most samples of {names} say {', '.join(said)}{failed(weak, pool)}"
        whole = agreed([s.outcome for s in read], VOID)
        count = round(whole.share * len(read))
        said_most = f"{count} of {len(read)} samples of {names} say {whole.answer!r}"
        return f"{comparison(whole.share, self.threshold)}: {said_most}{failed(weak, pool)}"

    def _read(self, samples: Sequence[Sample], pool: SeatPool) -> Asking[list[Sample]]:
        """The samples with what their programs say, if programs are to be run."""
        if not self.execute:
            return list(samples)
        return (yield from executed(samples, pool.role("executor")[0]))
