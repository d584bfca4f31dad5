"""Tree search by hand: case K22 of the check list. Root N = 4, v = .5; c1 (N = 1, v = .4), c2 (N = 3, v = .6);
node 3 is new, below c1."""

from __future__ import annotations

import numpy as np
import pytest

from septet.parts.decoding.tree import Backup, Node, Statistics, Tree, backed_up, uct

PARENTS = [-1, 0, 0, 1]


def before() -> Statistics:
    return Statistics(np.array([4, 1, 3]), np.array([0.5, 0.4, 0.6]))


@pytest.mark.parametrize(
    ("rule", "value", "c1", "root"),
    [
        ("optimistic", 0.9, 0.65, 0.53),  # (1·.4 + .9)/2; (4·.5 + max(.65, .6))/5
        ("optimistic", 0.1, 0.25, 0.52),  # (1·.4 + .1)/2; (4·.5 + max(.25, .6))/5
        ("max", 0.9, 0.9, 0.9),
        ("max", 0.1, 0.1, 0.6),
        ("mean", 0.9, 0.65, 0.58),  # (4·.5 + .9)/5
        ("mean", 0.1, 0.25, 0.42),
    ],
)
def test_k22_a_new_grandchild_is_backed_up(rule: Backup, value: float, c1: float, root: float) -> None:
    after = backed_up(PARENTS, before(), 3, value, rule)
    np.testing.assert_allclose(after.v, [root, c1, 0.6, value])
    np.testing.assert_array_equal(after.n, [5, 2, 3, 1])


def test_k22_uct_prefers_the_less_visited_child() -> None:
    bounds = uct(np.array([0.65, 0.6]), np.array([2, 3]), 5, 0.5)
    np.testing.assert_allclose(bounds, [1.099, 0.966], atol=5e-4)


def test_backing_up_leaves_the_old_statistics_as_they_were() -> None:
    statistics = before()
    backed_up(PARENTS, statistics, 3, 0.9, "optimistic")
    np.testing.assert_array_equal(statistics.n, [4, 1, 3])
    np.testing.assert_array_equal(statistics.v, [0.5, 0.4, 0.6])


def test_a_sibling_without_a_value_yet_is_no_best_child() -> None:
    # nodes 1 and 2 were made together; 1 is backed up first, with a value below 0
    after = backed_up([-1, 0, 0], Statistics(), 1, -0.5, "max")
    assert after.v[0] == -0.5


def test_a_path_goes_from_below_the_root_to_the_node() -> None:
    nodes = (Node(-1, "", 0, -1), Node(0, "a", 0, 0), Node(0, "b", 0, 1), Node(1, "ac", 0, 1))
    tree = Tree(nodes)
    assert (tree.path(3), tree.path(0), tree.children(0)) == ([1, 3], [], [1, 2])
