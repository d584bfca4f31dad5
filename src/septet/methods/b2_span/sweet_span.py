"""SweetSpan: members write a few words at a time, and the span whose faithful ratings are best is kept."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import numpy as np

from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Card, method, param
from septet.methods.b2_span._family import SpanMethod
from septet.methods.b2_span._together import Candidate, Scores, Spans
from septet.parts.decoding.spans import mean_over_members, perplexity, readings, without_outliers, words

CARD = Card(
    paper="2409.18583",
    title="Hit the Sweet Spot! Span-Level Ensemble for Large Language Models",
    facets=Facets(
        family=Family.SPAN,
        strategy=Strategy.SELECTION,
        granularity=Granularity.SPAN,
        goal=Goal.PERFORMANCE,
        supervised=False,
    ),
    differs=(
        "the paper's own outlier rule could not be read; ours is the one of an unused function in AdaFuse's"
        " released code (2601.06022), which fits the paper's description, with its constant of 10",
        "the number of words was not found in the paper; 4 is the survey's example (2502.18036)",
        "words end before white space, for every tokenizer, and spans are exact bytes",
        "a span that all members wrote is taken without scoring; scoring it comes to the same",
        "the end of an answer is part of its last span and is scored with it",
        "a text without white space (Chinese, Japanese) is cut after `max_tokens` tokens",
        "ties go to the smaller bytes",
    ),
)


@method(CARD)
class SweetSpan(SpanMethod):
    """Span-level ensembling by filtered perplexity (2409.18583).

    For each candidate c the perplexities ppl_i(c) = exp(−mean_t log p_i(c_t | text so far, c_<t)),
    (n_members,); where max > λ min, the highest and the lowest are left out as unfaithful, or the highest
    where nothing else is there; the lowest mean of what is left wins.
    Cost: per span each member writes some tokens and reads at most n_members candidates of `words` words.
    Fails with two members that disagree strongly: of ratings (1.5, 30) only 1.5 is left, so a span that its
    own author is sure of wins however little the other thinks of it.

    >>> from septet.core.types import Tokens
    >>> candidates = [Candidate(b" a", False, (0,), 1), Candidate(b" b", False, (1,), 1)]
    >>> ratings = [(1.2, 1.4), (1.5, 1.6), (30., 2.)]    # of [member][candidate]
    >>> tokens = [[Tokens((b"x",), np.array([-np.log(r)])) for r in row] for row in ratings]
    >>> SweetSpan().choose(candidates, tokens, None)[0]    # 1.5, without 1.2 and 30, against a mean of 1.67
    0
    """

    words: Annotated[int, param("Words of a span.", ge=1, le=64)] = 4
    spread: Annotated[
        float,
        param("Ratings are filtered where the highest is more than this many times the lowest.", ge=1),
    ] = 10.0
    max_tokens: Annotated[int, param("Tokens after which a span is cut.", ge=1, le=512)] = 32

    def spans(self, s: Any) -> Spans:
        return Spans(
            max_tokens=self.max_tokens, first_tokens=2 * self.words, trim=partial(words, n=self.words)
        )

    def choose(self, candidates: Sequence[Candidate], tokens: Scores, s: Any) -> tuple[int, Any]:
        ratings = without_outliers(readings(tokens, perplexity), self.spread)
        return int(np.argmin(mean_over_members(ratings))), s
