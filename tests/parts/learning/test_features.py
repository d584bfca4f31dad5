"""Features of questions: what each kind says, that known and new questions meet in one space, and saving."""

from __future__ import annotations

import numpy as np
import pytest

from septet.core.state import pack, unpack
from septet.parts.learning.features import Featurizer, Kind, surface
from septet.parts.learning.rows import Rows, cosines, dense, joined, times

TEXTS = [
    "add two and two",
    "add five and one",
    "subtract two from nine",
    "who wrote Faust",
    "who wrote Hamlet",
    "who painted the Mona Lisa",
]
TASKS = ["sums"] * 3 + ["facts"] * 3


@pytest.mark.parametrize("kind", ["lsa", "tf-idf", "surface"])
def test_rows_have_length_one(kind: Kind) -> None:
    rows = dense(Featurizer.of(kind, TEXTS).rows(TEXTS))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0)


@pytest.mark.parametrize("kind", ["lsa", "tf-idf"])
def test_a_new_question_is_nearest_to_one_that_shares_its_words(kind: Kind) -> None:
    featurizer = Featurizer.of(kind, TEXTS)
    likeness = cosines(featurizer.rows(TEXTS), featurizer.rows(["who wrote Emma", "add two and one"]))
    assert (likeness[0].argmax() in (3, 4), likeness[1].argmax() in (0, 1)) == (True, True)


def test_a_task_is_its_own_axis_and_an_unknown_one_none() -> None:
    featurizer = Featurizer.of("task", TEXTS, TASKS)
    assert dense(featurizer.rows(["x"] * 3, ["facts", "sums", "new"])).tolist() == [[0, 1], [1, 0], [0, 0]]


@pytest.mark.parametrize("kind", ["lsa", "tf-idf"])
def test_a_text_without_known_words_is_a_row_of_zeros(kind: Kind) -> None:
    featurizer = Featurizer.of(kind, TEXTS)
    assert np.abs(dense(featurizer.rows(["…"]))).sum() == 0.0


def test_the_surface_counts_what_a_text_holds() -> None:
    # "12?" : 2 of 3 characters are digits, one is punctuation, and it asks
    signs = surface(["12?"])[0]
    assert signs[[0, 2, 5]] == pytest.approx([np.log(4), 2 / 3, 1 / 3])
    assert signs[9:].tolist() == [0, 1, 0, 0, 0]


@pytest.mark.parametrize("kind", ["lsa", "tf-idf", "surface", "task"])
def test_a_featurizer_survives_saving(kind: Kind) -> None:
    featurizer = Featurizer.of(kind, TEXTS, TASKS)
    again = unpack(Featurizer, *pack(featurizer))
    np.testing.assert_array_equal(dense(again.rows(TEXTS, TASKS)), dense(featurizer.rows(TEXTS, TASKS)))


def test_embeddings_come_from_a_role() -> None:
    with pytest.raises(ValueError, match="come from a role"):
        Featurizer.unused().rows(["x"])


def test_sparse_and_dense_rows_give_the_same_products() -> None:
    rng = np.random.default_rng(0)
    full = rng.normal(size=(600, 7)) * (rng.random((600, 7)) < 0.3)
    rows, w = Rows.of(full), rng.normal(size=(7, 2))
    np.testing.assert_allclose(times(rows, w), times(full, w))
    np.testing.assert_allclose(cosines(rows, rows[[5, 2]]), cosines(full, full[[5, 2]]))
    np.testing.assert_allclose(dense(joined(rows, rows[:3])), np.vstack([full, full[:3]]))
    for index in ([4, 4, 0], slice(10, 20), full[:, 0] != 0, np.array([], dtype=np.int64)):
        np.testing.assert_array_equal(rows[index].dense(), full[index])
