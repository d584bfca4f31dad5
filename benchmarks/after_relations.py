"""What comparing and counting many answers takes, against the loop over pairs that one would write first.

Both sides use the same library: sacreBLEU's own sentence score, numpy's dot product, crowd-kit's Dawid–Skene. That both
say the same is asserted, since a fast answer to another question is worth nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from figures import Figure, Section, Setting, figure

from septet.core.types import Floats
from septet.parts.answers.bleu import bleu_matrix
from septet.parts.answers.crowd import Labels, dawid_skene
from septet.parts.answers.similarity import cosines, mean_of_others

CANDIDATES, WORDS, WIDTH = 16, 40, 384
"""Candidates of a query, words of a candidate, and numbers of its embedding."""

JUDGES, LEVELS, ROUNDS = 4, 5, 20
"""Who labels each candidate, with one of how many levels; rounds of expectation and maximisation."""

AIM = 0.2
"""Five times as fast."""


@dataclass(frozen=True)
class Size:
    """How many queries; of them the loop of BLEU, which is too slow for all, takes so many; times of each."""

    queries: int = 1000
    looped: int = 25
    repeats: int = 3


def run(setting: Setting) -> Section:
    """Seconds of ours ÷ seconds of the loop, in turn."""
    size = Size(6, 2, 2) if setting.quick else Size()
    rng = np.random.default_rng(0)
    texts = [_candidates(rng) for _ in range(size.queries)]
    z = rng.normal(size=(size.queries, CANDIDATES, WIDTH))
    z /= np.linalg.norm(z, axis=2, keepdims=True)
    said = _judged(rng, size.queries * CANDIDATES)
    some = texts[: size.looped]
    figures = [
        *_figures("BLEU", size, lambda: _bleu(texts), lambda: _bleu_looped(some), size.looped),
        *_figures("cosine", size, lambda: _cosine(z), lambda: _cosine_looped(z), size.queries),
        *_figures("Dawid–Skene", size, lambda: _crowd(said), lambda: _crowd_kit(said), size.queries),
    ]
    assert _bleu(some) == _bleu_looped(some), "BLEU chooses other candidates than sacreBLEU's"
    assert _cosine(z) == _cosine_looped(z), "cosine chooses other candidates than the loop"
    apart = float(np.abs(_crowd(said) - _crowd_kit(said)).max())
    assert apart < 1e-6, f"Dawid–Skene is {apart:g} from crowd-kit's"
    return Section(
        "after_relations",
        f"{size.queries:,} queries × {CANDIDATES} candidates: {WORDS} words, embeddings of {WIDTH}, {JUDGES} judges"
        f" with {LEVELS} levels, {ROUNDS} rounds",
        tuple(figures),
        (
            f"the loop of BLEU is timed on {size.looped} of the queries; all by number of queries",
            "both sides choose the same candidates, and their posteriors differ by less than 1e-6",
        ),
    )


def _figures(
    name: str, size: Size, ours: Callable[[], Any], looped: Callable[[], Any], n_looped: int
) -> list[Figure]:
    """The ratio per query, and milliseconds of all queries."""
    own, other = [], []
    ours()
    for _ in range(size.repeats):
        own.append(_seconds(ours) / size.queries)
        other.append(_seconds(looped) / n_looped)
    ratios = [a / b for a, b in zip(own, other, strict=True)]
    return [
        figure(f"{name}: time ÷ the loop's", ratios, aim=AIM),
        figure(f"{name}: {size.queries:,} queries", [1e3 * s * size.queries for s in own], unit="ms"),
        figure(
            f"{name}: the loop, {size.queries:,} queries", [1e3 * s * size.queries for s in other], unit="ms"
        ),
    ]


def _seconds(work: Callable[[], Any]) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began


# --- what is aggregated ---------------------------------------------------------------------------------


def _candidates(rng: np.random.Generator) -> list[str]:
    """Texts that say much the same in part: a third of the words of each are its own, as are some commas."""
    common = rng.zipf(1.3, WORDS) % 5000
    found = []
    for _ in range(CANDIDATES):
        own = np.where(rng.random(WORDS) < 1 / 3, rng.zipf(1.3, WORDS) % 5000, common)
        commas = rng.random(WORDS) < 0.08
        found.append(" ".join(f"w{w}{',' if c else ''}" for w, c in zip(own, commas, strict=True)) + ".")
    return found


def _judged(rng: np.random.Generator, n_items: int) -> Floats:
    """(n_items, JUDGES) levels; judges are right to different degrees."""
    truth = rng.integers(0, LEVELS, n_items)
    right = rng.random((n_items, JUDGES)) < rng.uniform(0.4, 0.9, JUDGES)
    away = rng.integers(1, LEVELS, (n_items, JUDGES))
    return np.where(right, truth[:, None], (truth[:, None] + away) % LEVELS).astype(np.float64)


# --- ours, and the loops --------------------------------------------------------------------------------


def _bleu(texts: list[list[str]]) -> list[int]:
    return [int(mean_of_others(bleu_matrix(of)).round(6).argmax()) for of in texts]


def _bleu_looped(texts: list[list[str]]) -> list[int]:
    from sacrebleu.metrics import BLEU

    metric, found = BLEU(effective_order=True, lowercase=True), []
    for of in texts:
        worth = []
        for i, hypothesis in enumerate(of):
            scores = [metric.sentence_score(hypothesis, [r]).score for j, r in enumerate(of) if j != i]
            worth.append(round(float(np.mean(scores)), 6))
        found.append(int(np.argmax(worth)))
    return found


def _cosine(z: Floats) -> list[int]:
    return [int(mean_of_others(cosines(of)).round(9).argmax()) for of in z]


def _cosine_looped(z: Floats) -> list[int]:
    found = []
    for of in z:
        worth = []
        for i, one in enumerate(of):
            scores = [
                np.dot(one, other) / (np.linalg.norm(one) * np.linalg.norm(other))
                for j, other in enumerate(of)
                if j != i
            ]
            worth.append(round(float(np.mean(scores)), 9))
        found.append(int(np.argmax(worth)))
    return found


def _crowd(said: Floats) -> Floats:
    labels = Labels.of(said, LEVELS)
    return dawid_skene(labels, smoothing=0.0, rounds=ROUNDS, tolerance=0.0)[0]


def _crowd_kit(said: Floats) -> Floats:
    import pandas
    from crowdkit.aggregation import DawidSkene

    items, judges = said.shape
    frame = pandas.DataFrame(
        {
            "task": np.repeat(np.arange(items), judges),
            "worker": np.tile(np.arange(judges), items),
            "label": said.ravel().astype(int),
        }
    )
    found = DawidSkene(n_iter=ROUNDS, tol=-1e9).fit_predict_proba(frame).sort_index()
    return np.asarray(found[list(range(LEVELS))].to_numpy(), dtype=np.float64)
