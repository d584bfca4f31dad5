"""The benchmarks of what combines complete answers: they run, and their figures have their aims beside them."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


def figures_of(name: str, folder: Path) -> dict[str, dict[str, Any]]:
    """Runs one benchmark; what its JSON file says, by figure."""
    out = folder / "out.json"
    assert import_module("run").main([name, "--quick", "--json", str(out)]) == 0
    return {figure["what"]: figure for figure in json.loads(out.read_text())[name]["figures"]}


@pytest.mark.filterwarnings("ignore")  # of pandas, about how crowd-kit uses it
def test_comparing_all_answers_is_held_against_five_times_the_loops_speed(tmp_path: Path) -> None:
    pytest.importorskip("sacrebleu")
    pytest.importorskip("crowdkit")
    found = figures_of("after_relations", tmp_path)
    aims = {what: f["aim"] for what, f in found.items() if f["aim"] is not None}
    assert aims == {f"{name}: time ÷ the loop's": 0.2 for name in ("BLEU", "cosine", "Dawid–Skene")}
    assert all(f["low"] > 0 for f in found.values())


def test_both_sides_of_a_comparison_choose_the_text_that_is_most_like_the_others() -> None:
    pytest.importorskip("sacrebleu")
    relations = import_module("after_relations")
    texts = [["a dog sat on the red mat.", "no idea", "a dog sat on the mat."]]
    assert relations._bleu(texts) == relations._bleu_looped(texts) == [2]
    z = np.array([[[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]])  # means .3, .4 and .7
    assert relations._cosine(z) == relations._cosine_looped(z) == [2]


def test_truth_inference_has_a_process_for_each_model_whose_memory_is_its_own(tmp_path: Path) -> None:
    held = np.ones(40_000_000)  # 320 MB that no child may be blamed for
    found = figures_of("after_crowd", tmp_path)
    peaks = {what: f["value"] for what, f in found.items() if what.endswith("most memory")}
    assert set(peaks) == {f"{m}: most memory" for m in ("dawid_skene", "one_coin", "glad", "mace")}
    assert 20 < min(peaks.values()) <= max(peaks.values()) < held.nbytes / 1e6
    assert not any(f["aim"] for f in found.values())  # of 500 items the aim would say nothing


def test_a_model_that_is_fitted_names_the_truth_more_often_than_the_best_worker_does() -> None:
    facts = import_module("after_crowd").fitted("dawid_skene", 400)
    assert facts["right"] > 0.95  # the best of fifty is right in .925, the mean in .70
    assert np.isnan(import_module("after_crowd").fitted("none", 4)["right"])


def test_the_time_of_a_request_is_that_of_three_members_asked_and_one_answered(tmp_path: Path) -> None:
    found = figures_of("after_overhead", tmp_path)
    assert {what: f["aim"] for what, f in found.items()} == {
        "agent-forest of three": 6.0,
        "mbr of three": 6.0,
        **{
            f"{what}, processor time": None
            for what in ("agent-forest of three", "mbr of three", "a member alone")
        },
        "a member alone": None,
    }
    assert [f["n"] for f in found.values()] == [20, 1] * 3


def test_a_group_stands_for_its_benchmarks_and_all_are_those_without_other_libraries(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = import_module("run")
    assert run.GROUPS["after"] == ("after_relations", "after_crowd", "after_overhead")
    assert not set(run.NAMES) & set(run.AFTER)
    with pytest.raises(SystemExit):
        run.main(["after_all"])
    assert "weight, after_relations, after_crowd, after_overhead" in capsys.readouterr().err
