"""Process level: members write an answer step by step, a verifier rates each step, a search keeps the best path."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

from septet.core.caps import Caps
from septet.core.errors import NoCandidate
from septet.core.method import Asking, Method, Plan, Rng, Seat, SeatPool, asking
from septet.core.money import Load
from septet.core.types import Completion, Floats, Query, Verdict
from septet.methods.b3_process._verify import JUDGEMENT_TOKENS, NEEDED, Verifier, Verify
from septet.parts.answers.extract import has_final_answer
from septet.parts.decoding.tree import Node, Tree, merged

STEP = "\n"
"""A step is one line."""

BLANK_LINES = 2
"""How often a member is asked again where it wrote an empty line, which is no step."""


class Growth(NamedTuple):
    """Let a member write `n` next steps after a node. `lead`: the empty lines that it has written so far."""

    node: int
    member: int
    n: int = 1
    lead: str = ""


class ProcessMethod(Method):
    """Gives `grow`, `absorb` and `answer` over a tree whose root is node 0, and the hyper-parameters below.

    Steps are rated by the role `verifier`, or with `members_rate` by all members: then one that fails at either
    leaves. With `merges`, equal steps after one node are one node.
    """

    members_rate: ClassVar[bool] = False
    merges: ClassVar[bool] = False

    iterations: int = 1
    depth: int = 16
    step_tokens: int = 128
    temperature: float = 0.0
    verify: Verify = "graded"

    def start(self, query: Query, pool: SeatPool, prepared: Any, state: Any) -> Any:
        """The request's value s, before the first step."""
        return None

    def grow(self, tree: Tree, s: Any, rng: Rng) -> list[Growth]:
        """Who writes next, and where; none: the search is over. `tree.failed` are members to leave out."""
        raise NotImplementedError

    def absorb(self, tree: Tree, new: Sequence[int], values: Floats, s: Any) -> Any:
        """The next s, after the nodes `new` were rated with `values` (n_new,)."""
        return s

    def answer(self, tree: Tree, s: Any) -> Verdict | Asking[Verdict]:
        """The verdict over the finished tree, or a generator of asks that comes to one."""
        raise NotImplementedError

    def needs(self) -> Caps:
        return Caps(text=True, continues=True)

    def roles(self) -> Mapping[str, Caps]:
        return {} if self.members_rate else {"verifier": NEEDED[self.verify]}

    def offers(self, members: Sequence[Caps]) -> Caps:
        """It continues a partial answer where all members do."""
        return replace(super().offers(members), continues=all(m.continues for m in members))

    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        """Every step by the same member, each after as many empty lines as are borne; each step is rated."""
        calls = self.iterations * (1 + BLANK_LINES)
        loads = {m.name: Load(calls, calls, calls * self.step_tokens) for m in pool.members}
        rating = Load(self.iterations, self.iterations, self.iterations * JUDGEMENT_TOKENS)
        for verifier in pool.role("verifier"):
            loads[verifier.name] = loads.get(verifier.name, Load()) + rating
        return loads

    def plan(self, query: Query, pool: SeatPool, state: Any, rng: Rng) -> Plan:
        s, tree = self.start(query, pool, pool.prepared, state), Tree()
        prompts = self.name.replace("-", "_")
        verifier = Verifier(self.verify, query, prompts)
        while growth := self.grow(tree, s, rng):
            n_before = len(tree.nodes)
            tree = yield from self._grown(tree, growth, query, pool)
            new = tree.nodes[n_before:]
            if new:
                values = yield from verifier.values(new, tree, self._raters(tree, pool), rng)
                rated = [replace(node, value=float(v)) for node, v in zip(new, values, strict=True)]
                tree = replace(tree, nodes=(*tree.nodes[:n_before], *rated))
                if self.members_rate:
                    tree = replace(tree, failed={**tree.failed, **_taken(verifier.failed, pool.members)})
                s = self.absorb(tree, range(n_before, len(tree.nodes)), values, s)
        errors = [f"failed: {error}" for error in tree.failed.values()]
        if len(tree.nodes) == 1:
            raise NoCandidate("every member failed; " + "; ".join(errors))
        verdict = yield from asking(self.answer(tree, s))
        return replace(verdict, reason="; ".join([verdict.reason, *verifier.notes(), *errors]))

    def _raters(self, tree: Tree, pool: SeatPool) -> Sequence[Seat]:
        """Who rates the steps."""
        if self.members_rate:
            return [m for i, m in enumerate(pool.members) if i not in tree.failed]
        return pool.role("verifier")

    def _grown(self, tree: Tree, growth: Sequence[Growth], query: Query, pool: SeatPool) -> Asking[Tree]:
        """The tree with the steps that were written; members that failed are noted in it."""
        found, failed, waiting = list[Node](), dict(tree.failed), list(growth)
        for turn in range(1 + BLANK_LINES):
            replies = yield [
                pool.members[g.member].complete(self._asked(query, tree, g), n=g.n, purpose="step")
                for g in waiting
            ]
            blank = defaultdict[tuple[int, int], list[str]](list)
            for g, reply in zip(waiting, replies, strict=True):
                if not reply.ok:
                    failed[g.member] = str(reply.error)
                    continue
                for c in reply.value:
                    if c.finish == "until" and not c.text.strip() and turn < BLANK_LINES:
                        blank[g.node, g.member].append(g.lead + c.text)
                    else:
                        found.append(self._node(query, tree, g, c))
            # one call for all, after the shortest of the empty lines
            waiting = [Growth(*at, len(leads), min(leads, key=len)) for at, leads in blank.items()]
            if not waiting:
                break
        return Tree((*tree.nodes, *(merged(found) if self.merges else found)), failed)

    def _asked(self, query: Query, tree: Tree, g: Growth) -> Query:
        """The query for one step: the answer so far, up to the end of the line. Its own sampling wins."""
        node = tree.nodes[g.node]
        left = self.step_tokens
        if query.max_tokens is not None:
            left = min(left, query.max_tokens - node.n_tokens)
        return query.but(
            prefix=query.prefix + node.text + g.lead,
            until=(*query.until, STEP),
            max_tokens=left,
            temperature=self.temperature if query.temperature is None else query.temperature,
        )

    def _node(self, query: Query, tree: Tree, g: Growth, step: Completion) -> Node:
        """A step as a node: ended where its writer ended or gave the final answer."""
        parent = tree.nodes[g.node]
        text = parent.text + g.lead + step.text
        n_tokens = parent.n_tokens + step.usage.completion_tokens
        ended = step.finish == "stop" or has_final_answer(text) or text.endswith(query.until)
        full = query.max_tokens is not None and n_tokens >= query.max_tokens
        closed = ended or full or parent.depth + 1 >= self.depth
        return Node(g.node, text, 0.0, g.member, ended, closed, parent.depth + 1, n_tokens, (g.member,))


def _taken(failed: dict[str, str], members: Sequence[Seat]) -> dict[int, str]:
    """The members among the failed, who are taken out, by their places."""
    return {i: failed.pop(m.name) for i, m in enumerate(members) if m.name in failed}
