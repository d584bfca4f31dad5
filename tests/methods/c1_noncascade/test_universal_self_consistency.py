"""Universal self-consistency by hand: what a judge names, what it fails to name, and what is shown to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from septet.core.errors import BackendError
from septet.core.method import SeatPool
from septet.core.types import Completion, Query, Verdict
from septet.methods.c1_noncascade.universal_self_consistency import UniversalSelfConsistency
from septet.parts.answers.choice import named
from septet.testing.contract import check_method
from septet.testing.scripted import drive, seat

MEMBERS = (seat("ada"), seat("bob"), seat("cyd"))
POOL = SeatPool(MEMBERS, {"judge": (seat("eve"),)})
SAID = {"ada": "the cat sat down", "bob": "a cat sat", "cyd": "dogs ran off"}


def decided(said: dict[str, Any], pool: SeatPool = POOL, **parameters: Any) -> tuple[Verdict, Any]:
    method = UniversalSelfConsistency(**{"samples": 1, **parameters})
    return drive(method.plan(Query.of("What?", stop=(".",)), pool, None, np.random.default_rng(0)), said)


@pytest.mark.parametrize(
    ("said", "index"),
    [
        ("Response 2", 1), ("Answer 3", 2), ("**Answer 1**", 0), ("[answer 2 0af3]", 1), ("2", 1), (" (3). ", 2),
        ("The most consistent response is Response 2.", 1), ("Answer 2 agrees with answer 3.", 1),
        ("<think>Answer 1? No.</think>Answer 2", 1), ("answer number 2", 1),
        ("Either answer 1 or answer 2.", None), ("Answer 4", None), ("Answer 0", None), ("", None),
        ("It is all nonsense.", None), ("99999999999999999999", None), ("I have 3 remarks.", None),
    ],
)  # fmt: skip
def test_an_index_is_read_and_never_guessed(said: str, index: int | None) -> None:
    assert named(said, 3) == index


def test_the_answer_that_the_judge_names_is_chosen_after_one_more_call() -> None:
    verdict, yielded = decided({**SAID, "eve": "Response 2"})
    assert verdict.chosen == 1 and verdict.confidence is None
    assert [len(items) for items in yielded] == [3, 1]
    asked = yielded[1][0].args["query"]
    assert all(text in asked.text for text in SAID.values())
    assert (asked.temperature, asked.max_tokens, asked.stop) == (0.0, 32, ())


def test_a_judge_that_names_none_leaves_it_to_likeness_of_words() -> None:
    # F1 without articles: ada–bob 2·2/(3+2) = .8, cyd shares nothing; means .4, .4, 0, and the first of the two wins
    verdict, _ = decided({**SAID, "eve": "They are all fine."})
    assert verdict.chosen == 0
    assert verdict.reason == "0 of 1 judge for one answer, so mbr decides: answer 1 of 3"
    verdict, _ = decided({"ada": "7", "bob": "It is 5", "cyd": "5", "eve": "?"}, fallback="plurality")
    assert verdict.chosen == 1


def test_a_judge_that_is_down_is_named_and_the_fallback_decides() -> None:
    verdict, _ = decided({**SAID, "eve": BackendError("eve is down")})
    assert verdict.chosen == 0
    assert verdict.reason.endswith("; failed judges: eve is down")


def test_members_that_judge_vote_and_those_who_name_none_have_no_vote() -> None:
    pool = SeatPool(MEMBERS, {"judge": (seat("x"), seat("y"), seat("z"), seat("w"))})
    verdict, _ = decided({**SAID, "x": "Answer 3", "y": "Answer 1", "z": "Answer 3", "w": "no"}, pool)
    assert verdict.chosen == 2 and verdict.confidence == pytest.approx(2 / 3)
    assert verdict.reason == "2 of 4 judges for answer 3 of 3"


def test_cut_off_answers_are_not_shown_and_one_text_is_not_judged() -> None:
    cut = Completion(member="ada", text="secret", finish="length")
    verdict, yielded = decided({**SAID, "ada": cut, "eve": "Answer 2"})
    assert verdict.chosen == 2  # the second of those shown
    assert "secret" not in yielded[1][0].args["query"].text
    verdict, yielded = decided({"ada": "yes", "bob": "yes", "cyd": ""})
    assert verdict.chosen == 0 and len(yielded) == 1


def test_the_worst_case_counts_every_judge() -> None:
    loads = UniversalSelfConsistency(samples=4).worst(Query.of("?", max_tokens=10), POOL)
    assert {n: (v.calls, v.tokens) for n, v in loads.items()} == {
        "ada": (4, 40), "bob": (4, 40), "cyd": (4, 40), "eve": (1, 32),
    }  # fmt: skip


@pytest.mark.parametrize("check", check_method(UniversalSelfConsistency), ids=str)
def test_universal_self_consistency_keeps_the_contract(check: Any, tmp_path: Any) -> None:
    check(tmp_path)
