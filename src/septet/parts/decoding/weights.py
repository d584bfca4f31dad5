"""What each member counts for: by given scores, by how well it reads the prompt, by how sure it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from septet.core.errors import BadParameter
from septet.core.session import Ids
from septet.core.types import Floats, Tokens
from septet.parts.decoding.aggregate import Rows, softmax

GRID = 0.05
"""PackLLM's step of λ."""


def uniform(n: int) -> Floats:
    """(n,) equal weights, summing to one."""
    return np.full(n, 1.0 / n)


def by_score(scores: Mapping[str, float] | None, names: Sequence[str], parameter: str) -> Floats:
    """(n_members,) weights in proportion to each member's score, by name, summing to one; equal ones where no
    scores are given. A member without a score gets none. `parameter` is what an error calls the scores.

    >>> by_score({"ada": .6, "bob": .9}, ["bob", "cyd", "ada"], "gac.weights").round(3).tolist()
    [0.6, 0.0, 0.4]
    """
    if scores is None:
        return uniform(len(names))
    unknown = [name for name in scores if name not in names]
    given = np.array([scores.get(name, 0.0) for name in names], dtype=np.float64)
    if unknown or not np.isfinite(given).all() or given.min() < 0 or not given.any():
        raise BadParameter(
            parameter, dict(scores), f"must give a number ≥ 0 to some of {list(names)}, not all 0"
        )
    return given / given.sum()  # type: ignore[no-any-return]


def by_loss(loss: Floats, tau: float) -> Floats:
    """w = softmax(−L/τ), for losses (n,) in nats per token (PackLLM-sim, 2404.11531); NaN: weight 0.

    >>> by_loss(np.array([2.0, 2.7]), 1.0).round(4).tolist()
    [0.6682, 0.3318]
    """
    return softmax(np.where(np.isnan(loss), -np.inf, -loss / tau))


def by_greedy_search(loss: Floats, mixed: Callable[[Floats], float], step: float = GRID) -> Floats:
    """(n,) weights that lower the loss of the mixture, one member after the other (PackLLM-opt, 2404.11531).

    Begins with the member of the lowest `loss` (n,). Each next one, by loss, joins what there is with the
    weight 1 − λ, for the λ of the grid 0, step, … 1 at which `mixed`, the loss under weights (n,), is lowest;
    ties to the larger λ. Members of one and the same loss join together, in equal parts, so that their order
    does not matter. A member whose loss is NaN gets no weight.

    >>> logp = np.log([[.8, .1], [.1, .7]])      # two places in a text, each right by one member
    >>> by_greedy_search(-logp.mean(axis=1), lambda w: float(-np.log(w @ np.exp(logp)).mean())).tolist()
    [0.5, 0.5]
    """
    grid = np.linspace(1.0, 0.0, round(1 / step) + 1)
    weights = np.zeros(len(loss))
    for value in np.unique(loss[~np.isnan(loss)]):
        joining = (loss == value) / np.count_nonzero(loss == value)
        tried = [lam * weights + (1 - lam) * joining for lam in grid] if weights.any() else [joining]
        weights = tried[int(np.argmin([mixed(w) for w in tried]))]
    return weights


def by_certainty(logp: Rows) -> Floats:
    """(n,) weights in proportion to 1/H(p_i), summing to one, for log-probabilities (n, t) over one list of
    strings; H in nats (CoRE, 2510.13855). Members without doubt share all; one without a view has none.

    >>> by_certainty(np.log([[.7, .3], [.5, .5]])).round(4).tolist()
    [0.5315, 0.4685]
    """
    p = np.exp(logp, dtype=np.float64)
    doubt = -np.where(p > 0, p * np.where(p > 0, logp, 0.0), 0.0).sum(axis=1)
    live = p.sum(axis=1) > 0
    sure = live & (doubt <= 0)
    with np.errstate(divide="ignore"):
        weights = sure.astype(np.float64) if sure.any() else np.where(live, 1 / doubt, 0.0)
    return weights / weights.sum()  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Read:
    """How n members read one text, cut at the places where all their tokens end: `logp` (n, m) of the m
    segments, each the sum over a member's tokens; `tokens` (n,) how many these are. A member that is not there
    has a row of NaN. The same bytes count for all, and nothing of their prompts' own frames does."""

    logp: Floats
    tokens: Ids

    @property
    def loss(self) -> Floats:
        """(n,) each member's mean negative log-probability per token of its own, in nats."""
        return -self.logp.sum(axis=1) / np.maximum(self.tokens, 1)  # type: ignore[no-any-return]

    def mixed(self, weights: Floats) -> float:
        """The mean over segments of −log Σ_i w_i p_i: the loss of the members' arithmetic mixture."""
        rows = [np.log(w) + row for w, row in zip(weights, self.logp, strict=True) if w > 0]
        return float(-np.logaddexp.reduce(rows, axis=0).mean())


def read(prompts: Sequence[Tokens | None], text: bytes) -> Read | None:
    """The last place of a text in each member's prompt; None where a prompt does not hold it, or where no
    segment has a probability from everyone."""
    spelled = [None if p is None else _spelled(p, text) for p in prompts]
    cuts = [s.cuts for s in spelled if s is not None]
    common = np.array(sorted(set.intersection(*cuts))) if cuts else np.array([])
    if len(common) < 2:
        return None
    m = len(common) - 1
    logp, counts = np.full((len(prompts), m), np.nan), np.zeros((len(prompts), m), dtype=np.int32)
    for i, s in enumerate(spelled):
        if s is not None:
            logp[i], counts[i] = s.between(common)
    there = np.array([s is not None for s in spelled])
    known = ~np.isnan(logp[there]).any(axis=0)
    return Read(logp[:, known], counts[:, known].sum(axis=1)) if known.any() else None


@dataclass(frozen=True)
class _Spelled:
    """A prompt's tokens that are not empty: where each begins and ends, counted from the text, and its logp."""

    begin: Ids
    end: Ids
    logp: Floats
    cuts: set[int]

    def between(self, cuts: Ids) -> tuple[Floats, Ids]:
        """(m,) the log-probability, and the number of tokens, between each two neighbouring cuts."""
        inside = (self.begin >= cuts[0]) & (self.end <= cuts[-1])
        segment = np.searchsorted(cuts, self.begin[inside], side="right") - 1
        m = len(cuts) - 1
        logp: Floats = np.bincount(segment, weights=self.logp[inside], minlength=m).astype(np.float64)
        return logp, np.bincount(segment, minlength=m).astype(np.int32)


def _spelled(prompt: Tokens, text: bytes) -> _Spelled:
    sizes = np.array([len(t) for t in prompt.texts], dtype=np.int32)
    at = b"".join(prompt.texts).rfind(text)
    end = np.cumsum(sizes, dtype=np.int32) - max(at, 0)
    begin = end - sizes
    inside = (begin >= 0) & (end <= len(text)) if at >= 0 else np.zeros(len(sizes), dtype=np.bool_)
    held = sizes > 0
    edges = np.concatenate([begin[inside & held], end[inside & held]])
    return _Spelled(begin[held], end[held], prompt.logp[held], set(edges.tolist()))


def whole_loss(prompts: Sequence[Tokens | None]) -> Floats:
    """(n,) each member's mean negative log-probability per token of its whole prompt, in nats; NaN without one.

    >>> whole_loss([Tokens((b"a", b"b", b"c"), np.array([np.nan, -1.0, -2.0])), None]).tolist()
    [1.5, nan]
    """
    loss = np.full(len(prompts), np.nan)
    for i, prompt in enumerate(prompts):
        known = np.array([]) if prompt is None else prompt.logp[~np.isnan(prompt.logp)]
        if len(known):
            loss[i] = -known.mean()
    return loss
