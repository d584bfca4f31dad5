"""Pieces on the screen and on the page: who supported each, who agreed, what it cost."""

from __future__ import annotations

import doctest
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from septet.cli import _piece_page, _pieces
from septet.cli._pieces import agreed, lines, quoted
from septet.core.trace import PieceEvent

from .conftest import Run


def event(number: int = 0, **facts: Any) -> PieceEvent:
    plain: dict[str, Any] = {
        "request": "r1",
        "path": "fused",
        "number": number,
        "at": 0,
        "piece": b" cat",
        "logp": math.log(0.5),
        "support": {"ada": 0.75, "bob": 0.25},
        "candidates": (
            (b" cat", 0.5, {"ada": 0.6, "bob": 0.4}),
            (b" dog", 0.3, {"ada": 0.1, "bob": 0.5}),
            (b"\n", 0.1, {"ada": 0.1, "bob": 0.1}),
            (b"a", 0.05, {"ada": 0.0, "bob": 0.0}),
        ),
        "asked": ("ada", "bob"),
        "fed": {"ada": 1, "bob": 0},
        "forward_seconds": {"ada": 0.25, "bob": 0.0},
        "seconds": 0.125,
    }
    return PieceEvent(**{**plain, **facts})


def test_the_examples_in_the_docstrings_hold():
    result = doctest.testmod(_pieces)
    assert result.attempted >= 4
    assert result.failed == 0


def test_a_piece_cannot_command_the_terminal_and_no_byte_is_hidden():
    assert quoted(b'\x1b[2J"\\') == '"␛[2J\\"\\\\"'
    assert quoted("\r\t") == '"\\r\\t"'


def test_a_line_has_the_time_the_support_who_agreed_what_was_fed_and_the_next_best():
    assert lines([event(), event(1, piece=b"", drafted=True, fed={}, asked=())]) == [
        "fused: 2 pieces",
        '0  125 ms  " cat"  0.50  ada 75%  bob 25%  first of ada            fed ada 1  then " dog" 0.30  "\\n" 0.10',
        '1  125 ms  END     0.50  ada 75%  bob 25%  first of none, drafted             then " cat" 0.50  " dog" 0.30',
    ]


def test_spans_are_counted_as_spans_and_have_no_candidates():
    said = lines([event(path="a/b", candidates=(), logp=math.nan, fed={})])
    assert said == ["a/b: 1 span", '0  125 ms  " cat"    ada 75%  bob 25%']


def test_a_long_answer_is_cut_to_the_lines_asked_for_and_says_how_to_see_the_rest():
    many = [event(i) for i in range(30)]
    said = lines(many, most=10)
    assert len(said) == 11
    assert said[-1] == "… 21 more: --pieces prints all, --html FILE draws them"
    assert len(lines(many, most=None)) == 31


def test_two_members_may_agree_and_one_that_was_not_asked_never_does():
    both = ((b"a", 0.6, {"ada": 0.9, "bob": 0.8}), (b"b", 0.4, {"ada": 0.1, "bob": 0.2}))
    assert agreed(event(piece=b"a", candidates=both)) == ["ada", "bob"]
    assert agreed(event(piece=b"a", candidates=both, asked=("bob",))) == ["bob"]
    assert agreed(event(piece=b"c", candidates=both)) == []


# --- the verbs ----------------------------------------------------------------------------------------------


def test_ask_shows_pieces_as_lines_where_there_is_no_terminal(run: Run):
    ran = run("ask", "-e", "fused", "--show", "pieces", "Capital of France?")
    rows = ran.out.splitlines()
    assert "".join(json.loads(row[: row.rindex('"') + 1]) for row in rows) == "Paris it is."
    assert re.fullmatch(r'"Paris"  ada \d+%  bob \d+%', rows[0])
    assert run("ask", "-e", "fused", "--show", "pieces", "--no-stream", "Capital of France?").out == ran.out


def test_an_answer_of_one_member_is_one_line_without_shares(run: Run):
    assert run("ask", "-e", "ada", "--no-stream", "--show", "pieces", "What is 2+3?").out == '"5"\n'


def test_show_refuses_what_it_does_not_know(run: Run):
    ran = run("ask", "-e", "ada", "--show", "colours", "What is 2+3?")
    assert ran.code == 2
    assert "pieces" in ran.err


def test_a_trace_lists_the_pieces_and_its_json_has_them_all(run: Run):
    id = run("ask", "-e", "fused", "--json", "Capital of France?").json["trace_id"]
    out = run("trace", id).out.splitlines()
    first = next(i for i, line in enumerate(out) if re.fullmatch(r"  fused: \d+ pieces", line))
    assert '"Paris"' in out[first + 1]
    assert out[-1].split()[3] == "END"
    pieces = run("trace", id, "--json").json["pieces"]
    assert "".join(p["piece"] for p in pieces) == "Paris it is."
    assert len(out) - first - 1 == len(pieces)


LONG = """
[members.cyd]
backend = "toy"
tokenizer = "bytes"
skill = 1.0
answers = { "Recite" = "abcdefghijklmnopqrstuvwxyz_?!" }

[ensembles.long]
method = "unite"
members = ["cyd"]
"""


def test_a_long_trace_is_cut_unless_all_pieces_are_asked_for(run: Run, folder: Path):
    (folder / "septet.toml").write_text(LONG, encoding="utf-8")
    id = run("ask", "--json", "Recite").json["trace_id"]
    assert run("trace", id).out.splitlines()[-1] == "  … 7 more: --pieces prints all, --html FILE draws them"
    assert run("trace", id, "--pieces").out.splitlines()[-1].split()[3] == "END"


def test_steps_of_a_search_are_shown_with_their_text():
    from septet.cli.trace import screen

    from .test_trace import REQUEST, call

    step = call(
        "ada", 0.0, 0.0, 1.0, purpose="step", output={"completions": [{"text": "2+3 is\n5"}, {"text": ""}]}
    )
    assert screen(REQUEST, [step])[-2].endswith('complete (step)  "2+3 is\\n5"')


# --- the page -----------------------------------------------------------------------------------------------


def test_the_page_stands_alone_and_escapes_what_the_request_says(run: Run, folder: Path):
    question = "France </script><script>alert(1)</script> & <b>?"
    id = run("ask", "-e", "fused", "--json", question).json["trace_id"]
    ran = run("trace", id, "--html", "page.html")
    assert (ran.code, ran.out) == (0, "")
    text = (folder / "page.html").read_text(encoding="utf-8")
    assert "alert(1)</script>" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "default-src 'none'" in text
    assert not re.search(r"https?://|url\(|@import| src=", text)
    facts = json.loads(re.search(r'<script type="application/json">(.*?)</script>', text)[1])
    assert [f["piece"] for f in facts][:1] == ['"Paris"']
    assert len(re.findall(r'<span class="piece', text)) == len(facts)


def test_a_piece_that_looks_like_markup_stays_text():
    evil = event(piece=b"</script><img>", candidates=((b"<!--", 1.0, {"ada": 1.0}),))
    request = {
        "id": "r1", "ensemble": "fused", "method": "unite", "status": "done", "seconds": 1.0, "usd": 0.0,
        "query": {"messages": [{"role": "user", "content": "?"}]}, "answer": "", "reason": "", "error": "",
        "notes": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1},
    }  # fmt: skip
    text = _piece_page.page(request, [], [evil])
    assert "<img>" not in text
    assert "<!--" not in text
    assert text.count("</script>") == 2


def test_a_request_without_pieces_has_a_page_with_its_answer_and_calls(run: Run, folder: Path):
    id = run("ask", "-e", "ada", "--json", "What is 2+3?").json["trace_id"]
    assert run("trace", id, "--html", "page.html").code == 0
    text = (folder / "page.html").read_text(encoding="utf-8")
    assert '<p class="text">5</p>' in text
    assert text.count("<tr>") == 2


def test_a_piece_that_ends_within_a_character_shows_its_bytes():
    shown = _piece_page._piece(0, event(piece=b"\xf0\x9f"), {"ada": 0, "bob": 1})
    assert shown.endswith(">\\xf0\\x9f</span>")
    assert 'class="piece bytes"' in shown
    assert _piece_page._piece(0, event(piece="😀".encode()), {"ada": 0, "bob": 1}).endswith(">😀</span>")


def test_the_bar_of_a_piece_has_every_share_where_it_begins_and_ends():
    shown = _piece_page._piece(0, event(), {"ada": 0, "bob": 1})
    assert "linear-gradient(90deg,var(--c0) 0.0% 75.0%,var(--c1) 75.0% 100.0%)" in shown
    assert "--top:var(--c0);--share:19%" in shown  # a quarter of three quarters


@pytest.mark.parametrize("wrong", [("--html", "page.html"), ("nothing", "--html", "no/such/folder.html")])
def test_a_page_of_no_request_or_at_no_place_is_refused(wrong: tuple[str, ...], run: Run):
    if wrong[0] == "nothing":
        wrong = (run("ask", "-e", "ada", "--json", "What is 2+3?").json["trace_id"], *wrong[1:])
    ran = run("trace", *wrong)
    assert ran.code != 0
    assert ran.err.startswith("error: ")
    assert "page.html" in ran.err or "cannot write no/such/folder.html" in ran.err
