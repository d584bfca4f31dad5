"""Agent-Forest on recorded answers: the numbers of docs/reproductions/agent-forest.md."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from recorded import Read

from septet.core.method import SeatPool
from septet.core.types import Query, Verdict
from septet.methods.c1_noncascade.agent_forest import AgentForest
from septet.parts.answers.extract import canonical, final_answer
from septet.testing.scripted import drive, seat

pytestmark = pytest.mark.data

SMALL = (
    "Meta-Llama-3.1-8B-Instruct",
    "Mistral-7B-Instruct-v0.3",
    "Qwen2-7B-Instruct",
    "Qwen2.5-7B-Instruct",
)
BEST = (
    "gemini-1.5-pro-002",
    "gemini-1.5-flash-002",
    "Meta-Llama-3.1-70B-Instruct",
    "Meta-Llama-3.1-70B",
    "Meta-Llama-3-70B",
)
LEVEL = (
    "Yi-34B",
    "Mixtral-8x7B-Instruct-v0.1",
    "mathstral-7B",
    "Phi-3-mini-4k-instruct",
    "Mixtral-8x7B-v0.1",
)


@cache  # of five letters there are few combinations, and the plan draws nothing
def vote(texts: tuple[str, ...]) -> Verdict:
    names = [f"m{i}" for i in range(len(texts))]
    plan = AgentForest(samples=1).plan(
        Query.of("?"), SeatPool(tuple(map(seat, names))), None, np.random.default_rng(0)
    )
    verdict, _ = drive(plan, dict(zip(names, texts, strict=True)))
    return verdict


def by_question(read: Read, of: str, column: str, members: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The answers to each question in the order of the members; "" where none was recorded."""
    said: dict[str, dict[str, str]] = {}
    for row in read(f"{of}/outcomes", ["query_id", "model", column], model=set(members)):
        said.setdefault(row["query_id"], {})[row["model"]] = row[column] or ""
    return {key: tuple(row[m] for m in members) for key, row in said.items()}


@pytest.mark.parametrize(
    ("members", "each", "voted"),
    [(BEST, [0.699, 0.640, 0.626, 0.518, 0.517], 0.701), (LEVEL, [0.416, 0.414, 0.420, 0.411, 0.389], 0.504)],
)
def test_the_plurality_of_option_letters(
    members: Sequence[str], each: list[float], voted: float, read: Read
) -> None:
    answers = by_question(read, "mmlu_pro", "answer", members)
    asked = [q for q in read("mmlu_pro/queries", ["query_id", "reference", "split"]) if q["split"] == "test"]
    right = np.array([[a == q["reference"] for a in answers[q["query_id"]]] for q in asked])
    chosen = np.array([vote(answers[q["query_id"]]).chosen for q in asked])
    assert len(asked) == 5799
    np.testing.assert_allclose(right.mean(axis=0), each, atol=5.1e-4)
    assert right[np.arange(len(asked)), chosen].mean() == pytest.approx(voted, abs=5.1e-4)


@pytest.mark.parametrize(
    ("task", "each", "voted"),
    [("gsm8k", [0.705, 0.565, 0.850, 0.900], 0.9025), ("math", [0.385, 0.145, 0.505, 0.6475], 0.595)],
)
def test_the_plurality_of_answers_that_are_read_out_of_reasoning(
    task: str, each: list[float], voted: float, read: Read
) -> None:
    answers = by_question(read, "peerreview", "response", SMALL)
    asked = [q for q in read("peerreview/queries", ["query_id", "task", "reference"]) if q["task"] == task]
    gold = [canonical(q["reference"]) for q in asked]
    texts = [answers[q["query_id"]] for q in asked]
    right = [[final_answer(t) == g for t in row] for row, g in zip(texts, gold, strict=True)]
    assert len(asked) == 400
    np.testing.assert_allclose(np.mean(right, axis=0), each, atol=1e-9)
    assert np.mean([won(vote(t)) == g for t, g in zip(texts, gold, strict=True)]) == pytest.approx(voted)


def won(verdict: Verdict) -> str:
    """The class that the chosen answer belongs to."""
    assert verdict.posterior is not None and verdict.chosen is not None
    return verdict.posterior.classes[verdict.posterior.of[verdict.chosen]]


def test_ten_prompts_of_one_model_vote_like_the_readme_but_for_ties(read: Read) -> None:
    # LLaMA-13B with ten one-shot prompts on MMLU. The README's vote, .4096, gives a tie to the first letter;
    # ours gives it to the answer that was seen first, and 4 % of the questions are ties.
    members = sorted({row["model"] for row in read("mmlu_probs/outcomes", ["model"])})
    answers = by_question(read, "mmlu_probs", "answer", members)
    gold = {
        row["query_id"]: row["reference"] for row in read("mmlu_probs/queries", ["query_id", "reference"])
    }
    right = np.array([[a == gold[key] for a in row] for key, row in answers.items()])
    voted = [answers[key][vote(answers[key]).chosen or 0] == gold[key] for key in answers]
    assert right.shape == (2886, 10)
    assert [right.mean(), right.mean(axis=0).max()] == pytest.approx([0.4067, 0.4186], abs=5.1e-5)
    assert np.mean(voted) == pytest.approx(0.4106, abs=5.1e-5)
