"""Projections between vocabularies: the space, the neighbours, the matrix."""

from __future__ import annotations

import numpy as np
import pytest

from septet.core.errors import ConfigError
from septet.parts.decoding import projection
from septet.parts.decoding.projection import Projection, common_space, nearest, project_onto
from septet.parts.decoding.vocabulary import PackedVocab
from septet.testing.scripted import vocabulary


def unit(rows: object) -> np.ndarray:
    found = np.asarray(rows, dtype=np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


K8 = Projection.of([[(0, 0.9), (1, 0.3)], [(2, 0.8)]])  # x is like a and b, y like c


def test_k8_a_projection_adds_up_scores_by_probability() -> None:
    ids, mass = K8.project(np.array([0, 1]), np.array([0.6, 0.4]))
    assert ids.tolist() == [0, 1, 2]
    assert mass == pytest.approx([0.54, 0.18, 0.32])


def test_k8_rows_may_be_brought_to_sum_one() -> None:
    _, mass = K8.project(np.array([0, 1]), np.array([0.6, 0.4]), normalised=True)
    assert mass == pytest.approx([0.45, 0.15, 0.40])


def test_the_order_of_the_ids_does_not_matter_and_shared_targets_are_summed() -> None:
    rows = Projection.of([[(5, 1.0)], [], [(5, 0.5), (2, 0.25)]])
    ids, mass = rows.project(np.array([2, 1, 0]), np.array([0.4, 0.5, 0.1]))
    assert ids.tolist() == [2, 5]
    assert mass == pytest.approx([0.1, 0.3])  # .4·.25, and .4·.5 + .1·1; id 1 is like nothing


def test_ids_that_are_like_nothing_come_to_nothing() -> None:
    ids, mass = Projection.of([[], []]).project(np.array([0, 1]), np.array([0.5, 0.5]))
    assert ids.tolist() == mass.tolist() == []


# --- the space ------------------------------------------------------------------------------------------


def test_pairs_are_brought_together_whatever_the_rotation_and_the_width() -> None:
    rng = np.random.default_rng(0)
    z = unit(rng.standard_normal((60, 6)))
    rotation, _ = np.linalg.qr(rng.standard_normal((9, 9)))
    x = z @ rotation[:6].astype(np.float32)  # the same points, in six of nine dimensions, turned
    pairs = np.array([np.arange(40), np.arange(40)])
    one, other = common_space(x, z, pairs)
    assert one.shape == other.shape == (60, 6)
    assert (one * other).sum(axis=1) == pytest.approx(np.ones(60), abs=1e-3)  # also the twenty held out


def test_mapping_a_space_on_itself_keeps_its_distances_in_order() -> None:
    x = unit(np.random.default_rng(1).standard_normal((200, 4)))
    one, other = common_space(x, x, np.array([np.arange(200)] * 2))
    assert one == pytest.approx(other, abs=1e-5)
    assert np.corrcoef((x @ x.T).ravel(), (one @ one.T).ravel())[0, 1] > 0.99


# --- neighbours -----------------------------------------------------------------------------------------


def test_a_score_is_twice_the_cosine_less_how_near_the_target_s_nearest_is() -> None:
    # cosines: x0 (1, .6), x1 (.6, 1), x2 (.8, .96); the best of each target is 1 and 1
    x, z = unit([[1, 0], [3, 4], [4, 3]]), unit([[1, 0], [3, 4]])
    counts, near, scores = nearest(x, z, keep=2, threshold=-1.0)
    assert counts.tolist() == [2, 2, 2]
    assert near.tolist() == [0, 1, 1, 0, 1, 0]
    assert scores == pytest.approx([1.0, 0.2, 1.0, 0.2, 0.92, 0.6], abs=1e-6)


def test_scores_below_the_threshold_do_not_count() -> None:
    counts, near, _ = nearest(unit([[1, 0], [3, 4]]), unit([[1, 0], [3, 4]]), keep=2, threshold=0.21)
    assert counts.tolist() == [1, 1]
    assert near.tolist() == [0, 1]


@pytest.mark.parametrize(("n", "left"), [(6, 0), (5, 5)])
def test_more_than_five_equally_near_neighbours_say_nothing(n: int, left: int) -> None:
    x = unit([[1.0, 0.0]])
    counts, _, _ = nearest(x, np.repeat(x, n, axis=0), keep=10, threshold=0.1)
    assert counts.tolist() == [left]


def test_neighbours_whose_scores_differ_by_more_than_a_hundredth_stay() -> None:
    # x0 = the axis; targets at cosines 1, .99, .98, .97, .96, .95, each the nearest of x0 only: score = cosine
    cosines = np.array([1.0, 0.99, 0.98, 0.97, 0.96, 0.95])
    z = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1).astype(np.float32)
    counts, _, scores = nearest(unit([[1.0, 0.0]]), z, keep=10, threshold=0.1)
    assert counts.tolist() == [6]  # standard deviation .017
    assert scores == pytest.approx(cosines, abs=1e-5)


@pytest.mark.parametrize("sample", [1, 8, 2048])
@pytest.mark.parametrize("cells", [500, 1 << 20])
def test_what_is_left_out_before_the_maxima_are_known_changes_nothing(
    sample: int, cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projection, "SAMPLE", sample)
    monkeypatch.setattr(projection, "CELLS", cells)
    rng = np.random.default_rng(2)
    x, z = unit(rng.standard_normal((90, 5))), unit(rng.standard_normal((70, 5)))
    told: list[tuple[int, int]] = []
    counts, near, scores = nearest(x, z, keep=4, threshold=0.3, progress=lambda *at: told.append(at))
    cosines = x @ z.T
    whole = 2 * cosines - cosines.max(axis=0)
    start = 0
    for row, count in zip(whole, counts, strict=True):
        best = [j for j in np.argsort(-row, kind="stable")[:4] if row[j] >= 0.3]
        assert near[start : start + count].tolist() == best
        assert scores[start : start + count] == pytest.approx(row[best], abs=1e-6)
        start += count
    assert told[-1] == (90, 90)


# --- the matrix -----------------------------------------------------------------------------------------


def with_masked(pieces: list[bytes]) -> PackedVocab:
    """Two END ids, a masked row, then these."""
    return PackedVocab.of([b"", b"", b"", *pieces], end_ids=[0, 1], masked_ids=[2], tokenise=lambda _: [])


def test_equal_strings_find_each_other_and_end_is_end_alone() -> None:
    words = [bytes([65 + i]) for i in range(20)]
    source, target = with_masked(words[::-1]), vocabulary(words)
    rng = np.random.default_rng(3)
    rows = {w: rng.standard_normal(8) for w in words}
    of = np.stack([*rng.standard_normal((3, 8)), *(rows[w] for w in words[::-1])])
    onto = np.stack([rng.standard_normal(8), *(rows[w] for w in words)])
    made = project_onto((source, of), (target, onto), keep=3, threshold=0.5)
    for i, word in enumerate(words[::-1], 3):
        own = made.ids[made.starts[i] : made.starts[i + 1]]
        assert target.bytes_of(int(own[0])) == word
        assert b"" not in [target.bytes_of(int(j)) for j in own]
    ends, mass = made.project(np.array([0]), np.array([1.0]))
    assert (ends.tolist(), mass.tolist()) == ([0], [1.0])
    assert made.starts[3] == made.starts[1]  # the second END id and the masked row are like nothing


def test_one_vocabulary_is_its_own_projection() -> None:
    vocab = with_masked([b"a", b"b"])
    rows = np.eye(5)
    made = project_onto((vocab, rows), (vocab, rows), keep=10, threshold=0.1)
    ids, mass = made.project(np.array([0, 3, 4]), np.array([0.2, 0.5, 0.3]))
    assert (ids.tolist(), mass.tolist()) == ([0, 3, 4], [0.2, 0.5, 0.3])
    assert len(made.ids) == 3


def test_vocabularies_with_nothing_in_common_are_refused() -> None:
    with pytest.raises(ConfigError, match="share 0 strings"):
        project_onto((vocabulary([b"a"]), np.eye(2)), (vocabulary([b"b"]), np.eye(2)), keep=10, threshold=0.1)
