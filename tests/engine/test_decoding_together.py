"""Token ensembles as they are configured and asked: schedules, beams, scores, traces, members that leave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.errors import BadParameter, RunError, UnfitPool
from septet.core.trace import PieceEvent
from septet.core.types import Query
from septet.engine.answering import Answering
from septet.engine.config import parse
from septet.engine.house import House, Request
from septet.engine.plan_runner import Want
from septet.testing.toys import QUESTIONS, toy_config, toy_house

Work = Callable[[House], Any]

ASKED = [*QUESTIONS, "What is 17+25?", "What is 6*7?", "Say something about the sea.", "Count to three."]


def run(folder: Path, work: Work, method: str = "unite", text: str = "", **options: Any) -> Any:
    """Some work in a house of the toys ada (words) and bob (bytes)."""
    parameters = options.pop("parameters", {})
    config = toy_config(
        method, parameters, order=options.pop("order", ("ada", "bob")), folder=folder, **options
    )

    async def inside() -> Any:
        async with asyncio.timeout(120), toy_house(config + text) as house:
            return await work(house)

    return asyncio.run(inside())


async def texts(house: House) -> list[str]:
    return [(await house["toys"].ask(q, temperature=0.0)).text for q in ASKED]


def live(house: House) -> int:
    """Sequences that the toys still hold."""
    loaded = (endpoint.loaded for endpoint in house.builder.endpoints.values())  # type: ignore[attr-defined]
    return sum(runtime.n_open for runtime in loaded if runtime is not None)


@pytest.mark.parametrize("method", ["unite", "gac"])
@pytest.mark.parametrize("order", [("ada", "bob"), ("bob", "ada"), ("ada", "cyd", "bob")])
def test_a_draft_gives_the_greedy_bytes_of_every(method: str, order: tuple[str, ...], tmp_path: Path) -> None:
    straight = run(tmp_path / "every", texts, method, order=order)
    drafted = run(
        tmp_path / "draft", texts, method, order=order, parameters={"schedule": "draft", "draft": 4}
    )
    assert straight == drafted


def test_a_draft_gives_the_greedy_bytes_of_every_where_members_are_only_consulted(tmp_path: Path) -> None:
    thresholded = {"mode": "thresholded", "threshold": 0.9}
    straight = run(tmp_path / "every", texts, "gac", parameters=thresholded)
    drafted = run(tmp_path / "draft", texts, "gac", parameters={**thresholded, "schedule": "draft"})
    assert straight == drafted


def test_a_draft_gives_the_greedy_bytes_of_every_where_the_method_asks_on(tmp_path: Path) -> None:
    exact = {"missing": "exact", "k": 3}
    straight = run(tmp_path / "every", texts, "unite", parameters=exact)
    drafted = run(tmp_path / "draft", texts, "unite", parameters={**exact, "schedule": "draft"})
    assert straight == drafted


def test_a_draft_spares_the_verifier_most_of_its_forwards(tmp_path: Path) -> None:
    async def forwards(house: House) -> tuple[float, int]:
        answer = await house["toys"].ask("Who wrote Faust?", temperature=0.0)
        await house.store.flush()
        _, calls = house.store.trace(answer.trace_id)
        steps = next(c["steps"] for c in calls if c["member"] == "cyd")
        assert answer.tokens is not None
        return steps["forwards"], len(answer.tokens)

    members = {"cyd": {"skill": 1.0}, "ada": {"skill": 1.0}}
    order = ("ada", "cyd")
    straight = run(tmp_path / "every", forwards, order=order, members=members)
    drafted = run(
        tmp_path / "draft", forwards, order=order, members=members, parameters={"schedule": "draft"}
    )
    assert straight[1] == drafted[1] >= 8  # " wrote" is no word of theirs: it is spelled
    assert drafted[0] <= 0.65 * straight[0]


def test_a_mixture_answers_at_temperature_one(tmp_path: Path) -> None:
    async def work(house: House) -> Any:
        answer = await house["toys"].ask("Who wrote Faust?", temperature=1.0, seed=3)
        again = await house["toys"].ask("Who wrote Faust?", temperature=1.0, seed=3)
        return answer, again, live(house)

    answer, again, held = run(tmp_path, work, "gac", parameters={"schedule": "mixture"})
    assert answer.text == again.text != ""
    assert held == 0
    assert sum(answer.verdict.weights) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("parameters", "fields", "said"),
    [
        ({"schedule": "mixture"}, {}, "temperature 0"),
        ({"schedule": "mixture"}, {"temperature": 0.7}, "temperature 0.7"),
        ({"schedule": "mixture"}, {"temperature": 1.0, "top_p": 0.5}, "top_p 0.5"),
        ({"schedule": "mixture", "mode": "thresholded"}, {"temperature": 1.0}, "constant weights"),
        ({"beam": 3}, {"temperature": 0.5}, "temperature must be 0"),
    ],
)
def test_a_query_that_does_not_go_with_the_schedule_is_refused_before_any_call(
    parameters: Mapping[str, Any], fields: Mapping[str, Any], said: str, tmp_path: Path
) -> None:
    async def work(house: House) -> Any:
        with pytest.raises(BadParameter, match=said):
            await house["toys"].ask("Who wrote Faust?", **fields)
        await house.store.flush()
        return house.store.trace(house.store.recent(1)[0]["id"])

    _, calls = run(tmp_path, work, "gac", parameters=parameters)
    assert calls == []


@pytest.mark.parametrize(
    ("method", "parameters", "said"),
    [
        (
            "agent-forest",
            {"schedule": "draft"},
            "schedule = draft is for methods whose members decode one answer",
        ),
        ("agent-forest", {"beam": 2}, "beam = 2 is for methods whose members decode one answer"),
        ("gac", {"schedule": "draft", "beam": 2}, "beam = 2 goes with schedule = every only"),
        ("unite", {"schedule": "mixture"}, "schedule = mixture is for means of the members' distributions"),
    ],
)
def test_a_schedule_that_the_method_cannot_have_makes_the_pool_unfit(
    method: str, parameters: Mapping[str, Any], said: str, tmp_path: Path
) -> None:
    async def work(house: House) -> None:
        with pytest.raises(UnfitPool) as caught:
            await house["toys"].ask("Who wrote Faust?")
        assert said in str(caught.value)

    run(tmp_path, work, method, parameters=parameters)
    assert not list(tmp_path.glob("toys.db"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("schedule = 'drafts'", "must be one of every, draft, mixture"),
        ("draft = 0", "must be in [1, 64]"),
        ("draft = 2.5", "must be in [1, 64]"),
        ("beam = true", "must be in [1, 64]"),
    ],
)
def test_a_wrong_key_of_the_schedule_is_named_with_its_rule(line: str, said: str) -> None:
    with pytest.raises(BadParameter) as caught:
        parse(f"[ensembles.x]\nmethod = 'unite'\nmembers = []\n{line}\n")
    assert said in str(caught.value) and "line 4" in str(caught.value)


def test_a_beam_finds_answers_that_are_at_least_as_likely_and_closes_all_its_forks(tmp_path: Path) -> None:
    async def work(house: House) -> Any:
        answers = [await house["toys"].ask(q) for q in ASKED[:6]]
        return answers, live(house)

    sure = {name: {"skill": 1.0, "max_tokens": 40} for name in ("ada", "bob")}
    greedy, _ = run(tmp_path / "one", work, "gac", parameters={"beam": 1}, members=sure)
    found, held = run(tmp_path / "many", work, "gac", parameters={"beam": 3}, members=sure)
    for one, other in zip(greedy, found, strict=True):
        assert other.text and other.finish == "stop"
        assert other.tokens.logp.mean() > one.tokens.logp.mean() - 1e-6
    assert held == 0


def test_a_wide_beam_is_not_stopped_by_the_limit_on_calls(tmp_path: Path) -> None:
    async def work(house: House) -> Any:
        return (await house["toys"].ask("Who wrote Faust?", max_tokens=20)).text

    assert run(tmp_path, work, "gac", parameters={"beam": 4}, limits={"calls": 2})


# --- scores ---------------------------------------------------------------------------------------------


async def scores(house: House, name: str, options: list[str], end: bool = False) -> tuple[Any, list[str]]:
    """The scores of some texts, and what the trace notes about them."""
    tokens = await house[name].score("Who wrote Faust?", options, end=end)
    return tokens, house.store.recent(1)[0]["notes"]


async def _drop(piece: Any) -> None:
    """Nobody reads along."""


def test_a_member_scores_given_texts_too_but_no_end(tmp_path: Path) -> None:
    async def work(house: House) -> Any:
        tokens, _ = await scores(house, "ada", ["Goethe wrote Faust.", "The sky is blue."])
        with pytest.raises(BadParameter, match="token-level"):
            await scores(house, "ada", ["x"], end=True)
        return tokens

    right, wrong = run(tmp_path, work, members={"ada": {"skill": 1.0}})
    assert right.logp.sum() > wrong.logp.sum()


@pytest.mark.parametrize(
    ("method", "said"), [("gac", "the sum over the segmentations"), ("unite", "one path")]
)
def test_an_ensemble_scores_given_texts_and_the_trace_says_how(
    method: str, said: str, tmp_path: Path
) -> None:
    options = ["Goethe wrote Faust.", "The sky is blue."]

    async def work(house: House) -> Any:
        return [*await scores(house, "toys", options), live(house)]

    parameters = {"k": 400} if method == "unite" else {}
    tokens, notes, held = run(tmp_path, work, method, parameters=parameters)
    assert [b"".join(t.texts).decode() for t in tokens] == options
    assert tokens[0].logp.sum() > tokens[1].logp.sum() + 5
    assert any(said in note for note in notes)
    assert held == 0


def test_a_score_sums_what_spelling_differently_leaves_over(tmp_path: Path) -> None:
    # all that the toy may say first adds up to one: over END and every beginning of one byte it cannot be more
    async def work(house: House) -> Any:
        (tokens,), _ = await scores(house, "toys", ["Goethe wrote Faust."], end=True)
        return tokens

    tokens = run(tmp_path, work, "gac")
    assert tokens.texts[-1] == b""
    assert -3.0 < tokens.logp.sum() < 0.0


def test_an_ensemble_is_scored_as_a_member_of_another(tmp_path: Path) -> None:
    outer = '\n[ensembles.outer]\nmethod = "cool-fusion"\nmembers = ["toys", "cyd"]\n'

    async def work(house: House) -> Any:
        answer = await house["outer"].ask("Who wrote Faust?")
        return answer.text, answer.verdict.reason, live(house)

    config = toy_config("gac", order=("ada", "bob"), folder=tmp_path)
    head, limits = config.split("\n[limits]")

    async def inside() -> Any:
        async with toy_house(head + outer + "\n[limits]" + limits) as house:
            return await work(house)

    text, reason, held = asyncio.run(inside())
    assert text and "toys" in reason and "failed" not in reason
    assert held == 0


@pytest.mark.parametrize("schedule", ["every", "draft"])
def test_a_token_ensemble_inside_another_decodes_with_it(schedule: str, tmp_path: Path) -> None:
    outer = f'\n[ensembles.outer]\nmethod = "unite"\nmembers = ["cyd", "toys"]\nschedule = "{schedule}"\n'
    config = toy_config("unite", order=("ada", "bob"), folder=tmp_path)
    head, limits = config.split("\n[limits]")

    async def inside() -> Any:
        async with toy_house(head + outer + "\n[limits]" + limits) as house:
            return [(await house["outer"].ask(q)).text for q in ASKED], live(house)

    found, held = asyncio.run(inside())
    assert held == 0 and all(found)
    if schedule == "draft":
        straight = outer.replace('"draft"', '"every"')

        async def again() -> Any:
            async with toy_house(head + straight + "\n[limits]" + limits) as house:
                return [(await house["outer"].ask(q)).text for q in ASKED]

        assert asyncio.run(again()) == found


# --- what the trace says ------------------------------------------------------------------------------------


def test_an_approximation_is_noted_in_the_trace(tmp_path: Path) -> None:
    async def work(house: House) -> Any:
        answer = await house["toys"].ask("Who wrote Faust?")
        await house.store.flush()
        return answer.text, house.store.trace(answer.trace_id)[0]["notes"]

    members = {"bob": {"lacks": ["full"], "topk_limit": 7}}
    text, notes = run(tmp_path, work, "gac", members=members, parameters={"approximate": True})
    assert text
    assert notes == ["approximate: top 7 of bob in place of its full distribution"]


def test_nobody_pays_for_the_story_of_pieces_that_nobody_hears(tmp_path: Path) -> None:
    events: list[PieceEvent] = []

    async def work(house: House) -> Any:
        asked = house["toys"]
        request = Request(asked, Query.of("Who wrote Faust?"), Want(), False)
        answering = Answering(asked.ensemble, request.query, request.run, request.gate, Want(), _drop)
        answering.on_step = events.append
        return (await answering.result()).text

    text = run(tmp_path, work)
    assert b"".join(e.piece for e in events).decode() == text
    assert events[-1].piece == b""
    assert {e.path for e in events} == {"toys"} and len({e.request for e in events}) == 1


# --- members that leave ---------------------------------------------------------------------------------


@pytest.mark.parametrize("parameters", [{}, {"schedule": "draft"}, {"beam": 3}])
def test_a_member_at_its_context_limit_leaves_the_answer_to_the_others(
    parameters: Mapping[str, Any], tmp_path: Path
) -> None:
    async def work(house: House) -> Any:
        answer = await house["toys"].ask("Who wrote Faust?", temperature=0.0)
        return answer.text, answer.verdict.reason, live(house)

    # bob spells the prompt in 23 bytes and ASK; the answer has 19
    text, reason, held = run(
        tmp_path, work, members={"bob": {"context": 32}, "ada": {"skill": 1.0}}, parameters=parameters
    )
    assert text == "Goethe wrote Faust."
    assert "failed" in reason and "context of 32" in reason
    assert held == 0


@pytest.mark.parametrize("parameters", [{}, {"schedule": "draft"}, {"beam": 2}])
def test_where_no_member_may_fail_the_answer_ends_in_one_error(
    parameters: Mapping[str, Any], tmp_path: Path
) -> None:
    async def work(house: House) -> int:
        with pytest.raises(RunError, match="context of 32"):
            await house["toys"].ask("Who wrote Faust?", temperature=0.0)
        return live(house)

    limits = {"on_member_error": "fail"}
    assert run(tmp_path, work, members={"bob": {"context": 32}}, limits=limits, parameters=parameters) == 0


@pytest.mark.parametrize("parameters", [{}, {"schedule": "draft"}, {"schedule": "mixture"}, {"beam": 3}])
def test_fifty_cancelled_requests_leave_no_sequence_behind(
    parameters: Mapping[str, Any], tmp_path: Path
) -> None:
    # four schedules: two hundred cancellations, each after another number of turns of the event loop
    async def work(house: House) -> tuple[int, int]:
        fields = {"temperature": 1.0} if parameters.get("schedule") == "mixture" else {}
        await house["toys"].ask("What is 1+1?", **fields)
        rng, cancelled = np.random.default_rng(0), 0
        for n in range(50):
            request = asyncio.create_task(house["toys"].ask(ASKED[n % len(ASKED)], **fields))
            await asyncio.sleep(float(rng.random()) * 0.02)
            for _ in range(n):
                await asyncio.sleep(0)
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)
            cancelled += request.cancelled()
        await asyncio.sleep(0.05)
        return live(house), cancelled

    held, cancelled = run(tmp_path, work, "gac", parameters=parameters)
    assert held == 0
    assert cancelled >= 10
