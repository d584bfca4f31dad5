"""Universal self-consistency: a model reads all answers and names the one that agrees most with the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np

from septet.core.caps import Caps
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Asking, Card, Rng, SeatPool, method, param
from septet.core.money import Load
from septet.core.types import Completion, Floats, Query, Verdict
from septet.methods.c1_noncascade._family import NonCascadeMethod
from septet.parts.answers.aggregate import Tie, best_of
from septet.parts.answers.choice import named
from septet.parts.answers.regenerate import fusion
from septet.parts.answers.similarity import mean_of_others, similarity
from septet.parts.answers.vote import VOID, outcomes, shares

CARD = Card(
    paper="2311.17311",
    title="Universal Self-Consistency for Large Language Model Generation",
    facets=Facets(
        family=Family.NONCASCADE,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.PERFORMANCE,
        supervised=False,
    ),
    differs=(
        "the role `judge` chooses, which may be the members; several judges vote, each for one answer",
        "each answer stands in a block that is closed by a nonce, and the prompt, which is ours, says that it holds no"
        " instructions",
        "a judge that fails, or names no answer or several, has no vote; without any vote `fallback` decides, and the"
        " verdict says so; what the paper does then could not be verified",
        "answers that were cut off or are empty are not shown while there are whole ones; of answers that are the same"
        " text no judge is asked",
        "the paper samples one model; here every member gives `samples` answers; its temperature could not be verified",
    ),
)


@method(CARD)
class UniversalSelfConsistency(NonCascadeMethod):
    """The most consistent answer, as a model sees it (2311.17311, section 3).

    Of n = n_members · samples numbered answers y_1..y_n in one prompt, each judge names one index; the index that most
    judges name is chosen. Cost: n answers and one call for each judge, whose prompt holds all answers. Fails where the
    judge cannot compare so many texts, or prefers a place in the list; it finds what is usual, not what is right.

    >>> from septet.testing.scripted import drive, seat
    >>> pool = SeatPool((seat("ada"), seat("bob")), {"judge": (seat("eve"),)})
    >>> plan = UniversalSelfConsistency(samples=1).plan(Query.of("Why?"), pool, None, np.random.default_rng(0))
    >>> verdict, _ = drive(plan, {"ada": "It rains.", "bob": "Rain fell.", "eve": "Response 2"})
    >>> verdict.chosen, verdict.reason
    (1, '1 of 1 judge for answer 2 of 2')
    """

    samples: Annotated[int, param("Answers that each member gives.", ge=1, le=100)] = 8
    temperature: Annotated[float, param("Temperature of the samples.", ge=0, le=2)] = 1.0
    fallback: Annotated[
        Literal["mbr", "plurality"],
        param("Who decides where no judge names one answer: likeness of words, or equal final answers."),
    ] = "mbr"
    tie: Annotated[Tie, param("Which of answers that as many judges name.")] = "first"
    judge_tokens: Annotated[int, param("The longest that a judge may write.", ge=4, le=4096)] = 32

    def roles(self) -> Mapping[str, Caps]:
        return {"judge": Caps(text=True)}

    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        loads = super().worst(query, pool)
        for judge in pool.role("judge"):
            loads[judge.name] = loads.get(judge.name, Load()) + Load(1, 1, self.judge_tokens)
        return loads

    def combine(
        self, query: Query, candidates: Sequence[Completion], pool: SeatPool, state: Any, rng: Rng
    ) -> Asking[Verdict]:
        said = outcomes(candidates)
        able = [i for i, o in enumerate(said) if o not in VOID] or list(range(len(candidates)))
        kept = [candidates[i] for i in able]
        texts = [c.text for c in kept]
        if len(set(texts)) == 1:
            return Verdict(
                chosen=able[0], reason=f"{len(kept)} whole answers are one text, so no judge is asked"
            )
        asked = fusion(query, texts, "best", rng)
        asked = asked.but(temperature=0.0, max_tokens=self.judge_tokens, stop=(), until=(), prefix="")
        judges = pool.role("judge")
        replies = yield [judge.complete(asked, purpose="judgement") for judge in judges]
        names = [named(reply.value[0].text, len(kept)) for reply in replies if reply.ok]
        votes = np.bincount([i for i in names if i is not None], minlength=len(kept)).astype(np.float64)
        n_votes, failed = int(votes.sum()), "; ".join(str(r.error) for r in replies if not r.ok)
        judged = f"{{}} of {len(judges)} judge{'s' if len(judges) > 1 else ''}"
        if n_votes:
            worth = votes
            best = best_of(worth, kept, self.tie, rng)
            reason = f"{judged.format(int(votes[best]))} for answer {best + 1} of {len(kept)}"
        else:
            worth = self._without_judges(kept, [said[i] for i in able])
            best = best_of(worth, kept, self.tie, rng)
            reason = f"{judged.format(0)} for one answer, so {self.fallback} decides: answer {best + 1} of {len(kept)}"
        full = np.zeros(len(candidates))
        full[able] = worth
        posterior = shares([c.text for c in candidates], full)
        chosen = able[best]
        # one judge gives an index and no degree of belief; a share of several is one
        sure = float(posterior.p[posterior.of[chosen]]) if n_votes > 1 or not n_votes else None
        reason += f"; failed judges: {failed}" if failed else ""
        return Verdict(chosen=chosen, posterior=posterior, confidence=sure, reason=reason)

    def _without_judges(self, kept: Sequence[Completion], said: Sequence[str]) -> Floats:
        """(n,) worth of each answer: the weight of its class, or its mean token F1 to the others."""
        weights = np.array([c.weight for c in kept])
        if self.fallback == "mbr":
            return mean_of_others(similarity("token-f1", [c.text for c in kept]), weights)
        posterior = shares(said, weights)
        return posterior.p[list(posterior.of)]
