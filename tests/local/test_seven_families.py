"""The demo's seven ensembles on the two real models, ten questions each. `pytest -s` prints all answers."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pytest

import septet
from septet.cli import main
from septet.core.types import Answer

if TYPE_CHECKING:
    from local.conftest import Demo

pytestmark = [pytest.mark.local, pytest.mark.timeout(900)]  # the models take long where others work, too

MEMBERS = ("smol", "gemma")
FAMILIES = ("router", "elo", "fused", "spans", "search", "vote", "frugal")

TOKENS, TOKENS_OF_CHOICES = 8, 16
"""Of an answer at most; a question with choices gets as many as in the outcomes that the cascade learned from."""

QUESTIONS = (
    "What is the capital of France? Answer briefly.",
    "What is the capital of Italy? Answer in one word.",
    "What colour is the sky on a clear day? Answer briefly.",
    "Name a planet that has rings. Answer briefly.",
    "What is 2 + 3? Answer with a number.",
    "Who wrote Romeo and Juliet? Answer briefly.",
    "At how many degrees Celsius does water freeze? Answer briefly.",
    "How many days has a week? Answer with a number.",
    # two of OpenBookQA, as they were asked for the outcomes, where they are not among those that are learned from
    "Which type of energy does a radiator give off ?\nA. heat\nB. light\nC. solar\nD. electrical\n"
    "Which letter is right?",
    "What contains nutrients for plants?\nA. dirt cheap\nB. wind\nC. ground minerals\nD. soiled clothes\n"
    "Which letter is right?",
)


@dataclass(frozen=True)
class Asked:
    """An answer, and what the store has of it: the request and its calls."""

    answer: Answer
    request: Mapping[str, Any]
    calls: list[dict[str, Any]]


Everything = Mapping[str, list[Asked]]
"""By the name of an ensemble or a member, in the order of the questions."""


@pytest.fixture(scope="module")
def everything(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Everything:
    """Every question to both members and to each of the seven ensembles."""
    store = f"store.path={tmp_path_factory.mktemp('seven')}/traces.db"
    asked: dict[str, list[Asked]] = {name: [] for name in (*MEMBERS, *FAMILIES)}

    async def ask() -> None:
        async with septet.load(demo.path, set=[*demo.settings, store]) as house:
            for seed, question in enumerate(QUESTIONS):
                sys.stdout.write(f"\n{question}\n")
                tokens = TOKENS_OF_CHOICES if "\n" in question else TOKENS
                for name, so_far in asked.items():
                    answer = await house[name].ask(question, max_tokens=tokens, seed=seed)
                    so_far.append(Asked(answer, *house.store.trace(answer.trace_id)))
                    said = f"{answer.seconds:5.1f} s  {answer.text!r}  {answer.verdict.reason}"
                    sys.stdout.write(f"  {name:<7}{said}\n")

    asyncio.run(ask())
    return asked


@pytest.mark.parametrize("name", FAMILIES)
def test_every_answer_says_how_it_came_about_and_what_it_took(everything: Everything, name: str) -> None:
    for asked in everything[name]:
        answer = asked.answer
        assert answer.text.strip()
        assert answer.verdict.reason
        assert answer.verdict.chosen is not None or answer.verdict.text is not None
        assert answer.usage.prompt_tokens > 0
        assert answer.usage.completion_tokens > 0
        assert answer.usd > 0
        assert answer.seconds > 0
        assert answer.trace_id


@pytest.mark.parametrize("name", FAMILIES)
def test_the_calls_in_the_trace_add_up_to_the_answer(everything: Everything, name: str) -> None:
    for asked in everything[name]:
        answer, request, calls = asked.answer, asked.request, asked.calls
        assert (request["answer"], request["status"]) == (answer.text, "done")
        assert {call["member"] for call in calls} <= set(MEMBERS)
        assert not [call["error"] for call in calls if call["error"]]
        for key, value in asdict(answer.usage).items():
            assert sum(call["usage"][key] for call in calls) == request["usage"][key] == value, key
        assert sum(call["usd"] for call in calls) == pytest.approx(answer.usd, rel=1e-9)
        assert request["usd"] == pytest.approx(answer.usd, rel=1e-9)


@pytest.mark.parametrize("name", ["router", "elo", "frugal"])
def test_the_one_that_answers_is_chosen_for_a_reason_and_is_not_always_the_same(
    everything: Everything, name: str
) -> None:
    chosen = []
    for asked in everything[name]:
        verdict = asked.answer.verdict
        assert verdict.chosen is not None
        chosen.append(asked.answer.candidates[verdict.chosen].member)
        assert chosen[-1] in verdict.reason
    assert set(chosen) == set(MEMBERS)


@pytest.mark.parametrize("name", ["fused", "spans", "search", "vote"])
def test_some_question_is_answered_otherwise_than_by_both_members(everything: Everything, name: str) -> None:
    smol, gemma, together = (
        [asked.answer.text.strip() for asked in everything[who]] for who in (*MEMBERS, name)
    )
    assert [text for text, *own in zip(together, smol, gemma, strict=True) if text not in own]


@pytest.mark.parametrize("name", ["fused", "spans"])
def test_both_members_have_a_share_in_what_they_write_together(everything: Everything, name: str) -> None:
    for asked in everything[name]:
        shares = asked.answer.verdict.weights
        assert shares is not None
        assert shares.sum() == pytest.approx(1.0)
        assert (shares > 0).all()
        assert "".join(piece.text for piece in asked.answer.pieces) == asked.answer.text


def test_from_the_command_line_each_family_answers_in_json_and_its_trace_is_shown(
    demo: Demo, capsys: pytest.CaptureFixture[str]
) -> None:
    named = [word for name in FAMILIES for word in ("-e", name)]
    capsys.readouterr()
    assert main(["ask", *demo.options, *named, "--json", "--max-tokens", "4", QUESTIONS[0]]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["ensemble"] for answer in answers] == list(FAMILIES)
    for answer in answers:
        assert answer["text"].strip()
        assert answer["verdict"]["reason"]
        assert min(answer[key] for key in ("usd", "seconds")) > 0
        assert main(["trace", "--json", answer["trace_id"]]) == 0
        calls = json.loads(capsys.readouterr().out)["calls"]
        assert sum(call["usd"] for call in calls) == pytest.approx(answer["usd"], rel=1e-9)
        assert (
            sum(call["usage"]["completion_tokens"] for call in calls)
            == (answer["usage"]["completion_tokens"])
        )
