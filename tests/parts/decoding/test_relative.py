"""Anchors, relative representations and the search back, on numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from septet.core.errors import ConfigError
from septet.parts.decoding.relative import Relative, anchors_of, search
from septet.testing.scripted import vocabulary


def softmax(z: np.ndarray) -> np.ndarray:
    p = np.exp(z - z.max())
    return p / p.sum()


@pytest.mark.parametrize(
    ("rate", "path"),
    [(0.15, (0.5262, 0.4553, 0.3962, 0.3544, 0.3304)), (0.05, (0.5757, 0.5517, 0.5290, 0.5085, 0.4910))],
)
def test_k7_each_step_of_the_search_is_adam_s(rate: float, path: tuple[float, ...]) -> None:
    # two anchors that are the two tokens, p = (.6, .4), target (.4, .6)
    for steps, expected in enumerate(path, 1):
        z = search(np.log([0.6, 0.4]), np.eye(2), np.array([0.4, 0.6]), rate=rate, steps=steps)
        assert round(float(softmax(z)[0]), 4) == expected


def test_k2_where_nothing_has_to_move_nothing_does() -> None:
    # one step of weight decay would shrink the logits by .15 %, and Adam then move each by up to .15 to undo it
    p, r = np.array([0.5, 0.3, 0.2]), np.array([[0.7, 0.3], [0.4, 0.6], [0.1, 0.9]])
    z = search(np.log(p), r, p @ r, rate=0.15, steps=5)
    assert z.tolist() == np.log(p).tolist()


def test_an_anchor_that_the_target_lacks_pulls_nothing_to_it() -> None:
    z = search(np.log([0.5, 0.5]), np.eye(2), np.array([1.0, 0.0]), rate=0.1, steps=1)
    assert z[0] > z[1]
    assert np.isfinite(z).all()


def test_an_anchor_that_no_token_comes_near_is_left_alone() -> None:
    r = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    z = search(np.log([0.5, 0.5]), r, np.array([0.1, 0.3, 0.6]), rate=0.1, steps=5)
    assert z[1] > z[0]  # of what it can reach, the target wants more of the second
    assert np.isfinite(z).all()


def test_the_search_does_not_change_what_it_is_given() -> None:
    logits, target = np.log([0.6, 0.4]), np.array([0.4, 0.6])
    search(logits, np.eye(2), target, rate=0.15, steps=5)
    assert logits == pytest.approx(np.log([0.6, 0.4]))


def test_anchors_are_the_strings_of_all_by_the_ids_of_all() -> None:
    one, two, three = (
        vocabulary(list(p)) for p in ([b"a", b"b", b"c"], [b"c", b"b", b"a"], [b"b", b"c", b"d"])
    )
    # END, b and c are shared; b has the ids 2, 2, 1 (ranks 1, 2, 1), c has 3, 1, 2 (ranks 2, 1, 2)
    ids = anchors_of([one, two, three], 3)
    assert [[v.bytes_of(int(i)) for i in own] for v, own in zip((one, two, three), ids, strict=True)] == [
        [b"", b"b", b"c"]
    ] * 3
    assert [own.tolist() for own in anchors_of([one, two, three], 2)] == [[0, 2], [0, 2], [0, 1]]


def test_vocabularies_with_nothing_in_common_are_refused() -> None:
    with pytest.raises(ConfigError, match="share 1 strings"):  # END alone
        anchors_of([vocabulary([b"a"]), vocabulary([b"b"])], 8)


def test_rows_are_the_softmax_of_a_hundred_cosines() -> None:
    embeddings = np.array([[2.0, 0.0], [0.0, 5.0], [3.0, 4.0], [0.0, 0.0]], dtype=np.float32)
    made = Relative.of(embeddings, np.array([0, 1], dtype=np.int32))
    raw = made.represent(np.array([0, 2, 3], dtype=np.int32), normalised=False)
    # the cosines of (3, 4) with both axes are .6 and .8: e^60 / (e^60 + e^80) = e^-20
    assert raw[0] == pytest.approx([1.0, 0.0], abs=1e-6)
    assert raw[1] == pytest.approx(
        [np.exp(-20), 1.0], rel=0.1
    )  # .6 and .8 in float16: off by 10⁻⁴, times 100
    assert raw[2] == pytest.approx([0.5, 0.5])  # a row without direction is like all anchors


def test_rows_of_length_one_are_less_sharp_the_more_anchors_a_token_is_like() -> None:
    # a token with the cosine 1 to one anchor and .5 to three others: length √1.75, so 100·(1 − .5)/√1.75 = 37.8
    half = np.sqrt(0.75)
    anchors = np.array(
        [[1, 0, 0, 0], [0.5, half, 0, 0], [0.5, 0, half, 0], [0.5, 0, 0, half]], dtype=np.float32
    )
    made = Relative.of(anchors, np.arange(4, dtype=np.int32))
    row = made.represent(np.array([0], dtype=np.int32), normalised=True)[0]
    assert np.log(row[0] / row[1]) == pytest.approx(100 * 0.5 / np.sqrt(1.75), abs=0.02)
    assert row.sum() == pytest.approx(1.0)
