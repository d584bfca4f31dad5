"""Outcomes and battles in the formats that others publish, on small samples written in each."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from septet.bench.importers import formats, read_format
from septet.core.errors import BadParameter, ConfigError, UnknownName
from septet.core.table import Table
from septet.core.types import Battle

SAMPLES = Path(__file__).parent / "samples"


def rows(table: Table) -> list[dict[str, Any]]:
    """What a table says row by row; unknown numbers are None."""
    found = []
    for i in range(len(table)):
        q = int(table.query[i])
        row = {
            "query": table.questions[q],
            "task": table.tasks[q],
            "split": table.splits[q],
            "model": table.members[int(table.member[i])],
            "sample": int(table.sample[i]),
            "answer": table.answer[i],
            "text": table.text[i],
        }
        numbers = {name: float(column[i]) for name, column in table.numbers.items()}
        found.append(row | {n: None if math.isnan(v) else v for n, v in numbers.items()})
    return found


def outcomes(format: str, name: str) -> Table:
    found = read_format(format, SAMPLES / name)
    assert isinstance(found, Table)
    return found


def write_parquet(path: Path, records: list[dict[str, Any]]) -> None:
    pa = pytest.importorskip("pyarrow")
    path.parent.mkdir(parents=True, exist_ok=True)
    pytest.importorskip("pyarrow.parquet").write_table(pa.Table.from_pylist(records), path)


def test_every_format_says_what_it_is_and_an_unknown_one_names_the_nearest() -> None:
    assert all(sentence.endswith(".") for sentence in formats().values())
    with pytest.raises(UnknownName, match=r"unknown format 'routerbenc'; did you mean 'routerbench' or "):
        read_format("routerbenc", SAMPLES)


# --- RouterBench -------------------------------------------------------------------------------------------


def test_routerbench_has_a_row_for_each_prompt_and_model() -> None:
    table = outcomes("routerbench", "routerbench.csv")
    assert table.queries == ("sums.val.1", "sums.val.2")
    assert table.members == ("ada", "acme/bob")
    first, second, third, fourth = rows(table)
    assert first["query"] == "What is 2+3?\nAnswer with a number."  # the list written as text is undone
    assert (first["text"], first["score"], first["usd"], first["task"]) == ("5", 1.0, 2.1e-6, "sums")
    assert (second["text"], second["score"], second["usd"]) == ("It's 6", 0.0, 4e-4)
    assert (third["query"], third["score"]) == ("What is 4+4?", 0.0)  # False
    assert (fourth["score"], fourth["usd"]) == (1.0, None)  # True, and no cost


def test_routerbench_without_the_scores_of_a_model_is_refused() -> None:
    said = r"routerbench_no_scores.csv:1: must have a column of scores for each model, got \['bob'\]"
    with pytest.raises(BadParameter, match=said):
        read_format("routerbench", SAMPLES / "routerbench_no_scores.csv")


def test_a_pickle_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "routerbench_0shot.pkl").write_bytes(b"\x80\x04N.")
    with pytest.raises(
        BadParameter, match=r"routerbench_0shot.pkl: is not read, because a pickle can run code"
    ):
        read_format("routerbench", tmp_path / "routerbench_0shot.pkl")


def test_a_csv_row_that_is_cut_off_is_named(tmp_path: Path) -> None:
    whole = (SAMPLES / "routerbench.csv").read_text(encoding="utf-8")
    (tmp_path / "cut.csv").write_text(whole[: whole.rindex(",0.000002")], encoding="utf-8")
    with pytest.raises(BadParameter, match=r"cut.csv:2: must have one value for each column"):
        read_format("routerbench", tmp_path / "cut.csv")


def test_routerbench_is_read_from_parquet_too(tmp_path: Path) -> None:
    write_parquet(
        tmp_path / "rb.parquet",
        [{"sample_id": "s1", "prompt": "2+3?", "eval_name": "sums", "ada": 1.0, "ada|total_cost": 0.5}],
    )
    table = read_format("routerbench", tmp_path / "rb.parquet")
    assert isinstance(table, Table)
    assert (table.score.tolist(), table.usd.tolist()) == ([1.0], [0.5])


# --- LLMRouterBench ----------------------------------------------------------------------------------------


def test_llmrouterbench_takes_the_latest_run_that_is_no_demonstration() -> None:
    found = {(r["query"], r["model"]): r for r in rows(outcomes("llmrouterbench", "llmrouterbench"))}
    assert len(found) == 4
    right = found["What is 2+3?", "ada"]
    assert (right["score"], right["text"], right["answer"]) == (1.0, "It is 5.", "5")
    assert (right["task"], right["split"]) == ("gsm8k", "")
    assert (right["prompt_tokens"], right["completion_tokens"]) == (10.0, 4.0)
    assert found["What is 2+3?", "acme/bob"]["score"] == 0.0  # the demonstration said 1


def test_llmrouterbench_leaves_unknown_what_nobody_scored_or_priced() -> None:
    found = {(r["query"], r["model"]): r for r in rows(outcomes("llmrouterbench", "llmrouterbench"))}
    assert found["What is 4+4?", "ada"]["score"] is None
    assert found["What is 2+3?", "ada"]["usd"] is None  # 0 in the whole file
    assert found["What is 4+4?", "acme/bob"]["usd"] == 2e-4


def test_llmrouterbench_names_a_run_by_its_folders_where_the_file_does_not(tmp_path: Path) -> None:
    run = SAMPLES / "llmrouterbench/gsm8k/test/ada/gsm8k-test-ada-20250101_100000.json"
    place = tmp_path / "aime" / "hybrid" / "dan" / run.name
    place.parent.mkdir(parents=True)
    place.write_bytes(run.read_bytes())
    (row,) = rows(read_format("llmrouterbench", tmp_path))  # type: ignore[arg-type]
    assert (row["task"], row["model"], row["text"]) == ("aime", "dan", "an older run")


def test_llmrouterbench_without_records_is_refused() -> None:
    said = r"llmrouterbench_no_records.json: must be an object with a list `records`, got 'dict'"
    with pytest.raises(BadParameter, match=said):
        read_format("llmrouterbench", SAMPLES / "llmrouterbench_no_records.json")


def test_llmrouterbench_with_demonstrations_only_is_refused() -> None:
    demo = SAMPLES / "llmrouterbench/gsm8k/test/bob/gsm8k-test-bob-20250303_110000.json"
    with pytest.raises(ConfigError, match="holds demonstrations only"):
        read_format("llmrouterbench", demo)


# --- RouterArena -------------------------------------------------------------------------------------------


def test_routerarena_reads_predictions_and_kept_answers_and_leaves_out_failures() -> None:
    ada, bob, again = rows(outcomes("routerarena", "routerarena"))
    assert (ada["model"], ada["score"], ada["usd"], ada["text"]) == ("ada", 1.0, 2e-6, "5")
    assert (ada["prompt_tokens"], ada["completion_tokens"]) == (8.0, 1.0)
    assert (bob["sample"], bob["score"], bob["usd"], bob["text"]) == (0, 0.0, 3e-5, "6")
    assert (again["sample"], again["score"], again["text"]) == (1, None, "5!")  # the third says "6" again
    assert {r["task"] for r in (ada, bob, again)} == {"Sums"}


def test_routerarena_without_an_index_is_refused() -> None:
    said = r"routerarena_no_index.json:2: must have global index or global_index, got"
    with pytest.raises(BadParameter, match=said):
        read_format("routerarena", SAMPLES / "routerarena_no_index.json")


# --- RouteLLM ----------------------------------------------------------------------------------------------


def test_battles_are_read_with_the_first_turn_as_their_query() -> None:
    assert read_format("routellm-battles", SAMPLES / "routellm_battles.csv") == [
        Battle("What is 2+3?", "ada", "bob", "ada"),
        Battle("Tell a joke", "cyd", "ada", "ada"),
        Battle("Hello", "bob", "cyd", "tie"),
    ]


def test_battles_may_name_the_winner_and_be_both_bad() -> None:
    assert read_format("routellm-battles", SAMPLES / "routellm_battles.jsonl") == [
        Battle("What is 2+3?", "ada", "bob", "bob"),
        Battle("Hello", "ada", "bob", "tie"),
    ]


def test_a_battle_with_two_winners_is_refused() -> None:
    said = (
        r"two_winners.csv:2: must have winner, or exactly one 1 in winner_model_a, .* got \[1.0, 1.0, 0.0\]"
    )
    with pytest.raises(BadParameter, match=said):
        read_format("routellm-battles", SAMPLES / "routellm_battles_two_winners.csv")


# --- LLMRouter ---------------------------------------------------------------------------------------------


def test_llmrouter_takes_splits_from_file_names_and_prices_from_the_list_beside() -> None:
    test, ada, bob = rows(outcomes("llmrouter", "llmrouter"))
    assert (test["split"], test["score"], test["seconds"]) == ("test", 0.5, 0.25)
    assert (ada["split"], ada["score"], ada["text"], ada["task"]) == ("train", 1.0, "5", "sums")
    assert ada["usd"] == pytest.approx((100 * 0.2 + 10 * 0.4) / 1e6)  # 0.000024
    assert (bob["usd"], bob["completion_tokens"]) == (None, 20.0)  # the list has no price of bob's


def test_llmrouter_without_a_performance_is_refused() -> None:
    with pytest.raises(BadParameter, match=r"llmrouter_no_performance.jsonl:2: must have performance, got"):
        read_format("llmrouter", SAMPLES / "llmrouter_no_performance.jsonl")


# --- folders of parquet files ------------------------------------------------------------------------------


QUERIES = [
    {"query_id": "q1", "task": "sums", "query": "Shots. 2+3?", "question": "2+3?", "split": "train"},
    {"query_id": "q2", "task": "sums", "query": "Shots. 4+4?", "question": "4+4?", "split": "test"},
    {"query_id": "q3", "task": "sums", "query": "never asked", "question": "never asked", "split": "test"},
]


def test_prompts_of_one_model_are_members_and_texts_find_their_rows(tmp_path: Path) -> None:
    write_parquet(tmp_path / "queries.parquet", QUERIES)
    scores = (("q1", "cot", 1.0), ("q1", "pot", 0.0), ("q2", "cot", 0.0), ("q2", "pot", 1.0))
    asked = [{"query_id": q, "model": "ada", "prompt": p, "score": s} for q, p, s in scores]
    write_parquet(tmp_path / "outcomes.parquet", asked)
    said = (("q2", "pot"), ("q1", "cot"), ("q9", "cot"), ("q1", "pot"))  # q9 is nobody's question
    texts = [{"query_id": q, "model": "ada", "prompt": p, "response": f"{q} by {p}"} for q, p in said]
    write_parquet(tmp_path / "responses.parquet", texts)
    table = read_format("shared", tmp_path)
    assert isinstance(table, Table)
    assert table.members == ("ada/cot", "ada/pot")
    assert table.matrix("score").tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert table.text.tolist() == ["q1 by cot", "q1 by pot", None, "q2 by pot"]
    assert (table.questions, table.splits) == (("2+3?", "4+4?"), ("train", "test"))


def test_turns_are_samples(tmp_path: Path) -> None:
    write_parquet(tmp_path / "queries.parquet", QUERIES)
    asked = [{"query_id": "q1", "model": "ada", "turn": t, "score": t / 2} for t in (1, 2)]
    write_parquet(tmp_path / "outcomes.parquet", asked)
    table = read_format("shared", tmp_path)
    assert isinstance(table, Table)
    assert table.sample.tolist() == [0, 1]


def test_an_outcome_of_an_unknown_question_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "queries.parquet", QUERIES)
    asked = [{"query_id": q, "model": "ada", "score": 1.0} for q in ("q1", "q7")]
    write_parquet(tmp_path / "outcomes.parquet", asked)
    said = r"outcomes.parquet:2.query_id: must be among the questions, got 'q7'"
    with pytest.raises(BadParameter, match=said):
        read_format("shared", tmp_path)


def test_a_folder_of_battles_gives_battles(tmp_path: Path) -> None:
    fights = [{"query": "2+3?", "model_a": "ada", "model_b": "bob", "winner": "model_b"}]
    write_parquet(tmp_path / "battles.parquet", fights)
    assert read_format("shared", tmp_path) == [Battle("2+3?", "ada", "bob", "bob")]
