"""The library's door: a configuration loaded as a house, whose ensembles and members can be asked."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, is_dataclass, replace
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

from septet.core.errors import (
    BadParameter,
    ConfigError,
    LimitReached,
    RunError,
    SeptetError,
    UnknownName,
)
from septet.core.method import Fuses, Method, PlansMany, Seat, asking
from septet.core.state import Learned, Trained
from septet.core.table import Table
from septet.core.trace import RequestEvent
from septet.core.types import Answer, Battle, Decision, Piece, Query, Tokens
from septet.engine.answering import Answering, OnPiece, Result, answer_of, bind, pieces_then_result
from septet.engine.budget import CrossFitted, Forecast, priced_router
from septet.engine.build import Builder
from septet.engine.config import Config, read
from septet.engine.direct import Direct
from septet.engine.ensemble import TOGETHER, Ensemble, seat_of
from septet.engine.feedback import Taken, decision_of
from septet.engine.gate import Gate
from septet.engine.limits import Worst, check_calls, worst_case
from septet.engine.plan_runner import PlanRunner, Want
from septet.engine.run import Run, new_id
from septet.engine.spans import Spans
from septet.engine.store import Store
from septet.engine.training import Say, keep, train
from septet.engine.wire import answer_json, query_json, verdict_json
from septet.engine.wire import answer_of as answer_from
from septet.parts.routing.plan import embedded
from septet.parts.routing.records import Known


def load(
    path: str | Path, *, set: Iterable[str] = (), methods: Mapping[str, type[Method]] | None = None
) -> House:
    """A house from a configuration file; `set` holds `section.name.key=value` settings on top of it.

    Every name and parameter of the file is checked here; no model is loaded and nothing is called.
    `methods`: further method classes by name, for one that is not installed (a notebook, a test).
    """
    return House(read(path, set), methods)


class House:
    """Everything one configuration file describes. An async context manager; `house[name]` can be asked."""

    def __init__(self, config: Config, methods: Mapping[str, type[Method]] | None = None) -> None:
        self.config = config
        self.builder = Builder(config, methods or {})
        self.builder.check_names()
        self.store = Store(config.store)
        self.gate = Gate(self.store, config.limits.concurrency)
        self._asked: dict[str, Asked] = {}

    def __getitem__(self, name: str) -> Asked:
        if name not in self._asked:
            self._asked[name] = Asked(self, self.builder.askable(name))
        return self._asked[name]

    @property
    def names(self) -> list[str]:
        """What can be asked: ensembles, then members."""
        return self.builder.names

    async def __aenter__(self) -> House:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def rate(self, request: str, score: float) -> Taken:
        """Takes what a user or a judge says of an answer, 0 to 1; a method that learns online learns from it.

        It is written down first, so that nothing is lost where learning fails. Each answer is rated once.
        """
        row, calls = await self.store.found(request)
        decision = decision_of(row, calls, score)
        await self.store.rated(row["id"], decision.member, decision.score, time.time())
        return await self._taught(row["ensemble"], decision.member, decision)

    async def compare(self, ensemble: str, battle: Battle) -> Taken:
        """Takes a comparison of two members' answers to one question."""
        if ensemble not in self.config.ensembles:
            raise UnknownName("ensemble", ensemble, list(self.config.ensembles))
        check_battle(battle, [m.name for m in self[ensemble].ensemble.members])
        await self.store.fought(ensemble, battle, time.time())
        return await self._taught(ensemble, battle.winner, battle)

    async def _taught(self, ensemble: str, member: str, event: Battle | Decision) -> Taken:
        asked = self[ensemble]
        if isinstance(asked.ensemble.method, Direct) or not asked.ensemble.method.card.online:
            return Taken(ensemble, member, None)
        return Taken(ensemble, member, (await asked.learn([event])).version)

    async def close(self) -> None:
        """Saves what was learned, gives back models and connections, and writes the store to the end."""
        for cell in self.builder.cells():
            await cell.keep()
        for endpoint in self.builder.endpoints.values():
            await endpoint.aclose()
        await self.store.close()


class Asked:
    """One ensemble or member of a house, ready to be asked."""

    def __init__(self, house: House, ensemble: Ensemble) -> None:
        self.house, self.ensemble = house, ensemble

    @property
    def name(self) -> str:
        return self.ensemble.name

    async def ask(
        self, query: Query | str, *, cache: bool = False, logprobs: int = 0, **fields: Any
    ) -> Answer:
        """One answer. `fields` are query fields (max_tokens, temperature, seed, task …); with `cache`, the
        exact response cache is used. `logprobs`: alternatives per token wanted of the one member that
        answers, in `Answer.tokens`."""
        want = Want(args={"logprobs": logprobs} if logprobs else {})
        request = Request(self, as_query(query, fields), want, cache)
        return await request.answer(_drop)

    def stream(self, query: Query | str, **fields: Any) -> AsyncGenerator[Piece | Answer, None]:
        """Pieces as they come, then the answer. Closing the generator early cancels the request."""
        return Request(self, as_query(query, fields), Want("stream"), False).pieces()

    async def score(
        self, query: Query | str, texts: Sequence[str], *, end: bool = False, **fields: Any
    ) -> list[Tokens]:
        """How likely each text is as the answer, token by token; nothing is generated. `end`: with END behind
        it, for ensembles whose members decode together. What their score is, the trace's notes say."""
        if end and not isinstance(self.ensemble.method, Fuses):
            raise BadParameter("end", end, f"is for token-level ensembles, and {self.name} is none")
        args = {"texts": list(texts), **({"end": True} if end else {})}
        made: list[Tokens] = await Request(self, as_query(query, fields), Want("score", args), False).made()
        return made

    def worst(self, query: Query | str, **fields: Any) -> Worst:
        """The worst case of one request."""
        return worst_case(self.ensemble, as_query(query, fields))

    async def ask_many(
        self,
        queries: Sequence[Query | str],
        *,
        concurrency: int = 4,
        resume: str = "",
        cache: bool = False,
        done: Callable[[int, Answer], None] | None = None,
        failed: Callable[[int, RunError], Answer] | None = None,
        **fields: Any,
    ) -> list[Answer]:
        """Answers in the order of the queries, at most `concurrency` at once.

        With `resume` (any name), answers are kept under that name and a second call repeats nothing that
        was finished. A method whose scope is "dataset" decides over all queries that share a task.
        `done(i, answer)` is told of each answer. The first RunError ends the call, unless `failed(i, error)`
        gives an answer to stand in its place; that one is not kept for a later `resume`.
        """
        if concurrency < 1:
            raise ConfigError(f"concurrency must be at least 1, got {concurrency}")
        asked = [as_query(q, fields) for q in queries]
        plans = await self._plans(asked)
        permits = asyncio.Semaphore(concurrency)

        async def one(i: int) -> Answer:
            async with permits:
                try:
                    answer = await self._resumed(asked[i], plans[i], resume, cache)
                except RunError as error:
                    if failed is None:
                        raise
                    answer = failed(i, error)
            if done is not None:
                done(i, answer)
            return answer

        tasks = [asyncio.create_task(one(i)) for i in range(len(asked))]
        try:
            return list(await asyncio.gather(*tasks))
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    async def _resumed(self, query: Query, plan: Any, resume: str, cache: bool) -> Answer:
        store = self.house.store
        key = self._key(query) if resume else ""
        if resume and (stored := await store.finished(resume, key)) is not None:
            return answer_from(stored)
        answer = await Request(self, query, Want(), cache, plan).answer(_drop)
        if resume:
            store.finish(resume, key, answer_json(answer))
        return answer

    def _key(self, query: Query) -> str:
        e = self.ensemble
        members = [getattr(m, "identity", m.name) for m in e.members]
        version_ = e.cell.learned.version if e.cell.learned else 0
        known = [e.name, e.method.name, parameters_json(e.method), members, version_, query_json(query)]
        return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()

    async def _plans(self, queries: Sequence[Query]) -> list[Any]:
        """One plan per query for a method that decides over all queries of a task; else None each."""
        method = self.ensemble.method
        plans: list[Any] = [None] * len(queries)
        if isinstance(method, Direct) or method.card.scope != "dataset" or not isinstance(method, PlansMany):
            return plans
        for task in dict.fromkeys(q.task for q in queries):
            index = [i for i, q in enumerate(queries) if q.task == task]
            request = Request(self, queries[index[0]], Want(), False)
            made = await request.plan_many([queries[i] for i in index])
            for i, plan in zip(index, made, strict=True):
                plans[i] = plan
        return plans

    async def fit(
        self,
        table: Table,
        *,
        seed: int = 0,
        provenance: Mapping[str, Any] | None = None,
        budget_usd: float | None = None,
        progress: Say | None = None,
    ) -> Learned:
        """Fits the method on outcomes of its members, keeps and saves the state.

        A method that names a trainer is fitted by it; `progress` is told how far it is.

        With `budget_usd`, the most that a request may cost on average, a router's price of cost is set to
        keep it, and the provenance says under `expected` what quality and cost that is expected to give.
        """
        e = self.ensemble
        if isinstance(e.method, Direct) or e.method.state_type is None:
            raise ConfigError(f"{e.method.name} keeps no state, so there is nothing to fit")
        names = tuple(m.name for m in e.members)
        table = table.of_members(names)
        request = Request(self, Query.of(f"fit {e.name}"), Want(), False)
        forecast = None if budget_usd is None else await request.forecast(table, seed, budget_usd)
        trained = await self._train(table, seed, progress) if e.method.trainer else None
        value = await request.fit(table, seed) if trained is None else trained.value
        if forecast is not None:
            value = replace(value, prefer=forecast.prefer)
            provenance = {**(provenance or {}), "budget_usd": budget_usd, "expected": forecast.json()}
        made = {
            "rows": len(table),
            "queries": len(table.queries),
            "seed": seed,
            "septet": version("septet"),
            **({} if trained is None else trained.facts),
            **(provenance or {}),
        }
        new = 1 + (e.cell.learned.version if e.cell.learned else 0)
        weights = "" if trained is None else await asyncio.to_thread(keep, trained, e.cell.folder, new)
        learned = Learned(e.method.name, names, value, parameters_json(e.method), made, new, weights)
        await e.cell.set(learned)
        self.house.builder.seat_trained(e)
        return learned

    async def _train(self, table: Table, seed: int, progress: Say | None) -> Trained:
        roles = self.house.builder.trainable(self.ensemble)
        return await train(self.ensemble.method, table, roles, seed, progress)

    async def learn(self, events: Sequence[Battle | Decision], *, seed: int = 0) -> Learned:
        """Updates an online method from events; off the request path, one writer at a time."""
        import numpy as np

        e = self.ensemble
        for event in events:
            if isinstance(event, Battle):
                check_battle(event, [m.name for m in e.members])
        return await e.cell.update(
            lambda state: asyncio.to_thread(e.method.update, state, events, np.random.default_rng(seed))
        )


class Request:
    """One root request: its run, its row in the store, its answer."""

    def __init__(self, asked: Asked, query: Query, want: Want, cache: bool, plan: Any = None) -> None:
        seed = asked.ensemble.config.seed if query.seed is None else query.seed
        self.asked, self.query, self.want, self.plan = asked, query.but(seed=seed), want, plan
        house, limits = asked.house, asked.ensemble.config.limits
        self.gate, self.store = house.gate, house.store
        now = self.gate.clock()
        self.at = time.time()
        self.run = Run(
            id=new_id(self.at),
            path=(asked.name,),
            seed=seed,
            limits=limits,
            began=now,
            deadline=now + limits.seconds,
            recorder=self.store,
            clock=self.gate.clock,
            use_cache=cache,
        )

    async def answer(self, on_piece: OnPiece) -> Answer:
        """Runs the request to its answer; the store has it whatever happens."""
        return await self._written(self._answering(on_piece))

    async def made(self) -> Any:
        """What was asked for where that is no answer: the scores of given texts."""
        answering = self._answering(_drop)
        self._write("running")
        try:
            check_calls(self.asked.ensemble, self.query, self.run.limits)
            result = await answering.result()
            self._write("done")
            return result.made
        except BaseException as error:
            self._failed(error, answering)
            raise
        finally:
            await asyncio.shield(self.store.flush())

    async def pieces(self) -> AsyncGenerator[Piece | Answer, None]:
        """The same, streamed."""
        answering: Answering | None = None

        def start(on_piece: OnPiece) -> Answering:
            nonlocal answering
            answering = self._answering(on_piece)
            return answering

        self._write("running")
        try:
            check_calls(self.asked.ensemble, self.query, self.run.limits)
            async with aclosing(pieces_then_result(start)) as items:
                async for item in items:
                    if isinstance(item, Piece):
                        yield item
                    else:
                        assert answering is not None
                        yield self._done(answering, item)
        except BaseException as error:
            self._failed(error, answering)
            raise
        finally:
            await asyncio.shield(self.store.flush())

    def _answering(self, on_piece: OnPiece) -> Answering:
        ensemble = self.asked.ensemble
        together = not isinstance(ensemble.method, Direct) and (
            ensemble.method.card.facets.granularity in TOGETHER
        )
        if together and not isinstance(ensemble.method, Fuses):
            on_piece = Spans(on_piece, self.store.piece, self.run)
        answering = Answering(ensemble, self.query, self.run, self.gate, self.want, on_piece)
        answering.on_step = self.store.piece
        return answering

    async def _written(self, answering: Answering) -> Answer:
        self._write("running")
        try:
            check_calls(self.asked.ensemble, self.query, self.run.limits)
            result = await (answering.follow(self.plan) if self.plan is not None else answering.result())
            return self._done(answering, result)
        except BaseException as error:
            self._failed(error, answering)
            raise
        finally:
            await asyncio.shield(self.store.flush())

    def _done(self, answering: Answering, result: Result) -> Answer:
        answer = answer_of(answering, result, self.gate.clock() - self.run.began)
        self._write("done", answer=answer)
        return answer

    def _failed(self, error: BaseException, answering: Answering | None) -> None:
        """Notes the place on the error and what had been answered by then."""
        if isinstance(error, RunError):
            error.at(request=self.run.id, method=self.asked.ensemble.method.name)
        if isinstance(error, LimitReached | RunError) and error.partial is None and answering is not None:
            text = "".join(p.text for p in answering.pieces)
            if text:
                error.partial = answer_of(answering, Result(text=text, finish="error"), self._seconds())
        status = "failed" if isinstance(error, SeptetError) else "cancelled"
        if not isinstance(error, SeptetError | asyncio.CancelledError | GeneratorExit | KeyboardInterrupt):
            status = "failed"
        self._write(status, error=str(error) or type(error).__name__)

    def _seconds(self) -> float:
        return self.gate.clock() - self.run.began

    def _write(self, status: str, *, answer: Answer | None = None, error: str = "") -> None:
        e, spent = self.asked.ensemble, self.run.tally
        self.store.request(
            RequestEvent(
                id=self.run.id,
                at=self.at,
                ensemble=e.name,
                method=e.method.name,
                query=query_json(self.query),
                status=status,
                answer=answer.text if answer else "",
                reason=answer.verdict.reason if answer else "",
                verdict=verdict_json(answer.verdict) | who_answered(answer, e) if answer else {},
                usage=spent.usage,
                usd=spent.usd,
                seconds=self._seconds(),
                error=error,
                notes=tuple(self._notes()),
            )
        )

    def _notes(self) -> list[str]:
        """Approximations that were agreed to, and whatever the run noted."""
        e = self.asked.ensemble
        notes = list(self.run.notes)
        if e.cell.learned is not None:
            notes.append(f"state version {e.cell.learned.version}")
        return notes

    async def plan_many(self, queries: Sequence[Query]) -> list[Any]:
        """What the queries of one task have to decide together."""
        answering = self._answering(_drop)
        e = self.asked.ensemble
        assert isinstance(e.method, PlansMany)
        plan = e.method.plan_many(queries, await answering.pool(), e.cell.value, self.run.rng("plan"))
        runner = PlanRunner(
            answering._bound(), self.run, emit=answering.emit, want=self.want, decide=answering._decide
        )
        return (await runner.drive(plan)).value

    def _runner(self) -> PlanRunner:
        """What runs a plan that answers nothing."""
        bound = {a.name: bind(a, self.run, self.gate) for a in self.asked.ensemble.actors()}
        return PlanRunner(bound, self.run, emit=self._answering(_drop).emit, want=self.want)

    async def fit(self, table: Table, seed: int) -> Any:
        """Runs the method's fit, which may ask its members, as the role `members`, and its roles."""
        import numpy as np

        e = self.asked.ensemble
        roles: dict[str, tuple[Seat, ...]] = {
            r: tuple(seat_of(a) for a in actors) for r, actors in [("members", e.members), *e.roles.items()]
        }
        runner = self._runner()
        try:
            fitted = await asyncio.to_thread(e.method.fit, table, roles, np.random.default_rng(seed))
            return (await runner.drive(asking(fitted))).value
        finally:
            await self.store.flush()

    async def forecast(self, table: Table, seed: int, budget_usd: float) -> Forecast:
        """What the router is expected to score and spend at the price of cost that keeps a budget."""
        e = self.asked.ensemble
        method, known = priced_router(e.method), Known.of(table)
        x = None
        if method.features == "embedder":
            seats = [seat_of(a) for a in e.roles["embedder"]]
            x = (await self._runner().drive(embedded(known.questions, seats))).value

        def search() -> Forecast:
            router = CrossFitted(method, known, x, [m.price for m in e.members], seed)
            return router.forecast(router.prefer_for(budget_usd))

        return await asyncio.to_thread(search)


def as_query(query: Query | str, fields: Mapping[str, Any]) -> Query:
    """A question as a query, with fields on top."""
    if isinstance(query, str):
        return Query.of(query, **fields)
    return query.but(**fields) if fields else query


def check_battle(battle: Battle, members: Sequence[str]) -> None:
    """Refuses a battle of strangers, or one whose winner did not fight."""
    if not {battle.a, battle.b} <= set(members) or battle.a == battle.b:
        raise ConfigError(
            f"a battle between {battle.a} and {battle.b}, but the members are {sorted(members)}"
        )
    if battle.winner not in (battle.a, battle.b, "tie"):
        raise BadParameter("winner", battle.winner, f"must be {battle.a!r}, {battle.b!r} or 'tie'")


def who_answered(answer: Answer, ensemble: Ensemble) -> dict[str, Any]:
    """The member whose answer was chosen, none where several made it together; and the weights by name."""
    chosen, weights = answer.verdict.chosen, answer.verdict.weights
    member = "" if chosen is None or not answer.candidates else answer.candidates[chosen].member
    names = [m.name for m in ensemble.members]
    drawn = {}
    if weights is not None and len(weights) == len(names):
        drawn = {n: float(w) for n, w in zip(names, weights, strict=True) if w}
    return {"member": member, "drawn": drawn}


def parameters_json(method: Any) -> dict[str, Any]:
    """The hyper-parameters of a record."""
    return asdict(method) if is_dataclass(method) and not isinstance(method, type) else {}


async def _drop(piece: Piece) -> None:
    """Where pieces go when nobody streams."""
