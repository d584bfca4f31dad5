"""Outcomes of toy members on sums: what a row says, and that a stopped run repeats nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.bench.outcomes import main, mean_logp, record, split_of
from septet.core.errors import BackendError, BadParameter
from septet.core.table import Table
from septet.core.types import Completion, Tokens
from septet.engine.house import House
from septet.testing.toys import toy_house

CONFIG = """
[members]
ada = {{ backend = "toy", price = {{ usd_per_mtok_in = 1.0, usd_per_mtok_out = 2.0 }} }}
bob = {{ backend = "toy", skill = 0.0{more} }}

[store]
path = "{folder}/toys.db"
"""

SUMS = {"toy-sums": 24}


def house(folder: Path, more: str = "") -> House:
    return toy_house(CONFIG.format(folder=folder, more=more))


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


async def test_one_row_per_question_and_member_after_a_line_about_how_it_was_made(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    async with house(tmp_path) as toys:
        table = await record(toys, out, tasks=SUMS, limit=3, made="2026-01-02")
    first, *rows = lines(out)
    assert first["made"] == "2026-01-02"
    assert first["tasks"][0]["licence"] == "Apache-2.0"
    assert first["sampling"]["max_tokens"] == SUMS
    assert list(first["members"]) == ["ada", "bob"]
    assert [(r["query_id"], r["model"]) for r in rows] == [
        (f"toy-sums-0{i}", member) for i in range(3) for member in ("ada", "bob")
    ]
    # ada knows every sum and bob none, so the scores are 1 and 0
    assert table.matrix("score").tolist() == [[1.0, 0.0]] * 3


async def test_a_row_says_what_was_answered_and_what_it_took(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    async with house(tmp_path) as toys:
        await record(toys, out, tasks=SUMS, limit=1, members=["ada"])
    row = lines(out)[1]
    assert row["query"] == "What is 2 + 3? Answer with the number only."
    assert (row["response"], row["answer"], row["gold"], row["finish"]) == ("5", "5", ["5"], "stop")
    assert row["logp"] < 0
    paid = row["prompt_tokens"] * 1e-6 + row["completion_tokens"] * 2e-6
    assert row["cost_usd"] == pytest.approx(paid)
    assert row["prompt_tokens"] > row["completion_tokens"] > 0


async def test_a_stopped_run_repeats_nothing_and_loses_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    async with house(tmp_path) as toys:
        await record(toys, out, tasks=SUMS, limit=4)
    whole = out.read_bytes()
    # stopped in the middle of bob's second row: header, ada 0, bob 0, ada 1 are whole
    kept = whole.split(b"\n")[:4]
    out.write_bytes(b"\n".join(kept) + b'\n{"query_id": "toy-su')
    async with house(tmp_path) as toys:
        before = len(toys.store.recent(100))
        table = await record(toys, out, tasks=SUMS, limit=4)
        asked = len(toys.store.recent(100)) - before
    assert asked == 5
    assert out.read_bytes().split(b"\n")[:4] == kept
    assert [(r["query_id"], r["model"]) for r in lines(out)[1:]] == [
        (f"toy-sums-0{i}", member) for i in range(4) for member in ("ada", "bob")
    ]
    assert len(table) == 8


async def test_a_finished_file_is_left_as_it_is(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    async with house(tmp_path) as toys:
        await record(toys, out, tasks=SUMS, limit=2, made="2026-01-02")
        whole = out.read_bytes()
        await record(toys, out, tasks=SUMS, limit=2, made="2026-01-03")
    assert out.read_bytes() == whole


async def test_rows_made_in_different_ways_are_not_mixed(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    async with house(tmp_path) as toys:
        await record(toys, out, tasks=SUMS, limit=2)
        whole = out.read_bytes()
        with pytest.raises(BadParameter, match="made with other sampling; move it away"):
            await record(toys, out, tasks={"toy-sums": 8}, limit=2)
        with pytest.raises(BadParameter, match="made with other members"):
            await record(toys, out, tasks=SUMS, limit=2, members=["ada"])
    assert out.read_bytes() == whole


async def test_a_file_of_something_else_is_not_touched(tmp_path: Path) -> None:
    out = tmp_path / "notes.txt"
    out.write_text("buy milk\nand bread\n")
    async with house(tmp_path) as toys:
        with pytest.raises(BadParameter, match="must be new, or a file that this command began"):
            await record(toys, out, tasks=SUMS, limit=1)
    assert out.read_text() == "buy milk\nand bread\n"


async def test_a_failing_member_ends_the_run_and_the_others_row_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    async with house(tmp_path, ", fail = true") as toys:
        with pytest.raises(BackendError, match="bob fails"):
            await record(toys, out, tasks=SUMS, limit=2)
    assert [r["model"] for r in lines(out)[1:]] == ["ada"]


async def test_a_member_without_log_probabilities_gets_rows_without_them(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    async with house(tmp_path, ', lacks = ["logprobs"]') as toys:
        table = await record(toys, out, tasks=SUMS, limit=1)
    assert [r["logp"] is None for r in lines(out)[1:]] == [False, True]
    assert math.isnan(table.logp[1])


def test_the_mean_is_over_tokens_and_an_empty_answer_has_none() -> None:
    tokens = Tokens((b"a", b"b"), np.array([-0.5, -1.5]))
    assert mean_logp(Completion(member="m", text="ab", tokens=tokens)) == -1.0
    assert mean_logp(Completion(member="m", text="", tokens=Tokens((), np.array([])))) is None


def test_the_split_is_that_of_the_ids_hash() -> None:
    # sha1("a") begins 86f7e437, sha1("b") e9d71f5e, sha1("abc") a9993e36, sha1("d") 3c363836
    assert [split_of(i) for i in ("a", "b", "abc", "d")] == ["train", "train", "test", "train"]


def test_the_command_writes_the_file_and_prints_each_members_share(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = tmp_path / "septet.toml", tmp_path / "out.jsonl"
    config.write_text(CONFIG.format(folder=tmp_path, more=""))
    arguments = ["--config", str(config), "--out", str(out), "--tasks", "toy-sums", "--limit", "2"]
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert said.out == "ada: 1.000 of 2 questions\nbob: 0.000 of 2 questions\n"
    assert "2/2 questions" in said.err
    assert len(Table.of_lines(out.read_text(encoding="utf-8").splitlines())) == 4


def test_the_command_says_what_is_wrong_with_the_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", str(tmp_path / "none.toml"), "--out", str(tmp_path / "out.jsonl")]) == 2
    assert "cannot read the configuration" in capsys.readouterr().err
