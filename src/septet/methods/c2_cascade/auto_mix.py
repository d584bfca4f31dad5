"""AutoMix: a small member checks its own answer several times, and a learned table says when to ask a larger one."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Annotated, Literal

import numpy as np

from septet.core.caps import Caps, PoolRule
from septet.core.errors import BadParameter
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Ask, Asking, Card, Reply, Rng, Seat, SeatPool, method, param
from septet.core.money import Load
from septet.core.table import Table
from septet.core.types import Completion, Query
from septet.methods.c2_cascade._family import Tried
from septet.methods.c2_cascade._pair import PairCascade, raise_if_all_failed
from septet.parts.answers.vote import outcome
from septet.parts.deferral.value_table import Spent, TableKind, ValueTable, fit_table
from septet.parts.routing.records import answered, unit_cost

CARD = Card(
    paper="2310.12963",
    title="AutoMix: Automatically Mixing Language Models",
    facets=Facets(
        family=Family.CASCADE,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.COST,
        supervised=True,
        efficiency_aware=True,
    ),
    pool=PoolRule(at_least=2, at_most=2, order="weak-strong"),
    trained=True,
    permutes=False,
    differs=(
        "the decision is a table over bins of confidence, as in the released package; the paper solves a partially"
        " observed decision process with AdaOps over kernel densities, which for one decision comes to a table",
        "tables by the chance of needy are tried at every price; the package tries 5,000 rewards",
        "good, needy and hopeless are told apart at a score of one half",
        "the prompt is ours, with three examples; what the question is asked with counts as its context, and a question"
        " without one is checked for correctness",
        "a check that says neither counts as not correct",
        "of the package's triple thresholds none is built",
    ),
)


@dataclass(frozen=True)
class Mixed:
    """The learned table; `spent` (3,): mean cost of the first answer, its check and the second answer."""

    table: ValueTable
    spent: Spent


@method(CARD)
class AutoMix(PairCascade):
    """Self-verification, then a table of when to ask on (2310.12963).

    The first member's answer is checked `checks` times at T = 1 by the same member ("self") or by the role `verifier`;
    v is the share of "correct". Questions are good, needy or hopeless, as the first member is right, only the second,
    or neither; P(state | bin of v) is counted on labelled outcomes. The table that asks on in some bins and not in
    others has the highest IBC = (quality − quality₁) / (cost − cost₁) there: one threshold ("threshold"), or any of
    the shapes of `fit_table` ("pomdp"), which can leave hopeless questions alone.
    Cost: one answer and `checks` short ones, then one more where the table asks on. Fails where a member cannot tell
    its own errors: small ones call nearly everything correct, and v says nothing.

    >>> from septet.testing.scripted import drive, seat
    >>> table = ValueTable(np.array([1.0, 0.0, 0.0]), np.zeros((3, 3)), 0.0, "one threshold")
    >>> pool = SeatPool((seat("smol"), seat("gemma")))
    >>> plan = AutoMix(checks=2).plan(Query.of("2+3?"), pool, Mixed(table, Spent(1, 1, 50)), np.random.default_rng(0))
    >>> verdict, _ = drive(plan, {"smol": "Verdict: Incorrect", "gemma": "5"})
    >>> verdict.chosen, verdict.reason
    (1, 'smol calls its answer correct in 0 of 2 checks, so gemma was asked')
    """

    checks: Annotated[int, param("How often an answer is checked.", ge=1, le=64)] = 8
    temperature: Annotated[float, param("Temperature of the checks.", ge=0, le=2)] = 1.0
    by: Annotated[
        Literal["self", "verifier"], param("Who checks: the member that answered, or the role `verifier`.")
    ] = "self"
    policy: Annotated[TableKind, param("One threshold, or a table over bins.")] = "pomdp"
    hopeless: Annotated[
        bool, param("pomdp: questions that neither solves are a state of their own, and not asked on.")
    ] = True
    bins: Annotated[int, param("Bins of confidence, less one.", ge=1, le=64)] = 8
    escalate: Annotated[
        tuple[str, ...], param("First answers that are always asked on, such as unanswerable.", min_length=0)
    ] = ()
    check_tokens: Annotated[int, param("The most tokens of one check.", ge=4, le=4096)] = 64

    state_type = Mixed

    def needs(self) -> Caps:
        """The first member answers, and checks itself."""
        return Caps(text=True, samples=self.by == "self" and self.checks > 1)

    def needs_of(self, place: int, n_members: int) -> Caps:
        """The second member just answers."""
        return self.needs() if place == 0 else Caps(text=True)

    def roles(self) -> Mapping[str, Caps]:
        """Who else checks."""
        return {"verifier": Caps(text=True, samples=self.checks > 1)} if self.by == "verifier" else {}

    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        """Both members once, and every check."""
        loads = super().worst(query, pool)
        for seat in self._checkers(pool.members, pool.roles):
            checks = Load(self.checks, self.checks, self.checks * self.check_tokens)
            loads[seat.name] = loads.get(seat.name, Load()) + checks
        return loads

    # --- the fit --------------------------------------------------------------------------------------

    def fit(self, table: Table, roles: Mapping[str, tuple[Seat, ...]], rng: Rng) -> Asking[Mixed]:
        """Checks the first member's recorded answers, where the outcomes state no confidence, and fits the table."""
        rows = answered(table)
        unit, cost = unit_cost(rows)
        place = np.full((len(table.queries), 2), -1)
        place[rows.query, rows.member] = np.arange(len(rows))
        place = place[(place >= 0).all(axis=1)]  # (q, 2) rows of the questions that both have answered
        if not len(place):
            raise BadParameter("table", len(rows), "must hold questions that both members have answered")
        v = rows.confidence[place[:, 0]].copy()
        unknown = np.flatnonzero(np.isnan(v))
        checkers = self._checkers(roles["members"], roles)
        asked = [(rows.questions[rows.query[r]], str(rows.text[r])) for r in place[unknown, 0]]
        replies = yield [
            a for question, text in asked for a in self._asks(Query.of(question), text, checkers)
        ]
        raise_if_all_failed(replies)
        for i, k in enumerate(unknown):
            v[k] = share_correct(replies[i * len(checkers) : (i + 1) * len(checkers)])
        first, second = place.T
        check = self._check_cost(replies, len(unknown), unit, float(cost[first].mean()))
        spent = Spent(float(cost[first].mean()), check, float(cost[second].mean()))
        fitted = fit_table(
            v,
            rows.score[first],
            rows.score[second],
            spent,
            kind=self.policy,
            bins=self.bins,
            hopeless=self.hopeless,
        )
        return Mixed(fitted, spent)

    def _check_cost(self, replies: Sequence[Reply], n: int, unit: str, answer: float) -> float:
        """Mean cost of checking one answer, in the unit of the outcomes: as it was seen, else that of an answer."""
        done = [c for reply in replies if reply.ok for c in reply.value]
        spent = {
            "usd": sum(c.usd for c in done),
            "seconds": sum(c.seconds for c in done),
            "tokens": sum(c.usage.prompt_tokens + c.usage.completion_tokens for c in done),
        }.get(unit, float(n))
        return spent / n if n and spent > 0 else answer

    # --- the decision ---------------------------------------------------------------------------------

    def confidence(
        self, query: Query, so_far: Sequence[Tried], pool: SeatPool, state: Mixed
    ) -> Asking[float]:
        """v of the first answer; the second is not checked."""
        last = so_far[-1]
        assert last.completion is not None
        if last.member != 0:
            return float("nan")
        checkers = self._checkers(pool.members, pool.roles)
        replies = yield self._asks(query, last.completion.text, checkers)
        return share_correct(replies)

    def asks_on(self, query: Query, first: Tried, pool: SeatPool, state: Mixed) -> tuple[bool, str]:
        """What the table says, and for answers that are always asked on."""
        assert first.completion is not None
        said = outcome(first.completion)
        if said.lower() in (text.lower() for text in self.escalate):
            return True, f"{pool.names[0]} says {said!r}"
        wanted = bool(state.table.asks(np.array([first.confidence]))[0])
        if np.isnan(first.confidence):
            return wanted, f"the answer of {pool.names[0]} could not be checked"
        n = self.checks * len(self._checkers(pool.members, pool.roles))
        who = f"{pool.names[0]} calls its answer" if self.by == "self" else "the verifier calls the answer"
        return wanted, f"{who} correct in {round(first.confidence * n)} of {n} checks"

    def _checkers(self, members: Sequence[Seat], roles: Mapping[str, tuple[Seat, ...]]) -> Sequence[Seat]:
        return members[:1] if self.by == "self" else roles["verifier"]

    def _asks(self, query: Query, answer: str, checkers: Sequence[Seat]) -> list[Ask]:
        """One ask per checker, for all its checks."""
        check = Query.of(
            check_of(query, answer),
            temperature=self.temperature,
            max_tokens=self.check_tokens,
            seed=query.seed,
        )
        return [seat.complete(check, n=self.checks, purpose="check") for seat in checkers]


def check_of(query: Query, answer: str) -> str:
    """The question of a check. Its mark is made of what stands between, so that no answer can contain its own."""
    mark = f"[{sha256(f'{query.text} {answer}'.encode()).hexdigest()[:16]}]"
    return str(_prompts()["text"]).format(mark=mark, question=query.text, answer=answer)


def share_correct(replies: Sequence[Reply]) -> float:
    """v: the share of checks that say correct, of all that were made; NaN where none was."""
    checks: list[Completion] = [c for reply in replies if reply.ok for c in reply.value]
    return sum(is_correct(c.text) for c in checks) / len(checks) if checks else float("nan")


def is_correct(check: str) -> bool:
    """Whether a check says correct: its last verdict, else the one of both words that it says alone.

    >>> [is_correct(t) for t in ("Fine.\\nVerdict: Correct", "Verdict: Incorrect", "It is correct.", "Who knows?")]
    [True, False, True, False]
    """
    said = re.findall(r"verdict\W*(correct|incorrect)\b", check, re.IGNORECASE)
    words = {word.lower() for word in re.findall(r"\b(?:in)?correct\b", check, re.IGNORECASE)}
    return said[-1].lower() == "correct" if said else words == {"correct"}


@cache
def _prompts() -> Mapping[str, str]:
    text = files(__package__).joinpath("auto_mix.prompts.toml").read_text("utf-8")
    found: Mapping[str, str] = tomllib.loads(text)["verify"]
    return found
