"""What fits, what does not, and what a request may cost at most."""

from __future__ import annotations

from septet.cli.check import QUESTION

from .conftest import Run


def test_a_file_whose_ensembles_fit_is_reported_with_the_worst_case(run: Run):
    ran = run("check", "--json")
    (report,) = ran.json
    assert ran.code == 0
    assert (report["ensemble"], report["method"], report["status"]) == ("fused", "unite", "fits")
    assert report["members"] == ["ada", "bob"]
    # both members open one session and write 256 tokens at most
    assert (report["worst"]["calls"], report["worst"]["tokens"]) == (2, 512)
    # 400 bytes are 134 tokens at 1 USD per million, 256 written ones cost 2
    assert len(QUESTION) == 400
    assert report["worst"]["usd"] == (134 * 1 + 256 * 2) / 1e6


def test_the_text_says_it_in_words(run: Run):
    assert run("check").out == (
        "septet.toml: 1 ensemble, 4 members\n"
        "fused  fits: unite over ada, bob\n"
        "  - worst case for a question of 400 bytes: 2 calls, 512 tokens written, $0.000646\n"
    )


def test_every_problem_of_every_ensemble_is_listed_and_the_exit_code_is_2(run: Run):
    two = "ensembles.two={ method = 'unite', members = ['mute', 'ada'], roles = { judge = ['ada'] } }"
    ran = run("check", "--json", "--set", two)
    assert ran.code == 2
    assert [r["status"] for r in ran.json] == ["fits", "does not fit"]
    assert ran.json[1]["problems"] == [
        "mute does not offer topk 10",
        "unite has no role 'judge' (it has: none)",
    ]


def test_an_ensemble_whose_inner_one_does_not_fit_does_not_fit(run: Run):
    outer = "ensembles.outer={ method = 'unite', members = ['fused'] }"
    inner = 'ensembles.fused.members=["mute"]'
    ran = run("check", "--set", outer, "--set", inner)
    assert ran.code == 2
    assert "unite does not fit the members of 'fused'" in ran.out


def test_a_worst_case_beyond_the_limit_on_calls_is_a_problem(run: Run):
    ran = run("check", "--set", "limits.calls=1")
    assert ran.code == 2
    assert "every request would be refused: its worst case is 2 calls, limits.calls is 1" in ran.out


def test_members_priced_by_the_second_are_named(run: Run):
    ran = run("check", "--set", "members.bob.price={ usd_per_second = 0.001 }")
    assert "$0.000646 plus the seconds of bob" in ran.out


def test_a_wrong_key_in_the_file_is_said_with_its_place(run: Run):
    ran = run("check", "--set", "ensembles.fused.kk=3")
    assert ran.code == 2
    assert ran.err.startswith("error: unknown parameter of unite 'kk'")
