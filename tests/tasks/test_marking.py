"""What counts as the answer in a text, and when it is right; every case was judged by hand."""

from __future__ import annotations

import pytest

from septet.tasks.marking import Mark, chosen, mark, words

TOOLS = ["a magnetic compass", "a meter stick", "a calculator", "a stop watch"]


@pytest.mark.parametrize(
    ("text", "answer", "score"),
    [
        ("18", "18", 1.0),
        ("She sells 9 eggs for 2 dollars each.\nAnswer: $18.00", "18", 1.0),
        ("#### 18", "18", 1.0),
        ("Answer: so she makes 18 dollars a day", "18", 1.0),
        ("The answer is 17, not 18.", "18", 1.0),  # the last number of the sentence that gives the answer
        ("Answer: 36/2", "36/2", 1.0),
        ("Answer: 1/0", "1/0", 0.0),
        ("<think>18?</think>\nAnswer: 19", "19", 0.0),
        ("I cannot tell.", None, 0.0),
    ],
)
def test_a_number_is_right_when_it_is_equal_as_a_number(text: str, answer: str | None, score: float) -> None:
    assert mark("number", "number", text, ["18"]) == Mark(answer, score)


def test_thousands_separators_and_signs_belong_to_the_number() -> None:
    assert mark("number", "number", "It comes to 70,000.", ["70000"]).score == 1.0
    assert mark("number", "number", "Answer: -3", ["3"]).score == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "B",
        "b)",
        "(B) a meter stick",
        "B. a meter stick",
        "The answer is B.",
        "Answer: b",
        "I would say option B fits best",
        "a meter stick",
        "A meter stick",  # its first letter is an article, not the choice A
        "You would use a meter stick for that.",
        "The best tool is (b).",
        "The correct letter is B.",
        'The letter "B" is the correct answer.',
    ],
)
def test_a_choice_counts_by_its_letter_and_by_its_words(text: str) -> None:
    assert chosen(text, TOOLS) == "B"


@pytest.mark.parametrize(
    "text", ["", "E", "none of these", "a calculator or a stop watch", "either (a) or (b)", "I think so."]
)
def test_no_choice_or_several_or_one_that_is_not_there_is_no_answer(text: str) -> None:
    assert chosen(text, TOOLS) is None
    assert mark("choice", "choice", text, ["B"], choices=TOOLS) == Mark(None, 0.0)


def test_a_single_letter_is_a_choice_before_it_is_the_words_of_one() -> None:
    assert chosen("Answer: B", ["b", "c"]) == "B"


def test_words_that_two_choices_share_name_neither() -> None:
    assert chosen("-i", ["i", "-i", "1"]) is None


def test_a_truncated_text_is_not_read_as_if_it_were_whole() -> None:
    cut = "16 - 7 = 9 eggs, and 9 * 2 = 18"
    assert mark("number", "number", cut, ["18"]).score == 1.0
    assert mark("number", "number", cut, ["18"], finish="length") == Mark(None, 0.0)


def test_what_a_truncated_text_had_announced_in_a_complete_line_still_counts() -> None:
    assert mark("number", "number", "Answer: 18\nAnd next", ["18"], finish="length") == Mark("18", 1.0)
    assert mark("number", "number", "so\nAnswer: 18", ["18"], finish="length") == Mark(None, 0.0)


def test_a_closed_off_letter_counts_even_where_its_explanation_is_cut() -> None:
    assert mark("choice", "choice", "B. a meter st", ["B"], choices=TOOLS, finish="length") == Mark("B", 1.0)
    assert mark("choice", "choice", "A meter st", ["B"], choices=TOOLS, finish="length") == Mark(None, 0.0)
    assert mark("choice", "choice", "F. a meter st", ["B"], choices=TOOLS, finish="length") == Mark(None, 0.0)


def test_exact_forgives_case_and_punctuation_but_not_other_words() -> None:
    assert mark("text", "exact", "neff, nicodemus, sortie.", ["neff nicodemus sortie"]).score == 1.0
    assert mark("text", "exact", "Answer: **False**", ["False"]).score == 1.0
    assert mark("text", "exact", "the neff nicodemus sortie", ["neff nicodemus sortie"]).score == 0.0


def test_short_takes_any_alias_and_forgives_articles() -> None:
    aliases = ["Common ash", "Ash tree"]
    assert mark("text", "short", "The ash tree.", aliases).score == 1.0
    assert mark("text", "short", "An oak tree.", aliases).score == 0.0


def test_a_point_inside_a_number_is_not_punctuation() -> None:
    assert words("2.64 × 10 meters, (roughly)!") == "2.64 10 meters roughly"


def test_a_translation_is_graded_by_the_character_n_grams_of_its_best_reference() -> None:
    whole = mark("text", "chrf", "The cat sat.", ["A dog ran.", "The cat sat."])
    assert whole == Mark("The cat sat.", 1.0)
    # cut off, it still has the n-grams that it has
    half = mark("text", "chrf", "The cat", ["The cat sat."], finish="length")
    assert 0.3 < half.score < 0.9
    assert mark("text", "chrf", "", ["The cat sat."]) == Mark(None, 0.0)
