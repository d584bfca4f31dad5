"""AdaFuse: members write on while they are certain, show other beginnings where they are not, and rate all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from septet.core.caps import Caps
from septet.core.errors import BadParameter
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Asking, Card, SeatPool, method, param
from septet.core.types import Query
from septet.methods.b2_span._adaptive import Adaptive, Drafts, adaptive, after
from septet.methods.b2_span._family import SpanMethod
from septet.methods.b2_span._together import Candidate, Scores, Together
from septet.parts.decoding.spans import mean_surprises

CARD = Card(
    paper="2601.06022",
    title="AdaFuse: Adaptive Ensemble Decoding for Large Language Models",
    facets=Facets(
        family=Family.SPAN,
        strategy=Strategy.SELECTION,
        granularity=Granularity.SPAN,
        goal=Goal.PERFORMANCE,
        supervised=False,
    ),
    differs=(
        "the word that a member hesitates at is branched wherever it stands; the released code branches the"
        " first word and, without a look at its margin, the third, but not the second",
        "three branches, as the released code counts them where it branches; its default is one, which does not",
        "`diversity-aware` is no more than different first tokens; the paper may weigh them, which could not be"
        " read",
        "spans are exact bytes; the released code joins words by single blanks and loses line breaks and marks",
        "what a member wrote ahead is kept while the shared text agrees with it; the released code writes"
        " every span anew",
        "every member reads a span as its own tokenizer does, its author too",
        "the end of an answer is part of its last span and is scored with it; stop strings are the query's, not"
        " `Question:`, `Note:`, `<` and `\\boxed`",
        "writing is greedy as in the paper; a query that asks for another temperature is refused",
        "a span is cut after `max_tokens` tokens",
        "ties go to the smaller bytes",
    ),
)


@method(CARD)
class AdaFuse(SpanMethod):
    """Spans of adaptive length (2601.06022).

    Where a word begins, a member looks at Δ = p(1) − p(2). Δ ≥ `certain`: it writes the word and looks again,
    up to `words` words. Δ < `certain`: its candidates are the words so far with one more, which is begun with
    each of the `branches` best first tokens and gone on with greedily. Of all members' candidates the one
    with the lowest mean_i(−mean_t log p_i(c_t | text so far, c_<t)) wins.
    Cost: per span each member makes one distribution more than it writes tokens, and another for each token
    of a branch, and reads at most n_members · `branches` candidates. A member over HTTP makes a call for each
    of these distributions. Fails where certainty is no sign of being right, and on tasks that need steps:
    the paper's own GSM8K is below its best member.

    >>> import numpy as np
    >>> from septet.core.types import Tokens
    >>> candidates = [Candidate(text, False, (0,), 1) for text in (b" a", b" b", b" c")]
    >>> ada, bob = ([Tokens((b"x",), np.array([-x])) for x in row] for row in ((.20, .35, 1.14), (.55, .23, .31)))
    >>> AdaFuse().choose(candidates, [ada, bob], {})[0]    # .375, .290 and .725: the paper's figure
    1
    """

    certain: Annotated[
        float,
        param("How far the best first token is ahead of the second for a member to be certain.", ge=0, le=1),
    ] = 0.7
    words: Annotated[int, param("Words of a span at most.", ge=1, le=16)] = 3
    branches: Annotated[
        int, param("First tokens that a member tries where it is not certain.", ge=1, le=16)
    ] = 3
    max_tokens: Annotated[int, param("Tokens after which a span is cut.", ge=1, le=256)] = 24

    def needs(self) -> Caps:
        return Caps(text=True, continues=True, score=True, topk=max(2, self.branches))

    def start(self, query: Query, pool: SeatPool, prepared: Any, state: Any) -> Drafts:
        if query.temperature:
            raise BadParameter(
                "temperature", query.temperature, "must be 0 or left out: ada-fuse writes greedily"
            )
        return {}

    def propose(self, together: Together, s: Drafts) -> Asking[tuple[list[Candidate], Drafts]]:
        how = Adaptive(self.words, self.certain, self.branches, self.max_tokens)
        return adaptive(together, how, s)

    def choose(self, candidates: Sequence[Candidate], tokens: Scores, s: Drafts) -> tuple[int, Drafts]:
        index = int(mean_surprises(tokens).argmin())
        return index, after(s, candidates[index])
