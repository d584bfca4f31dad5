"""SAFE: one member drafts, the others look along the draft, and members are fused only where they have to be."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np

from septet.core.actor import Pool
from septet.core.caps import Caps, PoolRule
from septet.core.errors import BadParameter, RunError
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Card, Method, Plan, Rng, SeatPool, method, param
from septet.core.money import Load
from septet.core.session import Next, View
from septet.core.types import Floats, Query
from septet.methods.b1_token._draft_and_verify import DraftAndVerify
from septet.parts.decoding.aggregate import geometric
from septet.parts.decoding.common import common
from septet.parts.decoding.fuse import logp_table, mixture, renormalised, strings_of, union
from septet.parts.decoding.union import UnionTable, union_key

CARD = Card(
    paper="2510.15346",
    title="When to Ensemble: Identifying Token-Level Points for Stable and Fast LLM Ensembling",
    facets=Facets(
        family=Family.TOKEN,
        strategy=Strategy.AGGREGATION,
        granularity=Granularity.TOKEN,
        goal=Goal.PERFORMANCE,
        supervised=False,
        efficiency_aware=True,
    ),
    pool=PoolRule(at_least=2, order="primary-first"),
    permutes=False,
    differs=(
        "where no string is possible for every member, `geom` leaves the arithmetic mean as it is",
        "the official code could not be read; a copy of its two generation files inside another project was",
        "a verifier of the drafter's vocabulary reads the drafter's own tokens, so all boundaries are eligible and"
        " twins are never ensembled; another verifier's reading is its tokenizer's from the last safe boundary on",
        "of several verifiers all must agree; a position must be a boundary of each, and the mean is over all members",
        "the code of the GaC variant also skips where the drafter alone is sure (p ≥ .5); that does not imply that"
        " the draft is an argmax of the mean, and is left out",
        "where the fused string is the drafted one, the rest of the draft is kept; the code drafts it again",
        "END may win where members are fused, and a drafted END is verified like any other token; in the code only"
        " the drafter ends an answer",
        "the winner's bytes are committed to all, not the drafter's first sub-token of them",
        "a verifier whose server does not tell how it tokenises takes no part",
        "sampling is left out: the paper's rule is about the argmax",
    ),
)


@method(CARD)
class Safe(Method):
    """Stable and fast ensembling (2510.15346, section 3).

    The first member drafts `gamma` tokens; the others look along them in one forward. At each position that is
    a boundary of every verifier's own reading, the drafted token x stands if (a) each verifier ranks it first
    or (b) mean_i p_i(x) > .5: both mean that no string has a higher arithmetic mean. Else p = mean_i p_i over
    a union of strings (t,), sharpened where max p < .5; its argmax replaces x, and later drafts are dropped.
    Cost: one forward of the drafter per token and of each verifier per draft. Fails where the drafter is the
    weaker member: it decides all that stands inside other members' tokens.

    >>> from septet.testing.scripted import view
    >>> drafter, sure = view({b" x": .45, b" y": .55}), view({b" x": .70, b" y": .30})
    >>> verifier = view({b" x": .40, b" y": .60})
    >>> Safe().stands(b" x", [drafter, verifier]), Safe().stands(b" x", [sure, verifier])    # means .425, .55
    (False, True)
    """

    gamma: Annotated[int, param("Tokens of a draft (γ).", ge=1, le=64)] = 5
    union: Annotated[
        Literal["top", "full"],
        param(
            "Fused are the strings of the members' top k (UniTE's rule), or their whole vocabularies (GaC's)."
        ),
    ] = "top"
    k: Annotated[int, param("Candidates that each member brings.", ge=1, le=1000)] = 10
    sharpen: Annotated[
        Literal["geom", "heur", "none"],
        param(
            "Where no mean reaches .5: the geometric mean decides; or a string that the drafter ranks high is"
            " given the mass of all that begin with it; or nothing is done."
        ),
    ] = "geom"
    prepared_type = UnionTable

    def needs(self) -> Caps:
        return Caps(text=True, continues=True, topk=self.k, full=self.union == "full", fork=True)

    def needs_of(self, place: int, n_members: int) -> Caps:
        """Only the drafter is forked."""
        return self.needs() if place == 0 else replace(self.needs(), fork=False)

    def offers(self, members: Sequence[Caps]) -> Caps:
        """It draws nothing, so it has one answer to a query."""
        return Caps(text=True, stream=True, seed=True, continues=all(m.continues for m in members))

    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        """One session per member, fed once, and a whole draft for each token of the answer."""
        tokens = self.gamma * (query.max_tokens or 0)
        return {m.name: Load(1, 1, tokens) for m in pool.members}

    def prepare(self, pool: Pool) -> UnionTable | None:
        vocabs = [m.vocab for m in pool.members if m.vocab is not None and m.vocab.digest]
        whole = self.union == "full" and len(vocabs) == len(pool.members)
        return UnionTable.of(vocabs) if whole else None

    def prepared_key(self, pool: Pool) -> str:
        return union_key([m.vocab for m in pool.members]) if self.union == "full" else ""

    def plan(self, query: Query, pool: SeatPool, state: Any, rng: Rng) -> Plan:
        if query.temperature:
            rule = "must be 0 or left out: safe takes the argmax, it does not draw"
            raise BadParameter("temperature", query.temperature, rule)
        table: UnionTable | None = pool.prepared
        shown = None if self.union == "full" else self.k
        answer = DraftAndVerify(query, pool, self.gamma, shown, self.stands, lambda v: self.fused(v, table))
        yield from answer.opened()
        while answer.finish is None:
            yield from answer.cycle()
        return answer.verdict()

    def stands(self, piece: bytes, views: Sequence[View | None]) -> bool:
        """Whether a drafted string needs no ensemble; `views` (n_members,), the drafter's first."""
        live = [view for view in views if view is not None]
        if all(_best(view, self.k) == piece for view in live[1:]):
            return True
        return float(np.mean([_probability(view.next, piece) for view in live])) > 0.5

    def fused(self, views: Sequence[View | None], table: UnionTable | None) -> tuple[bytes, Floats]:
        """The winner of the ensemble, and each member's share in it (n_members,)."""
        weights = np.array([float(view is not None) for view in views])
        weights /= weights.sum()
        if self.union == "full":
            over = common(views, table, self.k)
            texts, rows = over.texts, renormalised(np.asarray(over.logp, dtype=np.float64))
        else:
            tops = [{} if v is None else strings_of(v, self.k) for v in views]
            texts = union(tops)
            rows = renormalised(logp_table(views, tops, texts, _first))
        p, share = mixture(rows, weights)
        best = int(p.argmax())
        if p[best] < 0.5:
            best = int(self._sharpened(p, rows, weights, texts, views[0]).argmax())
        return texts[best], share[best]

    def _sharpened(
        self, p: Floats, rows: Floats, weights: Floats, texts: Sequence[bytes], drafter: View | None
    ) -> Floats:
        """(t,) what the argmax is taken of where no mean reaches .5."""
        if self.sharpen == "geom":
            with np.errstate(divide="ignore"):
                logp = np.log(rows)
            try:
                return geometric(logp, weights)
            except RunError:  # no string that all hold possible
                return p
        if self.sharpen == "heur" and drafter is not None:
            own, score = strings_of(drafter, self.k), p.copy()
            for j in np.flatnonzero(p > HEUR).tolist():
                if (start := texts[j]) and start in own:
                    score[j] = p[j : _beginning_with(texts, start)].sum()
            return score
        return p


HEUR = 0.1
"""A string of a lower mean probability is given nothing by the heuristic (the code's)."""


def _probability(following: Next, piece: bytes) -> float:
    """p(piece) as one token; 0 where a server does not tell."""
    logp = following.logp_of(piece)
    return 0.0 if logp is None else float(np.exp(logp))


def _best(view: View, k: int) -> bytes:
    """The most probable string; ids of equal bytes are summed, ties go to the one that is ranked first."""
    strings = strings_of(view, k)
    return max(strings, key=strings.__getitem__)


def _beginning_with(texts: Sequence[bytes], start: bytes) -> int:
    """Where the strings that begin with `start` are over; in byte order they follow it."""
    return bisect_right(texts, start, key=lambda text: text[: len(start)])


def _first(_: int, following: Next, piece: bytes) -> float:
    """UniTE's rule: a string that a member lacks counts as its first sub-token."""
    logp = following.logp_of(piece)
    if piece and logp in (None, -np.inf):
        logp = following.logp_of(piece, first=True)
    return -np.inf if logp is None else logp
