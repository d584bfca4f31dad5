"""What a table of outcomes holds, and what the trivial choices are worth on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from septet.core.table import NUMBERS, Table
from septet.core.types import Battle, Floats
from septet.engine.wire import number


def describe(table: Table) -> dict[str, Any]:
    """Counts, what is missing, the mean score and cost of each model, and bounds per split.

    The bounds, all in score: `random`, the mean over models; `best`, the model with the best mean on train
    (on all questions where there is no train), and its score here; `best_here`, the best in this very split,
    which nobody can know beforehand; `oracle`, the best answer to each question. Means are over questions,
    each the mean of its samples; a missing score is left out.
    """
    scores, usd = table.matrix("score"), table.matrix("usd")
    splits = np.array(table.splits, dtype=object)
    named = [name for name in dict.fromkeys(table.splits) if name]
    train = splits == "train" if "train" in named else np.ones(len(splits), dtype=np.bool_)
    parts = {name: splits == name for name in named} | {"all": np.ones(len(splits), dtype=np.bool_)}
    chosen = best(scores[train])
    cell = table.query.astype(np.int64) * len(table.members) + table.member
    return {
        "rows": len(table),
        "queries": len(table.queries),
        "models": len(table.members),
        "tasks": dict(Counter(t for t in table.tasks if t)),
        "groups": len({g for g in table.groups if g}),
        "splits": {name: int(keep.sum()) for name, keep in parts.items()},
        "samples": int(np.unique(cell, return_counts=True)[1].max()) if len(table) else 0,
        "missing_scores": share_missing(scores),
        "known": {name: number(float((~np.isnan(table.numbers[name])).mean())) for name in _given(table)},
        "texts": sum(text is not None for text in table.text) if table.text.strides != (0,) else 0,
        "members": [
            {
                "model": name,
                "rows": int((table.member == i).sum()),
                "missing_scores": share_missing(scores[:, [i]]),
                "score": _mean(scores[:, i]),
                "usd": _mean(usd[:, i]),
            }
            for i, name in enumerate(table.members)
        ],
        "bounds": {name: bounds(scores[keep], table.members, chosen) for name, keep in parts.items()},
    }


def bounds(scores: Floats, members: Sequence[str], chosen: int | None) -> dict[str, Any]:
    """What the trivial choices score on some questions; `scores` (q, m), `chosen` the best on train."""
    known = scores[~np.isnan(scores).all(axis=1)]
    here = best(known)
    if here is None or chosen is None:
        return {"queries": len(scores), "scored": 0}
    return {
        "queries": len(scores),
        "scored": len(known),
        "random": _mean(np.nanmean(known, axis=1)),
        "best": members[chosen],
        "best_score": _mean(known[:, chosen]),
        "best_here": members[here],
        "best_here_score": _mean(known[:, here]),
        "oracle": _mean(np.nanmax(known, axis=1)),
    }


def best(scores: Floats) -> int | None:
    """The column (m,) with the highest mean score; the first of equals; None where nothing is known."""
    means = [_mean(column) for column in scores.T]
    known = [(-m, i) for i, m in enumerate(means) if m is not None]
    return min(known)[1] if known else None


def describe_battles(battles: Sequence[Battle]) -> dict[str, Any]:
    """Counts, and each model's share of wins, where a tie is half of one."""
    fights: Counter[str] = Counter()
    wins: dict[str, float] = {}
    for b in battles:
        for name in (b.a, b.b):
            fights[name] += 1
            won = 0.5 if b.winner == "tie" else float(b.winner == name)
            wins[name] = wins.get(name, 0.0) + won
    shares = [{"model": m, "battles": n, "win_share": wins[m] / n} for m, n in fights.items()]
    return {
        "battles": len(battles),
        "queries": len({b.query for b in battles}),
        "models": len(fights),
        "ties": sum(b.winner == "tie" for b in battles),
        "members": sorted(shares, key=lambda row: -float(row["win_share"])),
    }


def share_missing(scores: Floats) -> float:
    """The share of question × model cells without a score."""
    return float(np.isnan(scores).mean()) if scores.size else 0.0


def _given(table: Table) -> list[str]:
    """The numeric columns that have any value."""
    return [name for name in NUMBERS if table.numbers[name].strides != (0,)]


def _mean(values: Floats | NDArray[Any]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
