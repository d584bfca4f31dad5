"""Which members may decode together: UniTE's rule for choosing models (2410.03777), read off what they did.

The paper chooses by hand: models whose results on the task are within about ten points of each other, and which
answer in one style and at one length. Here a style is how much an answer says: one word, one line or several lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import hypot
from typing import Any

import numpy as np

from septet.core.errors import BadParameter
from septet.core.table import Table
from septet.core.types import Floats
from septet.parts.stats.intervals import Estimate, bootstrap_difference

GAP, LONGER, STYLE = 0.10, 2.0, 0.5
"""How far apart two members may be: in score [paper], in the ratio of their lengths, in style [both ours]."""

ALONE = "member"
"""What a record of `septet bench` calls the method of a member that was asked on its own."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Two members go together where none of these is exceeded."""

    gap: float = GAP
    longer: float = LONGER
    style: float = STYLE


@dataclass(frozen=True, slots=True)
class Seen:
    """A member on a task: its mean score over n questions, the middle length of its answers in `unit`, and the
    shares (3,) of answers that are one word, one line and several lines. None: not recorded."""

    member: str
    task: str
    score: float
    n: int
    length: float | None
    unit: str
    shares: tuple[float, float, float] | None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two members on a task. `gap`: the score of the better, `a`, less that of the other, with its interval;
    `longer` (≥ 1) the ratio of their lengths; `style` (0..1) the share of answers that would have to change
    their form. `reasons`: why they do not go together; empty where they do."""

    task: str
    a: str
    b: str
    gap: Estimate
    longer: float | None
    style: float | None
    reasons: tuple[str, ...]
    unsure: bool

    @property
    def fits(self) -> bool:
        return not self.reasons


@dataclass(frozen=True, slots=True)
class Advice:
    """`pool`: the best member and those that fit it and each other on every task, by falling score; a single one
    where none fits."""

    seen: tuple[Seen, ...]
    pairs: tuple[Pair, ...]
    pool: tuple[str, ...]


def of_table(table: Table, limits: Limits, rng: np.random.Generator) -> Advice:
    """From recorded answers: gaps are paired over the questions that both answered."""
    tasks = np.array(table.tasks)
    scores, tokens = table.matrix("score"), table.matrix("completion_tokens")
    seen, gaps = [], {}
    for task in sorted(set(table.tasks)):
        on = tasks == task
        for j, member in enumerate(table.members):
            known = scores[on, j][~np.isnan(scores[on, j])]
            if len(known):
                texts = [t for t in table.text[on[table.query] & (table.member == j)] if isinstance(t, str)]
                seen.append(_seen(member, task, known, texts, tokens[on, j]))
        for i, j in combinations(range(len(table.members)), 2):
            both = ~np.isnan(scores[on, i]) & ~np.isnan(scores[on, j])
            if both.any():
                gap = bootstrap_difference(scores[on, i], scores[on, j], rng)
                gaps[task, table.members[i], table.members[j]] = gap
    return _advice(seen, gaps, limits)


def of_record(record: Mapping[str, Any], limits: Limits) -> Advice:
    """From a record of `septet bench`: gaps of two shares, by Newcombe's interval; no style, for want of texts."""
    try:
        alone = [m for m in record["measured"] if m["method"] == ALONE]
        shares = {(m["task"], m["ensemble"]): Estimate(**m["accuracy"]) for m in alone}
        lengths = {(m["task"], m["ensemble"]): float(m["completion_tokens"]) for m in alone}
    except (KeyError, TypeError, ValueError) as error:
        raise BadParameter("record", repr(error), "must be a record of septet bench --save") from None
    seen = [
        Seen(member, task, e.value, e.n, lengths[task, member] / e.n, "tokens", None)
        for (task, member), e in shares.items()
    ]
    gaps = {
        (task, a, b): _newcombe(shares[task, a], shares[task, b])
        for task, a in shares
        for other, b in shares
        if task == other and a < b
    }
    return _advice(seen, gaps, limits)


def _seen(member: str, task: str, scores: Floats, texts: Sequence[str], tokens: Floats) -> Seen:
    known = tokens[~np.isnan(tokens)]
    if texts:
        forms = [_form(t) for t in texts]
        shares = (forms.count(0) / len(forms), forms.count(1) / len(forms), forms.count(2) / len(forms))
        length = float(np.median([len(t.strip()) for t in texts]))
        return Seen(member, task, float(scores.mean()), len(scores), length, "characters", shares)
    if len(known):
        return Seen(member, task, float(scores.mean()), len(scores), float(np.median(known)), "tokens", None)
    return Seen(member, task, float(scores.mean()), len(scores), None, "", None)


def _form(text: str) -> int:
    """0: at most one word; 1: one line; 2: several.

    >>> _form("B."), _form("It is B."), _form("Step 1.\\n\\nStep 2.")
    (0, 1, 2)
    """
    if len(text.strip().splitlines()) > 1:
        return 2
    return int(len(text.split()) > 1)


def _newcombe(first: Estimate, second: Estimate) -> Estimate:
    """The difference of two shares, not paired, from their Wilson intervals (Newcombe 1998, method 10).

    >>> str(_newcombe(Estimate(.8, .71, .87, 100), Estimate(.5, .40, .60, 100)))
    '0.300 [0.165, 0.422]'
    """
    value = first.value - second.value
    low = value - hypot(first.value - first.low, second.high - second.value)
    high = value + hypot(first.high - first.value, second.value - second.low)
    return Estimate(value, low, high, min(first.n, second.n), first.level)


def _advice(seen: Sequence[Seen], gaps: Mapping[tuple[str, str, str], Estimate], limits: Limits) -> Advice:
    known = {(s.task, s.member): s for s in seen}
    pairs = [_pair(known[task, a], known[task, b], gap, limits) for (task, a, b), gap in sorted(gaps.items())]
    members = {s.member for s in seen}
    ranked = sorted(members, key=lambda m: (-np.mean([s.score for s in seen if s.member == m]), m))
    apart = {frozenset((p.a, p.b)) for p in pairs if not p.fits}
    met = {frozenset((p.a, p.b)) for p in pairs}
    pool: list[str] = []
    for member in ranked:
        with_all = [frozenset((member, other)) for other in pool]
        if all(pair in met and pair not in apart for pair in with_all):
            pool.append(member)
    return Advice(tuple(seen), tuple(pairs), tuple(pool))


def _pair(first: Seen, second: Seen, gap: Estimate, limits: Limits) -> Pair:
    if gap.value < 0:
        first, second = second, first
        gap = Estimate(-gap.value, -gap.high, -gap.low, gap.n, gap.level)
    longer = _ratio(first, second)
    style = None
    if first.shares is not None and second.shares is not None:
        style = sum(abs(x - y) for x, y in zip(first.shares, second.shares, strict=True)) / 2
    reasons = tuple(_reasons(first, second, gap, longer, style, limits))
    unsure = gap.low <= limits.gap < gap.high or gap.low < -limits.gap
    return Pair(first.task, first.member, second.member, gap, longer, style, reasons, unsure)


def _ratio(first: Seen, second: Seen) -> float | None:
    if first.length is None or second.length is None or first.unit != second.unit:
        return None
    short, long = sorted((max(first.length, 1.0), max(second.length, 1.0)))
    return long / short


def _reasons(
    first: Seen, second: Seen, gap: Estimate, longer: float | None, style: float | None, limits: Limits
) -> Iterator[str]:
    if gap.value > limits.gap + 1e-9:  # .3 - .2 is a little more than .1
        yield f"{first.member} is {100 * gap.value:.0f} points better"
    if longer is not None and longer > limits.longer:
        wordy = max((first, second), key=lambda s: s.length or 0.0)
        yield f"{wordy.member} answers {longer:.2f} times as long"
    if style is not None and style > limits.style:
        yield f"{style:.0%} of the answers differ in form"
