"""A run of routers made up by hand, as `septet bench routers` writes it: for the tests of its readers."""

from __future__ import annotations

import math

from septet.bench.results import BoundResult, Interval, Point, Results, RouterResult, encode

MEMBERS = ["small", "middle", "large"]
USD = [0.0001, 0.001, 0.01]


def around(value: float, half: float = 0.02) -> Interval:
    """A value and an interval of that half-width."""
    return {"value": encode(value), "low": encode(value - half), "high": encode(value + half)}


def bare(value: float) -> Interval:
    """A value without an interval."""
    return {"value": encode(value), "low": None, "high": None}


def points(height: float) -> list[Point]:
    """Twelve points from dear and good at λ = 0 to cheap and bad at λ = ∞."""
    prices = [0.0, *(10.0**k for k in range(10)), math.inf]
    return [
        {
            "prefer": encode(price),
            "quality": around(height - 0.02 * i - 0.001 * i * i),
            "usd": around(0.008 * 0.7**i, 0.0),
        }
        for i, price in enumerate(prices)
    ]


def router(
    name: str, quality: float, *, variant: str = "", minus: float = 0.0, note: str = ""
) -> RouterResult:
    """One router; `minus` is its quality less that of the best single member, ± .02."""
    return {
        "table": "toy <set>",
        "router": name,
        "variant": variant,
        "parameters": {"k": 50},
        "seed": 0,
        "split": "own",
        "n_train": 900,
        "n_test": 400,
        "members": MEMBERS,
        "points": points(quality),
        "at_zero": {
            "quality": around(quality),
            "usd": around(0.008, 0.001),
            "minus_best_single": around(minus),
            "minus_reference": None,
        },
        "picks": [0.25, 0.05, 0.7],
        "metrics": {"AIQ": around(quality - 0.05), "QNC": bare(math.inf), "ECE": bare(0.031)},
        "calibration": [
            {"predicted": 0.25, "observed": 0.2, "count": 30},
            {"predicted": 0.85, "observed": 0.8, "count": 300},
        ],
        "regrets": [
            {
                "question": "What does <script>alert(1)</script> do & why?",
                "task": "web",
                "chosen": "small",
                "best": "large",
                "score_chosen": 0.0,
                "score_best": 1.0,
                "regret": 1.0,
            }
        ],
        "seconds_fit": 0.25,
        "seconds_predict": 0.5,
        "data_sha256": "0123456789abcdef",
        "note": note,
    }


def bound(name: str, quality: float, usd: float, picks: list[float]) -> BoundResult:
    """One bound."""
    return {
        "table": "toy <set>",
        "name": name,
        "convention": f"how {name} is computed",
        "seed": 0,
        "split": "own",
        "n_test": 400,
        "quality": around(quality),
        "usd": around(usd, 0.0),
        "members": MEMBERS,
        "picks": picks,
    }


def results() -> Results:
    """Two routers, one above and one below the best single member, with bounds, on one table."""
    mixture = bound("random mixture", 0.66, math.nan, [])
    mixture["points"] = [
        {"prefer": None, "quality": bare(q), "usd": bare(c)}
        for q, c in zip((0.45, 0.6, 0.7), USD, strict=True)
    ]
    return {
        "form": 1,
        "made": "2026-01-02",
        "packages": {"septet": "0.1.0"},
        "routers": [
            router("knn-router", 0.74, minus=0.04, note="seed 0 alone; takes long"),
            router("eagle", 0.66, variant="k=16", minus=-0.04, note="seed 0 alone"),
        ],
        "bounds": [
            bound("best single (train)", 0.70, 0.01, [0, 0, 1]),
            bound("random", 0.58, 0.0037, [1 / 3, 1 / 3, 1 / 3]),
            bound("oracle", 0.95, 0.002, [0.4, 0.3, 0.3]),
            mixture,
        ],
    }
