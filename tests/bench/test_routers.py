"""Routers on recorded outcomes: jobs, keys, processes, and what single splits come to together."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.bench import routers
from septet.bench.contenders import Contender, check, everyone, problems
from septet.bench.jobs import Job, done, recorded_of
from septet.bench.pooled import Questions
from septet.bench.processes import each, processes
from septet.bench.reference import reference_knn
from septet.bench.replayed import measure, prices, stream, streamed
from septet.bench.results import decode
from septet.bench.routers import Comparison, carry_out, comparison, results
from septet.bench.sets import open_set
from septet.bench.sources import code_of
from septet.bench.standings import notes, rows, save
from septet.bench.trials import Trial, trial, weak_and_strong
from septet.core.errors import BadParameter, ConfigError
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Card, Choice
from septet.core.types import Decision, Floats
from septet.methods.a1_pretrained.benchmark_routing import BenchmarkRouting
from septet.methods.a1_pretrained.knn_router import KnnRouter
from septet.methods.a2_nonpretrained.eagle import Eagle
from septet.parts.routing.plan import Router

WORDS = {"sums": "add numbers plus total", "poems": "verse rhyme poem line"}
"""The words of two tasks."""


def outcomes(n: int = 40) -> list[dict[str, Any]]:
    """Sums are answered by "sum" (2 USD a call), poems by "bard" (1 USD); "dunce" (0.1 USD) answers one in five."""
    found = []
    for i in range(n):
        task = ("sums", "poems")[i % 2]
        words = WORDS[task].split()
        facts = {"query_id": f"q{i}", "query": f"{words[i % 4]} {words[(i + 1) % 4]} {i}", "task": task}
        facts["split"] = "test" if i % 4 >= 2 else "train"
        right = {"sum": task == "sums", "bard": task == "poems", "dunce": i % 5 == 0}
        usd = {"sum": 2.0, "bard": 1.0, "dunce": 0.1}
        found += [facts | {"model": m, "score": float(right[m]), "cost_usd": usd[m]} for m in right]
    return found


def write(path: Path, lines: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    recorded_of.cache_clear()
    return str(path)


@pytest.fixture
def data(tmp_path: Path) -> str:
    return write(tmp_path / "tiny.jsonl", outcomes())


def job(data: str, contender: str | None = None, **more: Any) -> Job:
    given = {"kind": "own", "seed": 0, "fold": "", "grid": 5, "draws": 50} | more
    return Job(data, open_set(data).sha256, Contender.of(contender) if contender else None, **given)


def trial_of(data: str, **more: Any) -> Trial:
    return trial(job(data, **more))


def run_of(data: str, *named: str, **options: Any) -> Comparison:
    return comparison([data], [Contender.of(n) for n in named], **{"grid": 5, "draws": 50} | options)


# --- one split ----------------------------------------------------------------------------------------


def test_the_bounds_of_a_split_are_those_worked_by_hand(data: str, tmp_path: Path) -> None:
    # 20 test questions, i = 2, 3, 6, 7, …: 10 sums and 10 poems, dunce right on 4 of them (15, 30, 10, 35)
    found = measure(job(data), tmp_path)
    means = {b["name"]: np.mean(b["quality"]) for b in found["bounds"]}
    assert means["best single (train)"] == means["best single (test)"] == 0.5
    assert means["random"] == pytest.approx((0.5 + 0.5 + 0.2) / 3)
    assert means["task oracle"] == means["oracle"] == 1.0
    assert means["reference kNN"] == 0.5  # its 50 neighbours are all there are, so it asks the best on train
    usd = {b["name"]: np.mean(b["usd"]) for b in found["bounds"]}
    assert usd["task oracle"] == 1.5
    assert usd["oracle"] == pytest.approx((2 * 8 + 1 * 8 + 0.1 * 4) / 20)


def test_a_router_that_reads_tasks_reaches_the_task_oracle_and_the_dearest_price_asks_the_cheapest(
    data: str, tmp_path: Path
) -> None:
    found = measure(job(data, "knn-router:features=task,k=5"), tmp_path)
    first, last = found["points"][0], found["points"][-1]
    assert (first["prefer"], first["quality"]["value"], first["usd"]["value"]) == (0.0, 1.0, 1.5)
    assert (last["prefer"], last["quality"]["value"]) == ("inf", 0.2)
    assert last["usd"]["value"] == pytest.approx(0.1)
    assert found["picks"] == [0.5, 0.5, 0.0]
    assert found["regrets"] == []
    assert found["metrics"]["V_B"]["value"] == 2.0


def test_features_are_computed_once_and_read_again_as_they_were(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = measure(job(data, "knn-router:features=tf-idf,k=5"), tmp_path)
    (file,) = tmp_path.glob("*.npz")
    monkeypatch.setattr("septet.bench.featured.Featurizer.of", None)  # would fail if it were called again
    again = measure(job(data, "knn-router:features=tf-idf,k=5"), tmp_path)
    assert file.name.startswith("tf-idf-")
    assert again["quality"] == first["quality"]
    with pytest.raises(TypeError):
        measure(job(data, "knn-router:features=surface,k=5"), tmp_path)


def test_a_question_that_one_member_has_not_answered_is_left_out_of_the_test_and_that_is_said(
    tmp_path: Path,
) -> None:
    lines = [r for r in outcomes() if (r["query_id"], r["model"]) != ("q2", "dunce")]
    on = trial_of(write(tmp_path / "gap.jsonl", lines))
    assert len(on.index) == 19
    assert "1 test questions are left out" in on.notes[0]


def test_without_known_cost_every_call_counts_one_and_no_cost_is_reported(tmp_path: Path) -> None:
    lines = [{k: v for k, v in r.items() if k != "cost_usd"} for r in outcomes()]
    path = write(tmp_path / "free.jsonl", lines)
    assert trial_of(path).usd.tolist() == [[1.0, 1.0, 1.0]] * 20
    found = measure(job(path, "eagle"), tmp_path)
    assert found["usd"] is None
    assert [p["prefer"] for p in found["points"]] == [0.0]
    assert "AIQ" not in found["metrics"]
    assert "every call counts 1" in found["notes"][0]


def test_two_members_are_the_cheapest_and_the_best_or_without_cost_the_worst_and_the_best(
    data: str, tmp_path: Path
) -> None:
    on = trial_of(data)
    # dunce costs least; sum and bard are alike on the questions to train on, and the first of equals is best
    assert weak_and_strong(on) == ("dunce", "sum")
    assert weak_and_strong(replace(on, priced=False)) == ("dunce", "sum")
    assert weak_and_strong(on.of_members(["bard", "sum"])) == ("sum", "bard")


def test_prices_of_cost_run_from_one_that_moves_nobody_to_one_that_outweighs_all() -> None:
    found = prices(np.array([0.1, 1.0, 2.0]), 100)
    assert len(found) == 102
    assert (found[0], found[-1]) == (0.0, np.inf)
    assert found[1] * (2.0 - 0.1) == pytest.approx(1e-3)
    assert found[-2] * (1.0 - 0.1) >= 1
    assert prices(np.array([1.0, 1.0]), 100) == [0.0]
    assert prices(np.array([np.nan, np.nan]), 100) == [0.0]


def test_the_reference_ranks_equals_by_place_and_leaves_unknown_scores_out() -> None:
    train = ["red apple", "red apple", "blue sky", "blue sky"]
    scores = np.array([[1.0, 0.0], [1.0, np.nan], [0.0, 1.0], [0.0, 1.0]])
    found = reference_knn(train, scores, ["red apple"])
    np.testing.assert_allclose(found, [[0.5, 2 / 3]])  # all four are among the 50 nearest
    with pytest.raises(BadParameter, match="no term in two questions"):
        reference_knn(["one", "two"], scores[:2], ["one"])


# --- streams ------------------------------------------------------------------------------------------


class Counting(Router):
    """Asks member 0, learns each score it is told, and spends one from its budget per choice."""

    name = "counting"
    card = Card(
        paper="",
        title="",
        facets=Facets(
            family=Family.NONPRETRAINED,
            strategy=Strategy.SELECTION,
            granularity=Granularity.RESPONSE,
            goal=Goal.COST,
            supervised=False,
        ),
        online=True,
    )

    def utility(self, x: Any, state: Any) -> Floats:
        return np.tile(np.array([1.0 if state["spent"] < 3 else 0.0, 0.5, 0.0]), (len(x), 1))

    def cost(self, x: Any, state: Any, pool: Any) -> Floats:
        return np.ones((len(x), 3))

    def choose(self, q: Floats, c: Floats, prefer: Floats, state: Any, rng: Any) -> Choice:
        return Choice(np.eye(3)[q.argmax(axis=1)], state=state | {"spent": state["spent"] + 1})

    def update(self, state: Any, events: Sequence[Any], rng: Any) -> Any:
        return state | {"told": [*state["told"], *events]}


def test_a_stream_carries_on_what_is_spent_and_tells_the_score_of_whom_it_drew(data: str) -> None:
    on = trial_of(data)
    kept: dict[str, Any] = {"spent": 0, "told": []}

    class Seen(Counting):
        def update(self, state: Any, events: Sequence[Any], rng: Any) -> Any:
            kept["last"] = super().update(state, events, rng)
            return kept["last"]

    order = np.arange(len(on.index))[::-1]
    q, drawn = stream(Seen(), kept, np.zeros((20, 1)), on, order, 0.0, np.random.default_rng(0))
    # the last three of the test are asked of member 0, then its budget is gone
    assert drawn.argmax(axis=1).tolist() == [1] * 17 + [0] * 3
    assert q[-1].tolist() == [1.0, 0.5, 0.0]
    told: list[Decision] = kept["last"]["told"]
    assert [t.query for t in told] == list(on.test.questions)[::-1]
    assert (told[0].member, told[0].score, told[0].spent) == ("sum", on.scores[-1, 0], 2.0)
    assert (told[0].propensity, told[0].weights) == (1.0, {"sum": 1.0, "bard": 0.0, "dunce": 0.0})


def test_who_is_replayed_as_a_stream() -> None:
    assert streamed(Counting())
    assert not streamed(Eagle())
    assert streamed(Eagle(), every=True)
    assert not streamed(BenchmarkRouting(), every=True)


def test_a_stream_is_told_of_in_the_result(data: str, tmp_path: Path) -> None:
    found = measure(job(data, "eagle", stream=True), tmp_path)
    assert found["notes"][0].startswith("replayed as a stream")
    assert len(found["points"]) == 10


# --- who takes part -----------------------------------------------------------------------------------


def test_a_contender_is_a_name_with_parameters() -> None:
    found = Contender.of("eagle:k=16,rating=last,budget_usd=none")
    assert found.given == (("k", 16), ("rating", "last"), ("budget_usd", None))
    assert str(found) == "eagle:k=16,rating=last,budget_usd=none"
    assert found.make() == Eagle(k=16, rating="last")
    assert Contender.of("eagle").variant == ""


def test_all_that_cannot_be_measured_is_named_at_once(data: str) -> None:
    recorded = open_set(data)
    wrong = ["eagel", "eagle:k=0", "knn-router:features=embedder", "unite", "knn-router"]
    with pytest.raises(ConfigError) as caught:
        check([Contender.of(w) for w in wrong], [recorded])
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == 4
    assert "did you mean 'eagle'" in lines[0]
    assert "eagle.k=0" in lines[1].replace(" ", "") or "eagle.k" in lines[1]
    assert "needs the role embedder" in lines[2]
    assert "must be a router" in lines[3]


def test_a_parameter_without_a_value_is_refused() -> None:
    with pytest.raises(BadParameter, match="name:param=value"):
        Contender.of("eagle:k")


def test_everyone_is_both_families_without_those_that_need_a_role_or_torch() -> None:
    named = [c.name for c in everyone()]
    assert {"eagle", "benchmark-routing", "knn-router"} <= set(named)
    assert all(not c.make().roles() for c in everyone())
    assert "unite" not in named


def test_features_from_tasks_need_tasks(tmp_path: Path) -> None:
    lines = [{k: v for k, v in r.items() if k != "task"} for r in outcomes()]
    recorded = open_set(write(tmp_path / "t.jsonl", lines))
    assert problems(KnnRouter(features="task"), recorded) == [
        "reads the task of a question, and t has no column task"
    ]


# --- the run ------------------------------------------------------------------------------------------


def test_a_member_that_is_never_seen_is_refused_before_anything_is_fitted(tmp_path: Path) -> None:
    lines = [r for r in outcomes() if not (r["split"] == "train" and r["model"] == "dunce")]
    path = write(tmp_path / "t.jsonl", lines)
    with pytest.raises(ConfigError, match="dunce have no score in the part of t to train on"):
        run_of(path, "eagle")


def test_a_second_run_repeats_nothing_and_a_lost_file_is_made_again(data: str, tmp_path: Path) -> None:
    run = run_of(data, "eagle", "knn-router:features=task,k=5")
    assert [j.label for j in run.jobs] == [
        "bounds on tiny.jsonl, seed 0",
        "eagle on tiny.jsonl, seed 0",
        "knn-router:features=task,k=5 on tiny.jsonl, seed 0",
    ]
    assert carry_out(run, tmp_path / "out") == []
    files = sorted((tmp_path / "out" / "jobs").glob("*"))
    assert [f.stem for f in files] == sorted(j.key for j in run.jobs)
    files[0].unlink()
    files[1].write_text("{ half a fi", encoding="utf-8")  # as no kill can leave it, but a full disk may
    kept = files[2].stat().st_mtime_ns
    told: list[tuple[int, int]] = []
    assert carry_out(run, tmp_path / "out", progress=lambda what, n, total: told.append((n, total))) == []
    assert told[0] == (1, 3)
    assert told[-1] == (3, 3)
    assert files[2].stat().st_mtime_ns == kept
    assert all(done(tmp_path / "out" / "jobs", j) for j in run.jobs)


def test_the_key_of_a_job_follows_all_that_determines_it(data: str, tmp_path: Path) -> None:
    one = job(data, "eagle")
    others = [
        job(data, "eagle:k=16"),
        job(data, "knn-router"),
        job(data),
        job(data, "eagle", seed=1),
        job(data, "eagle", kind="random"),
        job(data, "eagle", grid=6),
        job(data, "eagle", stream=True),
        job(write(tmp_path / "other.jsonl", outcomes(36)), "eagle"),
    ]
    assert len({one.key, *(o.key for o in others)}) == 9
    copy = write(tmp_path / "copy.jsonl", outcomes())
    assert job(copy, "eagle").key == one.key  # the same data under another name


def test_the_hash_of_code_follows_what_a_module_imports(tmp_path: Path, monkeypatch: Any) -> None:
    from septet.bench import sources

    before = code_of("septet.methods.a2_nonpretrained.eagle")
    real = sources._source

    def changed(module: str) -> tuple[bytes, tuple[str, ...]]:
        content, more = real(module)
        return (content + b"# changed" if module == "septet.parts.learning.tfidf" else content), more

    monkeypatch.setattr(sources, "_source", changed)
    assert code_of("septet.methods.a2_nonpretrained.eagle") != before  # through plan and features
    assert code_of("septet.core.errors") == code_of("septet.core.errors")


def failing(job: Job, features: Path) -> dict[str, Any]:
    """Measures, but not eagle."""
    if job.contender is not None and job.contender.name == "eagle":
        raise ZeroDivisionError("no battles")
    return measure(job, features)


def test_a_job_that_fails_is_listed_with_its_error_and_the_others_are_kept(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routers, "measure", failing)
    run = run_of(data, "eagle", "knn-router:features=task,k=5")
    (failure,) = carry_out(run, tmp_path)
    assert failure.job == "eagle on tiny.jsonl, seed 0"
    assert failure.error.startswith("ZeroDivisionError: no battles (test_routers.py:")
    found = results(run, tmp_path)
    assert [r["router"] for r in found["routers"]] == ["knn-router"]


def endless(job: Job, features: Path) -> dict[str, Any]:
    """Measures the bounds and never comes to an end with a router."""
    while job.contender is not None:
        pass
    return measure(job, features)


def test_a_job_that_takes_too_long_is_given_up_and_the_others_are_kept(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routers, "measure", endless)
    run = run_of(data, "eagle")
    (failure,) = carry_out(run, tmp_path, seconds=2.0)
    assert failure.error == "given up after 2 seconds"
    assert [b["name"] for b in results(run, tmp_path)["bounds"]][:1] == ["best single (train)"]


def refusing(job: Job, folder: Path) -> None:
    """Fails as bad values do: with an error that cannot be rebuilt from its message."""
    raise BadParameter("k", 0, "must be ≥ 1")


def test_an_error_that_cannot_be_sent_home_is_told_all_the_same(data: str, tmp_path: Path) -> None:
    jobs = run_of(data, "eagle").jobs
    with processes(2) as submit:
        found = dict(each(submit, refusing, jobs, tmp_path))
    assert [found[job] for job in jobs] == ["k: must be ≥ 1, got 0"] * 2


def test_several_members_with_weight_count_as_one_drawn_by_weight(data: str, tmp_path: Path) -> None:
    found = measure(job(data, "blending"), tmp_path)
    assert "counted as one of them, drawn by weight" in found["notes"][-1]
    assert found["points"][0]["quality"]["value"] == pytest.approx((0.5 + 0.5 + 0.2) / 3)
    assert found["points"][0]["usd"]["value"] == pytest.approx((2 + 1 + 0.1) / 3)


def test_processes_come_to_the_same_results_as_one(data: str, tmp_path: Path) -> None:
    run = run_of(data, "eagle")
    assert carry_out(run, tmp_path / "one") == []
    assert carry_out(run, tmp_path / "two", workers=2) == []
    one, two = (results(run, tmp_path / name)["routers"][0] for name in ("one", "two"))
    assert one["at_zero"] == two["at_zero"]
    assert one["points"] == two["points"]


KILLED = """
import os, signal, time
from septet.bench.processes import processes

if __name__ == "__main__":
    with processes(2) as submit:
        print(submit(os.getpid).result(), flush=True)
        submit(time.sleep, 600)
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="asks /proc whether a process is gone")
def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED, encoding="utf-8")
    ran = subprocess.run([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, check=False)
    assert ran.returncode == -signal.SIGKILL
    child = Path(f"/proc/{int(ran.stdout)}/stat")
    with suppress(FileNotFoundError, ProcessLookupError):
        while (
            child.read_text().rpartition(")")[2].split()[0] != "Z"
        ):  # gone, but nobody has asked how it ended
            time.sleep(0.1)


@pytest.fixture
def pooled(data: str, tmp_path: Path) -> Callable[..., Any]:
    def go(*named: str, **options: Any) -> Any:
        run = run_of(data, *named, **options)
        assert carry_out(run, tmp_path / "out") == []
        return results(run, tmp_path / "out")

    return go


def test_a_result_stands_beside_the_best_single_member_and_the_reference(pooled: Callable[..., Any]) -> None:
    found = pooled("knn-router:features=task,k=5")
    (router,) = found["routers"]
    assert router["at_zero"]["quality"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert router["at_zero"]["minus_best_single"]["value"] == 0.5
    assert router["at_zero"]["minus_reference"]["value"] == 0.5
    assert (router["n_train"], router["n_test"], router["variant"]) == (20, 20, "features=task,k=5")
    names = [b["name"] for b in found["bounds"]]
    assert names[-2:] == ["reference kNN", "random mixture"]


def test_left_out_tasks_are_put_together_and_a_router_of_tasks_knows_none_of_them(
    pooled: Callable[..., Any],
) -> None:
    found = pooled("knn-router:features=task,k=5", split="leave-one-task-out")
    (router,) = found["routers"]
    # nothing is known of the other task but who is best on this one, who is never right there
    assert router["n_test"] == 40
    assert router["at_zero"]["minus_best_single"]["value"] == 0.0
    assert "2 tasks left out in turn" in router["note"]
    single = next(b for b in found["bounds"] if b["name"] == "best single (train)")
    assert single["quality"]["value"] == 0.0


def test_seeds_are_averaged_and_a_question_is_resampled_with_all_its_rows(
    pooled: Callable[..., Any],
) -> None:
    found = pooled("knn-router:features=task,k=5", split="random", seeds=3)
    (router,) = found["routers"]
    assert router["n_test"] == 12
    assert router["note"].startswith("mean over the seeds 0, 1, 2, whose standard deviation is 0.0000")
    # two questions, one of them tested twice: drawing it takes both of its rows
    questions = Questions.of([{"index": [4, 9]}, {"index": [4]}], draws=500)
    estimate = questions.mean(np.array([1.0, 0.0, 1.0]))
    assert (estimate.value, estimate.low, estimate.high) == (pytest.approx(2 / 3), 0.0, 1.0)


def test_above_five_thousand_questions_one_seed_is_enough(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {j.seed for j in run_of(data, "eagle", seeds=3).jobs} == {0, 1, 2}
    monkeypatch.setattr(routers, "ONE_SEED_ABOVE", 19)
    assert {j.seed for j in run_of(data, "eagle", seeds=3).jobs} == {0}


def test_rows_begin_with_bounds_and_end_with_the_worst_router(pooled: Callable[..., Any]) -> None:
    found = pooled("blending", "knn-router:features=task,k=5")
    said = rows(found)
    assert [r[1] for r in said] == [
        "(best single (train))",
        "(best single (test))",
        "(random)",
        "(task oracle)",
        "(oracle)",
        "(reference kNN)",
        "(random mixture)",
        "knn-router:features=task,k=5",
        "blending",
    ]
    assert said[-2][2:6] == ("20", "1.000", "1.000 – 1.000", "1.5e+03")
    assert said[-2][6].startswith("+0.500 [+0.")
    said_below = list(notes(found))
    assert said_below[4].startswith("(oracle): the best member of each question, the cheapest on ties")
    assert said_below[7:] == [
        "tiny: seed 0 alone",
        "tiny, blending: gives weight to several members: counted as one of them, drawn by weight",
    ]


def test_a_record_holds_no_text_and_keeps_the_rows_of_an_earlier_run_on_the_same_data(
    data: str, pooled: Callable[..., Any], tmp_path: Path
) -> None:
    facts = {"tiny": open_set(data).facts}
    save(pooled("eagle"), tmp_path / "save", facts)
    (file,) = save(pooled("knn-router:features=task,k=5"), tmp_path / "save", facts)
    text = file.read_text(encoding="utf-8")
    record = json.loads(text)
    assert file.name == "routers-tiny.json"
    assert [r["router"] for r in record["routers"]] == ["eagle", "knn-router"]
    assert record["sha256"] == open_set(data).sha256
    assert decode(record["routers"][1]["quality"]["value"]) == 1.0
    assert not any(line["query"] in text for line in outcomes())
    other = {"tiny": facts["tiny"] | {"sha256": "0"}}
    (file,) = save(pooled("eagle"), tmp_path / "save", other)
    assert [r["router"] for r in json.loads(file.read_text("utf-8"))["routers"]] == ["eagle"]


def test_sets_of_one_name_and_no_set_at_all_are_refused(data: str, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    twin = write(tmp_path / "more" / "tiny.jsonl", outcomes(20))
    with pytest.raises(ConfigError, match="the same name: tiny, tiny"):
        comparison([data, twin])
    with pytest.raises(ConfigError, match="say with --data"):
        comparison([])
