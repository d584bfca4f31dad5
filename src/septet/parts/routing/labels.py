"""From raw outcomes to what a network is taught: soft labels, pairs, counts, smoothing, relaxation, balance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from septet.core.table import Table
from septet.core.types import Floats
from septet.parts.routing.records import Known

RIGHT = 0.5
"""A score from here on counts as right."""

_STEPS = 512
"""Relaxations that are tried at most."""


def right(scores: Floats) -> Floats:
    """1 where a score counts as right, 0 where not, NaN where it is unknown; any shape."""
    return np.where(np.isnan(scores), np.nan, (scores >= RIGHT).astype(np.float64))


# --- soft labels --------------------------------------------------------------------------------------


def softmax_labels(scores: Floats, temperature: float = 1.0) -> Floats:
    """(r, m) softmax of scores (r, m) over the members whose score is known; NaN where it is not.

    At temperature 0 the best share the label: one member, or all that are equally good.

    >>> softmax_labels(np.array([[.9, .8, np.nan]])).round(3).tolist()
    [[0.525, 0.475, nan]]
    """
    known = ~np.isnan(scores)
    filled = np.where(known, scores, -np.inf)
    top = filled.max(axis=1, keepdims=True)
    above = filled - np.where(np.isfinite(top), top, 0.0)  # ≤ 0
    share = np.where(above == 0, 1.0, 0.0) if temperature == 0 else np.exp(above / temperature)
    with np.errstate(invalid="ignore"):
        labels: Floats = share / share.sum(axis=1, keepdims=True)
    return np.where(known, labels, np.nan)


def tag_smoothed(labels: Floats, tags: Sequence[Sequence[str]], beta: float) -> Floats:
    """(r, m) β·label + (1 − β)·the mean over a question's tags of the tag's mean label (2311.08692).

    `labels` (r, m) are normalised; `tags` (r) names those of each question, which itself counts in their means.
    An unknown label stays unknown and is left out of the means; a question without a tag keeps its label.

    >>> tag_smoothed(np.array([[1., 0.], [0., 1.]]), [["sums"], ["sums"]], beta=0.5).tolist()
    [[0.75, 0.25], [0.25, 0.75]]
    """
    row = np.repeat(np.arange(len(tags)), [len(t) for t in tags])
    names = {name: i for i, name in enumerate(dict.fromkeys(t for of in tags for t in of))}
    tag = np.array([names[t] for of in tags for t in of], dtype=np.int64)
    known = ~np.isnan(labels)
    total, count = np.zeros((len(names), labels.shape[1])), np.zeros((len(names), labels.shape[1]))
    np.add.at(total, tag, np.where(known, labels, 0.0)[row])
    np.add.at(count, tag, known[row])
    mean = total / np.where(count > 0, count, 1.0)  # (tags, m)
    around = np.zeros_like(labels)
    np.add.at(around, row, mean[tag])
    n_tags = np.array([len(t) for t in tags])[:, None]
    around = np.where(n_tags > 0, around / np.maximum(n_tags, 1), labels)
    smoothed = np.where(known, beta * labels + (1 - beta) * around, np.nan)
    with np.errstate(invalid="ignore"):  # means over other members than are known here need not add up to 1
        shares: Floats = smoothed / np.nansum(smoothed, axis=1, keepdims=True)
    return shares


# --- comparisons --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pairs:
    """Comparisons (p,): on question `row`, member `a` against `b` > a; `share` of a: 1 won, ½ tied, 0 lost."""

    row: NDArray[np.int64]
    a: NDArray[np.int64]
    b: NDArray[np.int64]
    share: Floats


def pairs(scores: Floats) -> Pairs:
    """Every two members with a known score on a question of scores (r, m): the higher one wins.

    >>> pairs(np.array([[1., 0., np.nan], [.5, .5, 0.]])).share.tolist()
    [1.0, 0.5, 1.0, 1.0]
    """
    first, second = np.triu_indices(scores.shape[1], k=1)
    gap = scores[:, first] - scores[:, second]  # (r, pairs)
    row, pair = np.nonzero(~np.isnan(gap))
    return Pairs(row, first[pair], second[pair], (np.sign(gap[row, pair]) + 1) / 2)


@dataclass(frozen=True)
class Counts:
    """`wins` (m, m): how often the row's member beat the column's; `ties` (m, m), symmetric; losses: wins.T."""

    wins: Floats
    ties: Floats


def counts(found: Pairs, n_members: int) -> Counts:
    """Wins and ties of every two members.

    >>> counts(pairs(np.array([[1., 0.], [1., 0.], [0., 1.], [1., 1.]])), 2).wins.tolist()
    [[0.0, 2.0], [1.0, 0.0]]
    """
    wins, ties = np.zeros((n_members, n_members)), np.zeros((n_members, n_members))
    won, lost, tied = found.share == 1, found.share == 0, found.share == 0.5
    np.add.at(wins, (found.a[won], found.b[won]), 1.0)
    np.add.at(wins, (found.b[lost], found.a[lost]), 1.0)
    np.add.at(ties, (found.a[tied], found.b[tied]), 1.0)
    return Counts(wins, ties + ties.T)


# --- two arms -----------------------------------------------------------------------------------------


def at_least(gaps: Sequence[Floats], relaxation: float = 0.0) -> Floats:
    """(r,) y(t): the share of a question's gaps, weak less strong, that are ≥ −t (2404.14618).

    gaps[i] holds the differences of question i over all pairs of a weak and a strong sample; none: NaN.

    >>> at_least([np.array([.5, 1.5, -.5, .5])]).tolist()
    [0.75]
    """
    return np.array([np.mean(g >= -relaxation) if len(g) else np.nan for g in gaps])


def relaxation(gaps: Sequence[Floats]) -> float:
    """t* ≥ 0 that spreads the labels y(t) most: argmax of their mean absolute difference (2404.14618).

    y(t) only changes where t is the size of some negative gap, so those are tried (evenly chosen ones, where
    there are more than 512), and 0; ties → the smallest.

    >>> relaxation([np.array([-3.]), np.array([-1.]), np.array([-.5]), np.array([.2])])
    0.5
    """
    held = [g for g in gaps if len(g)]
    sizes = np.unique(np.concatenate([[0.0], *(-g[g < 0] for g in held)]))
    tried = sizes[np.unique(np.linspace(0, len(sizes) - 1, _STEPS).round().astype(int))]
    if not held:
        return 0.0
    of = np.repeat(np.arange(len(held)), [len(g) for g in held])
    flat, n_of = np.concatenate(held), np.array([len(g) for g in held])
    spreads = [spread(np.bincount(of, weights=flat >= -t) / n_of) for t in tried]
    return float(tried[int(np.argmax(np.round(spreads, 12)))])


def spread(y: Floats) -> float:
    """Mean absolute difference of all ordered pairs of y (r,), (1/r²)·Σ|y_i − y_j|.

    >>> spread(np.array([0., 0., 1., 1.]))
    0.5
    """
    rank = np.arange(len(y))
    return float(2 * ((2 * rank - len(y) + 1) * np.sort(y)).sum() / len(y) ** 2)


def gaps(known: Known, weak: int = 0, strong: int = 1, single: bool = False) -> list[Floats]:
    """Per known question, the differences of score weak − strong over all pairs of their samples.

    `single`: of the first sample of each only. A question that lacks either has none.
    """
    table, place = known.table, _places(known.table)
    scored = ~np.isnan(table.score)
    order = np.lexsort((table.sample, table.query))
    held: dict[tuple[int, int], list[float]] = {}
    for i in order[scored[order]].tolist():
        held.setdefault((int(table.query[i]), int(table.member[i])), []).append(float(table.score[i]))
    found = []
    for text in known.questions:
        a, b = (np.array(held.get((place[text], arm), [])) for arm in (weak, strong))
        if single:
            a, b = a[:1], b[:1]
        found.append((a[:, None] - b[None, :]).ravel())
    return found


# --- samples, tags and balance ------------------------------------------------------------------------


def majority_right(known: Known) -> Floats:
    """(r, m) 1 where the answer that most of a member's samples give is right, 0 where not, NaN unknown.

    Ties → the answer given first. Where the samples' answers are not recorded, the mean score decides.
    """
    table, place = known.table, _places(known.table)
    row_of = {place[text]: i for i, text in enumerate(known.questions)}
    label = right(known.scores)
    said: dict[tuple[int, int], dict[str, list[float]]] = {}
    unsaid: set[tuple[int, int]] = set()
    for i in np.lexsort((table.sample, table.query)).tolist():
        cell = (row_of.get(int(table.query[i]), -1), int(table.member[i]))
        if cell[0] < 0 or np.isnan(table.score[i]):
            continue
        if table.answer[i] is None:
            unsaid.add(cell)
        said.setdefault(cell, {}).setdefault(str(table.answer[i]), []).append(float(table.score[i]))
    for cell, answers in said.items():
        if cell not in unsaid:
            label[cell] = float(np.mean(max(answers.values(), key=len)) >= RIGHT)
    return label


def balanced(y: Floats) -> Floats:
    """(r, c) weights that make rarer labels count more: where y is 1, all positives / (c · those of the output).

    These are the class weights of 2405.00467's code: over the members as classes, applied to positive labels;
    negative ones weigh 1. An output without a positive label has weights of 1.

    >>> balanced(np.array([[1., 1.], [1., 0.], [1., 0.]])).round(2).tolist()
    [[0.67, 2.0], [0.67, 1.0], [0.67, 1.0]]
    """
    positives = np.nansum(y, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        heavier = np.where(positives > 0, positives.sum() / (len(positives) * positives), 1.0)
    return np.where(y >= RIGHT, heavier, 1.0)


def _places(table: Table) -> dict[str, int]:
    """The query of each question's text: the first one with a score, as `Known` takes it."""
    places: dict[str, int] = {}
    for i in np.unique(table.query[~np.isnan(table.score)]).tolist():
        places.setdefault(table.questions[i], i)
    return places
