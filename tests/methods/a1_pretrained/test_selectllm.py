"""SelectLLM: who is selected, with what weight, and who wins the vote."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.errors import BackendError, NoCandidate
from septet.core.method import SeatPool
from septet.core.table import Table
from septet.core.types import Answer, Completion, Query, Verdict
from septet.methods.a1_pretrained.selectllm import Selectllm
from septet.parts.learning.targets import Targets
from septet.parts.routing.cost import Spending
from septet.parts.routing.network import Head
from septet.parts.routing.records import Known
from septet.testing.contract import check_method
from septet.testing.scripted import drive, seat
from septet.testing.toys import toy_config, toy_house, toy_table

RNG = np.random.default_rng(0)
FREE = Spending(*(np.full(3, np.nan) for _ in range(4)))
THREE = Head.of_encoder(FREE, Targets.even(np.full((1, 3), 0.5), "bce"))


def weights(q: list[float], **parameters: Any) -> list[float]:
    choice = Selectllm(**parameters).choose(np.array([q]), np.zeros((1, 3)), np.zeros(1), None, RNG)
    assert choice.draw == "all"
    return choice.weights[0].round(4).tolist()  # type: ignore[no-any-return]


def voted(confidences: list[float], answers: dict[str, Any], **parameters: Any) -> tuple[Verdict, list[str]]:
    """The verdict where an encoder is this confident of a, b and c; and who was asked."""
    router = Selectllm(network="encoder", **parameters)
    asked: list[str] = []
    logits = np.log(np.array(confidences) / (1 - np.array(confidences)))

    def script(ask: Any) -> Any:
        if ask.do == "decide":
            return router.choose(**ask.args, state=THREE, rng=RNG)
        if ask.do == "rate":
            return logits[None]
        asked.append(ask.to.name)
        said = answers[ask.to.name]
        return said if isinstance(said, Exception) else [Completion(member=ask.to.name, text=said)]

    pool = SeatPool(tuple(seat(n) for n in "abc"), {"encoder": (seat("e", rate=True),)})
    verdict, _ = drive(router.plan(Query.of("?"), pool, THREE, RNG), script)
    return verdict, asked


ABB = {"a": "Answer: 1", "b": "Answer: 2", "c": "Answer: 2"}


def test_the_most_confident_vote_alike_or_by_confidence() -> None:
    assert weights([0.9, 0.6, 0.55], policy="max", size=2) == [0.5, 0.5, 0.0]
    assert weights([0.9, 0.6, 0.5], policy="weighted-max") == [0.45, 0.3, 0.25]


def test_only_members_predicted_to_be_right_take_part_under_labelled_max() -> None:
    assert weights([0.9, 0.4, 0.45], policy="labelled-max") == [1.0, 0.0, 0.0]
    assert weights([0.9, 0.6, 0.55], policy="labelled-max", size=2) == [0.5, 0.5, 0.0]
    assert weights([0.3, 0.4, 0.45], policy="labelled-max") == [0.0, 0.0, 1.0]  # nobody: the most confident
    assert weights([0.3, 0.5, 0.2], policy="labelled-max") == [0.0, 1.0, 0.0]  # a logit of 0 is not positive


def test_an_unknown_member_is_not_selected() -> None:
    assert weights([0.6, float("nan"), 0.2], policy="max") == [0.5, 0.0, 0.5]


def test_weights_decide_where_confidences_differ_enough() -> None:
    # 1.15 of b and c against .9; then .85 against .9
    assert voted([0.9, 0.6, 0.55], ABB, policy="weighted-max")[0].chosen == 1
    assert voted([0.9, 0.4, 0.45], ABB, policy="weighted-max")[0].chosen == 0
    assert voted([0.9, 0.4, 0.45], ABB, policy="max")[0].chosen == 1
    verdict, asked = voted([0.9, 0.4, 0.45], ABB, policy="labelled-max")
    assert (verdict.chosen, asked) == (0, ["a"])


def test_the_verdict_says_who_voted_with_what_weight() -> None:
    verdict, _ = voted([0.9, 0.6, 0.5], ABB)
    assert verdict.confidence == pytest.approx(0.55)
    assert verdict.reason == "of a (0.45), b (0.3), c (0.25), 0.55 of the weight says '2'"


def test_a_selected_member_that_fails_leaves_the_vote_to_the_others() -> None:
    failed = BackendError("b is down")
    verdict, asked = voted([0.9, 0.6, 0.55], ABB | {"b": failed})
    assert (verdict.chosen, asked) == (0, ["a", "b", "c"])
    assert "b is down" in verdict.reason
    with pytest.raises(NoCandidate, match="b is down"):
        voted([0.9, 0.6, 0.55], dict.fromkeys("abc", failed))


def test_labels_are_the_majority_of_samples() -> None:
    table = Table.of(
        {"query": "q", "model": m, "sample_id": i, "answer": a, "score": float(a == "8")}
        for m, said in (("x", "788"), ("y", "778"))
        for i, a in enumerate(said)
    )
    targets = Selectllm().targets(Known.of(table))
    assert targets.y.tolist() == [[1.0, 0.0]]
    assert (targets.weight == 1).all()


def test_a_method_after_it_gets_the_set_with_its_weights(tmp_path: Path) -> None:
    text = toy_config("selectllm", {"size": 2}, folder=tmp_path)
    text = text.replace(
        'method = "selectllm"', 'method = "selectllm"\nthen = {method="agent-forest", samples=1}'
    )

    async def ask() -> Answer:
        async with toy_house(text) as house:
            await house["toys"].fit(toy_table())
            return await house["toys"].ask("What is the capital of France?", seed=1)

    answer = asyncio.run(ask())
    assert len(answer.candidates) == 2
    assert sum(c.weight for c in answer.candidates) == pytest.approx(1.0)
    assert "of 2 candidates say" in answer.verdict.reason


CHECKS = [*check_method(Selectllm), *check_method(Selectllm, policy="labelled-max", size=2)]


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_it_keeps_the_contract(check: Any, tmp_path: Path) -> None:
    check(tmp_path)
