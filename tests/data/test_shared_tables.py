"""The shared sets as tables: read whole, described as their own README does, and checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from septet.bench.importers import read_format
from septet.bench.table_check import check, prices_of
from septet.bench.table_facts import bounds, describe, describe_battles
from septet.bench.tables import read
from septet.core.money import Price
from septet.core.table import Table

pytestmark = pytest.mark.data

# of the test split: questions, mean of all models, best on train and its score, best of each question
README = {
    "mmlu_pro": (5799, 0.3935, "gemini-1.5-pro-002", 0.6994, 0.9412),
    "routerbench3": (945, 0.6859, "gpt-4-1106-preview", 0.8794, 0.9757),
    "llmrouter9": (381, 0.4012, "llama-3.1-nemotron-51b-instruct", 0.5966, 0.7498),
    "nq6": (267, 0.2439, "google/gemma-2-27b-it", 0.4343, 0.5736),
    "more_qa": (2454, 0.4524, "commonsense", 0.4910, 0.6956),
    "misguided": (26, 0.5102, "claude-4-sonnet-0522-thinking", 0.6987, 0.9872),
    "peerreview": (1020, 0.5985, "Qwen2.5-7B-Instruct", 0.6647, 0.8147),
    "mmlu_probs": (1489, 0.4203, None, 0.4298, 0.6172),
}


@pytest.mark.parametrize("name", README)
def test_a_set_is_described_as_its_readme_does(name: str, data: Path) -> None:
    n, random, best, score, oracle = README[name]
    found = describe(read(data / name, texts=False))["bounds"]["test"]
    assert found["scored"] == n
    assert best in (None, found["best"])
    assert [found["random"], found["best_score"], found["oracle"]] == pytest.approx(
        [random, score, oracle], abs=6e-5
    )


@pytest.mark.parametrize("name", README)
def test_nothing_is_wrong_with_a_set_but_questions_that_stand_twice(name: str, data: Path) -> None:
    assert {(p.level, p.place) for p in check(data / name)} <= {("warning", "query")}


def test_scores_out_of_range_and_repeated_rows_are_found(data: Path) -> None:
    said = {p.place: p.message for p in check(data / "routellm") if p.level == "error"}
    assert sorted(said) == ["query_id, model, sample_id", "score"]
    assert "must be from 0 to 1" in said["score"]  # MT-Bench is marked from 1 to 10
    assert said["query_id, model, sample_id"].startswith("160 rows repeat")  # its two turns


def test_costs_in_another_unit_than_the_stated_prices_are_found(data: Path) -> None:
    prices = prices_of(data / "mmlu_pro")
    assert len(prices) == 28
    per_token = {m: Price(p.usd_per_mtok_in / 1e6, p.usd_per_mtok_out / 1e6) for m, p in prices.items()}
    found = check(data / "mmlu_pro", prices=per_token)
    assert len(found) == 28
    assert all("that is a price per token" in p.message for p in found)


def test_a_router_reads_the_question_and_not_its_shots(data: Path) -> None:
    table = read(data / "routerbench3", texts=False)
    assert max(map(len, table.questions)) < 3000
    assert (len(table), len(table.queries), len(table.members)) == (34650, 3150, 11)


def test_prompts_and_ways_of_sampling_are_members_with_their_texts(data: Path) -> None:
    table = read_format("shared", data / "mot_cascade")
    assert isinstance(table, Table)
    assert "gpt-4/cot1/greedy" in table.members
    assert all(text is not None for text in table.text)
    date = table.of_queries(_task(table, "date"))
    found = bounds(date.matrix("score"), date.members, date.members.index("gpt-4/cot1/greedy"))
    assert found["best_score"] == pytest.approx(0.865, abs=6e-4)  # as the README says


def test_the_battles_of_a_set_give_its_shares_of_wins(data: Path) -> None:
    battles = read_format("shared", data / "pandalm_battles")
    assert not isinstance(battles, Table)
    facts = describe_battles(battles)
    assert (facts["battles"], facts["models"], facts["ties"]) == (999, 5, 105)
    shares = {m["model"].partition("-")[0]: round(m["win_share"], 3) for m in facts["members"]}
    assert shares == {"llama": 0.711, "pythia": 0.523, "bloom": 0.489, "opt": 0.422, "cerebras": 0.338}


def _task(table: Table, name: str) -> NDArray[np.bool_]:
    return np.array([task == name for task in table.tasks])
