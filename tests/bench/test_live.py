"""A bench of toys on sums: marks, intervals, resuming, and tasks of third parties."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from septet.bench.live import bench, data_hash, measure, oracle, queries, task_of
from septet.core.errors import BadParameter, ConfigError, UnknownName
from septet.core.money import Usage
from septet.core.types import Answer, Verdict
from septet.engine import catalogue
from septet.engine.house import House
from septet.tasks import loader
from septet.testing.toys import toy_house

CONFIG = """
[members]
ada = {{ backend = "toy", price = {{ usd_per_mtok_out = 1.0 }} }}
bob = {{ backend = "toy", skill = 0.0 }}

[ensembles.fused]
method = "unite"
members = ["ada", "bob"]

[store]
path = "{folder}/toys.db"
"""


def house(folder: Path) -> House:
    return toy_house(CONFIG.format(folder=folder))


def answer(text: str, **fields: Any) -> Answer:
    return Answer(text=text, verdict=Verdict(chosen=0), **fields)


async def test_every_ensemble_is_asked_every_question_of_every_task(tmp_path: Path) -> None:
    told: list[tuple[str, str, int, int]] = []
    async with house(tmp_path) as toys:
        results = await bench(
            toys, ["ada", "bob", "fused"], ["toy-sums"], limit=4, progress=lambda *said: told.append(said)
        )
    ada, bob, fused = results.measured
    assert (ada.ensemble, ada.method, ada.task) == ("ada", "member", "toy-sums")
    assert (fused.method, fused.members) == ("unite", ("ada", "bob"))
    assert (ada.accuracy.value, bob.accuracy.value) == (1.0, 0.0)
    # Wilson with z = 1.96 at 4 of 4: 1 / (1 + 3.8415 / 4) = 0.5101
    assert ada.accuracy.low == pytest.approx(0.5101, abs=5e-5)
    assert ada.accuracy.n == 4
    assert ada.usd == pytest.approx(ada.completion_tokens * 1e-6)
    assert told[:4] == [("ada", "toy-sums", i, 4) for i in (1, 2, 3, 4)]
    assert len(told) == 12


async def test_a_second_run_asks_nothing_and_says_the_same(tmp_path: Path) -> None:
    async with house(tmp_path) as toys:
        first = await bench(toys, ["ada"], ["toy-sums"], limit=3)
        before = len(toys.store.recent(100))
        again = await bench(toys, ["ada"], ["toy-sums"], limit=3)
        assert len(toys.store.recent(100)) == before
        anew = await bench(toys, ["ada"], ["toy-sums"], limit=3, fresh=True)
        assert len(toys.store.recent(100)) == before + 3
    assert again.measured[0].usd == first.measured[0].usd == anew.measured[0].usd > 0
    assert again.measured[0].seconds == pytest.approx(first.measured[0].seconds, abs=1e-5)


async def test_an_unknown_ensemble_or_task_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    async with house(tmp_path) as toys:
        with pytest.raises(UnknownName, match="did you mean 'fused'"):
            await bench(toys, ["ada", "fusd"], ["toy-sums"])
        with pytest.raises(UnknownName, match="did you mean 'toy-sums'"):
            await bench(toys, ["ada"], ["toy-sum"])
        assert toys.store.recent(10) == []


async def test_marks_and_sums_are_those_of_the_answers(tmp_path: Path) -> None:
    task = loader.load("toy-sums", 4)  # 5, 103, 112, 24
    answers = [
        answer("5", usd=0.25, seconds=1.0, usage=Usage(10, 1)),
        answer("104", usd=0.5, seconds=2.0, usage=Usage(12, 1)),
        answer("76 + 36 = 112", seconds=3.0, finish="length", usage=Usage(12, 9)),
        answer("I do not know.", seconds=6.0, usage=Usage(12, 4)),
    ]
    async with house(tmp_path) as toys:
        measured = measure(toys["ada"], task, answers)
    # only the first is right: the second is a wrong sum, the third was cut off, the fourth has no number
    assert (measured.accuracy.value, measured.accuracy.n) == (0.25, 4)
    assert (measured.usd, measured.seconds) == (0.75, 3.0)
    assert (measured.prompt_tokens, measured.completion_tokens) == (46, 15)
    assert (measured.truncated, measured.unread) == (1, 2)


def test_a_query_carries_the_tasks_length_name_and_the_seed() -> None:
    query = queries(loader.load("toy-sums", 1), seed=7)[0]
    assert (query.max_tokens, query.task, query.seed, query.temperature) == (24, "toy-sums", 7, None)


def test_the_data_hash_changes_with_the_questions() -> None:
    three = loader.load("toy-sums", 3)
    assert data_hash(three) == data_hash(loader.load("toy-sums", 3)) != data_hash(three.first(2))


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(BadParameter, match="limit"):
        task_of("toy-sums", 0)


OURS = loader.load("toy-sums", 5)
PLACE = str(Path(loader.__file__).parent / "toy_sums.jsonl")
NEITHER = 42


@pytest.mark.parametrize(("attribute", "n"), [("OURS", 5), ("PLACE", 40)])
def test_a_third_partys_task_is_a_task_or_the_path_of_its_file(
    monkeypatch: pytest.MonkeyPatch, attribute: str, n: int
) -> None:
    third_party(monkeypatch, attribute)
    assert len(task_of("mine")) == n
    assert len(task_of("mine", 2)) == 2


def test_a_third_partys_task_that_is_neither_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    third_party(monkeypatch, "NEITHER")
    with pytest.raises(ConfigError, match="neither a Task nor a path"):
        task_of("mine")


def third_party(monkeypatch: pytest.MonkeyPatch, attribute: str) -> None:
    """Makes this module the owner of the task `mine`."""
    entry = catalogue._of_point("tasks", EntryPoint("mine", f"{__name__}:{attribute}", "septet.tasks"))
    monkeypatch.setattr(catalogue, "entries", lambda kind: {"mine": entry})


async def test_an_ensemble_is_compared_with_the_best_member_of_the_run(tmp_path: Path) -> None:
    async with house(tmp_path) as toys:
        results = await bench(toys, ["ada", "bob", "fused"], ["toy-sums"], limit=4)
    ada, bob, fused = results.measured
    assert (ada.minus_best, bob.minus_best) == (None, None)
    assert fused.minus_best is not None
    # against ada, who is right on all four
    assert fused.minus_best.value == pytest.approx(fused.accuracy.value - 1.0)
    assert oracle(results.measured, "toy-sums") == ada.accuracy
    assert oracle([fused], "toy-sums") is None
