"""Pieces in the store: how each came about is kept as it was, for members that decode together and for spans."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from septet.core.errors import LimitReached
from septet.core.trace import PieceEvent
from septet.engine.config import parse
from septet.engine.house import House
from septet.engine.store import MIGRATIONS, PIECES_AT_ONCE, Store
from septet.engine.wire import step_json

CONFIG = """
[members.ada]
backend = "toy"
tokenizer = "words"
answers = { "France" = "Paris it is." }

[members.bob]
backend = "toy"
tokenizer = "bytes"
answers = { "France" = "Paris it is." }

[ensembles.fused]
method = "unite"
members = ["ada", "bob"]

[ensembles.spans]
method = "cool-fusion"
members = ["ada", "bob"]

[ensembles.vote]
method = "agent-forest"
members = ["ada", "bob"]

[ensembles.either]
method = "agent-forest"
members = ["fused", "ada"]
samples = 1

[store]
path = "pieces.db"
"""


def event(number: int = 0, **facts: Any) -> PieceEvent:
    plain: dict[str, Any] = {
        "request": "r1",
        "path": "fused",
        "number": number,
        "at": 3,
        "piece": b"\xf0\x9f\x98\x00",
        "logp": -0.25,
        "support": {"ada": 0.75, "bob": 0.25},
        "candidates": ((b"\xf0\x9f", 0.6, {"ada": 0.9, "bob": None}), (b"", 0.4, {"ada": 0.1, "bob": 0.7})),
        "asked": ("ada", "bob"),
        "fed": {"ada": 1, "bob": 4},
        "forward_seconds": {"ada": 0.001, "bob": 0.5},
        "seconds": 0.125,
        "drafted": True,
    }
    return PieceEvent(**{**plain, **facts})


async def kept(path: Path, *events: PieceEvent) -> list[PieceEvent]:
    store = Store(str(path / "s.db"))
    for one in events:
        store.piece(one)
    await store.close()
    again = Store(str(path / "s.db"))
    found = again.pieces("r1")
    await again.close()
    return found


async def test_a_piece_comes_back_as_it_was_written_its_bytes_too(tmp_path: Path) -> None:
    assert await kept(tmp_path, event()) == [event()]


async def test_pieces_keep_their_order_beyond_one_bundle_and_other_requests_stay_apart(
    tmp_path: Path,
) -> None:
    n = 2 * PIECES_AT_ONCE + 3
    found = await kept(tmp_path, *(event(i) for i in range(n)), event(request="r2"))
    assert [e.number for e in found] == list(range(n))


async def test_probabilities_have_six_digits_and_unknown_ones_stay_unknown(tmp_path: Path) -> None:
    third = event(support={"ada": 1 / 3}, logp=math.nan, candidates=((b"a", 2 / 3, {"ada": None}),))
    (found,) = await kept(tmp_path, third)
    assert found.support == {"ada": 0.333333}
    assert found.candidates == ((b"a", 0.666667, {"ada": None}),)
    assert math.isnan(found.logp)
    (impossible,) = await kept(tmp_path / "2", event(logp=-math.inf))
    assert impossible.logp == -math.inf
    assert json.loads(json.dumps(step_json(impossible), allow_nan=False))["logp"] is None


async def test_a_store_of_the_form_before_is_brought_to_the_new_one(tmp_path: Path) -> None:
    import sqlite3

    db = sqlite3.connect(tmp_path / "s.db")
    for script in MIGRATIONS[:-1]:
        db.executescript(script)
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS) - 1}")
    db.close()
    assert await kept(tmp_path, event()) == [event()]


# --- requests ---------------------------------------------------------------------------------------------


def house(tmp_path: Path, more: str = "") -> House:
    return House(parse(CONFIG + more, str(tmp_path / "septet.toml")))


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_pieces_of_a_request_are_those_of_its_answer(streamed: bool, tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        asked = it["fused"]
        if streamed:
            answer: Any = [item async for item in asked.stream("Capital of France?")][-1]
        else:
            answer = await asked.ask("Capital of France?")
        found = it.store.pieces(answer.trace_id)
    assert b"".join(e.piece for e in found).decode() == answer.text == "Paris it is."
    assert found[-1].piece == b""
    assert [e.at for e in found] == [sum(len(e.piece) for e in found[:i]) for i in range(len(found))]
    assert answer.verdict.weights is not None
    shares = sum(e.support["ada"] for e in found[:-1]) / (len(found) - 1)
    assert shares == pytest.approx(answer.verdict.weights[0], abs=1e-5)
    assert all(set(e.fed) == {"ada", "bob"} for e in found)


async def test_spans_are_kept_with_who_wrote_them(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        answer = await it["spans"].ask("Capital of France?")
        found = it.store.pieces(answer.trace_id)
    assert b"".join(e.piece for e in found).decode() == answer.text
    assert [dict(p.support) for p in answer.pieces] == [e.support for e in found]
    assert {e.path for e in found} == {"spans"}
    assert [e.number for e in found] == list(range(len(found)))
    assert all(e.seconds > 0 and not e.candidates and math.isnan(e.logp) for e in found)


async def test_a_method_that_decides_over_whole_answers_has_no_pieces(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        answer = await it["vote"].ask("Capital of France?")
        assert it.store.pieces(answer.trace_id) == []


async def test_what_a_request_that_failed_had_written_is_kept(tmp_path: Path) -> None:
    now = 0.0

    async def slowly(it: House) -> None:
        nonlocal now
        async for _ in it["fused"].stream("Capital of France?"):
            now += 1e6

    async with house(tmp_path) as it:
        it.gate.clock = lambda: now
        with pytest.raises(LimitReached) as late:
            await slowly(it)
        found = it.store.pieces(late.value.request)
    assert found[0].piece == b"Paris"


async def test_a_token_ensemble_inside_another_keeps_its_pieces_under_its_own_path(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        answer = await it["either"].ask("Capital of France?")
        kept = it.store.pieces(answer.trace_id)
    assert {p.path for p in kept} == {"either/fused"}
    assert b"".join(p.piece for p in kept) == b"Paris it is."
