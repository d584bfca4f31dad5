"""Tree search by hand: case K22 of the check list. Root N = 4, v = .5; c1 (N = 1, v = .4), c2 (N = 3, v = .6);
node 3 is new, below c1."""

from __future__ import annotations

import numpy as np
import pytest

from septet.parts.decoding.tree import (
    Backup,
    Node,
    OverSteps,
    Statistics,
    Tree,
    backed_up,
    merged,
    over_steps,
    uct,
)

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


def node(text: str, member: int, parent: int = 0, **facts: bool) -> Node:
    return Node(parent, text, 0.0, member, authors=(member,), **facts)


def test_equal_steps_after_one_node_are_one_node_with_all_its_authors() -> None:
    found = merged([node("b\n", 2), node("a\n", 1), node("b\n", 0), node("b\n", 0)])
    assert [(n.text, n.member, n.authors) for n in found] == [("a\n", 1, (1,)), ("b\n", 0, (0, 2))]


def test_the_order_of_merged_nodes_does_not_depend_on_who_wrote_first() -> None:
    nodes = [node("b\n", 2), node("a\n", 1, 1), node("a\n", 1), node("b\n", 0)]
    assert merged(nodes) == merged(nodes[::-1])


def test_the_same_step_after_other_nodes_is_another_node() -> None:
    assert len(merged([node("b\n", 2), node("b\n", 0, 1)])) == 2


def test_whole_answers_are_equal_where_only_the_last_newline_differs_but_open_lines_are_not() -> None:
    whole = {"ended": True, "closed": True}
    assert [n.authors for n in merged([node("x\n", 0, **whole), node("x", 1, **whole)])] == [(0, 1)]
    assert len(merged([node("x\n", 0), node("x", 1)])) == 2  # the second was cut off, and goes on in its line
    assert len(merged([node("x\n", 0), node("x", 1, **whole)])) == 2


@pytest.mark.parametrize(
    ("rule", "value"), [("last", 0.4), ("min", 0.2), ("product", 0.064), ("mean", 1.4 / 3)]
)
def test_the_steps_of_a_path_make_one_value(rule: OverSteps, value: float) -> None:
    assert over_steps(np.array([0.8, 0.2, 0.4]), rule) == pytest.approx(value)
