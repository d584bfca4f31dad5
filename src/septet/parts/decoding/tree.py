"""Tree search over reasoning steps: the nodes, equal steps merged, UCT selection, and three rules to back values up.

Statistics are arrays over nodes: `n` (nodes,) visits, `v` (nodes,) backed-up values; node 0 is the root.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from septet.core.types import Floats

Backup = Literal["optimistic", "max", "mean"]

OverSteps = Literal["last", "min", "product", "mean"]

Visits = NDArray[np.int64]

ROOT = 0


@dataclass(frozen=True, slots=True)
class Node:
    """A partial answer. `text` is all of it, root to here; `value` the verifier's rating of it in 0..1;
    `member` who wrote its last step; `ended`: it is a whole answer; `closed`: nothing may follow, be it
    whole, too deep or too long; `depth` in steps; `n_tokens` as its writers count them; `authors`: all who
    wrote that last step, where equal steps were merged."""

    parent: int
    text: str
    value: float
    member: int
    ended: bool = False
    closed: bool = False
    depth: int = 0
    n_tokens: int = 0
    authors: tuple[int, ...] = ()


@dataclass(frozen=True)
class Tree:
    """Nodes in the order they were made, and the members that failed, each with its error."""

    nodes: tuple[Node, ...] = (Node(-1, "", 0.0, -1),)
    failed: Mapping[int, str] = field(default_factory=dict)

    def children(self, node: int) -> list[int]:
        """The children of a node, oldest first."""
        return [i for i, other in enumerate(self.nodes) if other.parent == node]

    def path(self, node: int) -> list[int]:
        """The nodes from the root to this one, the root left out."""
        found = []
        while node != ROOT:
            found.append(node)
            node = self.nodes[node].parent
        return found[::-1]

    def step(self, node: int) -> str:
        """What a node adds to the text of its parent."""
        return self.nodes[node].text[len(self.nodes[self.nodes[node].parent].text) :]


def merged(nodes: Iterable[Node]) -> list[Node]:
    """Equal steps after one node as one node with all their authors, sorted by parent and text.

    Whole answers are equal, too, where only the newline at the end differs. A step that was cut off is no
    whole line, so it is not the line that reads the same.

    >>> [(n.text, n.authors) for n in merged([Node(0, "b", .0, 1, authors=(1,)), Node(0, "a", .0, 1, authors=(1,)),
    ...                                       Node(0, "b", .0, 0, authors=(0,))])]
    [('a', (1,)), ('b', (0, 1))]
    """
    found = dict[tuple[int, str, bool, bool], Node]()
    for node in sorted(nodes, key=lambda n: (n.parent, n.text, n.n_tokens)):
        text = node.text.rstrip("\n") if node.ended else node.text
        key = (node.parent, text, node.ended, node.closed)
        first = found.setdefault(key, node)
        authors = tuple(sorted({*first.authors, *node.authors}))
        found[key] = replace(first, authors=authors, member=authors[0] if authors else first.member)
    return list(found.values())


@dataclass(frozen=True)
class Statistics:
    """What a search knows about each node: visits `n` and backed-up values `v`, both (nodes,)."""

    n: Visits = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
    v: Floats = field(default_factory=lambda: np.zeros(1))


def uct(v: Floats, n: Visits, n_parent: int, exploration: float) -> Floats:
    """v + C·sqrt(ln N_parent / N), the upper confidence bound of each child, (children,).

    >>> uct(np.array([.65, .6]), np.array([2, 3]), 5, .5).round(3).tolist()
    [1.099, 0.966]
    """
    return v + exploration * np.sqrt(np.log(n_parent) / n)  # type: ignore[no-any-return]


def backed_up(
    parents: Sequence[int], statistics: Statistics, new: int, value: float, rule: Backup
) -> Statistics:
    """The statistics after node `new` got `value`; every ancestor is visited once more.

    optimistic (2412.15797, eq. 4): v ← ((N − 1)·v + max over children v) / N, so that a bad step does not
    pull down an ancestor that has a better child. max: v ← max over children v. mean: v ← ((N − 1)·v + value) / N.
    """
    missing = len(parents) - len(statistics.n)
    n = np.concatenate([statistics.n, np.zeros(missing, dtype=np.int64)])
    v = np.concatenate([statistics.v, np.zeros(missing)])
    n[new], v[new] = 1, value
    node = parents[new]
    while node >= 0:
        # a sibling that was made in the same round, but is not backed up yet, has no value
        best = max(v[i] for i, parent in enumerate(parents) if parent == node and n[i])
        n[node] += 1
        if rule == "max":
            v[node] = best
        else:
            v[node] += ((value if rule == "mean" else best) - v[node]) / n[node]
        node = parents[node]
    return Statistics(n, v)


def over_steps(values: Floats, rule: OverSteps) -> float:
    """One value in 0..1 for a path from those of its steps (n_steps,), at least one.

    >>> steps = np.array([.5, .8, .5])
    >>> [round(over_steps(steps, rule), 3) for rule in ("last", "min", "product", "mean")]
    [0.5, 0.5, 0.2, 0.6]
    """
    if rule == "last":
        return float(values[-1])
    if rule == "min":
        return float(values.min())
    return float(values.prod() if rule == "product" else values.mean())
