"""How a token is drawn and where an answer stops, on rows and strings worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from septet.backends._writing import Ends, draw, new_decoder, whole_characters
from septet.core.session import Sampler
from septet.parts.decoding.topk import Row, read_row


def row(*p: float) -> Row:
    with np.errstate(divide="ignore"):
        logits = np.log(np.array(p, dtype=np.float32))
    return read_row(logits, end_ids=(0,), masked_ids=np.array([], dtype=np.int32))


def shares(of: Row, temperature: float, top_p: float = 1.0, n: int = 2000) -> list[float]:
    drawn = [draw(of, Sampler(temperature, top_p, (7,)), place) for place in range(n)]
    return (np.bincount(drawn, minlength=len(of.logits)) / n).tolist()


def test_greedy_takes_the_best_and_the_lowest_of_equals() -> None:
    assert draw(row(0.2, 0.4, 0.4), Sampler(), 0) == 1


def test_draws_follow_the_distribution() -> None:
    # A share of 2,000 draws has a standard deviation of at most .0112; the bound is four of them.
    assert shares(row(0.1, 0.6, 0.0, 0.3), 1.0) == pytest.approx([0.1, 0.6, 0.0, 0.3], abs=0.045)


def test_temperature_raises_probabilities_to_its_inverse() -> None:
    # p² of (.2, .8) is (.04, .64), that is 1/17 and 16/17.
    assert shares(row(0.2, 0.8), 0.5) == pytest.approx([1 / 17, 16 / 17], abs=0.045)


def test_top_p_keeps_the_fewest_best_tokens_that_reach_it() -> None:
    # .5 + .3 reaches .7, so the rest is cut and 5 : 3 remains.
    assert shares(row(0.15, 0.5, 0.05, 0.3), 1.0, 0.7) == pytest.approx([0, 0.625, 0, 0.375], abs=0.045)
    assert shares(row(0.15, 0.5, 0.05, 0.3), 1.0, 0.0, n=50) == [0, 1, 0, 0]


def test_top_p_is_exact_where_it_keeps_thousands_of_tokens() -> None:
    flat = row(*[1 / 3000] * 3000)
    drawn = {draw(flat, Sampler(1.0, 0.5, (1,)), place) for place in range(800)}
    # The half that is kept are the lowest ids; the highest of 800 draws of 1,500 falls short by about two.
    assert max(drawn) == pytest.approx(1500, abs=20)


def test_a_draw_depends_on_its_seed_and_its_place_only() -> None:
    flat = row(*[0.01] * 100)
    first = [draw(flat, Sampler(1.0, seed=(1, 2)), place) for place in range(20)]
    assert [draw(flat, Sampler(1.0, seed=(1, 2)), place) for place in reversed(range(20))] == first[::-1]
    assert [draw(flat, Sampler(1.0, seed=(1, 3)), place) for place in range(20)] != first


def test_the_string_that_is_complete_first_ends_the_answer() -> None:
    ends = Ends(stop=(b"xyz", b"y"), until=(b"\n",))
    for text, cut in ((b"ab\nxyz", 3), (b"abxyz\n", 3), (b"axy", 2)):
        hit = ends.hit(text, 0)
        assert hit is not None
        assert hit.cut == cut
    assert ends.hit(b"abxz", 0) is None


def test_of_strings_that_end_together_the_longest_wins() -> None:
    hit = Ends(stop=(b"b", b"ab")).hit(b"ab", 0)
    assert hit is not None
    assert hit.cut == 0


def test_a_string_that_began_before_the_new_bytes_is_found() -> None:
    hit = Ends(stop=(b"stop",)).hit(b"a stop", 5)
    assert hit is not None
    assert hit.cut == 2


@pytest.mark.parametrize(("text", "held"), [(b"end\n", 1), (b"end\n\n", 2), (b"end", 0), (b"\nQ", 2)])
def test_the_longest_beginning_of_a_stop_string_is_held(text: bytes, held: int) -> None:
    assert Ends(stop=(b"\nQuestion:", b"\n\nQ"), until=(b"d",)).held(text) == held


def test_an_unfinished_character_waits_and_a_wrong_byte_is_marked() -> None:
    decoder = new_decoder()
    assert [whole_characters(part, decoder) for part in (b"n\xc3", b"\xa9", b"\xff!")] == [
        "n",
        "é",
        "\ufffd!",
    ]
    assert whole_characters(b"n\xc3") == "n"
