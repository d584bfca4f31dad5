"""The JSON of a run, and the sections and rows that are read from it."""

from __future__ import annotations

import json
import math

import pytest

from routed import bound, results, router
from septet.bench.results import Span, decode, encode, interval, span
from septet.bench.sections import sections
from septet.parts.stats.intervals import Estimate


@pytest.mark.parametrize("x", [0.25, -3.0, math.inf, -math.inf])
def test_a_number_survives_strict_json(x: float) -> None:
    assert decode(json.loads(json.dumps(encode(x), allow_nan=False))) == x


def test_an_unknown_number_is_null() -> None:
    assert encode(math.nan) is None
    assert math.isnan(decode(None))


def test_an_interval_without_ends_is_a_bare_value() -> None:
    assert interval(0.5) == {"value": 0.5, "low": None, "high": None}
    found = interval(Estimate(1.5, 0.5, math.inf, 10))
    assert found == {"value": 1.5, "low": 0.5, "high": "inf"}
    assert span(found) == Span(1.5, 0.5, math.inf)


def test_a_whole_run_survives_strict_json() -> None:
    assert json.loads(json.dumps(results(), allow_nan=False)) == results()


def test_rows_come_best_first_and_a_curve_last() -> None:
    (section,) = sections(results())
    labels = [r.label for r in section.rows]
    assert labels == [
        "oracle",
        "knn-router",
        "best single (train)",
        "eagle · k=16",
        "random",
        "random mixture",
    ]
    assert [r.label for r in section.routers] == ["knn-router", "eagle · k=16"]
    assert section.best_single is not None
    assert section.best_single.quality.value == 0.70


def test_the_quality_of_a_curve_is_its_area() -> None:
    (section,) = sections(results())
    assert section.mixtures is not None
    assert section.mixtures.metrics["AIQ"].value == 0.66
    assert [p.usd.value for p in section.mixtures.points] == [0.0001, 0.001, 0.01]


def test_what_all_routers_note_is_said_once() -> None:
    (section,) = sections(results())
    assert section.notes == ("seed 0 alone",)
    assert [r.notes for r in section.routers] == [("takes long",), ()]


def test_a_split_is_a_section_of_its_own() -> None:
    run = results()
    other = router("knn-router", 0.5)
    other["split"] = "random"
    run["routers"].append(other)
    assert [(s.split, len(s.routers), len(s.bounds)) for s in sections(run)] == [
        ("own", 2, 4),
        ("random", 1, 0),
    ]


def test_bounds_alone_are_a_section() -> None:
    run = results()
    run["routers"], run["bounds"] = [], [bound("oracle", 0.9, 0.1, [0, 0, 1])]
    (section,) = sections(run)
    assert (section.n_test, section.routers, section.best_single) == (400, (), None)


def test_several_seeds_are_told_apart() -> None:
    run = results()
    run["routers"] = [router("eagle", 0.5), router("eagle", 0.6)]
    run["routers"][1]["seed"] = 1
    (section,) = sections(run)
    assert [r.label for r in section.routers] == ["eagle · seed 1", "eagle · seed 0"]
