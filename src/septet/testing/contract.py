"""The contract suite: what every method and every backend must hold, ours and third parties'.

@pytest.mark.parametrize("check", check_method(MyVote), ids=str)
def test_my_vote_keeps_the_contract(check, tmp_path):
    check(tmp_path)
"""

from __future__ import annotations

import ast
import asyncio
import copy
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from septet.core.errors import LimitReached, NotFitted, RunError, UnfitPool
from septet.core.method import Method, parameters_of
from septet.core.state import pack, unpack
from septet.core.types import Answer, Battle
from septet.engine.house import House
from septet.testing.toys import MEMBERS, lacking, toy_builder, toy_config, toy_house, toy_table

SECONDS = 60.0
"""Longer than any check takes; reached only by something that hangs."""

QUESTION = "What is the capital of France?"


@dataclass(frozen=True)
class Check:
    """One promise, ready to be run in an empty folder. Raises AssertionError when it is broken."""

    name: str
    promise: Callable[[Suite, Path], None]
    suite: Suite

    def __call__(self, folder: Path) -> None:
        self.promise(self.suite, folder)

    def __str__(self) -> str:
        return f"{self.suite.record.name}: {self.name}"


@dataclass(frozen=True)
class Suite:
    """A method with the parameters and the roles that it is checked with."""

    record: Any
    parameters: Mapping[str, Any]

    @property
    def method(self) -> Method:
        made: Method = self.record(**self.parameters)
        return made

    @property
    def members(self) -> tuple[str, ...]:
        """As many of the toys as the pool rule allows."""
        rule = self.record.card.pool
        names = ("ada", "bob", "cyd")[: max(rule.at_least, min(rule.at_most or 3, 3))]
        return names

    def text(self, folder: Path, **options: Any) -> str:
        roles = {role: ["cyd"] for role in self.method.roles()}
        options.setdefault("order", self.members)
        if self.record.card.pool.vocabulary == "same":
            given = options.get("members", {})
            options["members"] = {n: {"tokenizer": "words", **given.get(n, {})} for n in self.members}
        return toy_config(self.record.name, self.parameters, roles=roles, folder=folder, **options)

    def house(self, folder: Path, **options: Any) -> House:
        return toy_house(self.text(folder, **options), {self.record.name: self.record})

    def run(self, folder: Path, work: Callable[[House], Any], **options: Any) -> Any:
        """Runs some work in a house of the toy pool; a trained method is fitted first."""

        async def inside() -> Any:
            async with asyncio.timeout(SECONDS):
                async with self.house(folder, **options) as house:
                    if self.method.state_type is not None and house["toys"].ensemble.cell.value is None:
                        await house["toys"].fit(toy_table())
                    return await work(house)

        return asyncio.run(inside())

    def ask(self, folder: Path, question: str = QUESTION, *, seed: int = 7, **options: Any) -> Answer:
        answer: Answer = self.run(folder, lambda house: house["toys"].ask(question, seed=seed), **options)
        return answer


def check_method(record: Any, **parameters: Any) -> list[Check]:
    """Every promise of the suite for one method, to be run one by one. `parameters`: other than the defaults."""
    suite = Suite(record, parameters)
    promises = [value for name, value in globals().items() if name.startswith("_promise_")]
    found = []
    for promise in promises:
        name = promise.__name__.removeprefix("_promise_").replace("_", " ")
        found.append(Check(name, promise, suite))
    return found


# --- what can be seen without running ------------------------------------------------------------------


def _promise_the_card_is_complete(suite: Suite, folder: Path) -> None:
    card = suite.record.card
    assert card.title, "the card has no title"
    assert re.fullmatch(r"\d{4}\.\d{4,5}|[\w.:/-]+", card.paper), f"paper {card.paper!r} is not an id"
    assert inspect.getdoc(suite.record), "the class has no docstring"


def _promise_every_parameter_has_a_rule_and_a_sentence(suite: Suite, folder: Path) -> None:
    for p in parameters_of(suite.record):
        assert p.sentence.endswith("."), f"{p.name} has no sentence"
        assert p.rule, f"{p.name} has neither a range nor choices"


def _promise_it_does_no_io(suite: Suite, folder: Path) -> None:
    source = inspect.getsource(inspect.getmodule(suite.record) or suite.record)
    for node in ast.walk(ast.parse(source)):
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith), (
            f"line {node.lineno}: a method does no I/O, so it has no async and no await"
        )


def _promise_the_record_round_trips(suite: Suite, folder: Path) -> None:
    method = suite.method
    assert suite.record(**asdict(method)) == method  # type: ignore[call-overload]


# --- what it needs -------------------------------------------------------------------------------------


def _promise_an_unfit_pool_is_refused_before_any_call(suite: Suite, folder: Path) -> None:
    for need in [n.split()[0] for n in suite.method.needs().named()]:
        if need == "context":
            continue
        lacks = [need, "full"] if need == "topk" else [need]
        text = suite.text(folder, members={"ada": {"lacks": lacks}})
        builder = toy_builder(text, {suite.record.name: suite.record})
        try:
            builder.ensemble("toys")
        except UnfitPool as error:
            assert any("ada" in p and need in p for p in error.problems), error.problems
        else:
            raise AssertionError(f"a member without {need} was accepted")
        assert not list(folder.glob("toys.db")), "the store was touched: something was called"


def _promise_it_touches_nothing_that_it_does_not_declare(suite: Suite, folder: Path) -> None:
    spare = lacking(suite.method.needs())
    stingy = {name: {"lacks": spare} for name in suite.members}
    roles = suite.method.roles()
    if roles:  # the role's actor is stingy about the role's needs
        stingy["cyd"] = {"lacks": [n for n in spare if not any(getattr(c, n) for c in roles.values())]}

    async def work(house: House) -> Any:
        answer = await house["toys"].ask(QUESTION, seed=7)
        return answer, await _trace(house, answer)

    answer, (_, calls) = suite.run(folder, work, members=stingy)
    assert answer.text
    refused = [call["error"] for call in calls if call["error"]]  # also where the plan bears a failed reply
    assert not refused, f"it touched what it does not declare: {refused[0]}"


# --- how it behaves ------------------------------------------------------------------------------------


def _promise_the_same_seed_gives_the_same_answer(suite: Suite, folder: Path) -> None:
    first, second = suite.ask(folder), suite.ask(folder)
    assert first.text == second.text
    assert first.verdict.reason == second.verdict.reason


def _promise_permuting_the_members_permutes_the_result(suite: Suite, folder: Path) -> None:
    if not suite.record.card.permutes or suite.record.card.pool.order != "none":
        return
    pools: dict[str, dict[str, Any]] = {"agreeing": {}}
    if len(suite.members) > 2:  # of two that disagree, the first may win as the tie rule says
        whole = {"skill": 1.0, "max_tokens": 64}  # long enough for one who spells in bytes
        pools["disagreeing"] = {"ada": {**whole, "skill": 0.0}, "bob": whole, "cyd": whole}
    for name, members in pools.items():
        straight = suite.ask(folder / name / "straight", members=members)
        turned = suite.ask(folder / name / "turned", members=members, order=suite.members[::-1])
        assert straight.text == turned.text
        weights = straight.verdict.weights
        if weights is not None and len(weights) == len(suite.members):
            assert turned.verdict.weights is not None
            np.testing.assert_allclose(weights, turned.verdict.weights[::-1], atol=1e-9)


def _promise_one_failing_member_is_survived_or_named(suite: Suite, folder: Path) -> None:
    for failing in suite.members:
        try:
            answer = suite.ask(folder / failing, members={failing: {"fail": True}})
        except RunError as error:
            assert failing in str(error), f"the error does not name {failing}: {error}"
        else:
            assert answer.text, f"an empty answer when {failing} failed"


def _promise_a_limit_on_calls_is_kept(suite: Suite, folder: Path) -> None:
    try:
        answer = suite.ask(folder, limits={"calls": 1})
    except LimitReached as error:
        assert "calls" in error.limit
    else:
        _, calls = suite.run(folder, lambda house: _trace(house, answer))
        assert len(calls) <= 1


def _promise_a_limit_on_usd_is_kept(suite: Suite, folder: Path) -> None:
    price = {"price": {"usd_per_mtok_in": 100.0, "usd_per_mtok_out": 100.0}}
    members = dict.fromkeys(suite.members, price)
    try:
        suite.ask(folder, members=members, limits={"usd_per_request": 1e-9})
    except LimitReached as error:
        assert error.limit == "usd_per_request"
    else:
        raise AssertionError("a request that costs more than it may was answered")


def _promise_the_trace_adds_up(suite: Suite, folder: Path) -> None:
    price = {"price": {"usd_per_mtok_in": 1.0, "usd_per_mtok_out": 2.0}}

    async def work(house: House) -> Any:
        answer = await house["toys"].ask(QUESTION, seed=7)
        return answer, await _trace(house, answer)

    answer, (request, calls) = suite.run(folder, work, members=dict.fromkeys(suite.members, price))
    assert calls, "no call was written down"
    for key, value in asdict(answer.usage).items():
        assert sum(c["usage"][key] for c in calls) == value, key
    np.testing.assert_allclose(sum(c["usd"] for c in calls), answer.usd, rtol=1e-9)
    assert request["answer"] == answer.text
    assert request["status"] == "done"


async def _trace(house: House, answer: Answer) -> Any:
    await house.store.flush()
    return house.store.trace(answer.trace_id)


def _promise_two_requests_at_once_do_not_disturb_each_other(suite: Suite, folder: Path) -> None:
    questions = [QUESTION, "How many legs has a spider?"]

    async def alone(house: House) -> list[str]:
        return [(await house["toys"].ask(q, seed=7)).text for q in questions]

    async def together(house: House) -> list[str]:
        answers = await asyncio.gather(*(house["toys"].ask(q, seed=7) for q in questions))
        return [a.text for a in answers]

    assert suite.run(folder, alone) == suite.run(folder, together)


def _promise_the_worst_case_is_not_exceeded(suite: Suite, folder: Path) -> None:
    async def work(house: House) -> Any:
        worst = house["toys"].worst(QUESTION)
        answer = await house["toys"].ask(QUESTION, seed=7)
        return worst, await _trace(house, answer)

    worst, (_, calls) = suite.run(folder, work)
    own = [c for c in calls if c["purpose"] != "fork"]
    assert len(own) <= worst.calls, f"{len(own)} calls, the stated worst case is {worst.calls}"


# --- what it learns ------------------------------------------------------------------------------------


def _promise_its_state_round_trips(suite: Suite, folder: Path) -> None:
    method = suite.method
    if method.state_type is None:
        return
    before = suite.run(folder, lambda house: _value(house))
    arrays, facts = pack(before)
    after = unpack(method.state_type, arrays, facts)
    again_arrays, again_facts = pack(after)
    assert facts == again_facts
    assert arrays.keys() == again_arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, again_arrays[name])
    reread = suite.run(folder, lambda house: _value(house))
    np.testing.assert_equal(pack(reread)[1], facts)


async def _value(house: House) -> Any:
    return house["toys"].ensemble.cell.value


def _promise_answering_leaves_its_state_alone(suite: Suite, folder: Path) -> None:
    if suite.method.state_type is None:
        return

    async def work(house: House) -> Any:
        value = house["toys"].ensemble.cell.value
        before = copy.deepcopy(pack(value))
        await house["toys"].ask(QUESTION, seed=7)
        return before, pack(value)

    (arrays, facts), (arrays_after, facts_after) = suite.run(folder, work)
    assert facts == facts_after
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, arrays_after[name], f"{name} was changed in place")


def _promise_a_trained_method_says_when_it_is_not_fitted(suite: Suite, folder: Path) -> None:
    if not suite.record.card.trained or suite.method.begin(tuple(MEMBERS)) is not None:
        return  # some variants of a trained method may serve before anything was learned

    async def ask() -> None:
        async with suite.house(folder) as house:
            await house["toys"].ask(QUESTION)

    try:
        asyncio.run(ask())
    except NotFitted as error:
        assert "septet fit toys" in str(error)
    else:
        raise AssertionError("a trained method answered without a state")


def _promise_learning_changes_a_copy(suite: Suite, folder: Path) -> None:
    if not suite.record.card.online:
        return

    async def work(house: House) -> Any:
        before = house["toys"].ensemble.cell.learned
        assert before is not None
        arrays = {k: v.copy() for k, v in pack(before.value)[0].items()}
        await house["toys"].learn([Battle(QUESTION, "ada", "bob", "bob")] * 3)
        return before, arrays, house["toys"].ensemble.cell.learned

    before, arrays, after = suite.run(folder, work)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, pack(before.value)[0][name])
    assert after.version == before.version + 1
