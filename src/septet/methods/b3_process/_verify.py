"""How a verifier rates partial answers: a process reward model, a graded judgement, or mean log-probability."""

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

Verify = Literal["rate", "graded", "logp"]

NEEDED = {
    "rate": Caps(rate=True),
    "graded": Caps(text=True),
    "logp": Caps(score=True, continues=True),
}
"""What a verifier must offer."""

JUDGEMENT_TOKENS = 48
"""A judgement is one short line; what comes after it is not read."""

UNKNOWN = 0.5
"""The value of a partial answer whose every rating was unreadable."""


class Verifier:
    """The actors of the role `verifier`, and what could not be read of what they said."""

    def __init__(self, verify: Verify, query: Query, actors: Sequence[Seat], prompts: str) -> None:
        self.verify, self.query, self.actors, self.prompts = verify, query, actors, prompts
        self.n_unreadable = 0
        self.errors: list[str] = []

    def values(self, nodes: Sequence[Node], tree: Tree, rng: Rng) -> Asking[Floats]:
        """(n_nodes,): the mean over the actors; a node that adds nothing has the value of its parent.

        A failed actor is left out; if all fail, the error of the first one is raised.
        """
        adds = [bool(self._step(node, tree).strip()) for node in nodes]
        rated = [node for node, more in zip(nodes, adds, strict=True) if more]
        asks = [self._ask(actor, node, tree, rng) for actor in self.actors for node in rated]
        replies = yield asks
        if asks and not any(reply.ok for reply in replies):
            replies[0].value  # noqa: B018  reading the value of a failed reply raises its error
        self.errors += [str(reply.error) for reply in replies if not reply.ok]
        read = [self._read(reply.value) if reply.ok else np.nan for reply in replies]
        means = iter(self._means(np.array(read).reshape(len(self.actors), len(rated))))
        parents = [tree.nodes[node.parent].value for node in nodes]
        return np.array([next(means) if more else parent for more, parent in zip(adds, parents, strict=True)])

    def notes(self) -> list[str]:
        """What the reason of the verdict has to say about the ratings."""
        unreadable = f"{self.n_unreadable} steps without a readable rating count {UNKNOWN}"
        errors = [f"verifier failed: {error}" for error in dict.fromkeys(self.errors)]
        return ([unreadable] if self.n_unreadable else []) + errors

    def _means(self, ratings: Floats) -> Floats:
        """(n_nodes,) means over the actors (n_actors, n_nodes), unreadable ones left out."""
        known = ~np.isnan(ratings)
        self.n_unreadable += int((~known.any(axis=0)).sum())
        total = np.where(known, ratings, 0.0).sum(axis=0)
        return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), UNKNOWN)

    def _step(self, node: Node, tree: Tree) -> str:
        return node.text[len(tree.nodes[node.parent].text) :]

    def _ask(self, actor: Seat, node: Node, tree: Tree, rng: Rng) -> Ask:
        if self.verify == "rate":
            return actor.rate(self.query, [node.text])
        if self.verify == "graded":
            return actor.complete(self._judgement(node.text, rng), purpose="judgement")
        so_far = self.query.but(prefix=self.query.prefix + tree.nodes[node.parent].text)
        return actor.score(so_far, [self._step(node, tree)])

    def _judgement(self, solution: str, rng: Rng) -> Query:
        """The question to a judge. The mark is drawn anew, so that no solution can write it."""
        template = prompts_of(self.prompts)["grade"]["text"]
        mark = f"[{int(rng.integers(2**48)):012x}]"
        text = template.format(mark=mark, question=self.query.text, solution=self.query.prefix + solution)
        return Query.of(text, temperature=0.0, max_tokens=JUDGEMENT_TOKENS)

    def _read(self, value: Any) -> float:
        if self.verify == "rate":
            return float(value[0, 0])
        if self.verify == "graded":
            return grade(value[0])
        return float(np.exp(value[0].logp.mean())) if len(value[0]) else np.nan


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
