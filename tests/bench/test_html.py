"""The report: what stands on the page, that nothing is fetched, and that no text becomes markup."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from routed import results, router
from septet.bench.charts import N_COLOURS, Mark, Scale, Series, Vertex, cost_quality, interval_bar, shares
from septet.bench.html import METHODS, SHOWN, money, page
from septet.bench.results import Results, Span

VOID = {"meta", "link", "input", "hr", "br", "img"}


class Elements(HTMLParser):
    """Counts elements, and refuses a tag that is closed by another."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text.append(data)

    def having(self, css: str) -> list[str]:
        """The tags of elements of a CSS class."""
        return [tag for tag, facts in self.seen if css in (facts.get("class") or "").split()]


def without_cost() -> Results:
    run = results()
    for r in run["routers"]:
        for p in r["points"]:
            p["usd"] = {"value": None, "low": None, "high": None}
    return run


def test_every_element_is_closed_and_every_curve_is_there() -> None:
    found = Elements(page(results()))
    assert found.having("series").count("g") == 2
    assert len([t for t, a in found.seen if t == "tr" and a.get("class") == "bound"]) == 4
    assert found.having("reliability") == ["svg", "svg"]
    assert found.having("shares") == ["svg"] * 5  # two routers and three bounds; a curve picks nobody


def test_nothing_is_fetched() -> None:
    text = page(results())
    found = Elements(text)
    assert "default-src 'none'" in text
    assert "http:" not in text.replace("http-equiv", "")
    assert "https:" not in text
    assert "url(" not in text
    assert "@import" not in text
    sources = [a.get("src") or a.get("href") for _, a in found.seen if "src" in a or "href" in a]
    assert set(sources) == {"data:,", "#t0"}


def test_texts_from_data_are_escaped() -> None:
    run = results()
    run["routers"][0]["router"] = '<b>"bold"</b>'
    text = page(run, replace(METHODS, title="a < b"))
    assert text.count("<script>") == 1  # our own
    assert "What does &lt;script&gt;alert(1)&lt;/script&gt; do &amp; why?" in text
    assert "<h2>toy &lt;set&gt;</h2>" in text
    assert "<b>" not in text
    assert 'title="&lt;b&gt;&quot;bold&quot;&lt;/b&gt;"' in text
    assert "<title>a &lt; b</title>" in text
    Elements(text)


def test_a_difference_is_coloured_by_the_side_on_which_its_interval_lies() -> None:
    text = page(results())
    assert re.search(r'<td class="good" data-v="0.04">\+0.040 <small>\[\+0.020, \+0.060\]', text)
    assert re.search(r'<td class="bad" data-v="-0.04">−0.040 <small>\[−0.060, −0.020\]', text)
    run = results()
    run["routers"] = [router("eagle", 0.7, minus=0.01)]
    assert re.search(r'<td class="" data-v="0.01">\+0.010', page(run))


def test_infinite_and_unknown_numbers_are_shown_as_such() -> None:
    text = page(results())
    assert '<td data-v="Infinity">∞</td>' in text  # QNC
    assert '<td data-v="">—</td>' in text


def test_a_table_without_cost_says_so_and_keeps_its_ranking() -> None:
    text = page(without_cost())
    assert "No cost is recorded for this table" in text
    assert 'class="curves"' not in text
    assert "USD / 1,000" not in text
    assert "knn-router" in text
    Elements(text)


def test_beside_many_routers_only_the_best_curves_are_shown_at_first() -> None:
    run = results()
    run["routers"] = [router("eagle", 0.5 + 0.01 * i, variant=f"k={i}") for i in range(N_COLOURS + 2)]
    found = Elements(page(run))
    boxes = [a for t, a in found.seen if t == "input"]
    assert [("checked" in a) for a in boxes] == [True] * SHOWN + [False] * (N_COLOURS + 2 - SHOWN)
    assert found.having("series").count("g") == N_COLOURS + 2
    assert found.having("dashed").count("g") == 2  # colours come again, dashed


def test_what_failed_is_named() -> None:
    run = results()
    run["failed"] = [{"job": "eagle on nq6", "error": "ValueError: <nan>"}]
    assert "<dt>eagle on nq6</dt><dd>ValueError: &lt;nan&gt;</dd>" in page(run)


def test_a_run_with_nothing_in_it_is_still_a_page() -> None:
    run = results()
    run["routers"], run["bounds"] = [], []
    Elements(page(run))
    run = results()
    run["routers"] = []
    assert "best single (train)" in page(run)


def test_a_text_that_was_not_kept_is_said_to_be_so() -> None:
    run = results()
    run["routers"][0]["regrets"][0]["question"] = ""
    assert "text not kept" in page(run)


@pytest.mark.parametrize(
    ("usd", "text"),
    [(0.02634, "$0.0263"), (0.5, "$0.5"), (12.34, "$12.3"), (1234.5, "$1,234"), (0.0, "$0"), (math.nan, "—")],
)
def test_money_has_three_digits(usd: float, text: str) -> None:
    assert money(usd) == text


# --- charts ----------------------------------------------------------------------------------------


def test_costs_that_differ_much_have_a_logarithmic_axis() -> None:
    scale = Scale.over([1.0, 100.0], 0.0, 100.0, log=True)
    assert scale.log
    assert scale(10.0) == pytest.approx(50.0)
    assert scale.ticks() == [1, 2, 5, 10, 20, 50, 100]
    assert not Scale.over([1.0, 4.0], 0.0, 100.0, log=True).log


def test_a_linear_axis_has_round_ticks() -> None:
    assert Scale.over([0.58, 0.92], 0.0, 1.0).ticks() == pytest.approx([0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9])


def test_one_value_alone_has_a_scale() -> None:
    scale = Scale.over([0.5], 0.0, 100.0)
    assert scale(0.5) == pytest.approx(50.0)


def test_a_value_outside_is_put_on_the_edge() -> None:
    scale = Scale(0.0, 1.0, 10.0, 20.0)
    assert (scale(-1.0), scale(2.0)) == (10.0, 20.0)


def test_random_mixtures_are_bent_on_a_logarithmic_axis() -> None:
    ends = [Vertex(Span(1.0), Span(0.0), "a"), Vertex(Span(100.0), Span(1.0), "b")]
    drawn = cost_quality([], [], line=ends, money=str)
    path = re.search(r'class="zero"><path d="M([^"]*)"', drawn)
    assert path is not None
    places = [tuple(map(float, p.split())) for p in path[1].split("L")]
    # half of the way up, at 50.5 USD, is 85 % of the way along a logarithmic axis
    (x0, _), (x1, _), (x, y) = places[0], places[-1], places[len(places) // 2]
    assert (x - x0) / (x1 - x0) == pytest.approx(math.log10(50.5) / 2, abs=0.002)
    assert y == pytest.approx((places[0][1] + places[-1][1]) / 2, abs=0.1)


def test_a_mark_beyond_the_range_of_the_curves_says_on_which_side() -> None:
    curve = Series("s", 0, (Vertex(Span(1.0), Span(0.5), "p"), Vertex(Span(2.0), Span(0.6), "q")))
    places = {"oracle": 0.9, "near": 0.62, "random": 0.1}
    marks = [Mark("m", "ring", Vertex(Span(1.5), Span(y), name)) for name, y in places.items()]
    drawn = cost_quality([curve], marks, money=str)
    said = re.findall(r"<title>(oracle|near|random)([^<]*)</title>", drawn)
    assert said == [
        ("oracle", " (above the range of this chart)"),
        ("near", ""),
        ("random", " (below the range of this chart)"),
    ]
    heights = [float(y) for y in re.findall(r"translate\([\d.]+ ([\d.]+)\)", drawn)]
    assert heights == sorted(heights)  # a pixel further down is a lower quality
    assert drawn.count('class="beyond"') == 2


def test_shares_lie_side_by_side() -> None:
    drawn = shares([("a", 0.25, 0), ("b", 0.0, 1), ("c <", 0.75, None)])
    assert re.findall(r'x="([\d.]+)" width="([\d.]+)"', drawn) == [("0.000", "2.500"), ("2.500", "7.500")]
    assert "c &lt;: 75.0 %" in drawn


def test_an_unknown_quality_has_no_bar() -> None:
    assert interval_bar(Span(), Scale(0.0, 1.0, 0.0, 1.0), 0.5, strong=True) == ""
