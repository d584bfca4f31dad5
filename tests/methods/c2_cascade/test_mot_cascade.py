"""The mixture-of-thought cascade: what is accepted by vote and by verification, and what programs say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.errors import BackendError, BadParameter, NoCandidate
from septet.core.method import Ask, SeatPool
from septet.core.money import Load
from septet.core.types import Completion, Query, Run, Verdict
from septet.methods.c2_cascade._programs import program_in
from septet.methods.c2_cascade.mot_cascade import MotCascade
from septet.testing.contract import Check, check_method
from septet.testing.scripted import drive, seat, texts

POOL = SeatPool((seat("cot"), seat("pot"), seat("strong")), {"executor": (seat("python", run=True),)})
QUESTION = Query.of("What is 9+9?")
CUT = Completion(member="cot", text="Let me see, 1", finish="length")


@pytest.mark.parametrize("check", check_method(MotCascade), ids=str)
def test_it_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    check(tmp_path)


def run(said: Mapping[str, Any], pool: SeatPool = POOL, **parameters: Any) -> tuple[Verdict, list[list[Ask]]]:
    plan = MotCascade(**parameters).plan(QUESTION, pool, None, np.random.default_rng(0))
    verdict, yielded = drive(plan, dict(said))
    return verdict, [[a for a in items if isinstance(a, Ask)] for items in yielded]


def test_the_share_over_the_union_counts_what_could_not_be_read() -> None:
    # {18, 18, 18, 20, None}: 3/5 = .6, not 3/4; accepted at .6 and not above
    pool = SeatPool((seat("cot"), seat("strong")))
    said = {"cot": ["18", "18", "18", "20", CUT], "strong": "17"}
    verdict, asks = run(said, pool, samples=5, threshold=0.6)
    assert (verdict.chosen, verdict.confidence, len(asks)) == (0, 0.6, 1)
    verdict, asks = run(said, pool, samples=5, threshold=0.61)
    assert (verdict.chosen, len(asks)) == (5, 2)
    assert verdict.reason == "0.60 < 0.61: 3 of 5 samples of cot say '18', so strong was asked"


def test_the_weak_members_are_asked_at_once_and_the_strong_one_alone() -> None:
    said = {"cot": ["18", "20"], "pot": ["18", "21"], "strong": "17"}
    _, asks = run(said, samples=2, temperature=0.3)
    assert [[(a.to.name, a.args["n"]) for a in items] for items in asks] == [
        [("cot", 2), ("pot", 2)],
        [("strong", 1)],
    ]
    assert [a.args["query"].temperature for items in asks for a in items] == [0.3, 0.3, None]


def test_verification_compares_majorities_and_not_shares() -> None:
    # the share of 18 is 4/6 in both; only in the first do both majorities say so
    agree = {"cot": ["18", "18", "20"], "pot": ["21", "18", "18"], "strong": "17"}
    differ = {"cot": ["18", "18", "18"], "pot": ["21", "21", "18"], "strong": "17"}
    assert run(agree, samples=3, rule="verify")[0].chosen == 0
    verdict, _ = run(differ, samples=3, rule="verify")
    assert verdict.chosen == 6
    assert verdict.reason == "most samples of cot, pot say '18', '21', so strong was asked"
    assert run(differ, samples=3, rule="vote")[0].chosen == 0


def test_two_members_that_say_nothing_do_not_coincide() -> None:
    said = {"cot": [CUT, CUT], "pot": [CUT, CUT], "strong": "17"}
    for rule in ("vote", "verify"):
        assert run(said, samples=2, rule=rule, threshold=0.0)[0].chosen == 4


def test_the_strong_member_answers_with_its_own_majority() -> None:
    said = {"cot": ["1", "2"], "pot": ["3", "4"], "strong": ["17", "19", "19"]}
    verdict, _ = run(said, samples=2, strong_samples=3)
    assert (verdict.chosen, verdict.confidence) == (5, pytest.approx(2 / 3))
    assert verdict.posterior is not None
    assert dict(zip(verdict.posterior.classes, verdict.posterior.p.round(2).tolist(), strict=True)) == {
        "1": 0.0,
        "2": 0.0,
        "3": 0.0,
        "4": 0.0,
        "17": 0.33,
        "19": 0.67,
    }


def test_a_weak_member_that_fails_is_left_out_and_verification_needs_two() -> None:
    said = {"cot": BackendError("down"), "pot": ["18", "18"], "strong": "17"}
    verdict, _ = run(said, samples=2)
    assert (verdict.chosen, verdict.confidence) == (0, 1.0)
    assert verdict.reason == "1.00 ≥ 0.60: 2 of 2 samples of pot say '18'; failed: cot"
    assert run(said, samples=2, rule="verify")[0].chosen == 2


def test_if_the_strong_member_fails_the_weak_majority_stands() -> None:
    said = {"cot": ["1", "2"], "pot": ["2", "4"], "strong": BackendError("down")}
    verdict, _ = run(said, samples=2, threshold=0.9)
    assert (verdict.chosen, verdict.confidence) == (1, 0.5)
    assert verdict.reason.endswith("strong was asked, which failed")


@pytest.mark.parametrize("strong", ["", CUT], ids=["empty", "cut off"])
def test_if_nothing_the_strong_member_says_can_be_read_the_weak_majority_stands(strong: Any) -> None:
    said = {"cot": ["1", "2"], "pot": ["2", "4"], "strong": strong}
    verdict, _ = run(said, samples=2, threshold=0.9)
    assert (verdict.chosen, verdict.confidence) == (1, 0.5)
    assert verdict.reason.endswith("strong was asked, whose answer could not be read")
    nothing = {"cot": "", "pot": "", "strong": strong}
    assert run(nothing, samples=2)[0].chosen == 4  # then it is the strong member's own


def test_when_everybody_fails_the_error_names_each() -> None:
    down = BackendError("down")
    with pytest.raises(NoCandidate, match="cot: down; pot: down; strong: down"):
        run({"cot": down, "pot": down, "strong": down})


def programs(said: Mapping[str, Any], printed: Mapping[str, Run]) -> Any:
    """Completions by member, and what programs print by a word in them."""

    def answer(ask: Ask) -> Any:
        if ask.do == "run":
            return next(run for word, run in printed.items() if word in ask.args["code"])
        return texts(dict(said))(ask)

    return answer


def test_programs_count_as_what_they_print_and_the_answer_is_the_output() -> None:
    said = {"cot": ["20", "20"], "pot": ["ans = 9 + 9", "ans = 9 * 2"], "strong": "x = 3\nprint(18)"}
    printed = {"9 + 9": Run(True, "18\n"), "9 * 2": Run(True, "18\n"), "print(18)": Run(True, "18\n")}
    plan = MotCascade(samples=2, execute=True).plan(QUESTION, POOL, None, np.random.default_rng(0))
    verdict, yielded = drive(plan, programs(said, printed))
    assert [[getattr(a, "do", "") for a in items] for items in yielded] == [
        ["complete", "complete"],
        ["run", "run"],
        ["complete"],
        ["run"],
    ]
    assert (verdict.chosen, verdict.text, verdict.confidence) == (4, "18", 1.0)


def test_of_an_answer_that_was_also_written_out_the_text_is_kept() -> None:
    said = {"cot": ["So it is 18.", "So it is 18."], "pot": ["ans = 9 + 9", "ans = 9 - 9"], "strong": "17"}
    printed = {"9 + 9": Run(True, "18\n"), "9 - 9": Run(False, "", "boom")}
    plan = MotCascade(samples=2, execute=True).plan(QUESTION, POOL, None, np.random.default_rng(0))
    verdict, _ = drive(plan, programs(said, printed))
    assert (verdict.chosen, verdict.text, verdict.confidence) == (0, None, 0.75)


def test_a_program_is_a_fenced_block_or_python_that_does_something() -> None:
    def found(text: str, **facts: Any) -> str | None:
        return program_in(Completion(member="m", text=text, **facts))

    assert found("I think:\n```python\nprint(3)\n```") == "print(3)\n"
    assert found("```\nthis is not python\n```") == "this is not python\n"
    assert found("def f():\n    return 3\nans = f()") == "def f():\n    return 3\nans = f()\nprint(ans)"
    assert found("Paris") is None
    assert found("sorry (about that)") is None
    assert found("n = 3\nans = n", finish="length") is None


def test_verification_of_one_weak_member_is_refused_before_any_call() -> None:
    with pytest.raises(BadParameter, match="compares weak members"):
        MotCascade(rule="verify").prepare(SeatPool((seat("cot"), seat("strong"))))


def test_the_worst_case_counts_samples_and_programs() -> None:
    worst = MotCascade(samples=3, strong_samples=2, execute=True).worst(QUESTION.but(max_tokens=7), POOL)
    # each weak program may run twice: 2·3·2 + 2
    assert worst == {
        "cot": Load(3, 3, 21),
        "pot": Load(3, 3, 21),
        "strong": Load(2, 2, 14),
        "python": Load(14),
    }


def test_only_members_that_sample_must_offer_samples() -> None:
    method = MotCascade(samples=3)
    assert [method.needs_of(i, 3).samples for i in range(3)] == [True, True, False]
