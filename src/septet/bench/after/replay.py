"""A method on recorded answers: every ask of its plans is answered by the world, every choice marked by its row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from septet.bench.after.world import Spent, Unrecorded, World
from septet.core.errors import NoCandidate, RunError
from septet.core.method import (
    Ask,
    Asking,
    Keeps,
    Method,
    Plan,
    PlansMany,
    Reply,
    Rng,
    Routes,
    SeatPool,
    asking,
)
from septet.core.table import Table
from septet.core.types import Completion, Floats, Query, Verdict

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Replay:
    """What a method came to on n questions.

    `quality`, `usd`, `judges_usd` and `confidence` (n,), NaN unknown; `answers`, `judgements` and `embedded` (n,) how
    many of each it took, `waited` (n,) the seconds of all of them, one after the other; `member` (n,) the place in the
    table of whose answer was chosen, −1: nobody's. `unmatched` texts are nobody's and equal no recorded answer; they,
    what was `abstained` from and what `failed` count 0.
    """

    quality: Floats
    usd: Floats
    judges_usd: Floats
    confidence: Floats
    answers: Floats
    judgements: Floats
    embedded: Floats
    waited: Floats
    member: NDArray[np.int64]
    unmatched: int
    abstained: int
    failed: int
    seconds: float


@dataclass
class Stage:
    """A method with its members and roles in a world; the state changes where the method keeps something."""

    method: Method
    members: tuple[str, ...]
    world: World
    state: Any = None

    def __post_init__(self) -> None:
        pool = SeatPool(self.world.seats(self.members), self.world.roles(self.method))
        self.pool = replace(pool, prepared=self.method.prepare(cast("Any", pool)))

    def fit(self, table: Table, rng: Rng) -> None:
        """Learns the state; what the fit asks is answered from what is recorded."""
        self.world.at = -1
        roles = {"members": self.pool.members, **self.pool.roles}
        self.state, _ = self._driven(asking(self.method.fit(table, roles, rng)), rng)

    def play(self, index: NDArray[np.int64], seed: int, prefer: float | None = None) -> Replay:
        """Answers the questions at these places (n,) of the table, one after the other."""
        table, n = self.world.answers.table, len(index)
        names = ("quality", "usd", "judges_usd", "confidence", "answers", "judgements", "embedded", "waited")
        found = {name: np.full(n, np.nan) for name in names}
        member = np.full(n, -1, dtype=np.int64)
        counts = dict.fromkeys(("unmatched", "abstained", "failed"), 0)
        asking_before = self.world.embeddings.seconds + self.world.seconds
        began = monotonic()
        for i, plan, rng in self._plans(index, seed, prefer):
            self.world.at, self.world.spent = int(index[i]), Spent()
            quality, row = 0.0, -1
            try:
                verdict, candidates = self._driven(plan, rng)
            except NoCandidate:
                counts["failed"] += 1
            else:
                quality, row, why = self._marked(verdict, candidates)
                if why:
                    counts[why] += 1
                if verdict.confidence is not None:
                    found["confidence"][i] = verdict.confidence
            spent = self.world.spent
            found["quality"][i] = quality
            for name in ("usd", "judges_usd", "answers", "judgements", "embedded"):
                found[name][i] = getattr(spent, name)
            found["waited"][i] = spent.seconds
            member[i] = -1 if row < 0 else table.member[row]
        asked = self.world.embeddings.seconds + self.world.seconds - asking_before
        seconds = monotonic() - began - asked
        return Replay(member=member, seconds=seconds, **found, **counts)  # type: ignore[arg-type]

    def _plans(
        self, index: NDArray[np.int64], seed: int, prefer: float | None
    ) -> Iterator[tuple[int, Asking[Verdict], Rng]]:
        """The place of each question in `index`, its plan and its generator, in the order in which they come."""
        table = self.world.answers.table
        queries = [Query.of(table.questions[q], task=table.tasks[q], seed=seed, prefer=prefer) for q in index]
        places = list(range(len(queries)))
        if self.method.card.scope == "stream":
            places = np.random.default_rng([seed, 1]).permutation(len(queries)).tolist()
        if self.method.card.scope == "dataset" and isinstance(self.method, PlansMany):
            for task in dict.fromkeys(q.task for q in queries):
                mine = [i for i in places if queries[i].task == task]
                rng = np.random.default_rng([seed, 4])
                self.world.at = -1
                made: Asking[list[Plan]] = asking(
                    self.method.plan_many([queries[i] for i in mine], self.pool, self.state, rng)
                )
                plans, _ = self._driven(made, rng)
                yield from zip(mine, plans, [np.random.default_rng([seed, 2, i]) for i in mine], strict=True)
            return
        for i in places:
            rng = np.random.default_rng([seed, 2, i])
            yield i, self.method.plan(queries[i], self.pool, self.state, rng), rng

    def _driven(self, plan: Asking[T], rng: Rng) -> tuple[T, list[Completion]]:
        """The value of a plan, and its candidates in the order of their asks."""
        candidates: list[Completion] = []
        replies: list[Reply] | None = None
        while True:
            try:
                items = plan.send(replies)  # type: ignore[arg-type]
            except StopIteration as stop:
                return stop.value, candidates
            asks = [item for item in items if isinstance(item, Ask)]
            replies = [self._reply(ask, rng) for ask in asks]
            for ask, reply in zip(asks, replies, strict=True):
                if ask.do == "complete" and (ask.final or ask.purpose == "candidate") and reply.ok:
                    candidates += reply.value

    def _reply(self, ask: Ask, rng: Rng) -> Reply:
        if ask.do == "keep" and isinstance(self.method, Keeps):
            kept = self.method.keep(ask.args["event"], self.state, rng)
            self.state = kept.state
            return Reply(kept.value)
        if ask.do == "decide" and isinstance(self.method, Routes):
            choice = self.method.choose(ask.args["q"], ask.args["c"], ask.args["prefer"], self.state, rng)
            self.state = self.state if choice.state is None else choice.state
            return Reply(choice)
        if ask.to is None:
            raise Unrecorded(ask.do)
        try:
            value = self.world.reply(ask)
        except RunError as error:  # the encoder
            return Reply(error=error)
        if ask.do == "complete":
            value = [replace(c, member=ask.to.name, weight=ask.to.weight) for c in value]
        return Reply(value)

    def _marked(self, verdict: Verdict, candidates: Sequence[Completion]) -> tuple[float, int, str]:
        """The score of what was chosen, its row (−1: nobody's), and why it counts 0 where there is no score."""
        table = self.world.answers.table
        if verdict.abstained or (verdict.text is None and verdict.chosen is None):
            return 0.0, -1, "abstained"
        chosen = None if verdict.chosen is None else candidates[verdict.chosen]
        row = -1 if chosen is None else int(chosen.extra.get("row", -1))
        text = verdict.text if chosen is None or verdict.text is not None else chosen.text
        if row >= 0 and chosen is not None and text == chosen.text:
            return float(table.score[row]), row, ""
        finish = verdict.finish or ("stop" if chosen is None else chosen.finish)
        score = self.world.mark(str(text), finish)
        return (0.0, -1, "unmatched") if np.isnan(score) else (score, -1, "")
