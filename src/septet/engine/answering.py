"""An ensemble is a model: it completes, streams and opens sessions like its members, so ensembles nest."""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import numpy as np

from septet.core.caps import Caps
from septet.core.errors import (
    BadParameter,
    ConfigError,
    LimitReached,
    NoCandidate,
    NotFitted,
    RunError,
    UnfitPool,
)
from septet.core.method import Choice, Fuses, Keeps, Method, Plan, Rng, Routes, SeatPool
from septet.core.money import Price
from septet.core.session import Session, Vocab
from septet.core.trace import PieceEvent
from septet.core.types import Answer, Completion, Finish, Piece, Query, Tokens, Verdict
from septet.engine.decode import Steps, answer_with
from septet.engine.direct import Direct
from septet.engine.drawing import Sampling
from septet.engine.ensemble import TOGETHER, Ensemble, seat_of
from septet.engine.gate import Bound, BoundMember, Gate
from septet.engine.limits import out_of_order
from septet.engine.members import Member
from septet.engine.mixture import checked_weights
from septet.engine.plan_runner import PlanRunner, Want
from septet.engine.run import Run
from septet.engine.schedules import schedule_of
from septet.engine.sessions import BoundSession, close_all, opened
from septet.engine.token_loop import FusedSession, Together


@dataclass
class Result:
    """What one run of an ensemble came to."""

    text: str = ""
    verdict: Verdict = Verdict()
    candidates: tuple[Completion, ...] = ()
    finish: Finish = "stop"
    tokens: Tokens | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    made: Any = None  # the session or the scores, where the caller asked for those


OnPiece = Callable[[Piece], Any]


def whole_characters() -> codecs.IncrementalDecoder:
    """Turns bytes into text as they come; the bytes of an unfinished character wait, at the end for ever."""
    return codecs.getincrementaldecoder("utf-8")("replace")


def unseen(event: PieceEvent) -> None:
    """Where it goes how pieces came about, when nobody wants to know."""


class Answering:
    """One request of one ensemble. `on_piece` receives the streamed pieces, whole characters only; `on_step`
    how each piece of members that decode together came about."""

    def __init__(
        self, ensemble: Ensemble, query: Query, run: Run, gate: Gate, want: Want, on_piece: OnPiece
    ) -> None:
        self.ensemble, self.run, self.gate, self.want, self.on_piece = ensemble, run, gate, want, on_piece
        self.query = self._own(query)
        self.on_step: Callable[[PieceEvent], None] = unseen
        self.pieces: list[Piece] = []
        self._decoder = whole_characters()

    def _own(self, query: Query) -> Query:
        """The query as this ensemble takes it; what it cannot honour is refused, not ignored."""
        method = self.ensemble.method
        if query.extra and not isinstance(method, Direct | Routes):
            raise BadParameter(
                "query",
                sorted(query.extra),
                f"must be plain text: {method.name} has no single member that answers",
            )
        shared = not isinstance(method, Direct) and method.card.facets.granularity in TOGETHER
        if shared and query.max_tokens is None:
            query = query.but(max_tokens=self.ensemble.max_tokens)
        return query

    async def result(self) -> Result:
        """Runs the method."""
        method = self.ensemble.method
        self._note_approximations()
        if not isinstance(method, Direct):
            for said in out_of_order(self.ensemble, self.query):
                self._note(f"order: {said}; members are asked as they stand")
        if self.ensemble.cell.value is None and not isinstance(method, Direct) and method.card.trained:
            raise NotFitted(self.ensemble.name, method.name)
        if isinstance(method, Fuses):
            return await self._fused(method)
        return await self._planned()

    # --- plans ------------------------------------------------------------------------------------

    async def _planned(self) -> Result:
        pool = await self.pool()
        method, state = self.ensemble.method, self.ensemble.cell.value
        plan = method.plan(self.query, pool, state, self.drawing("plan"))
        return await self.follow(plan)

    def drawing(self, purpose: str) -> Rng:
        """The generator of a purpose for this question: under one seed, two questions draw differently."""
        return self.run.rng(purpose, crc32(self.query.text.encode("utf-8", "replace")))

    async def follow(self, plan: Plan) -> Result:
        """Runs a plan of this ensemble's method to a result."""
        runner = PlanRunner(
            self._bound(), self.run, emit=self.emit, want=self.want, decide=self._decide, keep=self._keep
        )
        outcome = await runner.drive(plan)
        if outcome.final is not None and self.want.mode in ("open", "score"):
            return Result(verdict=outcome.value, made=outcome.final)
        return self._of(outcome.value, outcome.candidates, outcome.final)

    def _of(self, verdict: Verdict, candidates: list[Completion], final: Any) -> Result:
        chosen = final[0] if isinstance(final, list) else final
        if chosen is None and verdict.text is None and verdict.chosen is not None:
            chosen = candidates[verdict.chosen]
        if verdict.abstained or (chosen is None and verdict.text is None):
            raise NoCandidate(f"{self.ensemble.method.name} abstained: {verdict.reason or 'no reason given'}")
        text = verdict.text if verdict.text is not None else chosen.text
        finish = verdict.finish or (chosen.finish if chosen is not None else "stop")
        return Result(
            text=text,
            verdict=verdict,
            candidates=tuple(candidates),
            finish=finish,
            tokens=chosen.tokens if chosen is not None else None,
            extra=chosen.extra if chosen is not None else {},
        )

    async def pool(self) -> SeatPool:
        """The pool of seats that a plan sees."""
        e = self.ensemble
        then = None
        if e.then is not None:
            then_method, then_state = e.then, e.then_cell.value if e.then_cell else None

            def then(query: Query, pool: SeatPool, rng: Any) -> Plan:
                return then_method.plan(query, pool, then_state, rng)

        return SeatPool(
            tuple(seat_of(m) for m in e.members),
            {role: tuple(seat_of(a) for a in actors) for role, actors in e.roles.items()},
            await e.prepared(),
            then,
        )

    def _bound(self) -> dict[str, Bound]:
        return {a.name: bind(a, self.run, self.gate) for a in self.ensemble.actors()}

    async def _decide(self, args: Mapping[str, Any]) -> Choice:
        """A router's choice on the latest state; where it spends something, the state is kept."""
        method, cell = self.ensemble.method, self.ensemble.cell
        assert isinstance(method, Routes)
        rng = self.drawing("choose")
        async with cell.lock:
            choice = method.choose(args["q"], args["c"], args["prefer"], cell.value, rng)
            if choice.state is not None and cell.learned is not None:
                cell.replaced(choice.state)
        return choice

    async def _keep(self, args: Mapping[str, Any]) -> Any:
        """Lets the method change its latest state, in a worker thread; the reply is what `keep` says."""
        method, said = self.ensemble.method, []
        if not isinstance(method, Keeps):
            raise ConfigError(f"{method.name} has no `keep`, so its plan can keep nothing")
        rng = self.drawing("keep")

        async def change(state: Any) -> Any:
            kept = await asyncio.to_thread(method.keep, args["event"], state, rng)
            said.append(kept.value)
            return kept.state

        await self.ensemble.cell.update(change)
        return said[0]

    # --- the token loop ---------------------------------------------------------------------------

    async def _fused(self, method: Fuses) -> Result:
        config = self.ensemble.config
        decodes = self.want.mode not in ("open", "score")
        if decodes:
            await self._check_schedule(method)
        session = await self.open()
        if self.want.mode == "open":
            return Result(made=session)
        try:
            if self.want.mode == "score":
                args = self.want.args
                spans = [text.encode("utf-8", "replace") for text in args["texts"]]
                return Result(made=await session.score(spans, end=bool(args.get("end", False))))
            stop = (*self.query.stop, *(s for m in self.ensemble.members for s in m.stop))
            told = None if self.on_step is unseen else Steps(self.on_step, self.run.id, self.run.place)
            written = await answer_with(
                session,
                self.query,
                tuple(dict.fromkeys(stop)),
                lambda step: self.run.rng("token", step),
                self.emit,
                schedule=schedule_of(config.schedule, config.draft, config.beam),
                steps=told,
            )
        finally:
            await session.close()
        names = session.together.names
        most = ", ".join(f"{n} {share:.0%}" for n, share in zip(names, written.shares, strict=True))
        n = len(written.tokens)
        reason = f"{n} piece{'' if n == 1 else 's'}; support: {most}"
        if remark := method.remark(session.s):
            reason += f"; {remark}"
        if session.together.errors:
            reason += "; failed: " + "; ".join(session.together.errors)
        text = whole_characters().decode(written.text)
        verdict = Verdict(text=text, weights=written.shares, reason=reason)
        return Result(text=text, verdict=verdict, finish=written.finish, tokens=written.tokens)  # type: ignore[arg-type]

    async def _check_schedule(self, method: Any) -> None:
        """Refuses what the schedule cannot do for this query, before anything is fed.

        The weights of a method that reads the prompts are known only after these were fed: the schedule itself
        looks at them again.
        """
        config, query = self.ensemble.config, self.query
        if config.beam > 1 and query.temperature:
            raise BadParameter(
                "beam",
                config.beam,
                f"is a search for the most probable answer, so the temperature must be 0, not {query.temperature:g}",
            )
        if config.schedule != "mixture":
            return
        top_p = 1.0 if query.top_p is None else query.top_p
        sampling = Sampling(query.temperature or 0.0, top_p, lambda step: self.run.rng("token", step))
        n = len(self.ensemble.members)
        checked_weights(sampling, method, np.ones(n))
        if method.needs().prompt_scores:
            return
        for member in self.ensemble.members:
            if isinstance(member, Member) and hasattr(member.actor, "ready"):
                await member.actor.ready()
        s = method.start(query, [None] * n, await self.ensemble.prepared(), self.ensemble.cell.value)
        checked_weights(sampling, method, method.mixture(s))

    async def open(self) -> FusedSession:
        """Opens a session on every member and starts the method."""
        e, method = self.ensemble, self.ensemble.method
        assert isinstance(method, Fuses) and isinstance(method, Method)
        needs = [method.needs_of(i, len(e.members)) for i in range(len(e.members))]
        bound = self._bound()
        together = Together(
            method,
            tuple(m.name for m in e.members),
            [None] * len(e.members),
            tuple(
                0 if method.asks else _shown(needs_of, m)
                for needs_of, m in zip(needs, e.members, strict=True)
            ),
            self.run.limits.on_member_error == "continue",
            method.consults,
            tuple(method.hidden_of(len(e.members))),
            tuple(m.caps.full for m in e.members),
            e.config.commit,
            self._note,
        )
        sessions = await opened(
            bound[m.name].do("open", {"query": self._for(m), "scored": wanted.prompt_scores}, "decode")
            for wanted, m in zip(needs, e.members, strict=True)
        )
        try:
            self._seat_sessions(together, sessions)
            self._check_vocabularies(together.sessions)
            prompts = [None if s is None else s.prompt for s in together.sessions]
            s = method.start(self.query, prompts, await e.prepared(), e.cell.value)
        except BaseException:
            await close_all(s for s in sessions if not isinstance(s, BaseException))
            raise
        return FusedSession(together, s)

    def _note_approximations(self) -> None:
        """Says in the trace whose best tokens stand for a whole distribution, which `approximate` has allowed."""
        e = self.ensemble
        for i, member in enumerate(e.members):
            if e.method.needs_of(i, len(e.members)).full and not member.caps.full:
                self._note(
                    f"approximate: top {member.caps.topk} of {member.name} in place of its full distribution"
                )

    def _note(self, note: str) -> None:
        """Says once in the trace what is to be known about the answer."""
        if note not in self.run.notes:
            self.run.notes.append(note)

    def _for(self, member: Member | Ensemble) -> Query:
        return self.query.but(seed=self.run.seed_for(member.name, "decode", 0))

    def _seat_sessions(self, together: Together, sessions: Sequence[Session | BaseException]) -> None:
        for i, session in enumerate(sessions):
            if not isinstance(session, BaseException):
                if isinstance(session, BoundSession):
                    session.commit_rule = self.ensemble.config.commit
                together.sessions[i] = session
            elif (
                isinstance(session, RunError)
                and not isinstance(session, LimitReached)
                and together.keep_going
            ):
                together.errors.append(str(session))
            else:
                raise session
        if all(s is None for s in together.sessions):
            raise NoCandidate("every member failed: " + "; ".join(together.errors))

    def _check_vocabularies(self, sessions: Sequence[Session | None]) -> None:
        """Compares what was loaded where the files did not say that all have one vocabulary."""
        e = self.ensemble
        if e.method.card.pool.vocabulary != "same" or e.config.approximate:
            return
        described = {m.vocabulary or m.endpoint if isinstance(m, Member) else m.name for m in e.members}
        digests = {m.name: s.vocab.digest for m, s in zip(e.members, sessions, strict=True) if s is not None}
        if len(described) > 1 and (len(set(digests.values())) > 1 or "" in digests.values()):
            rule = "its members must share one vocabulary, but the tokens of"
            hint = "differ (approximate = true compares them as strings)"
            raise UnfitPool(e.name, e.method.name, [f"{rule} {' and '.join(digests)} {hint}"])

    # --- pieces -----------------------------------------------------------------------------------

    async def emit(self, piece: bytes, support: Mapping[str, float], logp: float) -> None:
        """Passes on whole characters; the bytes of an unfinished one wait."""
        text = self._decoder.decode(piece)
        if text:
            self.pieces.append(Piece(text, support, logp))
            await self.on_piece(self.pieces[-1])


def _shown(needs: Caps, member: Member | Ensemble) -> int | None:
    """How many of its best tokens a member shows: as many as the method wants, or all that it can where the
    method wants the full distribution; None: that one."""
    if needs.full:
        return None if member.caps.full else member.caps.topk
    return needs.topk or member.caps.topk


def bind(actor: Member | Ensemble, run: Run, gate: Gate) -> Bound:
    """The same actor, every call of which passes the gate on account of this run."""
    return BoundMember(actor, run, gate) if isinstance(actor, Member) else BoundEnsemble(actor, run, gate)


class BoundEnsemble:
    """A nested ensemble with a child run: it spends its parents' budgets and holds no permit of its own."""

    def __init__(self, ensemble: Ensemble, run: Run, gate: Gate) -> None:
        self.ensemble, self.run, self.gate = ensemble, run, gate
        self._samples = 0

    @property
    def name(self) -> str:
        return self.ensemble.name

    @property
    def caps(self) -> Caps:
        return self.ensemble.caps

    @property
    def price(self) -> Price | None:
        return None

    @property
    def vocab(self) -> Vocab | None:
        return None

    @property
    def stop(self) -> tuple[str, ...]:
        return ()

    def _answering(self, query: Query, want: Want, on_piece: OnPiece) -> Answering:
        sample, self._samples = self._samples, self._samples + 1
        run = self.run.child(self.name, self.ensemble.config.limits, sample)
        answering = Answering(self.ensemble, query, run, self.gate, want, on_piece)
        answering.on_step = run.recorder.piece
        return answering

    async def do(self, ability: str, args: Mapping[str, Any], purpose: str) -> Any:
        query = args["query"]
        rest = {k: v for k, v in args.items() if k not in ("query", "n")}
        if ability == "complete":
            return [await self._complete(query, j, rest) for j in range(args.get("n", 1))]
        if ability in ("open", "score"):
            answering = self._answering(query, Want(ability, rest), _nowhere)  # type: ignore[arg-type]
            return (await answering.result()).made
        raise RunError(f"an ensemble does not offer {ability}").at(member=self.name)

    async def _complete(self, query: Query, sample: int, rest: Mapping[str, Any]) -> Completion:
        answering = self._answering(query, Want("complete", rest), _nowhere)
        began = self.gate.clock()
        result = await answering.result()
        return self._completion(answering, result, self.gate.clock() - began, sample)

    def _completion(
        self, answering: Answering, result: Result, seconds: float, sample: int = 0
    ) -> Completion:
        spent = answering.run.tally
        return Completion(
            member=self.name,
            text=result.text,
            finish=result.finish,
            usage=spent.usage,
            usd=spent.usd,
            seconds=seconds,
            confidence=result.verdict.confidence,
            tokens=result.tokens,
            sample=sample,
            extra=result.extra,
        )

    async def stream(self, query: Query, purpose: str) -> AsyncGenerator[Piece | Completion, None]:
        answering, began = None, self.gate.clock()

        def start(on_piece: OnPiece) -> Answering:
            nonlocal answering
            answering = self._answering(query, Want("stream"), on_piece)
            return answering

        async with aclosing(pieces_then_result(start)) as items:
            async for item in items:
                if isinstance(item, Piece):
                    yield item
                else:
                    assert answering is not None
                    yield self._completion(answering, item, self.gate.clock() - began)


async def _nowhere(piece: Piece) -> None:
    """Where pieces go when nobody streams."""


async def pieces_then_result(
    start: Callable[[OnPiece], Answering],
) -> AsyncGenerator[Piece | Result, None]:
    """Runs an answering and yields its pieces as they come, then its result. An answer that came without
    pieces is one piece. Leaving early cancels the run."""
    queue: asyncio.Queue[Piece | None] = asyncio.Queue()
    answering = start(queue.put)

    async def run() -> Result:
        try:
            return await answering.result()
        finally:
            await queue.put(None)

    task = asyncio.create_task(run())
    try:
        while (piece := await queue.get()) is not None:
            yield piece
        result = await task
        if not answering.pieces and result.text:
            answering.pieces.append(Piece(result.text))
            yield answering.pieces[-1]
        yield result
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])


def answer_of(answering: Answering, result: Result, seconds: float) -> Answer:
    """The answer of a root request."""
    spent = answering.run.tally
    return Answer(
        text=result.text,
        verdict=result.verdict,
        candidates=result.candidates,
        pieces=tuple(answering.pieces),
        finish=result.finish,
        usage=spent.usage,
        usd=spent.usd,
        seconds=seconds,
        trace_id=answering.run.id,
        ensemble=answering.ensemble.name,
        tokens=result.tokens,
        extra=result.extra,
    )
