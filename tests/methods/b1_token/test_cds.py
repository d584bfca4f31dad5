"""CDS by hand, its labels on a scripted model, what temperature does to each source, and the contract."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted_members import Member, says

from septet.core.method import Ask, Seat
from septet.core.session import View
from septet.core.table import Table
from septet.engine.drawing import Sampling, by_bytes
from septet.methods.b1_token._gated import Gated
from septet.methods.b1_token.cds import Cds, Own
from septet.parts.decoding.token_gate import Gate
from septet.parts.decoding.union import UnionTable
from septet.parts.learning.mlp import Mlp
from septet.testing import check_method
from septet.testing.contract import Check
from septet.testing.scripted import drive, view
from septet.testing.toys import toy_config, toy_house, toy_table
from whole_views import of_one_vocabulary

ALIGNED, PRETRAINED = {b" 1808": 0.6, b" 1810": 0.4}, {b" 1806": 0.7, b" 1808": 0.3}
QUICK: Mapping[str, Any] = {"texts": 4, "epochs": 3, "positions": 24, "width": 4}


def gate_of(chance: float) -> Gate:
    """A gate that says the same everywhere, of hidden states (1,)."""
    return Gate(Mlp((1, 1), np.array([0.0, np.log(chance / (1 - chance))])), None)


def request(chance: float = 0.5, table: UnionTable | None = None) -> Gated:
    return Gated(gate_of(chance), Own(table))


@pytest.mark.parametrize(("chance", "asked"), [(0.4, (0,)), (0.6, (0, 1))])
def test_k14_the_pretrained_model_is_asked_where_the_gate_says_critical(
    chance: float, asked: tuple[int, ...]
) -> None:
    following = replace(view(ALIGNED).next, hidden=np.zeros(1))
    assert Cds().consult(following, request(chance)) == asked
    assert Cds(threshold=0.7).consult(following, request(chance)) == (0,)


def shown(views: list[View | None], s: Gated) -> tuple[dict[bytes, float], list[float]]:
    fused, _ = Cds().fuse(views, s)
    p = {t: round(float(q), 4) for t, q in zip(fused.texts, fused.p, strict=True) if q > 0}
    return p, list(fused.support[0])


def test_a_critical_token_is_the_pretrained_models_best_alone() -> None:
    assert shown([view(ALIGNED), view(PRETRAINED)], request()) == ({b" 1806": 1.0}, [0.0, 1.0])


def test_any_other_token_is_drawn_from_the_aligned_models_whole_distribution() -> None:
    assert shown([view(ALIGNED), None], request()) == ({b" 1808": 0.6, b" 1810": 0.4}, [1.0, 0.0])
    (whole, _), table = of_one_vocabulary(ALIGNED, PRETRAINED)
    assert table is not None
    alone = UnionTable(table.strings, table.columns[:1])
    assert whole.next.full
    assert shown([whole, None], request(table=alone)) == ({b" 1808": 0.6, b" 1810": 0.4}, [1.0, 0.0])


def test_temperature_moves_the_aligned_models_tokens_and_not_the_pretrained_ones() -> None:
    hot = Sampling(2.0, 1.0, np.random.default_rng)
    critical, _ = Cds().fuse([view(ALIGNED), view(PRETRAINED)], request())
    assert hot.shaped(by_bytes(critical)).tolist() == [1.0]
    other, _ = Cds().fuse([view(ALIGNED), None], request())
    # √.6 : √.4 = .7746 : .6325
    assert hot.shaped(by_bytes(other)).round(4).tolist() == [0.5505, 0.4495]


class Told(Member):
    """A scripted member with a hidden state: how many bytes were committed."""

    def __call__(self, ask: Ask) -> Any:
        session: Any = ask.to.session
        value = super().__call__(ask)
        if ask.do == "next":
            assert ask.args["hidden"]
            value = replace(value, hidden=np.array([float(len(session.text))]))
        return value


def test_a_position_is_labelled_by_the_token_that_comes_next(monkeypatch: pytest.MonkeyPatch) -> None:
    # "By", " Ann", " in", " ", "18", "08", ".": of the name and of the year, the lone space is neither
    pieces = [b"By", b" Ann", b" in", b" ", b"18", b"08", b"."]
    member = Told(says({}), pieces)
    seen: list[Any] = []

    def note(x: Any, y: Any, groups: Any, sizes: Any, course: Any, rng: Any) -> Gate:
        assert sizes == (256,)
        seen.append((x[:, 0].tolist(), y.tolist(), groups))
        return gate_of(0.5)

    monkeypatch.setattr("septet.methods.b1_token.cds.fit_gate", note)
    row = {"query_id": "q", "query": "Who?", "response": "By Ann in 1808.", "score": 1.0}
    table = Table.of([row | {"model": "aligned"}, row | {"model": "base", "response": "other"}])
    seats = tuple(Seat(n, member.caps(), vocab=member.vocab) for n in ("aligned", "base"))
    drive(Cds().fit(table, {"members": seats}, np.random.default_rng(0)), member)
    assert seen == [([0, 2, 6, 9, 10, 12, 14], [0, 1, 0, 0, 1, 1, 0], [0] * 7)]
    assert {ask.to.name for ask in member.asked} == {"aligned"}
    assert all(session.closed for session in member.sessions)


async def fit_and_ask(folder: Path, threshold: float) -> tuple[list[str], list[float]]:
    text = toy_config("cds", {**QUICK, "threshold": threshold}, order=("ada", "bob"), folder=folder)
    question = "What is the capital of France?"
    async with toy_house(text) as house:
        await house["toys"].fit(toy_table())
        answer = await house["toys"].ask(question)
        alone = [(await house[name].ask(question)).text for name in ("ada", "bob")]
        assert answer.verdict.weights is not None
        return [answer.text, *alone], answer.verdict.weights.tolist()


def test_at_threshold_zero_only_the_pretrained_model_writes(tmp_path: Path) -> None:
    (_, _, _), weights = asyncio.run(fit_and_ask(tmp_path, 0.0))
    assert weights == [0.0, 1.0]


def test_where_nothing_is_critical_the_aligned_model_writes_its_own_answer(tmp_path: Path) -> None:
    (fused, aligned, _), weights = asyncio.run(fit_and_ask(tmp_path, 1.0))
    assert fused == aligned
    assert weights == [1.0, 0.0]


@pytest.mark.parametrize("check", check_method(Cds, **QUICK), ids=str)
def test_it_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    check(tmp_path)
