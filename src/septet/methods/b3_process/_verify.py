"""How a verifier rates partial answers: a process reward model, a graded judgement, or how likely a step is."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np

from septet.core.caps import Caps
from septet.core.method import Ask, Asking, Rng, Seat
from septet.core.types import Completion, Floats, Query
from septet.parts.decoding.tree import Node, Tree

Verify = Literal["rate", "graded", "logp", "consensus"]

NEEDED = {
    "rate": Caps(rate=True),
    "graded": Caps(text=True),
    "logp": Caps(score=True, continues=True),
    "consensus": Caps(score=True, continues=True),
}
"""What a verifier must offer."""

JUDGEMENT_TOKENS = 48
"""A judgement is one short line; what comes after it is not read."""

UNKNOWN = 0.5
"""The value of a partial answer whose every rating was unreadable."""


class Verifier:
    """What is asked of the verifiers, who of them `failed` (by name, with the error), and what could not be read."""

    def __init__(self, verify: Verify, query: Query, prompts: str) -> None:
        self.verify, self.query, self.prompts = verify, query, prompts
        self.n_unreadable = 0
        self.failed: dict[str, str] = {}

    def values(self, nodes: Sequence[Node], tree: Tree, actors: Sequence[Seat], rng: Rng) -> Asking[Floats]:
        """(n_nodes,): the value that the actors agree on; a node that adds nothing has the value of its parent.

        An actor that fails is left out from then on; if all have failed, the error of the first one is raised.
        """
        adds = [bool(_step(node, tree).strip()) for node in nodes]
        rated = [node for node, more in zip(nodes, adds, strict=True) if more]
        actors = [actor for actor in actors if actor.name not in self.failed]
        jobs = [(i, group) for i in range(len(actors)) for group in self._groups(rated)]
        replies = yield [self._ask(actors[i], [rated[j] for j in group], tree, rng) for i, group in jobs]
        if jobs and not any(reply.ok for reply in replies):
            replies[0].value  # noqa: B018  reading the value of a failed reply raises its error
        read = np.full((len(actors), len(rated)), np.nan)
        for (i, group), reply in zip(jobs, replies, strict=True):
            if reply.ok:
                read[i, group] = self._read(reply.value)
            else:
                self.failed[actors[i].name] = str(reply.error)
        agreed = iter(self._agreed(read))
        parents = [tree.nodes[node.parent].value for node in nodes]
        return np.array(
            [next(agreed) if more else parent for more, parent in zip(adds, parents, strict=True)]
        )

    def notes(self) -> list[str]:
        """What the reason of the verdict has to say about the ratings."""
        unreadable = f"{self.n_unreadable} steps without a readable rating count {UNKNOWN}"
        errors = [f"verifier failed: {error}" for error in dict.fromkeys(self.failed.values())]
        return ([unreadable] if self.n_unreadable else []) + errors

    def _groups(self, rated: Sequence[Node]) -> list[list[int]]:
        """Which nodes share one call: all, those of one parent, whose prefix is read once, or one each."""
        if self.verify == "rate":
            return [list(range(len(rated)))] if rated else []
        if self.verify == "graded":
            return [[j] for j in range(len(rated))]
        parents = dict.fromkeys(node.parent for node in rated)
        return [[j for j, node in enumerate(rated) if node.parent == parent] for parent in parents]

    def _agreed(self, read: Floats) -> Floats:
        """(n_nodes,) from what the actors said, (n_actors, n_nodes), NaN left out: the mean of ratings in 0..1,
        or one over the mean of perplexities."""
        known = ~np.isnan(read)
        self.n_unreadable += int((~known.any(axis=0)).sum())
        total = np.where(known, read, 0.0).sum(axis=0)
        mean = total / np.maximum(known.sum(axis=0), 1)
        if self.verify == "consensus":
            mean = 1 / np.maximum(mean, 1.0)
        return np.where(known.any(axis=0), mean, UNKNOWN)

    def _ask(self, actor: Seat, nodes: Sequence[Node], tree: Tree, rng: Rng) -> Ask:
        """One call for a group of nodes."""
        if self.verify == "rate":
            return actor.rate(self.query, [self.query.prefix + node.text for node in nodes])
        if self.verify == "graded":
            return actor.complete(self._judgement(nodes[0].text, rng), purpose="judgement")
        so_far = self.query.but(prefix=self.query.prefix + tree.nodes[nodes[0].parent].text)
        return actor.score(so_far, [_step(node, tree) for node in nodes])

    def _judgement(self, solution: str, rng: Rng) -> Query:
        """The question to a judge. The mark is drawn anew, so that no solution can write it."""
        template = prompts_of(self.prompts)["grade"]["text"]
        mark = f"[{int(rng.integers(2**48)):012x}]"
        text = template.format(mark=mark, question=self.query.text, solution=self.query.prefix + solution)
        return Query.of(text, temperature=0.0, max_tokens=JUDGEMENT_TOKENS)

    def _read(self, value: Any) -> Floats:
        """What one call said of each node of its group: ratings in 0..1, or perplexities where they are averaged."""
        if self.verify == "rate":
            return np.asarray(value, dtype=np.float64)[:, 0]
        if self.verify == "graded":
            return np.array([grade(value[0])])
        mean = np.array([tokens.logp.mean() if len(tokens) else np.nan for tokens in value])
        with np.errstate(over="ignore"):  # a step that is all but impossible has perplexity infinity
            return np.exp(mean if self.verify == "logp" else -mean)  # type: ignore[no-any-return]


def _step(node: Node, tree: Tree) -> str:
    """What a node, which need not be in the tree yet, adds to the text of its parent."""
    return node.text[len(tree.nodes[node.parent].text) :]


def grade(judgement: Completion) -> float:
    """The grade 0..10 of a judgement, over ten; NaN where there is none. A line that was cut off is not read.

    >>> grade(Completion(member="judge", text="Grade: 7/10")), grade(Completion(member="judge", text="Good."))
    (0.7, nan)
    """
    lines = judgement.text.splitlines()
    whole = "\n".join(lines[:-1] if judgement.finish == "length" else lines)
    found = re.search(r"grade\W*?(-?\d+(?:\.\d+)?)", whole, re.IGNORECASE)
    found = found or re.match(r"\W*?(-?\d+(?:\.\d+)?)", whole)
    value = float(found[1]) if found else np.nan
    return value / 10 if 0 <= value <= 10 else np.nan


@cache
def prompts_of(name: str) -> dict[str, Any]:
    """The prompts beside a method."""
    return tomllib.loads(files(__package__).joinpath(f"{name}.prompts.toml").read_text("utf-8"))
