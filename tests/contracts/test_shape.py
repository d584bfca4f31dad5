"""The shape holds what is to come: five published methods as toy plans of about ten lines, without a new noun."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from septet.core.caps import Caps, PoolRule
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Card, Choice, Emit, Method, Plan, Rng, SeatPool, method, param
from septet.core.money import Load
from septet.core.session import END, Sampler
from septet.core.table import Table
from septet.core.types import Answer, Query, Verdict
from septet.testing.toys import toy_config, toy_house, toy_table


def card(family: Family, granularity: Granularity = Granularity.RESPONSE, **more: Any) -> Card:
    facets = Facets(
        family=family,
        strategy=Strategy.SELECTION,
        granularity=granularity,
        goal=Goal.PERFORMANCE,
        supervised=False,
    )
    return Card(paper="toy", title="a toy plan", facets=facets, **more)


class Toy(Method):
    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        everyone = [*pool.members, *(seat for seats in pool.roles.values() for seat in seats)]
        return {seat.name: Load(2, 2, query.max_tokens or 0) for seat in everyone}


@method(card(Family.NONCASCADE))
class Blender(Toy):
    """LLM-Blender (2306.02561): pair ranker with MaxLogits, then a fuser that streams the answer."""

    def roles(self) -> Mapping[str, Caps]:
        return {"ranker": Caps(compare=True), "fuser": Caps(text=True)}

    def plan(self, query: Query, pool: SeatPool, state: Any, rng: Rng) -> Plan:
        replies = yield [m.complete(query) for m in pool.members]
        texts = [r.value[0].text for r in replies if r.ok]
        (ranked,) = yield [pool.role("ranker")[0].compare(query, texts)]
        margin = (ranked.value - ranked.value.T).sum(axis=1)  # MaxLogits, (n,)
        top = [texts[i] for i in np.argsort(-margin, kind="stable")[:3]]
        fused = Query.of(query.text + " Candidates: " + " | ".join(top))
        yield [pool.role("fuser")[0].complete(fused, final=True)]
        return Verdict(reason=f"fused {len(top)} candidates")


@dataclass(frozen=True)
class Budgets:
    left: np.ndarray


@method(card(Family.NONPRETRAINED, online=True, scope="stream"))
class Port(Toy):
    """PORT (2509.02718): dual prices against hard budgets per arm; a decision spends."""

    state_type = Budgets

    def fit(self, table: Table, roles: Any, rng: Rng) -> Budgets:
        return Budgets(np.full(len(table.members), 2.0))

    def choose(self, q: np.ndarray, c: np.ndarray, prefer: np.ndarray, state: Budgets, rng: Rng) -> Choice:
        gain = np.where(state.left > 0, q - c / np.maximum(state.left, 1e-9), -np.inf)  # (1, m)
        weights = np.eye(len(state.left))[gain.argmax(axis=1)]
        return Choice(weights, state=Budgets(state.left - weights[0]))

    def plan(self, query: Query, pool: SeatPool, state: Budgets, rng: Rng) -> Plan:
        q = np.arange(len(pool.members), 0.0, -1.0)[None]  # the first is best: (1, m)
        (choice,) = yield [pool.decide(q, np.full_like(q, 0.1), np.zeros(1))]
        yield [pool.members[int(choice.value.weights[0].argmax())].complete(query, final=True)]
        return Verdict(weights=choice.value.weights[0])


@method(card(Family.TOKEN, Granularity.TOKEN, permutes=True))
class Abe(Toy):
    """ABE (2502.21265), beam 1: members append only their own tokens and agree on bytes; one may lag."""

    def needs(self) -> Caps:
        return Caps(text=True, continues=True, topk=5)

    def plan(self, query: Query, pool: SeatPool, state: Any, rng: Rng) -> Plan:
        opened = yield [m.open(query) for m in pool.members]
        sessions = [r.value for r in opened]
        said, ended = [b""] * len(sessions), False
        while not ended and len(max(said, key=len)) < 60:
            longest = max(said, key=len)
            behind = [i for i, b in enumerate(said) if len(b) == min(map(len, said))]
            views = yield [sessions[i].next(5, agreeing=longest[len(said[i]) :]) for i in behind]
            ids = [int(v.value.ids[0]) for v in views]
            pieces = [sessions[i].vocab.bytes_of(t) for i, t in zip(behind, ids, strict=True)]
            ended = END in pieces
            if not ended:
                yield [sessions[i].push(p, id=t) for i, p, t in zip(behind, pieces, ids, strict=True)]
                said = [b + dict(zip(behind, pieces, strict=True)).get(i, b"") for i, b in enumerate(said)]
                if not all(max(said, key=len).startswith(b) for b in said):
                    return Verdict(text=min(said, key=len).decode(), reason="they parted")
        return Verdict(text=max(said, key=len).decode("utf-8", "replace"), reason="they agreed")


@method(card(Family.CASCADE, permutes=False, pool=PoolRule(at_least=2, order="cost")))
class CascadeRouting(Toy):
    """Cascade routing (2410.10347), hand case: q̂_1 = .6 before and .95 or .25 after, q̂_2 = .9, c = (1, 5)."""

    price: Annotated[float, param("Quality units per unit of cost.", ge=0, le=1)] = 0.02

    def plan(self, query: Query, pool: SeatPool, state: Any, rng: Rng) -> Plan:
        cost = np.array([1.0, 5.0])
        alone = np.array([0.6, 0.9]) - self.price * cost
        both = (max(0.95, 0.9) + max(0.25, 0.9)) / 2 - self.price * cost.sum()
        if both <= alone.max() and alone.argmax() == 1:
            yield [pool.members[1].complete(query, final=True)]
            return Verdict(reason="straight to the second")
        (cheap,) = yield [pool.members[0].complete(query)]
        seen = 0.95 if "Paris" in cheap.value[0].text else 0.25
        if seen - self.price * cost[0] >= max(seen, 0.9) - self.price * cost.sum():
            return Verdict(chosen=0, confidence=seen, reason="the first is good enough")
        yield [pool.members[1].complete(query)]
        return Verdict(chosen=1, confidence=0.9, reason="escalated")


@method(card(Family.SPAN, Granularity.SPAN))
class SpecFuse(Toy):
    """SpecFuse (2412.07380): everyone drafts, everyone scores, Hedge re-weighs the members online."""

    window: Annotated[int, param("Tokens per draft.", ge=1, le=100)] = 4

    def needs(self) -> Caps:
        return Caps(text=True, continues=True, topk=1, score=True)

    def plan(self, query: Query, pool: SeatPool, state: Any, rng: Rng) -> Plan:
        sessions = [r.value for r in (yield [m.open(query) for m in pool.members])]
        w, text, ended = np.full(len(sessions), 1 / len(sessions)), b"", False
        for turn in range(1, 9):
            drafts = [r.value for r in (yield [s.write((), self.window, Sampler()) for s in sessions])]
            spans = [d.text or b" ." for d in drafts]
            scored = yield [s.score(spans) for s in sessions]
            means = np.array([[float(np.mean(t.logp)) for t in r.value] for r in scored])  # (judges, drafts)
            best = int(np.argmax(w @ means))
            wins = (means.T[:, :, None] > means[None]).any(axis=(1, 2)).astype(float)
            w = w * np.exp(0.1 / turn * wins)
            w /= w.sum()
            text, ended = text + spans[best], drafts[best].ended
            yield [Emit(spans[best]), *(s.push(spans[best]) for s in sessions)]
            if ended:
                break
        return Verdict(text=text.decode("utf-8", "replace"), weights=w, reason="Hedge")


def answers(record: Any, folder: Path, n: int = 1, roles: Any = None, **options: Any) -> list[Answer]:
    text = toy_config(record.name, roles=roles, folder=folder, **options)

    async def work() -> list[Answer]:
        async with toy_house(text, {record.name: record}) as house:
            if record.state_type is not None:
                await house["toys"].fit(toy_table())
            return [await house["toys"].ask("What is the capital of France?") for _ in range(n)]

    return asyncio.run(work())


def test_llm_blender_ranks_and_regenerates(tmp_path: Path) -> None:
    (got,) = answers(Blender, tmp_path, roles={"ranker": ["cyd"], "fuser": ["ada"]})
    assert got.verdict.reason == "fused 3 candidates"
    assert got.candidates[-1].member == "ada"
    assert got.text == got.candidates[-1].text


def test_port_spends_its_budgets_and_moves_on(tmp_path: Path) -> None:
    got = answers(Port, tmp_path, n=6)
    assert [a.candidates[0].member for a in got] == ["ada", "ada", "bob", "bob", "cyd", "cyd"]


def test_abe_agrees_on_bytes_across_tokenizers(tmp_path: Path) -> None:
    (got,) = answers(Abe, tmp_path, order=("ada", "bob"))
    assert (got.text, got.verdict.reason) == ("Paris is the capital of France.", "they agreed")


def test_cascade_routing_stops_where_the_first_is_good_enough(tmp_path: Path) -> None:
    (got,) = answers(CascadeRouting, tmp_path, order=("ada", "bob"))
    assert (got.verdict.reason, len(got.candidates)) == ("the first is good enough", 1)


def test_specfuse_streams_spans_that_all_members_share(tmp_path: Path) -> None:
    (got,) = answers(SpecFuse, tmp_path, order=("ada", "bob"))
    assert got.text == "Paris is the capital of France."
    assert "".join(p.text for p in got.pieces) == got.text
