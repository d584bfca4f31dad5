"""What was served becomes outcomes: who answered, with which probability, at what cost, how it was rated."""

from __future__ import annotations

import asyncio
import doctest
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import septet
import septet.bench.served
from septet.bench.served import fought, served
from septet.core.errors import BadParameter, ConfigError
from septet.core.table import Table
from septet.core.trace import CallEvent, RequestEvent
from septet.core.types import Battle
from septet.engine.store import Store

CONFIG = """
[members]
ada = { backend = "toy", answers = { "France" = "Paris it is." }, price = { usd_per_mtok_in = 1.0 } }
bob = { backend = "toy" }

[ensembles]
elo = { method = "eagle", members = ["ada", "bob"] }
both = { method = "agent-forest", members = ["ada", "bob"], samples = 1 }
fused = { method = "unite", members = ["ada", "bob"], k = 5 }
nested = { method = "eagle", members = ["both", "bob"] }

[store]
path = "septet.db"
"""


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A house with a fitted router: ada is right on every question."""
    (tmp_path / "septet.toml").write_text(CONFIG, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    scores = (("ada", 1.0), ("both", 1.0), ("bob", 0.0))
    rows = [
        {"query_id": f"q{i}", "query": f"Is {i} even?", "model": m, "score": s}
        for i in range(4)
        for m, s in scores
    ]
    async with septet.load("septet.toml") as house:
        for name in ("elo", "nested"):
            await house[name].fit(Table.of(rows))
        yield house


def fake(path: Path, drawn: dict[str, float], calls: list[dict[str, Any]]) -> None:
    """A store with one request to `mix` and its calls."""
    store = Store(str(path))
    store.request(
        RequestEvent(
            id="r1",
            at=1.0,
            ensemble="mix",
            method="eagle",
            query={"messages": [{"role": "user", "content": "What is 2+3?"}], "task": "sums"},
            status="done",
            answer="5",
            verdict={"member": "", "drawn": drawn},
            usd=0.5,
            seconds=2.0,
        )
    )
    for step, call in enumerate(calls):
        answer = {
            "member": call["member"],
            "text": "5",
            "usage": {"prompt_tokens": 7, "completion_tokens": 1},
            "usd": 0.25,
            "seconds": 1.5,
            "confidence": None,
        }
        store.call(
            CallEvent(
                request="r1",
                step=step,
                path=call.get("path", "mix"),
                member=call["member"],
                do="complete",
                purpose=call.get("purpose", "candidate"),
                output={} if call.get("error") else {"completions": [answer]},
                cached=call.get("cached", False),
                error=call.get("error", ""),
            )
        )
    asyncio.run(store.close())


def test_the_examples_in_the_docstrings_hold() -> None:
    result = doctest.testmod(septet.bench.served)
    assert result.attempted >= 3
    assert result.failed == 0


async def test_a_served_answer_is_a_row_with_its_propensity_and_its_rating(house: Any) -> None:
    answer = await house["elo"].ask("What is 2+3?", task="sums")
    await house["elo"].ask("What is the capital of France?")
    await house["elo"].ask("What is 2+3?", task="sums")
    await house.rate(answer.trace_id, 0.75)
    await house.store.flush()
    found = served(Path("septet.db"), "elo")
    table = found.table
    assert (found.requests, found.rated, found.silent) == (3, 1, 0)
    assert (len(table), len(table.queries), table.members) == (3, 2, ("ada",))
    assert table.questions == ("What is 2+3?", "What is the capital of France?")
    assert table.tasks == ("sums", "")
    assert table.sample.tolist() == [0, 0, 1]  # the question that was asked again
    assert table.text.tolist() == ["5", "Paris it is.", "5"]
    np.testing.assert_array_equal(table.score, [0.75, np.nan, np.nan])
    assert table.propensity.tolist() == [1.0, 1.0, 1.0]
    assert table.usd[0] == answer.usd > 0
    assert table.prompt_tokens[0] == answer.usage.prompt_tokens


async def test_what_was_served_can_be_fitted_on(house: Any) -> None:
    for question in ("What is 2+3?", "What is 4+4?"):
        for member in ("ada", "bob"):
            answer = await house[member].ask(question)
            await house.rate(answer.trace_id, float(member == "ada"))
    await house.store.flush()
    tables = [served(Path("septet.db"), member).table for member in ("ada", "bob")]
    rows = [
        {"query_id": t.queries[q], "query": t.questions[q], "model": t.members[m], "score": s}
        for t in tables
        for q, m, s in zip(t.query.tolist(), t.member.tolist(), t.score.tolist(), strict=True)
    ]
    learned = await house["elo"].fit(Table.of(rows))
    assert learned.provenance["queries"] == 2


async def test_every_candidate_of_a_vote_is_a_row_without_propensity(house: Any) -> None:
    await house["both"].ask("What is 2+3?")
    await house.store.flush()
    table = served(Path("septet.db"), "both").table
    assert sorted(table.members) == ["ada", "bob"]
    assert np.isnan(table.propensity).all()


async def test_a_nested_ensemble_answers_as_the_member_that_it_is(house: Any) -> None:
    answer = await house["nested"].ask("What is 2+3?")
    await house.store.flush()
    table = served(Path("septet.db"), "nested").table
    assert (table.members, table.text.tolist()) == (("both",), ["5"])
    assert (table.usd[0], table.propensity[0]) == (answer.usd, 1.0)


async def test_an_answer_that_several_wrote_together_is_left_out(house: Any) -> None:
    await house["fused"].ask("What is 2+3?")
    await house.store.flush()
    found = served(Path("septet.db"), "fused")
    assert (len(found.table), found.requests, found.silent) == (0, 1, 1)


async def test_comparisons_are_battles(house: Any) -> None:
    await house.compare("elo", Battle("2+3?", "ada", "bob", "bob"))
    await house.store.flush()
    assert fought(Path("septet.db"), "elo") == [Battle("2+3?", "ada", "bob", "bob")]
    assert fought(Path("septet.db"), "both") == []


def test_a_drawn_member_has_its_share_of_the_weights(tmp_path: Path) -> None:
    fake(tmp_path / "s.db", {"ada": 1.0, "bob": 3.0}, [{"member": "bob"}])
    table = served(tmp_path / "s.db", "mix").table
    assert (table.members, table.propensity.tolist()) == (("bob",), [0.75])


def test_where_all_were_asked_each_was_certain(tmp_path: Path) -> None:
    fake(tmp_path / "s.db", {"ada": 1.0, "bob": 3.0}, [{"member": "ada"}, {"member": "bob"}])
    assert served(tmp_path / "s.db", "mix").table.propensity.tolist() == [1.0, 1.0]


def test_after_a_failure_the_propensity_is_unknown(tmp_path: Path) -> None:
    calls = [{"member": "ada", "error": "no reply"}, {"member": "bob"}]
    fake(tmp_path / "s.db", {"ada": 1.0, "bob": 3.0}, calls)
    table = served(tmp_path / "s.db", "mix").table
    assert table.members == ("bob",)
    assert np.isnan(table.propensity).all()


def test_a_reply_from_the_cache_has_no_known_cost(tmp_path: Path) -> None:
    fake(tmp_path / "s.db", {"ada": 1.0}, [{"member": "ada", "cached": True}])
    table = served(tmp_path / "s.db", "mix").table
    assert np.isnan(table.usd).all()
    assert table.prompt_tokens.tolist() == [7.0]


def test_judges_and_inner_members_are_no_candidates(tmp_path: Path) -> None:
    calls = [{"member": "ada"}, {"member": "jud", "purpose": "judge"}, {"member": "cyd", "path": "mix/inner"}]
    fake(tmp_path / "s.db", {"ada": 1.0}, calls)
    assert served(tmp_path / "s.db", "mix").table.members == ("ada",)


def test_a_store_from_before_there_were_ratings_is_read(tmp_path: Path) -> None:
    fake(tmp_path / "s.db", {"ada": 1.0}, [{"member": "ada"}])
    db = sqlite3.connect(tmp_path / "s.db")
    db.execute("DROP TABLE feedback")
    db.execute("DROP TABLE battle")
    db.commit()
    db.close()
    table = served(tmp_path / "s.db", "mix").table
    assert np.isnan(table.score).all()
    assert fought(tmp_path / "s.db", "mix") == []


def test_what_is_no_store_or_has_nothing_of_the_ensemble_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no store at"):
        served(tmp_path / "absent.db", "mix")
    assert not (tmp_path / "absent.db").exists()
    (tmp_path / "text.db").write_text("this is a text, and no database at all\n" * 30, encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot read the store"):
        served(tmp_path / "text.db", "mix")
    sqlite3.connect(tmp_path / "other.db").close()
    with pytest.raises(ConfigError, match=r"is not a store of septet|cannot read"):
        served(tmp_path / "other.db", "mix")
    fake(tmp_path / "s.db", {"ada": 1.0}, [{"member": "ada"}])
    with pytest.raises(BadParameter, match=r"must have answered something; s.db has \['mix'\], got 'mxi'"):
        served(tmp_path / "s.db", "mxi")
