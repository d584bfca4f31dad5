"""Cool-Fusion: members write word by word, and the word that surprises them least on average is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np

from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Asking, Card, SeatPool, method, param
from septet.core.money import Load
from septet.core.types import Query, Tokens, Verdict
from septet.methods.b2_span._family import SpanMethod
from septet.methods.b2_span._together import Candidate, Scores, Spans
from septet.parts.decoding.spans import aligned, mean_perplexities, shortest

CARD = Card(
    paper="2407.19807",
    title="Cool-Fusion: Fuse Large Language Models without Training",
    facets=Facets(
        family=Family.SPAN,
        strategy=Strategy.SELECTION,
        granularity=Granularity.SPAN,
        goal=Goal.PERFORMANCE,
        supervised=False,
    ),
    differs=(
        "segments end at bytes where one of the writer's tokens ends, not where decoding and encoding again gives"
        " the same tokens",
        "the winner's authors keep their own tokens, the others read its bytes by the session's rule; the paper"
        " encodes a window of four words again",
        "a segment that all members wrote is taken without scoring; the paper scores it to the same effect",
        "the end of an answer is part of its last segment and is scored with it",
        "a text without white space (Chinese, Japanese) is cut after `max_tokens` tokens",
        "re-ranking leaves out truncated answers where there are whole ones",
    ),
)


@method(CARD)
class CoolFusion(SpanMethod):
    """Word-by-word fusion by perplexity (2407.19807, section 3).

    For each candidate c: score_c = mean_i exp(−mean_t log p_i(c_t | text so far, c_<t)), from token
    log-probabilities (t,) of each of n_members; the lowest wins, ties → the smaller bytes. `rerank` (+R):
    every member also writes a whole answer, and the fused one and these are ranked by the same score.
    Cost: per word, each member writes a few tokens and reads at most n_members candidates; `rerank` adds an
    answer per member, and reading all of them. Fails where a weak member is often sure of itself.

    >>> from septet.core.types import Tokens
    >>> candidates = [Candidate(b" cat", False, (0,), 1), Candidate(b" cats", False, (1,), 2)]
    >>> ada = [Tokens((b" cat",), np.log([.5])), Tokens((b" cat", b"s"), np.log([.5, .125]))]
    >>> bob = [Tokens((b" cat",), np.log([.2])), Tokens((b" cats",), np.log([.5]))]
    >>> CoolFusion().choose(candidates, [ada, bob], None)[0]    # perplexities (2, 5) and (4, 2)
    1
    """

    segments: Annotated[
        Literal["shortest", "aligned"],
        param("A segment ends where a word ends for its writer, or for every tokenizer."),
    ] = "aligned"
    rerank: Annotated[bool, param("Rank the fused answer against each member's own whole answer.")] = False
    max_tokens: Annotated[int, param("Tokens after which a segment is cut.", ge=1, le=256)] = 16

    @property
    def streams(self) -> bool:
        return not self.rerank

    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        again = Load(2, 2, query.max_tokens or 0) if self.rerank else Load()
        return {name: load + again for name, load in super().worst(query, pool).items()}

    def spans(self, s: Any) -> Spans:
        return Spans(max_tokens=self.max_tokens, trim=aligned if self.segments == "aligned" else shortest)

    def choose(self, candidates: Sequence[Candidate], tokens: Scores, s: Any) -> tuple[int, Any]:
        return int(mean_perplexities(tokens).argmin()), s

    def conclude(self, query: Query, verdict: Verdict, pool: SeatPool, s: Any) -> Verdict | Asking[Verdict]:
        return self._ranked(query, verdict, pool) if self.rerank else verdict

    def _ranked(self, query: Query, fused: Verdict, pool: SeatPool) -> Asking[Verdict]:
        """The fused answer or a member's own, whichever surprises the members least."""
        asked = query if query.temperature is not None else query.but(temperature=0.0)
        replies = yield [m.complete(asked) for m in pool.members]
        own = [reply.value[0] for reply in replies if reply.ok]
        answers = [(fused.text or "", fused.finish), *((c.text, c.finish) for c in own)]
        read = [i for i, (text, _) in enumerate(answers) if text]
        read = [i for i in read if answers[i][1] != "length"] or read
        # the first by bytes comes first, so that ties do not depend on the members' order
        read.sort(key=lambda i: (answers[i][0].encode(), i))
        if read in ([], [0]):
            return fused
        replies = yield [m.score(query, [answers[i][0] for i in read]) for m in pool.members]
        if not any(reply.ok for reply in replies):
            errors = "; ".join(str(reply.error) for reply in replies)
            return replace(fused, reason=f"{fused.reason}; not re-ranked: {errors}")
        tokens: list[list[Tokens | None]] = [r.value if r.ok else [None] * len(read) for r in replies]
        score = mean_perplexities(tokens)
        best, shown = read[int(score.argmin())], f"mean perplexity {score.min():.3f} of {len(read)} answers"
        if best == 0:
            return replace(fused, reason=f"the fused answer, {shown}; {fused.reason}")
        authors = [c.member for c in own if c.text == own[best - 1].text]
        weights = np.array([float(m.name in authors) for m in pool.members]) / len(authors)
        reason = f"the answer of {' and '.join(authors)}, {shown}; {fused.reason}"
        return Verdict(chosen=best - 1, weights=weights, reason=reason)
