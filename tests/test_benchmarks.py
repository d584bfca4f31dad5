"""The benchmarks on toys: they run, and print ratios with their aims; how long anything takes is not asserted."""

from __future__ import annotations

import asyncio
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.session import Meter
from septet.testing.toys import toy_config

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when run.py is started: its folder is where modules are looked for."""
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.fixture
def toys(tmp_path: Path) -> list[str]:
    """The arguments that have two toys decode: both spell words, so that no piece is foreign to either."""
    path = tmp_path / "toys.toml"
    path.write_text(toy_config("unite", {"k": 4}, order=("ada", "cyd"), folder=tmp_path))
    return ["--quick", "--config", str(path), "--ensemble", "toys", "--json", str(tmp_path / "out.json")]


def figures_of(toys: list[str], name: str) -> dict[str, dict[str, Any]]:
    """Runs one benchmark; what its JSON file says, by figure."""
    assert import_module("run").main([name, *toys]) == 0
    section = json.loads(Path(toys[-1]).read_text())[name]
    return {figure["what"]: figure for figure in section["figures"]}


def test_a_fused_piece_takes_at_least_its_forwards_and_the_aims_stand_beside(
    toys: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = figures_of(toys, "fused")
    turn = found["in turn: time a piece ÷ sum of forwards"]
    assert turn["low"] >= 1
    assert (turn["aim"], found["in turn: time beyond the forwards"]["aim"]) == (1.05, 1.5)
    assert found["in parallel: time a piece ÷ the slowest forward"]["low"] >= 1
    said = capsys.readouterr().out
    assert "fused: unite of ada and cyd" in said
    assert "≤ 1.05" in said


def test_tables_of_two_vocabularies_have_their_size_and_times_beside_the_aims(toys: list[str]) -> None:
    found = figures_of(toys, "vocabularies")
    size = found["vocabularies and union, size"]
    # Some hundred short strings each: kilobytes.
    assert 0 < size["value"] < 0.1 and size["met"]
    assert [found[f"vocabularies and union, {what}"]["aim"] for what in ("size", "built", "loaded")] == [
        8,
        4,
        50,
    ]
    assert {"ada: a step's row over the union", "cyd: a step's row over the union"} <= set(found)


def test_members_of_one_tokenizer_are_fed_every_token_once(toys: list[str]) -> None:
    found = figures_of(toys, "fed")
    for name in ("ada", "cyd"):
        assert found[f"{name}: prompt tokens fed ÷ prompt tokens"]["high"] == 1
        answer = found[f"{name}: answer tokens fed ÷ tokens of the answer"]
        assert (answer["low"], answer["high"], answer["n"], answer["met"]) == (1, 1, 3, True)


def test_schedules_save_forwards_and_a_draft_writes_the_same_bytes(
    toys: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = figures_of(toys, "schedules")
    assert found["draft: forwards of the verifiers ÷ every"]["high"] < 1
    assert found["mixture: forwards ÷ pieces"]["high"] <= 1
    assert "wrote the same bytes for 2 of 2 prompts" in capsys.readouterr().out


def test_a_start_is_measured_in_fresh_processes_and_no_listed_method_is_imported(
    toys: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = figures_of(toys, "start")
    aims = {what: figure["aim"] for what, figure in found.items() if figure["aim"]}
    assert aims == {"import septet": 150, "import septet, memory added": 45, "septet --help": 300}
    assert found["import septet ÷ python -c pass"]["n"] == 2
    assert "imported no method" in capsys.readouterr().out


def test_weight_follows_the_core_requirements_and_no_extra(toys: list[str]) -> None:
    weight = import_module("weight")
    names = set(weight.core("septet"))
    assert {"septet", "numpy", "pydantic", "pydantic-core", "aiohttp", "typer"} <= names
    assert not names & {"starlette", "pytest", "torch", "llama-cpp-python"}
    assert figures_of(toys, "weight")["distributions"]["value"] == len(names)


def test_a_requirement_counts_where_its_marker_holds() -> None:
    weight = import_module("weight")
    asked = [
        ("x", (), True),
        ("x; python_version < '3'", (), False),
        ("x; extra == 'server'", (), False),
        ("x; extra == 'server'", ("server",), True),
    ]
    assert [weight._applies(weight.Requirement(text), extras) for text, extras, _ in asked] == [
        applies for _, _, applies in asked
    ]


def test_members_in_turn_never_overlap() -> None:
    decoding = import_module("decoding")
    said: list[str] = []

    class Slow:
        meter = Meter()

        def __init__(self, name: str) -> None:
            self.name = name

        async def next(self, k: int) -> str:
            said.append(f"{self.name} begins")
            await asyncio.sleep(0)
            said.append(f"{self.name} ends")
            return self.name.upper()

    sessions: list[Any] = [Slow("a"), Slow("b")]
    together = decoding.InTurn(None, ("a", "b"), sessions, (1, 1), False, False)
    values = asyncio.run(together.each([0, 1], lambda _, session: session.next(1)))
    assert values == ["A", "B"]
    assert said == ["a begins", "a ends", "b begins", "b ends"]


def test_a_figure_is_a_median_with_its_range_and_a_missed_aim_is_only_printed() -> None:
    figures = import_module("figures")
    met = figures.figure("ratio", [1.04, 1.2, 1.03], aim=1.05)
    missed = figures.figure("ratio", [1.04, 1.2, 1.03], aim=1.05, judged="worst")
    assert (met.value, met.low, met.high, met.n) == (1.04, 1.03, 1.2, 3)
    assert (met.met, missed.met, figures.figure("seconds", [2.0]).met) == (True, False, None)
    lines = figures.Section("x", "y", (met, missed)).text().splitlines()
    assert lines[0] == "x: y"
    assert lines[2].split() == ["ratio", "1.040", "1.030", "1.200", "≤", "1.05", "met"]
    assert lines[3].split() == ["ratio", "1.040", "1.030", "1.200", "worst", "≤", "1.05", "missed"]


def test_an_unknown_benchmark_is_named_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        import_module("run").main(["fuse"])
    assert (
        "no benchmark fuse; there are fused, gac, fed, growth, schedules, naive, candidates, vocabularies, after, start"
        in capsys.readouterr().err
    )


def test_whole_answers_are_compared_against_a_loop_with_the_aims_beside(toys: list[str]) -> None:
    found = figures_of(toys, "after")
    loops = [f for what, f in found.items() if what.endswith("÷ the pairwise loop")]
    assert [f["aim"] for f in loops] == [0.2, 0.2, 0.2]
    assert all(f["low"] > 0 for f in loops)
    peaks = [f["value"] for what, f in found.items() if what.endswith("items × 50 labels, peak memory")]
    assert len(peaks) == 4 and 0.02 < min(peaks) <= max(peaks) < 0.3
    assert found["vote of three instant members, a whole ask"]["n"] == 20


def test_what_a_process_of_its_own_has_taken_is_not_that_of_the_one_that_started_it() -> None:
    held = np.ones(60_000_000)  # 480 MB
    assert import_module("after")._peak(500, "dawid_skene") < held.nbytes / 1e9


def test_instant_members_are_asked_and_generate_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from septet.backends.toy import ToyActor

    async def generated(*_: Any, **__: Any) -> None:
        raise AssertionError("a member generated")

    after = import_module("after")
    monkeypatch.setattr(ToyActor, "complete", generated)  # which an instant member has replaced
    took, busy = asyncio.run(after._asks(3))
    assert len(took) == 3 and busy > 0
