"""CBS: a beam search over reasoning steps in which all members write and all rate every step by its perplexity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from septet.core.caps import Caps
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Card, Rng, SeatPool, method, param
from septet.core.money import Load
from septet.core.types import Floats, Query, Verdict
from septet.methods.b3_process._family import BLANK_LINES, Growth, ProcessMethod
from septet.methods.b3_process._verify import Verify
from septet.parts.decoding.quota import Counts, quotas
from septet.parts.decoding.tree import ROOT, Tree

CARD = Card(
    paper="emnlp-2025/main.574",
    title="CBS: Collaborative Beam Search",
    facets=Facets(
        family=Family.PROCESS,
        strategy=Strategy.SELECTION,
        granularity=Granularity.STEP,
        goal=Goal.PERFORMANCE,
        supervised=False,
    ),
    differs=(
        "the authors published no code: 4 beams, 8 candidates per beam, 8 steps and τ = .1 are those of an"
        " unofficial implementation; the paper's could not be verified",
        "a step's perplexity is of its own tokens after what comes before, as the paper's words say; the"
        " unofficial implementation takes the whole path's",
        "beams that end count for the quotas of the next round and are not replaced in the beam",
        "`floor` keeps a member from falling to no candidates; 0 is the paper's rule",
        "an answer that ends without a further step has the score of its steps so far",
        "an empty line is no step; its writer is asked again",
        "the temperature of the steps is ours",
    ),
)


@dataclass(frozen=True)
class Beams:
    """Members' indices `by_name`, the beams that go on, those that ended, and for each member (n_members,) how
    many of the kept beams it wrote the last step of."""

    by_name: tuple[int, ...]
    wrote: Counts
    live: tuple[int, ...] = (ROOT,)
    done: tuple[int, ...] = ()
    rounds: int = 0


@method(CARD)
class Cbs(ProcessMethod):
    """Step-level beam search by several members (EMNLP 2025, main.574).

    Per round each beam gets `candidates` next lines, shared out to the members; equal ones are one candidate
    with all its authors. Score of a step: mean over all n members of −PPL_m(step | what comes before), with
    PPL = exp(−mean log p over m's own tokens); of a path: the mean over its steps. The best `beams` are kept;
    with c_m of them by member m, its share of the next candidates is softmax(c / τ)_m (n,), rounded by the
    largest remainders. The answer is the best path, ended or not; its confidence is one over its perplexity.
    Cost: up to beams · candidates lines per round, each read once by every member; what repeats of a prefix
    costs depends on the backend's cache. Fails where right steps are not the likely ones: fluent, short or
    repeated lines win (2603.15377 found no gain in such beams for single models).

    >>> from septet.core.types import Completion, Tokens
    >>> from septet.testing.scripted import drive, seat
    >>> says, p = {"ada": "Answer: 5", "bob": "Answer: 6"}, {"Answer: 5": .5, "Answer: 6": .25}
    >>> def answers(ask):
    ...     if ask.do == "complete":
    ...         return [Completion(member=ask.to.name, text=says[ask.to.name])] * ask.args["n"]
    ...     return [Tokens((text.encode(),), np.log([p[text]])) for text in ask.args["texts"]]
    >>> plan = Cbs().plan(Query.of("2 + 3?"), SeatPool((seat("ada"), seat("bob"))), None, np.random.default_rng(1))
    >>> verdict = drive(plan, answers)[0]
    >>> verdict.text, verdict.confidence
    ('Answer: 5', 0.5)
    """

    members_rate: ClassVar[bool] = True
    merges: ClassVar[bool] = True
    verify: ClassVar[Verify] = "consensus"  # type: ignore[misc]

    beams: Annotated[int, param("Paths that are kept after a round.", ge=1, le=64)] = 4
    candidates: Annotated[int, param("Next steps that are written per beam.", ge=1, le=64)] = 8
    depth: Annotated[int, param("Steps of an answer at most.", ge=1, le=100)] = 8
    tau: Annotated[
        float, param("Temperature of the quotas; .1 nearly lets the winner take all.", gt=0, le=100)
    ] = 0.1
    floor: Annotated[int, param("Candidates per beam that each member writes at least.", ge=0, le=8)] = 0
    temperature: Annotated[float, param("Temperature of the steps.", ge=0, le=2)] = 0.7
    step_tokens: Annotated[int, param("Tokens of a step at most.", ge=1, le=4096)] = 128

    def needs(self) -> Caps:
        return Caps(text=True, samples=True, continues=True, score=True)

    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        """Every candidate by the same member, none equal, each after as many empty lines as are borne, each read."""
        parents = 1 + (self.depth - 1) * self.beams
        written = parents * self.candidates * (1 + BLANK_LINES)
        calls = parents * (1 + BLANK_LINES + 1)
        return {m.name: Load(calls, calls, written * self.step_tokens) for m in pool.members}

    def start(self, query: Query, pool: SeatPool, prepared: Any, state: Any) -> Beams:
        n = len(pool.members)
        quotas(np.zeros(n, dtype=np.int64), self.candidates, self.tau, self.floor)  # too few: an error now
        return Beams(tuple(sorted(range(n), key=lambda i: pool.names[i])), np.zeros(n, dtype=np.int64))

    def grow(self, tree: Tree, s: Beams, rng: Rng) -> list[Growth]:
        # by name, so that a tie of quotas does not depend on the members' order
        writers = [i for i in s.by_name if i not in tree.failed]
        if not writers or not s.live:
            return []
        shares = quotas(s.wrote[writers], self.candidates, self.tau, self.floor)
        return [Growth(beam, i, int(n)) for beam in s.live for i, n in zip(writers, shares, strict=True) if n]

    def absorb(self, tree: Tree, new: Sequence[int], values: Floats, s: Beams) -> Beams:
        found = [i for i in new if tree.nodes[i].ended or tree.step(i).strip()]
        kept = ranked(tree, found)[: self.beams]
        wrote = [sum(m in tree.nodes[i].authors for i in kept) for m in range(len(s.wrote))]
        return Beams(
            s.by_name,
            np.array(wrote, dtype=np.int64),
            tuple(i for i in kept if not tree.nodes[i].closed),
            s.done + tuple(i for i in kept if tree.nodes[i].closed),
            s.rounds + 1,
        )

    def answer(self, tree: Tree, s: Beams) -> Verdict:
        best = ranked(tree, [*s.done, *s.live] or range(1, len(tree.nodes)))[0]
        path, score = tree.path(best), path_score(tree, best)
        shares = np.zeros(len(s.by_name))
        for i in path:
            authors = list(tree.nodes[i].authors)
            shares[authors] += 1 / (len(authors) * len(path))
        n_whole = sum(tree.nodes[i].ended for i in s.done)
        return Verdict(
            text=tree.nodes[best].text.strip("\n"),
            weights=shares,
            confidence=-1 / score,
            reason=f"{len(tree.nodes) - 1} different steps in {s.rounds} rounds, {n_whole} whole answers kept; the"
            f" best path has {len(path)} steps and scores {score:.3f}",
            finish="stop" if tree.nodes[best].ended else "length",
        )


def path_score(tree: Tree, node: int) -> float:
    """The mean of −PPL over the steps of a path, at most −1; one that adds nothing is left out; −inf without any.

    A node's value is one over the members' mean perplexity of its step.
    """
    values = np.array([tree.nodes[i].value for i in tree.path(node) if tree.step(i).strip()])
    with np.errstate(divide="ignore"):
        return float((-1 / values).mean()) if len(values) else -np.inf


def ranked(tree: Tree, nodes: Sequence[int]) -> list[int]:
    """The best path first; of equal ones the one that comes first in the alphabet."""
    return sorted(nodes, key=lambda i: (-path_score(tree, i), tree.nodes[i].text))
