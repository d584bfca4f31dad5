"""What a router's decision costs: against scikit-learn's, over a sweep of prices, and as rows and members grow.

`python benchmarks/routers.py [--json FILE] [--quick]`. All data are synthetic; figures are ratios of one run, or
milliseconds. A missed aim is printed and fails nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from figures import Figure, Section, figure

from septet.bench.contenders import Contender
from septet.core.caps import Caps
from septet.core.errors import SeptetError
from septet.core.method import Seat, SeatPool
from septet.core.table import Table
from septet.core.types import Floats
from septet.engine.offline import Predicted, decided
from septet.parts.learning.features import Featurizer, unit
from septet.parts.learning.rows import Features, dense
from septet.parts.routing.cost import Spending
from septet.parts.routing.plan import Router
from septet.parts.routing.records import Known

THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""One thread of linear algebra, for both sides of every ratio."""

ROWS, MEMBERS, WIDTH = 10_000, 28, 128
"""Known questions, members and features of the decision that is measured."""

NEAREST = 100
"""Neighbours of both kNN routers; that of ours is its default."""

RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class Size:
    """How much is measured; `quick` only shows that it runs."""

    rows: int = ROWS
    decisions: int = 200
    queries: int = 500
    growth: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    members: tuple[int, ...] = (10, 100, 1_000)


QUICK = Size(500, 5, 20, (200, 400), (4, 8))


def known(n: int, m: int, texts: bool = False) -> Known:
    """n questions of ten tasks, answered by m members at random, with costs."""
    topics = RNG.integers(0, 10, n)
    skill = RNG.uniform(0.2, 0.9, (10, m))
    scores = (RNG.random((n, m)) < skill[topics]).astype(np.float64)
    usd = np.broadcast_to(np.geomspace(1e-5, 1e-2, m), (n, m))
    unknown = np.full((1, m), np.nan)
    table = Table.of(
        [{"query": "?", "model": f"m{i}", "score": 1.0, "cost_usd": usd[0, i]} for i in range(m)]
    )
    return Known(
        members=tuple(f"m{i}" for i in range(m)),
        questions=tuple(question(t, i) for i, t in enumerate(topics.tolist())) if texts else ("?",) * n,
        tasks=tuple(f"t{t}" for t in topics.tolist()),
        groups=("",) * n,
        scores=scores,
        usd=usd,
        prompt_tokens=np.broadcast_to(unknown, (n, m)),
        completion_tokens=np.broadcast_to(unknown, (n, m)),
        seconds=np.broadcast_to(unknown, (n, m)),
        spending=Spending.of(table),
        table=table,
    )


def question(topic: int, number: int) -> str:
    """Forty words, half of them of the topic."""
    words = RNG.integers(0, 400, 40)
    return " ".join(f"w{topic if i % 2 else 'x'}{w}" for i, w in enumerate(words.tolist())) + f" {number}"


def times(run: Callable[[int], Any], n: int, clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """Seconds of n runs by a clock, each told its number; one before them warms up."""
    run(0)
    found = []
    for i in range(n):
        began = clock()
        run(i)
        found.append(clock() - began)
    return found


def decide(router: Router, state: Any, x: Features, pool: SeatPool, prefers: list[float]) -> Floats:
    """What a router does between the features and the choice; the pool is there before any question is."""
    q, c = router.utility(x, state), router.cost(x, state, pool)
    assert isinstance(q, np.ndarray) and isinstance(c, np.ndarray)
    if len(prefers) == 1:  # as a request is decided
        return router.choose(q, c, np.full(len(q), prefers[0]), state, RNG).weights
    return decided(router, state, Predicted(q, c), prefers, RNG)


def pool_of(members: tuple[str, ...]) -> SeatPool:
    """A pool of seats that nobody sits on."""
    return SeatPool(tuple(Seat(name, Caps(text=True)) for name in members))


def routers() -> dict[str, Contender]:
    """What is measured, and what it is called."""
    return {
        "kNN": Contender.of(f"knn-router:k={NEAREST}"),
        "clusters (avengers)": Contender.of("avengers:top_n=1"),
        "clusters (uniroute)": Contender.of("uniroute:clusters=64"),
        "table of tasks (bench-coe)": Contender.of("bench-coe:level=subject,features=task"),
    }


def decisions(size: Size) -> tuple[list[Figure], list[str]]:
    """(a) One decision from given features, ÷ scikit-learn's brute-force kNN on the same rows, run by run."""
    from sklearn.neighbors import KNeighborsRegressor

    facts = known(size.rows, MEMBERS)
    rows = unit(RNG.standard_normal((size.rows, WIDTH)))
    fresh = unit(RNG.standard_normal((size.decisions, WIDTH)))
    pool = pool_of(facts.members)
    theirs = KNeighborsRegressor(n_neighbors=min(NEAREST, size.rows), algorithm="brute").fit(
        rows, facts.scores
    )
    found, notes = [], []
    for name, contender in routers().items():
        router, skipped = made(contender)
        if router is None:
            notes.append(f"SKIPPED {name}: {skipped}")
            continue
        featurizer, x, asked = Featurizer.unused(), rows, fresh
        if router.features == "task":
            featurizer = Featurizer.of("task", [], facts.tasks)
            x = dense(featurizer.rows(facts.questions, facts.tasks))
            asked = x[: size.decisions]
        try:
            state = router.learn(facts, featurizer, x, np.random.default_rng(0))
        except SeptetError as error:
            notes.append(f"SKIPPED {name}: {error}")
            continue
        ratio, ours = [], []
        theirs.predict(fresh[:1])
        decide(router, state, asked[:1], pool, [0.0])
        for i in range(size.decisions):  # in turn, so that a busy moment falls on both
            began = time.perf_counter()
            theirs.predict(fresh[i : i + 1])
            between = time.perf_counter()
            decide(router, state, asked[i : i + 1], pool, [0.0])
            ours.append(time.perf_counter() - between)
            ratio.append(ours[-1] / (between - began))
        found.append(figure(f"{name} ÷ scikit-learn's kNN", ratio, aim=1.0 if name == "kNN" else 0.1))
        found.append(figure(f"{name}", [1e3 * s for s in ours], unit="ms"))
    return found, notes


def whole(size: Size) -> tuple[list[Figure], list[str]]:
    """(a) A whole decision of septet-router, from the text of a question, with its default features."""
    router, skipped = made(Contender.of("septet-router"))
    if router is None:
        return [], [f"SKIPPED septet-router: {skipped}"]
    facts = known(size.rows, MEMBERS, texts=True)
    featurizer = Featurizer.of("lsa", facts.questions)
    state = router.learn(facts, featurizer, featurizer.rows(facts.questions), np.random.default_rng(0))
    pool = pool_of(facts.members)
    fresh = [question(i % 10, -i) for i in range(size.decisions)]
    found = times(
        lambda i: decide(router, state, state.featurizer.rows([fresh[i]]), pool, [0.0]),
        size.decisions,
    )
    return [figure("septet-router, from text to choice", [1e3 * s for s in found], unit="ms", aim=3.0)], []


def sweep(size: Size) -> tuple[list[Figure], list[str]]:
    """(b) Prediction and a hundred prices of cost ÷ prediction and one."""
    router, skipped = made(routers()["kNN"])
    if router is None:
        return [], [f"SKIPPED the sweep: {skipped}"]
    facts = known(size.rows, MEMBERS)
    rows, fresh = (unit(RNG.standard_normal((n, WIDTH))) for n in (size.rows, size.queries))
    state = router.learn(facts, Featurizer.unused(), rows, np.random.default_rng(0))
    pool = pool_of(facts.members)
    prefers = [0.0, *np.geomspace(0.1, 1e5, 99).tolist()]
    ratio = []
    for _ in range(5):
        one = times(lambda _: decide(router, state, fresh, pool, [0.0]), 1)[0]
        many = times(lambda _: decide(router, state, fresh, pool, prefers), 1)[0]
        ratio.append(many / one)
    return [figure(f"100 prices of cost ÷ one, {size.queries} questions", ratio, aim=3.0)], []


def growth(size: Size) -> tuple[list[Figure], list[str]]:
    """(c) Time and memory of a kNN decision as rows and members grow; linear growth has exponent 1."""
    router, skipped = made(routers()["kNN"])
    if router is None:
        return [], [f"SKIPPED the growth: {skipped}"]
    found: list[Figure] = []
    for what, shapes in (
        ("rows", [(n, 10) for n in size.growth]),
        ("members", [(size.rows // 10 or 1, m) for m in size.members]),
    ):
        seconds, held = zip(*(_measured(router, n, m) for n, m in shapes), strict=True)
        n = [shape[0 if what == "rows" else 1] for shape in shapes]
        steps = [(i, n[i + 1] / n[i]) for i in range(len(n) - 1)]
        of = f"{what}, {n[0]:,} → {n[-1]:,}"
        found += [
            figure(
                f"one decision: time grows by ÷ {of} grow by",
                [seconds[i + 1] / seconds[i] / step for i, step in steps],
                aim=1.2,
                judged="worst",
            ),
            figure(f"one decision at {n[-1]:,} {what}", [1e3 * seconds[-1]], unit="ms"),
            figure(
                f"memory grows by ÷ {of} grow by",
                [held[i + 1] / held[i] / step for i, step in steps],
                aim=1.2,
                judged="worst",
            ),
            figure(f"memory at {n[-1]:,} {what}", [held[-1] / 1e6], unit="MB"),
        ]
    return found, []


def _measured(router: Router, n: int, m: int) -> tuple[float, float]:
    """Median seconds of a decision, and the bytes of rows, scores and all that the fit and a decision add."""
    facts = known(n, m)
    rows = unit(RNG.standard_normal((n, 32)))
    fresh = unit(RNG.standard_normal((7, 32)))
    pool = pool_of(facts.members)
    tracemalloc.start()
    state = router.learn(facts, Featurizer.unused(), rows, np.random.default_rng(0))
    decide(router, state, fresh[:1], pool, [0.0])
    held = tracemalloc.get_traced_memory()[1] + rows.nbytes + facts.scores.nbytes
    tracemalloc.stop()
    seconds = times(lambda i: decide(router, state, fresh[i : i + 1], pool, [0.0]), 7)
    return float(np.median(seconds)), float(held)


def made(contender: Contender) -> tuple[Router | None, str]:
    """The router, or why there is none in this checkout."""
    try:
        return contender.make(), ""
    except SeptetError as error:
        return None, str(error)


def run(size: Size) -> Section:
    """All figures."""
    figures: list[Figure] = []
    notes: list[str] = []
    for part in (decisions, whole, sweep, growth):
        more, said = part(size)
        figures += more
        notes += said
    setting = (
        f"{size.rows:,} known questions × {MEMBERS} members, {WIDTH} features, {size.decisions} decisions"
    )
    return Section("routers", setting, tuple(figures), tuple(notes))


def main(arguments: list[str]) -> int:
    """Prints the figures, and writes them where that is wanted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    parser.add_argument("--quick", action="store_true", help="few rows and decisions, to see that it runs")
    options = parser.parse_args(arguments)
    section = run(QUICK if options.quick else Size())
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}, load {os.getloadavg()[0]:.1f}\n\n{section.text()}", flush=True)
    if options.json:
        made_of = {"machine": machine, "routers": section.json()}
        options.json.write_text(json.dumps(made_of, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    if any(os.environ.get(name) != "1" for name in THREADS):  # numpy has read them by now: start anew
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | THREADS)
    sys.exit(main(sys.argv[1:]))
