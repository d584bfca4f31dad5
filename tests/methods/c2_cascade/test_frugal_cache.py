"""FrugalGPT's completion cache and its fine-tuned scorer: who is shown what, and who is not asked for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.caps import Caps
from septet.core.errors import BackendError, BadParameter, ConfigError
from septet.core.method import Ask, SeatPool
from septet.core.money import Load
from septet.core.state import pack, unpack
from septet.core.types import Completion, Message, Query
from septet.methods.c2_cascade._frugal import read_by_encoder, setting_of
from septet.methods.c2_cascade.frugal_gpt import Frugal, FrugalGPT
from septet.parts.deferral.chain import Chain
from septet.parts.deferral.semantic_cache import SemanticCache
from septet.testing.scripted import drive, seat
from septet.testing.toys import toy_config, toy_house, toy_table

ROLES = {"encoder": (seat("mini", rate=True),), "embedder": (seat("box", embed=True),)}
POOL = SeatPool((seat("smol"), seat("gemma")), ROLES)
LIST = Chain((0, 1), (0.6,), quality=0.9, cost=0.01)
EMPTY = Frugal(None, LIST)

ROWS = {
    "What is 2+3?": [1.0, 0.0],
    "What is 2 + 3?": [0.96, 0.28],
    "What is 2+4?": [0.94, np.sqrt(1 - 0.94**2)],
}
"""Cosines with the first: 1, .96 and .94."""


class Service:
    """A cascade that is asked one question after another: what it keeps is there for the next one. `logit` is what the
    encoder says about every answer of smol, and 0 of the others'."""

    def __init__(self, logit: float = 3.0, finish: Any = "stop", **parameters: Any) -> None:
        self.method = FrugalGPT(scorer="encoder", **parameters)
        self.state, self.logit, self.finish = EMPTY, logit, finish
        self.down: tuple[str, ...] = ()

    def ask(self, question: str | Query) -> tuple[Any, list[str]]:
        """The verdict, and who was asked."""
        query = Query.of(question) if isinstance(question, str) else question
        asked: list[str] = []

        def script(ask: Ask) -> Any:
            if ask.do == "keep":
                kept = self.method.keep(ask.args["event"], self.state, np.random.default_rng(0))
                self.state = kept.state
                return kept.value
            asked.append(ask.to.name)
            if ask.to.name in self.down:
                return BackendError(f"{ask.to.name} is down")
            if ask.do == "embed":
                return np.array([ROWS[t] for t in ask.args["texts"]])
            if ask.do == "rate":
                return np.array([[self.logit, 0.0]])
            return [Completion(member=ask.to.name, text=f"5, says {ask.to.name}", finish=self.finish)]

        verdict, _ = drive(self.method.plan(query, POOL, self.state, np.random.default_rng(0)), script)
        return verdict, asked


# --- the scorer -------------------------------------------------------------------------------------------


def test_the_encoder_scores_each_answer_and_its_output_for_the_member_is_the_logit() -> None:
    # of smol's answer 1 / (1 + e^−3) = .95 ≥ .6
    verdict, asked = Service(logit=3.0).ask("What is 2+3?")
    assert asked == ["smol", "mini"]
    assert (verdict.chosen, verdict.reason) == (0, "confidence 0.95 ≥ 0.60 after smol")


def test_where_the_encoder_trusts_an_answer_too_little_the_next_member_is_asked() -> None:
    # 1 / (1 + e) = .27 < .6
    verdict, asked = Service(logit=-1.0).ask("What is 2+3?")
    assert asked == ["smol", "mini", "gemma", "mini"]
    assert verdict.chosen == 1
    assert verdict.confidence == 0.5  # of the member's own output, 0


def test_the_encoder_takes_no_log_probabilities_and_is_counted_in_the_worst_case() -> None:
    method = FrugalGPT(scorer="encoder", cache="similar")
    assert method.needs() == Caps(text=True)
    assert method.roles() == {"encoder": Caps(rate=True), "embedder": Caps(embed=True)}
    assert method.worst(Query.of("2+3?", max_tokens=7), POOL) == {
        "smol": Load(1, 1, 7),
        "gemma": Load(1, 1, 7),
        "mini": Load(2, 2),
        "box": Load(1, 1),
    }
    assert FrugalGPT().roles() == {}


def test_a_question_has_at_most_half_of_what_is_read_and_an_answer_the_rest() -> None:
    # 16 tokens are about 64 characters
    assert read_by_encoder("q" * 100, "a" * 100, 16) == "q" * 32 + "\n" + "a" * 32
    assert read_by_encoder("q" * 4, "a" * 100, 16) == "q" * 4 + "\n" + "a" * 60


def test_an_encoder_is_fitted_by_its_trainer_only() -> None:
    assert (FrugalGPT().trainer, FrugalGPT(scorer="encoder").trainer) == ("", "frugal-gpt")
    with pytest.raises(ConfigError, match=r"fitted by septet\.training"):
        FrugalGPT(scorer="encoder").fit(toy_table(), {}, np.random.default_rng(0))


# --- the cache --------------------------------------------------------------------------------------------


def test_without_a_cache_the_same_question_is_paid_for_twice_and_nothing_is_kept() -> None:
    service = Service()
    assert [service.ask("What is 2+3?")[1] for _ in range(2)] == [["smol", "mini"]] * 2
    assert len(service.state.cache) == 0


def test_the_same_question_costs_nothing_the_second_time() -> None:
    service = Service(cache="exact")
    service.ask("What is 2+3?")
    verdict, asked = service.ask("What is 2+3?")
    assert asked == []
    assert (verdict.text, verdict.reason) == ("5, says smol", "the same question was answered before")
    assert service.ask("What is 2 + 3?")[1] == ["smol", "mini"]


def test_a_like_question_costs_one_embedding_from_the_cosine_on() -> None:
    service = Service(cache="similar", alike=0.95)
    assert service.ask("What is 2+3?")[1] == ["box", "smol", "mini"]
    verdict, asked = service.ask("What is 2 + 3?")
    assert asked == ["box"]
    assert verdict.text == "5, says smol"
    assert verdict.reason == "'What is 2+3?' was answered before, which is like it (cosine 0.960)"
    assert service.ask("What is 2+4?")[1] == ["box", "smol", "mini"]  # .94 < .95


def test_what_was_kept_for_one_tenant_is_shown_to_no_other() -> None:
    service = Service(cache="similar", alike=0.5)
    service.ask(Query.of("What is 2+3?", tenant="ada"))
    assert service.ask(Query.of("What is 2+3?", tenant="bob"))[1] == ["box", "smol", "mini"]
    assert service.ask(Query.of("What is 2 + 3?", tenant=""))[1] == ["box", "smol", "mini"]
    assert service.ask(Query.of("What is 2+3?", tenant="ada"))[1] == []


@pytest.mark.parametrize(
    "other",
    [
        Query.of("What is 2+3?", system="Answer in French."),
        Query.of("What is 2+3?", max_tokens=9),
        Query.of("What is 2+3?", stop=("5",)),
        Query.of("What is 2+3?", task="sums"),
    ],
    ids=["instructions", "max_tokens", "stop", "task"],
)
def test_under_other_settings_it_is_another_question(other: Query) -> None:
    service = Service(cache="exact")
    service.ask("What is 2+3?")
    assert service.ask(other)[1] == ["smol", "mini"]


@pytest.mark.parametrize(
    "query",
    [
        Query(raw="2+3="),
        Query.of("What is 2+3?", prefix="The answer"),
        Query.of("What is 2+3?", extra={"response_format": {"type": "json_object"}}),
        Query(
            messages=(Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "What is 2+3?"))
        ),
        Query(messages=(Message("user", "What is 2+3?", {"images": ["x"]}),)),
    ],
    ids=["raw", "prefix", "format", "conversation", "image"],
)
def test_what_depends_on_more_than_a_question_is_neither_kept_nor_looked_up(query: Query) -> None:
    assert setting_of(query) is None
    service = Service(cache="exact")
    assert [service.ask(query)[1] for _ in range(2)] == [["smol", "mini"]] * 2
    assert len(service.state.cache) == 0


def test_an_answer_that_was_cut_off_is_not_kept() -> None:
    service = Service(cache="exact", finish="length")
    service.ask("What is 2+3?")
    assert len(service.state.cache) == 0


def test_the_oldest_answer_goes_first() -> None:
    service = Service(cache="exact", capacity=2)
    for question in ("What is 2+3?", "What is 2 + 3?", "What is 2+4?"):
        service.ask(question)
    assert service.state.cache.questions == ("What is 2 + 3?", "What is 2+4?")


def test_where_the_embedder_is_down_the_list_answers_and_says_so() -> None:
    service = Service(cache="similar")
    service.down = ("box",)
    verdict, asked = service.ask("What is 2+3?")
    assert asked == ["box", "smol", "mini"]
    assert verdict.reason.startswith("box is down, so no like question was looked for; confidence 0.95")
    assert len(service.state.cache) == 0


def test_a_state_with_kept_answers_survives_saving() -> None:
    service = Service(cache="similar")
    service.ask("What is 2+3?")
    again = unpack(Frugal, *pack(service.state))
    assert (again.scorer, again.chain, again.cache.texts) == (None, LIST, ("5, says smol",))
    np.testing.assert_array_equal(again.cache.rows, service.state.cache.rows)


def test_the_very_same_question_is_found_without_an_embedding() -> None:
    cache = SemanticCache.empty().keeping(np.empty(0), "q", "of ada", "ada")
    found = cache.same("q", "ada")
    assert found is not None and (found.text, found.similarity) == ("of ada", 1.0)
    assert cache.same("q", "bob") is None and cache.same("Q", "ada") is None


def test_a_cosine_of_zero_is_refused() -> None:
    with pytest.raises(BadParameter, match="alike"):
        FrugalGPT(cache="similar", alike=0.0)


async def test_in_a_house_the_second_request_calls_nobody_and_a_restart_remembers(tmp_path: Path) -> None:
    text = toy_config("frugal-gpt", {"features": "text", "cache": "exact"}, folder=tmp_path)
    question = Query.of("What is the capital of France?")
    async with toy_house(text, {FrugalGPT.name: FrugalGPT}) as house:
        await house["toys"].fit(toy_table())
        first = await house["toys"].ask(question, seed=1)
        second = await house["toys"].ask(question, seed=2)
    async with toy_house(text, {FrugalGPT.name: FrugalGPT}) as house:
        third = await house["toys"].ask(question, seed=3)
        await house["toys"].fit(toy_table())
        fitted_anew = await house["toys"].ask(question, seed=1)
    assert first.candidates and not second.candidates and not third.candidates and fitted_anew.candidates
    assert first.text == second.text == third.text
    assert (second.usage.completion_tokens, second.usd) == (0, 0.0)
