"""Final answers: the same answer in other words is the same string."""

from __future__ import annotations

import pytest

from septet.parts.answers.extract import (
    boxed,
    code_of,
    final_answer,
    has_final_answer,
    json_of,
    number,
    option_of,
)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("He pays 3 × 5 = 15 dollars. The answer is $15.00.", "15"),
        ("The final answer is: **1,234** apples", "1234"),
        ("First I thought answer: 7. Then, checking, Answer: 8", "8"),
        ("The answer is 42. So 41 was wrong.", "42"),
        ("so we get #### 12,000", "12000"),
        (r"hence \boxed{\frac{3}{4}}.", "3/4"),
        (r"first \boxed{1}, at last \boxed{x^{2}}", "x^{2}"),
        (r"so \(x = \boxed{\text{even}}\)", "even"),
        (r"\boxed{\left( 3, 4 \right)}", "( 3, 4 )"),
        ("The answer is: they have 7 cards together.", "7"),
        ("The answer is: 3 + 4 = 7 cards.", "7"),
        ("The answer is {27}.", "27"),
        ("The correct answer is (C) because it rains.", "C"),
        ("(B) the second one", "B"),
        ("D", "D"),
        ("A spider has 8 legs.", "8"),
        ("It is Paris.", "it is paris"),
        ("the answer is  St. Louis!", "st. louis"),
        ("-0.50", "-0.5"),
        ("", None),
        ("?!.", None),
    ],
)
def test_the_final_answer_is_written_one_way(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


def test_nothing_is_read_out_of_a_box_that_was_cut_off() -> None:
    assert boxed(r"hence \boxed{3}, or rather \boxed{4") is None


def test_numbers_lose_commas_and_trailing_zeros_but_not_their_size() -> None:
    assert [number(n) for n in ("1,000", "1000.0", "0.10", "0", "-7")] == ["1000", "1000", "0.1", "0", "-7"]


def test_reasoning_is_no_answer() -> None:
    assert final_answer("<think>The answer is 3? No.</think>The answer is 4.") == "4"


def test_reasoning_that_never_ended_leaves_no_answer() -> None:
    assert final_answer("<think>The answer is 3, or perhaps") is None


def test_an_answer_with_several_numbers_stays_a_sentence() -> None:
    assert final_answer("The answer is 5 January 1990.") == "5 january 1990"


@pytest.mark.parametrize(
    "text", ["so\nAnswer: 5", "**Answer:** 5", "#### 5", r"\boxed{5}", "Final answer: x"]
)
def test_an_announced_answer_is_recognised(text: str) -> None:
    assert has_final_answer(text)


@pytest.mark.parametrize("text", ["2 + 3 = 5", "Answer:", "The answer needs: care", "<think>Answer: 5"])
def test_a_step_without_an_announced_answer_is_not_the_end(text: str) -> None:
    assert not has_final_answer(text)


def test_code_is_the_last_fenced_block_or_all_of_the_text() -> None:
    assert code_of("First:\n```python\na\n```\nbetter:\n```py\nb = 1\n```\n") == "b = 1\n"
    assert code_of("print(1)") == "print(1)"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a": 1} then {"a": 2}', {"a": 2}),
        ('```json\n{"a": [1, {"b": 2}]}\n```', {"a": [1, {"b": 2}]}),
        ("the set {1, 2} and the list [3, 4]", [3, 4]),
        ('cut off: {"a": 1, "b": ', None),
        ("<think>[1]</think>nothing", None),
        ("[" * 100_000, None),
        ("no braces", None),
    ],
)
def test_the_last_whole_json_value_is_found(text: str, found: object) -> None:
    assert json_of(text) == found


def test_an_option_is_a_letter_among_those_there_are() -> None:
    said = ["(D) four", "The answer is D", "D", "Answer: 4", "dog"]
    assert [option_of(text, 4) for text in said] == ["D", "D", "D", None, None]
    assert [option_of(text, 3) for text in said] == [None] * 5
