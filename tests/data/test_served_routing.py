"""From outcomes to a served router: a fit for a budget, replayed on the test split, then asked over HTTP.

The budget is half of what the best single member costs. Nothing of the test split is seen by the fit.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen
from uuid import uuid4

import numpy as np
import pytest
from recorded import split

import septet
from septet.bench.tables import read
from septet.core.state import Learned
from septet.core.table import Table
from septet.core.types import Floats
from septet.engine.offline import decided, predicted, realised
from septet.methods.a1_pretrained.septet_router import SeptetRouter

pytestmark = [pytest.mark.data, pytest.mark.timeout(600)]

N_ASKED = 500

N_JUDGED = 200


@dataclass(frozen=True)
class Setting:
    """A folder with a configuration whose members replay the test split, the fitted state, and its budget."""

    folder: Path
    test: Table
    learned: Learned
    budget_usd: float

    @property
    def expected(self) -> Any:
        return self.learned.provenance["expected"]

    def replayed(self) -> tuple[Floats, Floats]:
        """(n,) quality and USD of the router's choices on the test split, decided in this process."""
        state, router = self.learned.value, SeptetRouter()
        x = state.featurizer.rows(self.test.questions, self.test.tasks)
        view = predicted(router, state, x, self.test.members)
        weights = decided(router, state, view, [state.prefer], np.random.default_rng(0))[0]
        return realised(weights, self.test.matrix("score")), realised(weights, self.test.matrix("usd"))

    def estimates(self, questions: list[str], member: str) -> list[float]:
        """The scores that the fitted router expects of a member."""
        x = self.learned.value.featurizer.rows(questions)
        view = predicted(SeptetRouter(), self.learned.value, x, self.test.members)
        return np.clip(view.q[:, self.test.members.index(member)], 0.0, 1.0).tolist()  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def setting(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Setting:
    folder = tmp_path_factory.mktemp("served")
    table = read(data / "mmlu_pro", texts=False)
    train, test = split(table, "train"), split(table, "test")
    best = int(train.matrix("score").mean(axis=0).argmax())
    budget = float(train.matrix("usd")[:, best].mean()) / 2
    some = np.zeros(len(test.queries), dtype=bool)
    some[np.random.default_rng(0).choice(len(test.queries), N_ASKED, replace=False)] = True
    _write(test.of_queries(some), folder / "asked.jsonl")
    config = folder / "septet.toml"
    config.write_text(_config(test.members), encoding="utf-8")
    learned = asyncio.run(_fitted(config, train, budget))
    return Setting(folder, test, learned, budget)


def _write(table: Table, path: Path) -> None:
    """What members said, for the replay: their letter, or a dash where none could be read."""
    with path.open("w", encoding="utf-8") as file:
        for q, m, answer, usd in zip(
            table.query.tolist(),
            table.member.tolist(),
            table.answer,
            table.numbers["usd"].tolist(),
            strict=True,
        ):
            row = {
                "query_id": table.queries[q],
                "query": table.questions[q],
                "model": table.members[m],
                "response": answer or "-",
                "cost_usd": usd,
            }
            file.write(json.dumps(row) + "\n")


def _config(members: tuple[str, ...]) -> str:
    lines = [f'{json.dumps(m)} = {{ backend = "replay", table = "asked.jsonl" }}' for m in members]
    names = ", ".join(json.dumps(m) for m in members)
    return "\n".join(
        [
            "[members]",
            *lines,
            "[ensembles.router]",
            'method = "septet-router"',
            f"members = [{names}]",
            "[limits]",
            f"fan_out = {len(members)}",
            "[store]",
            'path = "traces.db"',
        ]
    )


async def _fitted(config: Path, train: Table, budget: float) -> Learned:
    async with septet.load(config) as house:
        return await house["router"].fit(train, budget_usd=budget)


def test_the_test_split_costs_no_more_than_the_budget_and_a_tenth(setting: Setting) -> None:
    quality, usd = setting.replayed()
    assert usd.mean() <= 1.10 * setting.budget_usd
    # and it is not kept by answering badly: the cheapest member scores .416
    assert quality.mean() > 0.60


def test_what_is_served_costs_and_scores_what_was_expected(setting: Setting) -> None:
    _, usd = setting.replayed()
    with _serving(setting.folder) as ask:
        replies = _asked(ask, setting)
    spent = np.array([house["usd"] for house in replies.values()])
    draws = np.random.default_rng(0).integers(0, len(usd), size=(2000, N_ASKED))
    low, high = np.quantile(usd[draws].mean(axis=1), [0.005, 0.995])
    assert low <= spent.mean() <= high
    scores = setting.test.matrix("score")
    place = {name: i for i, name in enumerate(setting.test.members)}
    row = {query: i for i, query in enumerate(setting.test.questions)}
    got = np.array([scores[row[q], place[_answerer(house)]] for q, house in replies.items()])
    # The expected quality is a mean over n questions of the fit, the served one over 500 others.
    expected = setting.expected
    error = expected["quality_spread"] * np.sqrt(1 / N_ASKED + 1 / expected["n"])
    assert abs(got.mean() - expected["quality"]) <= 1.96 * error


@pytest.mark.parametrize("kind", ["neutral", "punishing"])
def test_feedback_moves_the_favourite_only_where_it_says_something(setting: Setting, kind: str) -> None:
    """Punished 200 times the favourite's share falls below a tenth; 200 scores as expected leave it."""
    with _serving(setting.folder) as ask:
        replies = _asked(ask, setting)
        shares = _shares(replies)
        favourite = max(shares, key=lambda name: shares[name])
        own = [q for q, house in replies.items() if _answerer(house) == favourite]
        judged = [(own[i % len(own)], _reply(ask, own[i % len(own)])) for i in range(N_JUDGED)]
        neutral = dict(zip(own, setting.estimates(own, favourite), strict=True))
        for question, house in judged:
            score = 0.0 if kind == "punishing" else neutral[question]
            taken = ask("feedback", {"request": house["trace_id"], "score": score})
            assert taken["learned"]
            assert taken["member"] == favourite
        after = _shares(_asked(ask, setting)).get(favourite, 0.0)
    if kind == "punishing":
        assert after < 0.10
    else:
        # what chance alone moves a share of 500 questions by: 2.58 · √(¼ / 500) = .058
        assert abs(after - shares[favourite]) <= 0.058


Ask = Callable[[str, Any], Any]


@contextmanager
def _serving(folder: Path) -> Iterator[Ask]:
    """`septet serve` on a copy of the folder, in a process of its own; gives what posts a body."""
    from aiohttp import ClientSession

    copy = shutil.copytree(folder, folder.with_name(f"{folder.name}-{uuid4().hex[:8]}"))

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    main = "import sys; from septet.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", main, "serve", "-c", str(copy / "septet.toml"), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    url = f"http://127.0.0.1:{port}"
    loop = asyncio.new_event_loop()
    session = loop.run_until_complete(_session(ClientSession))
    try:
        _wait(f"{url}/health", process)

        def ask(route: str, body: Any) -> Any:
            async def post() -> Any:
                async with session.post(f"{url}/v1/{route}", json=body) as reply:
                    said = await reply.json()
                    assert reply.status == 200, said
                    return said

            return loop.run_until_complete(post())

        yield ask
    finally:
        loop.run_until_complete(session.close())
        loop.close()
        process.terminate()
        process.wait(30)
        assert process.stderr is not None
        process.stderr.close()


async def _session(kind: Any) -> Any:
    return kind()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, process.stderr and process.stderr.read().decode()
        try:
            urlopen(url).close()
            return
        except URLError:
            time.sleep(0.1)
    raise AssertionError("the server did not start within a minute")


def _asked(ask: Ask, setting: Setting) -> dict[str, Any]:
    """The house's part of each reply, by question."""
    lines = (setting.folder / "asked.jsonl").read_text(encoding="utf-8").splitlines()
    questions = dict.fromkeys(json.loads(line)["query"] for line in lines)
    return {q: _reply(ask, q) for q in questions}


def _reply(ask: Ask, question: str) -> Any:
    body = {"model": "router", "messages": [{"role": "user", "content": question}]}
    return ask("chat/completions", body)["septet"]


def _answerer(house: Any) -> str:
    (name,) = house["members"]
    return str(name)


def _shares(replies: dict[str, Any]) -> dict[str, float]:
    names = [_answerer(house) for house in replies.values()]
    return {name: names.count(name) / len(names) for name in set(names)}
