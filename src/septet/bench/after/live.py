"""Methods after inference on live members: one pool of answers per question, shared by all; roles are asked for real.

Every member answers every question once in its own way, and as many times more at one temperature as the method that
samples most wants. That pool is a table of outcomes like a recorded one, so all measures are those of a replay; what
is no question of the task (judging, fusing, checking) is asked live, and a new text is marked by the task.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar, cast

import numpy as np

from septet.bench import pooled, resumed
from septet.bench.after.contenders import FAMILIES, family
from septet.bench.after.embedding import Embeddings
from septet.bench.after.jobs import Job
from septet.bench.after.measured import bound_facts, head_of, judged
from septet.bench.after.replay import Stage
from septet.bench.after.sets import Answers
from septet.bench.after.trial import On
from septet.bench.after.world import World
from septet.bench.live import data_hash
from septet.bench.outcomes import mean_logp
from septet.bench.processes import Failure, Progress
from septet.bench.report import versions
from septet.bench.results import FORM, Missing, Results
from septet.bench.routers import PACKAGES
from septet.bench.sets import Recorded
from septet.core.errors import ConfigError, SeptetError, UnknownName
from septet.core.method import Ask, Method, Seat
from septet.core.table import Table
from septet.core.types import Completion, Query
from septet.engine.answering import bind
from septet.engine.config import Limits
from septet.engine.direct import Direct
from septet.engine.ensemble import Ensemble, seat_of
from septet.engine.gate import Gate
from septet.engine.house import House
from septet.engine.members import Member
from septet.engine.run import Run
from septet.engine.wire import completion_json, completion_of
from septet.tasks.loader import Task

TRAIN_EVERY = 3
"""Every third question is one to fit on; the others are tested on."""


class Silent:
    """Writes nothing down: a bench asks thousands of times."""

    def call(self, event: Any) -> None:
        """A call that was made."""

    def piece(self, event: Any) -> None:
        """A piece that was written."""


@dataclass
class Caller:
    """Asks actors of a house, one call after the other or several at once, on one event loop."""

    runner: asyncio.Runner
    gate: Gate
    limits: Limits

    def ask(self, actor: Member | Ensemble, do: str, args: Mapping[str, Any], purpose: str) -> Any:
        """What the actor replies; every call is a request of its own."""
        return self.runner.run(self._ask(actor, do, args, purpose))

    def together(self, asks: Sequence[tuple[Member | Ensemble, Mapping[str, Any]]]) -> list[Any]:
        """Completions of several actors, at once."""

        async def every() -> list[Any]:
            return await asyncio.gather(*(self._ask(a, "complete", args, "candidate") for a, args in asks))

        return self.runner.run(every())

    async def _ask(self, actor: Member | Ensemble, do: str, args: Mapping[str, Any], purpose: str) -> Any:
        now = self.gate.clock()
        query = args.get("query")
        seed = query.seed or 0 if isinstance(query, Query) else 0
        run = Run(
            id="bench",
            path=(actor.name,),
            seed=seed,
            limits=self.limits,
            began=now,
            deadline=now + self.limits.seconds,
            recorder=Silent(),
            clock=self.gate.clock,
        )
        return await bind(actor, run, self.gate).do(do, args, purpose)


# --- the pool ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Pool:
    """All answers: `answers` as a table, and `said`, row by row, what was said with its tokens."""

    answers: Answers
    said: tuple[Completion, ...]


def sampled(
    caller: Caller,
    members: Mapping[str, Member | Ensemble],
    task: Task,
    *,
    most: Mapping[str, int],
    logprobs: Mapping[str, int],
    temperature: float,
    seed: int,
    folder: Path,
    progress: Progress | None = None,
) -> Pool:
    """Asks every member every question: once in its own way, `most` times more at a temperature.

    Answers are kept in the folder, line by line; a run that was stopped goes on where it stopped.
    """
    facts = [task.name, data_hash(task), temperature, seed]
    identity = {
        name: [getattr(m, "identity", name), most[name], logprobs[name]] for name, m in members.items()
    }
    rows: dict[tuple[str, str], list[Completion]] = {}
    n_done, total = 0, len(task) * len(members)
    for name, member in members.items():
        key = hashlib.sha256(json.dumps([facts, name, identity[name]]).encode()).hexdigest()[:16]
        file = folder / f"pool-{key}.jsonl"
        held = {one: [completion_of(c) for c in said] for one, said in resumed.kept(file)}
        for question in task.questions:
            if question.id not in held:
                query = Query.of(question.text, max_tokens=task.max_tokens, seed=seed, task=task.name)
                asks = [{"query": query, "n": 1, "logprobs": logprobs[name]}]
                if most[name]:
                    warm = query.but(temperature=temperature, seed=seed + 1)
                    asks.append({"query": warm, "n": most[name], "logprobs": logprobs[name]})
                found = [c for said in caller.together([(member, a) for a in asks]) for c in said]
                resumed.keep(file, [question.id, [completion_json(c, tokens=True) for c in found]])
                held[question.id] = found
            rows[question.id, name] = held[question.id]
            n_done += 1
            if progress is not None:
                progress(f"{name} on {task.name}", n_done, total)
    return _pool(task, list(members), rows)


def _pool(task: Task, members: Sequence[str], rows: Mapping[tuple[str, str], list[Completion]]) -> Pool:
    records: list[dict[str, Any]] = []
    said: list[Completion] = []
    for i, question in enumerate(task.questions):
        for name in members:
            for sample, c in enumerate(rows[question.id, name]):
                marked = question.mark(c.text, c.finish)
                said.append(replace(c, extra={**c.extra, "row": len(said)}))
                records.append(
                    {
                        "query_id": question.id,
                        "query": question.text,
                        "task": task.name,
                        "split": "train" if i % TRAIN_EVERY == 0 else "test",
                        "model": name,
                        "sample_id": sample,
                        "response": c.text,
                        "score": marked.score,
                        "cost_usd": c.usd,
                        "prompt_tokens": c.usage.prompt_tokens,
                        "completion_tokens": c.usage.completion_tokens,
                        "seconds": c.seconds,
                        "logp": mean_logp(c),
                    }
                )
    table = Table.of(records, task.name)
    if not (table.usd > 0).any():  # members without a price: every answer counts 1
        table = replace(table, numbers={**table.numbers, "usd": np.full(len(table), np.nan)})
    notes = (
        f"every {TRAIN_EVERY}rd question is one to fit on; sample 1 is the member's own way, the others are drawn warm",
    )
    recorded = Recorded(f"live/{task.name}", table, data_hash(task), notes)
    return Pool(Answers(recorded, own=True), tuple(said))


# --- the world --------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class LiveWorld(World):
    """Questions of the task are answered from the pool; everything else is asked."""

    caller: Caller
    ensemble: Ensemble
    task: Task
    pool: Pool

    recorded: ClassVar[bool] = False

    def seats(self, members: Sequence[str]) -> tuple[Seat, ...]:
        return tuple(seat_of(m) for m in self.ensemble.members)

    def roles(self, method: Method) -> dict[str, tuple[Seat, ...]]:
        return {role: tuple(seat_of(a) for a in actors) for role, actors in self.ensemble.roles.items()}

    def reply(self, ask: Ask) -> Any:
        query = ask.args.get("query")
        q = self.question(query) if ask.do == "complete" and isinstance(query, Query) else None
        if q is not None and (found := self._pooled(q, ask)) is not None:
            return found
        began = monotonic()
        actor = next(a for a in self.ensemble.actors() if a.name == ask.to.name)
        args = dict(ask.args)
        if isinstance(query, Query) and query.max_tokens is None:
            args["query"] = query.but(max_tokens=self.task.max_tokens)
        value = self.caller.ask(actor, ask.do, args, ask.purpose)
        seconds = monotonic() - began
        self.spent.seconds += seconds
        self.seconds += seconds
        if ask.do == "embed":
            self.spent.embedded += len(ask.args["texts"])
        elif ask.do == "complete" and (ask.purpose in ("candidate", "proposal") or ask.final):
            self.spent.answers += len(value)
        else:
            self.spent.judgements += 1
        if ask.do == "complete":
            usd = sum(c.usd for c in value) if self.priced else float(len(value))
            self.spent.usd += usd
            self.spent.judges_usd += 0.0 if ask.purpose == "candidate" else usd
        return value

    @property
    def priced(self) -> bool:
        """Whether members have prices."""
        return self.pool.answers.recorded.priced

    def _pooled(self, q: int, ask: Ask) -> list[Completion] | None:
        """Answers of the pool: the first for one that is asked in the member's own way, else the warm ones."""
        rows = self._rows.get((q, ask.to.name), [])
        n, query = ask.args["n"], ask.args["query"]
        kept = rows[1:] if query.temperature or n > 1 else rows
        found = [self.pool.said[row] for row in kept[:n]]
        lacks_tokens = ask.args["logprobs"] and any(c.tokens is None for c in found)
        if len(found) < n or lacks_tokens:
            return None
        self.spent.answers += n
        self.spent.usd += sum(c.usd for c in found) if self.priced else n
        self.spent.seconds += sum(c.seconds for c in found)
        return found

    def mark(self, text: str, finish: str) -> float:
        """By the task."""
        if self.at < 0:
            return float("nan")
        question = self._questions[self.answers.table.queries[self.at]]
        return question.mark(text, cast("Any", finish)).score

    def __post_init__(self) -> None:
        super().__post_init__()
        self._questions = {q.id: q for q in self.task.questions}


# --- a run ------------------------------------------------------------------------------------------


def contenders(house: House, chosen: Sequence[str] = ()) -> dict[str, Ensemble]:
    """The ensembles of a file whose method combines complete answers; `chosen`: by their own or their method's name."""
    found = {}
    for name in house.config.ensembles:
        ensemble = house[name].ensemble
        if not isinstance(ensemble.method, Direct) and family(type(ensemble.method)) in FAMILIES:
            found[name] = ensemble
    known = {*found, *(e.method.name for e in found.values())}
    for name in chosen:
        if name not in known:
            raise UnknownName("ensemble or method after inference of this file", name, known)
    kept = {n: e for n, e in found.items() if not chosen or n in chosen or e.method.name in chosen}
    if not kept:
        raise ConfigError("no ensemble of this file combines complete answers")
    return kept


def _wanted(ensembles: Mapping[str, Ensemble]) -> tuple[dict[str, Any], dict[str, int], dict[str, int]]:
    """The members of all ensembles, how many warm samples, and how many alternatives per token, each has to give."""
    members: dict[str, Any] = {}
    most: dict[str, int] = {}
    logprobs: dict[str, int] = {}
    for ensemble in ensembles.values():
        method = ensemble.method
        n = max((v for k, v in asdict(cast("Any", method)).items() if k.endswith("samples")), default=1)
        warm = int(n) if n > 1 or getattr(method, "temperature", None) else 0
        for i, member in enumerate(ensemble.members):
            needs = method.needs_of(i, len(ensemble.members))
            members[member.name] = member
            most[member.name] = max(most.get(member.name, 0), warm)
            logprobs[member.name] = max(
                logprobs.get(member.name, 0), max(needs.topk, 1) if needs.logprobs else 0
            )
    return members, most, logprobs


@contextmanager
def _calling(house: House) -> Iterator[Caller]:
    with asyncio.Runner() as runner:
        try:
            yield Caller(runner, house.gate, house.config.limits)
        finally:
            runner.run(house.close())


def live(
    house: House,
    tasks: Sequence[Task],
    chosen: Sequence[str] = (),
    *,
    folder: Path,
    temperature: float = 1.0,
    seed: int = 0,
    draws: int = 1000,
    made: str = "",
    progress: Progress | None = None,
) -> tuple[Results, list[Failure], dict[str, Recorded]]:
    """Samples the pool of every task, plays every ensemble on it, and says what came of it and what failed."""
    ensembles = contenders(house, chosen)
    members, most, logprobs = _wanted(ensembles)
    found: Results = {
        "form": FORM,
        "made": made,
        "packages": dict(versions(PACKAGES)),
        "routers": [],
        "bounds": [],
        "missing": [],
    }
    failed: list[Failure] = []
    sets: dict[str, Recorded] = {}
    with _calling(house) as caller:
        for task in tasks:
            pool = sampled(
                caller,
                members,
                task,
                most=most,
                logprobs=logprobs,
                temperature=temperature,
                seed=seed,
                folder=folder,
                progress=progress,
            )
            name = pool.answers.recorded.name
            sets[name] = pool.answers.recorded
            base = Job(name, pool.answers.recorded.sha256, None, "own", seed, "", draws=draws)
            on = On.of(pool.answers, seed)
            whole = head_of(on) | bound_facts(on)
            found["bounds"] += pooled.bound_rows(name, [(base, whole)])
            for n_done, (label, ensemble) in enumerate(ensembles.items()):
                if progress is not None:
                    progress(f"{label} on {task.name}", n_done, len(ensembles))
                try:
                    facts = _played(caller, ensemble, task, pool, base, seed)
                except SeptetError as error:
                    failed.append(Failure(f"{label} on {name}", str(error)))
                    found["missing"].append(
                        Missing(table=name, method=f"{ensemble.method.name}:{label}", missing=str(error))
                    )
                    continue
                job = replace(base, contender=cast("Any", Named(label, ensemble.method)))
                (row,) = pooled.routers(name, [(job, facts)], {pooled.bound_key(base): whole})
                row.update(cast("Any", {"curve": facts["curve"]}))
                found["routers"].append(row)
    return found, failed, sets


@dataclass(frozen=True)
class Named:
    """An ensemble as a contender: by its method, with the name that the file gives it for the variant."""

    variant: str
    method: Any

    @property
    def name(self) -> str:
        """Its method."""
        return str(self.method.name)

    def make(self) -> Any:
        """Its method."""
        return self.method


def _played(
    caller: Caller, ensemble: Ensemble, task: Task, pool: Pool, job: Job, seed: int
) -> dict[str, Any]:
    names = tuple(m.name for m in ensemble.members)
    on = On.of(pool.answers, seed)
    world = LiveWorld(
        answers=pool.answers, embeddings=Embeddings(), caller=caller, ensemble=ensemble, task=task, pool=pool
    )
    notes = list(on.trial.notes)
    if ensemble.method.trainer:
        raise ConfigError(
            f"is fitted by septet.training.{ensemble.method.trainer.replace('-', '_')}, with torch"
        )
    return head_of(on) | judged(Stage(ensemble.method, names, world), on, job, notes)
