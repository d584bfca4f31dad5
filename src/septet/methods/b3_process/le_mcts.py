"""LE-MCTS: tree search over reasoning steps, where each step is written by a member drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np

from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Card, Rng, SeatPool, method, param
from septet.core.types import Floats, Query, Verdict
from septet.methods.b3_process._family import Growth, ProcessMethod
from septet.methods.b3_process._verify import Verify
from septet.parts.decoding.tree import ROOT, Backup, Statistics, Tree, backed_up, uct

CARD = Card(
    paper="2412.15797",
    title="Ensembling Large Language Models with Process Reward-Guided Tree Search for Better Complex Reasoning",
    facets=Facets(
        family=Family.PROCESS,
        strategy=Strategy.SELECTION,
        granularity=Granularity.STEP,
        goal=Goal.PERFORMANCE,
        supervised=False,
    ),
    differs=(
        "a node gets `width` children before the search descends below it; read literally, the paper's"
        " selection leads to a chain",
        "finished branches are not visited again, so no iteration is spent on them; the threshold that prunes"
        " weak children is left out",
        "the verifier may be a process reward model as in the paper, a model asked for a grade, one's mean"
        " log-probability, or the mean perplexity of several",
        "the same step by two members is two children, since an action is a member's",
        "an empty line is no step; its writer is asked again",
        "`max` and `mean` are for comparison; `optimistic` is the paper's rule",
    ),
)


@dataclass(frozen=True)
class Search:
    """How far a search has come: members' indices `by_name`, children per node, iterations done, statistics."""

    by_name: tuple[int, ...]
    width: int
    done: int = 0
    statistics: Statistics = field(default_factory=Statistics)


@method(CARD)
class LeMcts(ProcessMethod):
    """Process-level Monte Carlo tree search (2412.15797, section 3).

    A node is an answer so far, an action "member m writes the next line". Per iteration: descend from the
    root by argmax v + C·sqrt(ln N_parent / N) over children (children,) until a node lacks children; draw a
    member uniformly; rate the new path in 0..1; back it up, N ← N + 1 and v ← ((N − 1)·v + max over children
    v) / N for every ancestor. The answer is the whole path that was rated best, else the best leaf.
    Cost: `iterations` steps and as many ratings; what repeats of a prefix costs depends on the backend's cache.
    Fails where the verifier cannot tell right from wrong steps: the search then picks at random.

    >>> from septet.core.types import Completion
    >>> from septet.testing.scripted import drive, seat
    >>> pool = SeatPool((seat("ada"), seat("bob")), {"verifier": (seat("judge"),)})
    >>> says = {"ada": "2 + 3 = 5. Answer: 5", "bob": "2 + 3 = 6. Answer: 6"}
    >>> def answers(ask):
    ...     if ask.to.name in says:
    ...         return [Completion(member=ask.to.name, text=says[ask.to.name])]
    ...     return [Completion(member="judge", text="Grade: 9" if "= 5" in ask.args["query"].text else "Grade: 2")]
    >>> plan = LeMcts(iterations=6).plan(Query.of("2 + 3?"), pool, None, np.random.default_rng(1))
    >>> drive(plan, answers)[0].text
    '2 + 3 = 5. Answer: 5'
    """

    exploration: Annotated[
        float, param("C of UCT: about 0.5 for hard questions, 1 or more for easy ones.", ge=0, le=10)
    ] = 0.5
    iterations: Annotated[int, param("Steps that are written and rated.", ge=1, le=500)] = 20
    width: Annotated[int, param("Children of a node; 0: as many as there are members.", ge=0, le=50)] = 0
    depth: Annotated[int, param("Steps of an answer at most.", ge=1, le=100)] = 8
    backup: Annotated[
        Backup,
        param("What an ancestor learns: its best child's value on average, that value itself, or the mean."),
    ] = "optimistic"
    temperature: Annotated[float, param("Temperature of the steps.", ge=0, le=2)] = 0.7
    step_tokens: Annotated[int, param("Tokens of a step at most.", ge=1, le=4096)] = 128
    verify: Annotated[
        Verify,
        param(
            "A step's value: the first column of a reward model, a grade that a model is asked for, the geometric"
            " mean of its tokens' probabilities, or one over the mean of the verifiers' perplexities."
        ),
    ] = "graded"

    def start(self, query: Query, pool: SeatPool, prepared: Any, state: Any) -> Search:
        members = range(len(pool.members))
        return Search(tuple(sorted(members, key=lambda i: pool.names[i])), self.width or len(members))

    def grow(self, tree: Tree, s: Search, rng: Rng) -> list[Growth]:
        # by name, so that the draw does not depend on the members' order
        live = [i for i in s.by_name if i not in tree.failed]
        node = selected(tree, s, self.exploration)
        if s.done >= self.iterations or node is None or not live:
            return []
        return [Growth(node, live[int(rng.integers(len(live)))])]

    def absorb(self, tree: Tree, new: Sequence[int], values: Floats, s: Search) -> Search:
        parents, statistics, rule = [node.parent for node in tree.nodes], s.statistics, self.backup
        for node, value in zip(new, values, strict=True):
            statistics = backed_up(parents, statistics, node, float(value), rule)
        return replace(s, done=s.done + 1, statistics=statistics)

    def answer(self, tree: Tree, s: Search) -> Verdict:
        steps = range(1, len(tree.nodes))
        whole = [i for i in steps if tree.nodes[i].ended]
        leaves = [i for i in steps if not tree.children(i)]
        best = max(whole or leaves, key=lambda i: (bool(tree.nodes[i].text.strip()), tree.nodes[i].value, -i))
        path = [tree.nodes[i].member for i in tree.path(best)]
        value = tree.nodes[best].value
        return Verdict(
            text=tree.nodes[best].text.strip("\n"),
            weights=np.bincount(path, minlength=len(s.by_name)) / len(path),
            confidence=value,
            reason=f"{s.done} steps tried, {len(whole)} whole answers; the best is rated {value:.3f} and has"
            f" {len(path)} steps",
            finish="stop" if whole else "length",
        )


def selected(tree: Tree, s: Search, exploration: float) -> int | None:
    """The node that is expanded next; None: every branch is closed."""
    children = [tree.children(i) for i in range(len(tree.nodes))]
    lacks = [not n.closed and len(c) < s.width for n, c in zip(tree.nodes, children, strict=True)]
    alive = list(lacks)
    for i in reversed(range(1, len(tree.nodes))):
        alive[tree.nodes[i].parent] |= alive[i]
    node = ROOT
    while alive[node] and not lacks[node]:
        below = [i for i in children[node] if alive[i]]
        n, v = s.statistics.n, s.statistics.v
        node = below[int(uct(v[below], n[below], int(n[node]), exploration).argmax())]
    return node if alive[node] else None
