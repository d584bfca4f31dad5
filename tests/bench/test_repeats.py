"""What a method makes of a member that is there twice, by its own plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from septet.bench.repeats import MEMBERS, QUESTIONS, Moved, moved
from septet.core.caps import Caps
from septet.core.errors import BadParameter
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Card, Rng, SeatPool, method
from septet.core.types import Completion, Query, Verdict
from septet.engine import catalogue
from septet.methods.c1_noncascade._family import NonCascadeMethod
from septet.methods.c1_noncascade.agent_forest import AgentForest
from septet.methods.c1_noncascade.self_moa import SelfMoa
from septet.parts.answers.vote import outcomes, shares

CARD = Card(
    paper="none",
    title="For this test",
    facets=Facets(
        family=Family.NONCASCADE,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.PERFORMANCE,
        supervised=False,
    ),
)


@method(CARD)
class CountsOnce(NonCascadeMethod):
    """A vote in which members that say the same text count once: safe by construction."""

    def combine(
        self, query: Query, candidates: Sequence[Completion], pool: SeatPool, state: Any, rng: Rng
    ) -> Verdict:
        texts = list({c.text: c for c in candidates}.values())
        posterior = shares(outcomes(texts), np.ones(len(texts)))
        best = posterior.of.index(int(posterior.p.argmax()))
        return Verdict(
            chosen=candidates.index(texts[best]), posterior=posterior, confidence=float(posterior.p.max())
        )


@method(CARD)
class TakesTheFirst(NonCascadeMethod):
    """The first answer, believed by as many as there are: only its confidence is moved."""

    def combine(
        self, query: Query, candidates: Sequence[Completion], pool: SeatPool, state: Any, rng: Rng
    ) -> Verdict:
        return Verdict(chosen=0, confidence=1 / len(candidates), reason="the first")


@method(CARD)
class NeedsCode(TakesTheFirst):
    """One that asks for a role which the script has not."""

    def roles(self) -> Mapping[str, Caps]:
        return {"executor": Caps(run=True)}


def test_a_vote_that_counts_equal_members_once_is_found_safe() -> None:
    found = moved(CountsOnce)
    assert found == Moved(answer=False, confidence=False, confident=True)
    assert (found.safe, str(found)) == (True, "yes")


def test_one_whose_confidence_alone_changes_is_found_out() -> None:
    found = moved(TakesTheFirst)
    assert found == Moved(answer=False, confidence=True, confident=True)
    assert (found.safe, str(found)) == (False, "no: the confidence changes")


def test_the_vote_is_moved_and_a_fuser_of_the_best_member_s_answers_is_not() -> None:
    assert str(moved(AgentForest)) == "no: the answer changes"
    assert str(moved(SelfMoa)) == "yes; it gives no confidence"


def test_what_the_script_cannot_answer_is_refused() -> None:
    with pytest.raises(BadParameter, match="executor"):
        moved(NeedsCode)


def test_members_disagree_on_every_question() -> None:
    for said in QUESTIONS.values():
        assert len(said) == len(MEMBERS)
        first = [Completion(member=name, text=texts[0]) for name, texts in zip(MEMBERS, said, strict=True)]
        assert len(set(outcomes(first))) > 1


@pytest.mark.parametrize(
    "name",
    [
        n
        for n, e in catalogue.entries("methods").items()
        if e.owner == "septet" and str(e.family).startswith("c1")
    ],
)
def test_every_non_cascade_method_can_be_measured(name: str) -> None:
    assert str(moved(catalogue.get("methods", name))).startswith(("yes", "no: "))
