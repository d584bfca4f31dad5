"""CITER by hand (K14, K27), its fit on scripted models, and through the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted_members import Member, says

from septet.core.errors import NotFitted, RunError
from septet.core.method import Ask, Seat
from septet.core.session import END, Draft, Next, View
from septet.core.table import Table
from septet.core.types import Tokens
from septet.methods.b1_token._gated import Gated
from septet.methods.b1_token.citer import Citer
from septet.parts.decoding.token_gate import Gate
from septet.parts.learning.mlp import Mlp
from septet.testing import check_method
from septet.testing.contract import Check
from septet.testing.scripted import drive, view
from septet.testing.toys import toy_config, toy_house, toy_table

SMALL, LARGE = {b" 4": 0.9, b" 5": 0.1}, {b" 5": 0.8, b" 4": 0.2}
QUICK: Mapping[str, Any] = {
    "texts": 4,
    "rollouts": 2,
    "rollout_tokens": 8,
    "routed_tokens": 4,
    "epochs": 3,
    "positions": 24,
}


def gate_of(chance: float, width: int = 1) -> Gate:
    """A gate that says the same everywhere."""
    return Gate(Mlp((width, 1), np.array([0.0] * width + [np.log(chance / (1 - chance))])), None)


def hidden(of: View) -> Next:
    return replace(of.next, hidden=np.zeros(1))


@pytest.mark.parametrize(
    ("chance", "threshold", "asked"),
    [(0.94, 0.95, (0, 1)), (0.96, 0.95, (0,)), (0.94, 0.9, (0,)), (0.01, 0.0, (0,)), (0.99, 1.0, (0, 1))],
)
def test_k14_below_the_threshold_the_large_model_is_asked(
    chance: float, threshold: float, asked: tuple[int, ...]
) -> None:
    assert Citer(threshold=threshold).consult(hidden(view(SMALL)), Gated(gate_of(chance))) == asked


def shown(views: list[View | None], k: int = 20) -> tuple[dict[bytes, float], list[float]]:
    fused, _ = Citer(k=k).fuse(views, Gated(gate_of(0.5)))
    p = {t: round(float(q), 4) for t, q in zip(fused.texts, fused.p, strict=True)}
    return p, list(fused.support[0])


def test_the_one_that_writes_keeps_its_own_distribution_and_has_all_of_the_support() -> None:
    assert shown([view(SMALL), None]) == ({b" 4": 0.9, b" 5": 0.1}, [1.0, 0.0])
    assert shown([view(SMALL), view(LARGE)]) == ({b" 4": 0.2, b" 5": 0.8}, [0.0, 1.0])
    assert shown([view(SMALL), view(LARGE)], k=1) == ({b" 5": 1.0}, [0.0, 1.0])


def test_where_the_small_model_has_failed_the_large_one_writes_alone() -> None:
    assert shown([None, view(LARGE)]) == ({b" 4": 0.2, b" 5": 0.8}, [0.0, 1.0])


def test_a_gate_of_another_model_says_to_fit_it_again() -> None:
    with pytest.raises(RunError, match="fit it again"):
        Citer().consult(hidden(view(SMALL)), Gated(gate_of(0.5, width=3)))


# --- the fit, on two models that are written down --------------------------------------------------


def spells(text: bytes, otherwise: Mapping[bytes, bytes]) -> Any:
    """A language that goes on with a text one byte at a time, but after the given beginnings."""
    table = {text[:n]: {text[n : n + 1]: 1.0} for n in range(len(text))}
    return says(table | {begin: {piece: 1.0} for begin, piece in otherwise.items()})


class Teller(Member):
    """A scripted member with a hidden state (2,) and a greedy `write`; it keeps what it was asked to write."""

    def __call__(self, ask: Ask) -> Any:
        session: Any = ask.to.session
        if ask.do == "write":
            self.asked.append(ask)
            text = session.text
            while (piece := max(self.language(text).items(), key=lambda item: item[1])[0]) != END:
                text += piece
            return Draft(text[len(session.text) :], Tokens((), np.zeros(0)), True)
        value = super().__call__(ask)
        if ask.do == "next" and ask.args["hidden"]:
            value = replace(value, hidden=np.array([len(session.text), 1.0]))
        return value


BYTES = [bytes([b]) for b in b" 0123456789=+ab"]


def members(small: Mapping[bytes, bytes], large: Mapping[bytes, bytes]) -> dict[str, Teller]:
    return {
        "small": Teller(spells(b"1+1=2", small), BYTES),
        "large": Teller(spells(b"1+1=2", large), BYTES),
    }


def table() -> Table:
    rows = [
        {"query_id": str(i), "query": f"{i}?", "model": m, "response": "1+1=2", "score": 1.0}
        for i in range(3)
        for m in ("small", "large")
    ]
    return Table.of(rows)


def fitted(pool: Mapping[str, Teller], monkeypatch: pytest.MonkeyPatch, **parameters: Any) -> list[Any]:
    """The labels of each position of the first text, one list per iteration."""
    learned: list[Any] = []

    def note(x: Any, y: Any, groups: Any, sizes: Any, course: Any, rng: Any) -> Gate:
        assert sizes == (4, 2)
        assert x.shape == (len(y), 2)
        learned.append([int(label) for label, text in zip(y, groups, strict=True) if text == 0])
        return gate_of(0.9, width=2)

    monkeypatch.setattr("septet.methods.b1_token.citer.fit_gate", note)
    seats = tuple(Seat(name, m.caps(), vocab=m.vocab) for name, m in pool.items())
    plan = Citer(**parameters).fit(table(), {"members": seats}, np.random.default_rng(0))
    drive(plan, lambda ask: pool[ask.to.name](ask))
    assert all(session.closed for m in pool.values() for session in m.sessions)
    return learned


def test_k27_positions_are_labelled_by_the_first_model_that_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    # "1+1=2" and its end: the small model errs after "1+1=", where the large one knows, and nowhere else
    pool = members({b"1+1=": b"3"}, {})
    assert fitted(pool, monkeypatch) == [[1, 1, 1, 1, 0, 1]]
    large = [ask for ask in pool["large"].asked if ask.do == "next"]
    assert len(large) == 3  # once a text: it is asked only where the small model is wrong
    assert not any(ask.do == "write" for ask in pool["small"].asked)


@pytest.mark.parametrize(("end", "label"), [({b"1+1a": b"=", b"1+1a=": b"2"}, 1), ({b"1+1a": b"7"}, 0)])
def test_k27_where_both_are_wrong_the_small_model_writes_on_and_its_answer_decides(
    end: Mapping[bytes, bytes], label: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # after "1+1" the small model says "a", the large one "b": alone it comes to "1+1a=2", or to "1+1a7"
    pool = members({b"1+1": b"a", **end}, {b"1+1": b"b"})
    assert fitted(pool, monkeypatch, iterations=1) == [[1, 1, 1, label, 1, 1]]
    assert len([ask for ask in pool["small"].asked if ask.do == "write"]) == 3


def test_k27_the_second_iteration_changes_only_what_a_roll_out_decided(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # alone the small model goes on to "1+1a7"; after its "a" the gate (.9 < .95) gives every token to the large
    # one, which goes on to "1+1a=2". The position after "1+1=" stays 0
    pool = members(
        {b"1+1": b"a", b"1+1a": b"7", b"1+1=": b"3"}, {b"1+1": b"b", b"1+1a": b"=", b"1+1a=": b"2"}
    )
    assert fitted(pool, monkeypatch) == [[1, 1, 1, 0, 0, 1], [1, 1, 1, 1, 0, 1]]
    assert fitted(pool, monkeypatch, threshold=0.85) == [[1, 1, 1, 0, 0, 1]] * 2  # now it writes by itself


def test_positions_that_nobody_may_roll_out_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = members({b"1+1": b"a"}, {b"1+1": b"b"})
    assert fitted(pool, monkeypatch, rollouts=0) == [[1, 1, 1, 1, 1]]


def test_no_more_positions_are_labelled_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fitted(members({}, {}), monkeypatch, positions=4) == [[1, 1, 1, 1]]


# --- the engine -----------------------------------------------------------------------------------


async def fit_and_ask(folder: Path, threshold: float) -> tuple[str, str, Any]:
    parameters = {**QUICK, "threshold": threshold}
    text = toy_config("citer", parameters, order=("ada", "bob"), folder=folder)
    async with toy_house(text) as house:
        with pytest.raises(NotFitted):
            await house["toys"].ask("What is the capital of France?")
        await house["toys"].fit(toy_table())
        answer = await house["toys"].ask("What is the capital of France?")
        alone = await house["ada"].ask("What is the capital of France?")
        await house.store.flush()
        _, calls = house.store.trace(answer.trace_id)
        return answer.text, alone.text, {c["member"]: c for c in calls}


def test_a_large_model_that_is_never_asked_is_fed_the_prompt_alone(tmp_path: Path) -> None:
    text, alone, calls = asyncio.run(fit_and_ask(tmp_path, 0.0))
    assert text == alone
    assert calls["ada"]["steps"]["forwards"] > 2
    assert calls["bob"]["steps"]["forwards"] == 1  # the prompt, at the opening
    assert calls["bob"]["steps"].get("next", 0) == 0


def test_a_large_model_that_is_always_asked_writes_its_own_answer(tmp_path: Path) -> None:
    text, _, calls = asyncio.run(fit_and_ask(tmp_path, 1.0))
    assert text  # bob spells byte by byte, and the answer is its own
    assert calls["bob"]["steps"]["next"] == calls["ada"]["steps"]["next"] > 2


@pytest.mark.parametrize("check", check_method(Citer, **QUICK), ids=str)
def test_it_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    check(tmp_path)
