"""Bad answers, bad judges and bad orders: what every method that combines complete answers does with them.

What one room can show is tested beside that room: candidates that tell the judge what to do and judges that answer
nonsense: tests/parts/answers/test_injection.py, test_judging.py · code that loops for ever, writes files or wants the
network: tests/backends/test_python.py · one failing member, limits on calls and USD, of every method: the contract
suite (testing/contract.py) · budgets that contradict each other or cannot be kept: the tests of each method that has
one.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Callable, Mapping
from math import isnan
from pathlib import Path
from typing import Any

import pytest

from septet.cli import main
from septet.core.errors import NoCandidate, SeptetError
from septet.core.facets import Family
from septet.core.types import Answer
from septet.engine import catalogue
from septet.engine.house import House
from septet.testing.toys import toy_config, toy_house, toy_table

QUESTION = "What is the capital of France?"
NAMES = ("ada", "bob", "cyd")


def methods() -> list[str]:
    after = (Family.NONCASCADE, Family.CASCADE)
    known = catalogue.entries("methods")
    own = [n for n, entry in known.items() if entry.owner == "septet"]
    return sorted(n for n in own if catalogue.get("methods", n).card.facets.family in after)


METHODS = methods()


def record(name: str) -> Any:
    return catalogue.get("methods", name)


def pool(name: str) -> tuple[str, ...]:
    """As many of the toys as the pool rule allows."""
    rule = record(name).card.pool
    return NAMES[: max(rule.at_least, min(rule.at_most or 3, 3))]


def text(name: str, folder: Path, members: Mapping[str, Mapping[str, Any]], **limits: Any) -> str:
    """One ensemble of this method; cyd, who is a member where there is room, plays every role."""
    roles = {role: ["cyd"] for role in record(name)().roles()}
    return toy_config(name, roles=roles, order=pool(name), folder=folder, members=members, limits=limits)


Fitted = Callable[[str, Path], None]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """Puts the state of a method that was fitted on good answers into a folder; each is fitted once."""
    kept: dict[str, Path] = {}

    def put(name: str, folder: Path) -> None:
        if not record(name).card.trained:
            return
        if name not in kept:
            kept[name] = tmp_path_factory.mktemp(name)

            async def fit() -> None:
                async with toy_house(text(name, kept[name], {})) as house:
                    if house["toys"].ensemble.cell.value is None:
                        await house["toys"].fit(toy_table())

            asyncio.run(fit())
        if (kept[name] / "state").exists():
            shutil.copytree(kept[name] / "state", folder / "state")

    return put


def ask(
    name: str, folder: Path, members: Mapping[str, Mapping[str, Any]], question: str = QUESTION
) -> Answer:
    async def inside() -> Answer:
        async with toy_house(text(name, folder, members)) as house:
            return await house["toys"].ask(
                question, seed=7, temperature=0.0
            )  # toys that are sampled say more

    return asyncio.run(inside())


def saying(*texts: str) -> dict[str, dict[str, Any]]:
    """Every member says its text, whatever it is asked."""
    said = texts * 3 if len(texts) == 1 else texts
    long = {"answers": {}, "max_tokens": 200}
    return {n: {**long, "fallback": t} for n, t in zip(NAMES, said, strict=True)}


def sound(answer: Answer) -> None:
    """What holds of every answer: it says why, and its confidence is a share or unknown."""
    assert answer.verdict.reason
    sure = answer.verdict.confidence
    assert sure is None or isnan(sure) or 0 <= sure <= 1 + 1e-9, sure


# --- answers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("said", ["", " \n\t "], ids=["empty", "blank"])
def test_when_all_answers_are_empty_the_answer_is_empty_or_the_error_says_so(
    name: str, said: str, tmp_path: Path, fitted: Fitted
) -> None:
    fitted(name, tmp_path)
    try:
        answer = ask(name, tmp_path, saying(said))
    except NoCandidate as error:
        assert re.search("empty|nothing|abstained|no answer", str(error)), error  # noqa: PT017
    else:
        assert not answer.text.strip()
        sound(answer)


NO_ANSWER = "?! … ¿¡ --- ***"


@pytest.mark.parametrize("name", METHODS)
def test_when_no_answer_can_be_read_one_of_them_is_returned(
    name: str, tmp_path: Path, fitted: Fitted
) -> None:
    fitted(name, tmp_path)
    answer = ask(name, tmp_path, saying(NO_ANSWER))
    assert answer.text.strip() in NO_ANSWER  # an option may leave out what cannot be read, but adds nothing
    sound(answer)


@pytest.mark.parametrize("name", METHODS)
def test_equal_answers_are_that_answer(name: str, tmp_path: Path, fitted: Fitted) -> None:
    fitted(name, tmp_path)
    answer = ask(name, tmp_path, saying("Paris is the capital of France."))
    assert answer.text == "Paris is the capital of France."
    sound(answer)


@pytest.mark.parametrize("name", METHODS)
def test_of_members_that_all_fail_but_one_the_answer_of_that_one_stands(
    name: str, tmp_path: Path, fitted: Fitted
) -> None:
    fitted(name, tmp_path)
    only = pool(name)[-1]
    members = {n: {"fail": True} for n in pool(name) if n != only}
    good = saying("Paris is the capital of France.")
    if only != "cyd":  # who plays the roles goes on
        members["cyd"] = good["cyd"]
    answer = ask(name, tmp_path, {**members, only: good[only]})
    assert answer.text == "Paris is the capital of France."
    sound(answer)


@pytest.mark.parametrize("name", METHODS)
def test_when_every_member_fails_the_error_names_a_cause(name: str, tmp_path: Path, fitted: Fitted) -> None:
    fitted(name, tmp_path)
    with pytest.raises(SeptetError) as raised:
        ask(name, tmp_path, {n: {"fail": True} for n in NAMES})
    assert any(n in str(raised.value) for n in pool(name)), raised.value


LANGUAGES = ("巴黎是法国的首都。", "Париж — столица Франции 🇫🇷.", "باريس هي عاصمة فرنسا.")


@pytest.mark.parametrize("name", METHODS)
def test_answers_in_other_languages_are_kept_as_they_are(name: str, tmp_path: Path, fitted: Fitted) -> None:
    fitted(name, tmp_path)
    answer = ask(name, tmp_path, saying(*LANGUAGES), question="法国的首都是哪里？")
    assert answer.text in LANGUAGES
    sound(answer)


# --- judges and other roles --------------------------------------------------------------------------------

NONSENSE = {
    "prose": "Both have their merits, and I would rather not choose.",
    "out of scale": '{"1": 11, "2": -3, "3": 1e400}\nScore: 999/10',
    "brackets": '{"1": {"2": [[[[',
    "nothing": "",
}


@pytest.mark.parametrize("name", [n for n in METHODS if record(n)().roles()])
@pytest.mark.parametrize("said", NONSENSE.values(), ids=NONSENSE.keys())
def test_a_role_that_answers_nonsense_leaves_an_answer_of_a_member(
    name: str, said: str, tmp_path: Path, fitted: Fitted
) -> None:
    fitted(name, tmp_path)
    good = saying("Paris is the capital of France.", "Lyon is the capital of France.", said)
    answer = ask(name, tmp_path, good)
    assert answer.text in [m["fallback"] for m in good.values()]
    sound(answer)


# --- budgets and order -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_a_budget_that_the_worst_case_exceeds_is_said_by_check_and_refused_before_any_call(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def worst() -> int:
        async with toy_house(text(name, tmp_path, {})) as house:
            return house["toys"].worst("x" * 400).calls

    calls = asyncio.run(worst())
    if calls == 1:
        pytest.skip("it asks once, which every budget allows")
    path = tmp_path / "septet.toml"
    path.write_text(text(name, tmp_path, {}, calls=calls - 1, usd_per_request=1.0), encoding="utf-8")
    assert main(["check", "-c", str(path), "--json"]) == 2
    (report,) = json.loads(capsys.readouterr().out)
    assert f"its worst case is {calls} calls, limits.calls is {calls - 1}" in " ".join(report["problems"])
    assert main(["ask", "-c", str(path), "-e", "toys", "--json", "x" * 400]) != 0
    refused = json.loads(capsys.readouterr().out)["error"]
    assert refused["type"] in ("LimitReached", "NotFitted")


ORDERED = [n for n in METHODS if record(n).card.pool.order in ("cost", "weak-strong", "strong-weak")]


def priced(*usd: float) -> dict[str, dict[str, Any]]:
    prices = [{"price": {"usd_per_mtok_in": u, "usd_per_mtok_out": u}} for u in usd]
    return dict(zip(NAMES, prices, strict=True))


@pytest.mark.parametrize("name", ORDERED)
def test_members_out_of_cost_order_are_said_by_check_and_in_the_trace_and_not_sorted(
    name: str, tmp_path: Path, fitted: Fitted, capsys: pytest.CaptureFixture[str]
) -> None:
    falls = record(name).card.pool.order == "strong-weak"
    right, wrong = ((9, 3, 1), (1, 3, 9)) if falls else ((1, 3, 9), (9, 3, 1))
    word = "less" if falls else "more"
    fitted(name, tmp_path)

    async def asked(members: Mapping[str, Mapping[str, Any]]) -> tuple[Answer, Any]:
        house: House
        async with toy_house(text(name, tmp_path, members)) as house:
            answer = await house["toys"].ask(QUESTION, seed=7)
            await house.store.flush()
            return answer, house.store.trace(answer.trace_id)

    answer, (request, calls) = asyncio.run(asked(priced(*wrong)))
    said = [note for note in request["notes"] if note.startswith("order: ")]
    assert len(said) == len(pool(name)) - 1
    assert said[0].startswith("order: bob ($")
    assert said[0].endswith(f"which costs {word}; members are asked as they stand")

    path = tmp_path / "septet.toml"
    path.write_text(text(name, tmp_path, priced(*wrong)), encoding="utf-8")
    main(["check", "-c", str(path), "--json"])
    (report,) = json.loads(capsys.readouterr().out)
    assert report["notes"][0].startswith(f"order: {' → '.join(pool(name))} (")
    assert len(report["notes"]) == len(pool(name))
    assert all(note.endswith(f"which costs {word}") for note in report["notes"][1:])

    again, (request, same) = asyncio.run(asked(priced(*right)))
    assert not [note for note in request["notes"] if note.startswith("order: ")]
    if (
        name != "cascade-routing"
    ):  # its price of cost is learned; what it runs next may follow the members' prices
        assert [c["member"] for c in same] == [c["member"] for c in calls]
        assert again.text == answer.text


def test_members_priced_by_the_second_are_not_compared(tmp_path: Path) -> None:
    members = {"ada": {"price": {"usd_per_second": 1.0}}, "bob": {"price": {"usd_per_mtok_in": 1.0}}}

    async def notes() -> list[str]:
        async with toy_house(text("model-switch", tmp_path, members)) as house:
            answer = await house["toys"].ask(QUESTION, seed=7)
            await house.store.flush()
            found: list[str] = house.store.trace(answer.trace_id)[0]["notes"]
            return [note for note in found if "ada" in note]

    assert asyncio.run(notes()) == []
