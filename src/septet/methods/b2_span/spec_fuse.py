"""SpecFuse and SpecEM: members sample short drafts, each scores them all, and weights follow who writes well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np

from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Card, SeatPool, method, param
from septet.core.types import Floats, Query, Verdict
from septet.methods.b2_span._family import SpanMethod
from septet.methods.b2_span._together import Candidate, Scores, Spans
from septet.parts.decoding.hedge import hedged, rate, staying, win_rewards
from septet.parts.decoding.spans import readings, surprise, whole_words

CARD = Card(
    paper="2412.07380",
    title="SpecFuse: Ensembling Large Language Models via Next-Segment Prediction (third version: SpecEM)",
    facets=Facets(
        family=Family.SPAN,
        strategy=Strategy.SELECTION,
        granularity=Granularity.SPAN,
        goal=Goal.PERFORMANCE,
        supervised=False,
    ),
    differs=(
        "a verifier's scores are the softmax over candidates of its mean log-probabilities; the released code"
        " divides mean raw logits by their sum, which means nothing between models or below zero",
        "a draft that ends the answer is taken at once, of several the best; in the released code that is its"
        " fast mode, which its scripts leave off (`ended_wins`)",
        "weights change after a span was chosen; the released code changes them with the span's own scores first",
        "the formula of the first version's model exit could not be read; ours follows its description, with"
        " constants of our own (`exit_temperature`, `exit_floor`)",
        "the learning rate in use could not be found: the released scripts leave Hedge off; ours is 1",
        "drafts are cut before white space and keep their exact bytes; an empty one is left out, where the"
        " released code puts in a full stop",
        "equal drafts of several members are one candidate, which earns for each of them",
        "the winner's authors keep their own tokens, the others read its bytes by the session's rule; the released"
        " code appends the segment's tokens read alone",
        "ties go to the smaller bytes",
    ),
)


class Standing(NamedTuple):
    """What a request knows about its members: weights (n_members,), cumulative quality (n_members,) of
    their drafts, spans so far, and who is still there."""

    w: Floats
    quality: Floats
    n_spans: int
    who: tuple[int, ...]


@method(CARD)
class SpecFuse(SpanMethod):
    """Draft, verify, and online feedback (2412.07380, SpecFuse and its third version, SpecEM).

    Verifier v gives candidate c the share q_v(c) = softmax_c(mean_t log p_v(c_t | …)); the highest
    Σ_v w_v q_v(c) wins. spec-em: w starts uniform, and member i's grows by exp(η_t r_i), where r_i are the
    wins of its draft in the other verifiers' scores over (K − 1)² and η_t = η √(1/K) / t (Hedge). spec-fuse:
    w stays uniform, and a member leaves for good whose share of softmax(S / T) is under `exit_floor` / K,
    with S its drafts' mean scores so far and T = T₀ H(softmax(S)) / ln K; two always stay.
    Cost: per span each member writes `window` tokens and reads at most K candidates of that length.
    Fails where one member ends early: a draft that ends is taken, so the tersest decides the length. With two
    members neither variant changes anything: both always win, and both always stay.

    >>> candidates = [Candidate(b" a", False, (0,), 1), Candidate(b" b", False, (1,), 1)]
    >>> from septet.core.types import Tokens
    >>> ada = [Tokens((b" a",), np.log([.6])), Tokens((b" b",), np.log([.2]))]     # shares .75, .25
    >>> bob = [Tokens((b" a",), np.log([.1])), Tokens((b" b",), np.log([.4]))]     # shares .2, .8
    >>> method = SpecFuse()
    >>> method.choose(candidates, [ada, bob], method.standing(2))[0]    # .475 against .525
    1
    """

    variant: Annotated[
        Literal["spec-em", "spec-fuse"],
        param("Hedge weights (the third version), or model exit (the first)."),
    ] = "spec-em"
    window: Annotated[int, param("Tokens of a draft.", ge=1, le=256)] = 10
    temperature: Annotated[float, param("Of the drafts.", ge=0, le=2)] = 0.6
    top_p: Annotated[float, param("Of the drafts.", gt=0, le=1)] = 0.9
    ended_wins: Annotated[bool, param("A draft that ends the answer is taken at once.")] = True
    eta: Annotated[float, param("Hedge's learning rate; 0 keeps the weights equal.", ge=0, le=100)] = 1.0
    exit_temperature: Annotated[
        float, param("T₀: the higher, the closer the shares of good and bad members.", gt=0, le=100)
    ] = 1.0
    exit_floor: Annotated[
        float, param("A member leaves whose share is less than this part of an equal one.", ge=0, le=1)
    ] = 0.5

    def start(self, query: Query, pool: SeatPool, prepared: Any, state: Any) -> Standing:
        return self.standing(len(pool.members))

    def standing(self, n_members: int) -> Standing:
        """Nobody has earned anything yet."""
        return Standing(np.full(n_members, 1 / n_members), np.zeros(n_members), 0, tuple(range(n_members)))

    def spans(self, s: Standing) -> Spans:
        return Spans(
            max_tokens=self.window,
            first_tokens=self.window,
            trim=whole_words,
            temperature=self.temperature,
            top_p=self.top_p,
            who=s.who,
            ended_wins=self.ended_wins,
        )

    def choose(self, candidates: Sequence[Candidate], tokens: Scores, s: Standing) -> tuple[int, Standing]:
        s = s._replace(n_spans=s.n_spans + 1)
        shares = _shares(-readings(tokens, surprise))
        if np.isnan(shares).all():  # a sole candidate: everybody wrote it, or nobody else wrote anything
            return 0, s
        known = ~np.isnan(shares)
        weight = (s.w[:, None] * known).sum(axis=0)
        score = (s.w[:, None] * np.where(known, shares, 0.0)).sum(axis=0) / np.maximum(weight, 1e-300)
        own = np.full((len(s.w), len(s.w)), np.nan)  # [verifier][author]
        for c, candidate in enumerate(candidates):
            own[:, list(candidate.authors)] = shares[:, [c]]
        return int(score.argmax()), self._judged(s, own)

    def _judged(self, s: Standing, own: Floats) -> Standing:
        """The standing after the members' drafts were scored, (n_verifiers, n_authors)."""
        here = ~np.isnan(own)
        if self.variant == "spec-em":
            n = max(int(here.any(axis=0).sum()), 1)
            return s._replace(w=hedged(s.w, win_rewards(own), rate(self.eta, n, s.n_spans)))
        mean = np.where(here, own, 0.0).sum(axis=0) / np.maximum(here.sum(axis=0), 1)
        quality, who = s.quality + mean, np.array([i for i in s.who if here[i].any()])  # who has not failed
        kept = staying(quality[who], self.exit_temperature, self.exit_floor)
        return s._replace(quality=quality, who=tuple(who[kept].tolist()))

    def conclude(self, query: Query, verdict: Verdict, pool: SeatPool, s: Standing) -> Verdict:
        if self.variant == "spec-em":
            said = "weights " + ", ".join(f"{n} {w:.2f}" for n, w in zip(pool.names, s.w, strict=True))
        else:
            left = [name for i, name in enumerate(pool.names) if i not in s.who]
            said = "left: " + (", ".join(left) or "nobody")
        return replace(verdict, reason=f"{verdict.reason}; {said}")


def _shares(logp: Floats) -> Floats:
    """(n_verifiers, n_candidates): softmax over the candidates that a verifier has read, from mean
    log-probabilities; where it thinks all of them impossible, equal shares. NaN: absent."""
    known = ~np.isnan(logp)
    best = np.where(known, logp, -np.inf).max(axis=1, keepdims=True)
    grown = np.exp(np.where(np.isfinite(best), logp - np.where(np.isfinite(best), best, 0.0), 0.0))
    grown = np.where(known, grown, np.nan)
    return grown / np.where(known, grown, 0.0).sum(axis=1, keepdims=True).clip(1e-300)  # type: ignore[no-any-return]
