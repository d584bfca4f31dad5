"""`bench after` on small recordings: every number is worked by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.bench.after import embedding, runs, standings
from septet.bench.after.contenders import Contender, names
from septet.bench.after.embedding import Embeddings
from septet.bench.after.jobs import Job
from septet.bench.after.measured import measure
from septet.bench.after.sets import Answers, open_answers
from septet.bench.after.world import Unrecorded, World
from septet.bench.html import METHODS, page
from septet.bench.results import decode
from septet.bench.sets import Recorded
from septet.core.errors import BadParameter, ConfigError, UnknownName
from septet.core.table import Table
from septet.core.types import Query, Tokens
from septet.parts.answers.judging import prompt
from septet.parts.answers.regenerate import fusion
from septet.parts.stats.calibration import risk_coverage
from septet.testing.scripted import seat

RIGHT = {"ada": (1, 1, 0, 0), "bob": (1, 0, 1, 0), "cyd": (1, 0, 0, 0)}
"""Who is right on which of four test questions; on the train questions ada is the best."""

USD = {"ada": 3e-3, "bob": 2e-3, "cyd": 1e-3}


def rows(samples: int = 1) -> list[dict[str, Any]]:
    """Four questions to train on and four to test on; a wrong answer is 6 of everybody, so that two wrong ones win."""
    found = []
    for split, n in (("train", 4), ("test", 4)):
        for i in range(n):
            for name, right in RIGHT.items():
                is_right = right[i] if split == "test" else int(name == "ada" or i == 0)
                found += [
                    {
                        "query_id": f"{split}-{i}",
                        "query": f"What is {i}+7 ({split})?",
                        "task": "sums",
                        "split": split,
                        "model": name,
                        "sample_id": sample,
                        "response": f"It is {i + 7 if is_right else 60 + i}.",
                        "score": float(is_right),
                        "cost_usd": USD[name],
                        "completion_tokens": 4,
                    }
                    for sample in range(samples)
                ]
    return found


@pytest.fixture
def recorded(tmp_path: Path) -> str:
    return written(tmp_path, rows())


def written(folder: Path, found: Sequence[Mapping[str, Any]], name: str = "sums") -> str:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
    return str(path)


def facts(of: str, method: str = "", seed: int = 0) -> dict[str, Any]:
    contender = Contender.of(method) if method else None
    return measure(Job(of, open_answers(of).recorded.sha256, contender, "own", seed, ""))


def value(found: Mapping[str, Any], metric: str) -> float:
    return decode(found["metrics"][metric]["value"])


# --- the world --------------------------------------------------------------------------------------


def world(of: str) -> World:
    return World(open_answers(of), Embeddings())


def test_a_member_says_what_is_recorded_and_costs_what_it_cost(recorded: str) -> None:
    there = world(recorded)
    (said,) = there.reply(seat("ada").complete(Query.of("What is 1+7 (test)?")))
    assert (said.text, said.usd, said.usage.completion_tokens) == ("It is 8.", 3e-3, 4)
    assert (there.spent.answers, there.spent.usd) == (1, 3e-3)


def test_a_prompt_that_is_not_the_question_is_not_recorded(recorded: str) -> None:
    there = world(recorded)
    with pytest.raises(Unrecorded, match="another prompt than the question"):
        there.reply(seat("ada").complete(Query.of("Is that right?")))
    with pytest.raises(Unrecorded, match="another prompt"):
        there.reply(seat("ada").complete(Query.of("What is 1+7 (test)?", system="Be brief.")))


def test_more_samples_than_are_recorded_name_how_many_there_are(tmp_path: Path) -> None:
    there = world(written(tmp_path, rows(samples=2)))
    asked = Query.of("What is 1+7 (test)?")
    assert len(there.reply(seat("ada").complete(asked, n=2))) == 2
    with pytest.raises(Unrecorded, match="3 samples of ada, of which 2 are recorded") as raised:
        there.reply(seat("ada").complete(asked, n=3))
    assert raised.value.samples == 2


def test_whatever_else_is_asked_is_named(recorded: str) -> None:
    there = world(recorded)
    asked = Query.of("What is 1+7 (test)?")
    for ask, named in (
        (seat("box").run("print(1)"), "run of box"),
        (seat("ranker").compare(asked, ["a", "b"]), "compare of ranker"),
        (seat("ada").complete(asked, logprobs=1), "log-probabilities of an answer of ada"),
    ):
        with pytest.raises(Unrecorded, match=named):
            there.reply(ask)


def judged(of: str) -> Answers:
    """Ada and bob as judges: alone ada gives ada 5 and others 2, among several 4.5 and 2; bob gives all 3."""
    answers = open_answers(of)
    shape = (2, len(answers.table.queries), 3)
    alone, several = np.full(shape, 3.0), np.full(shape, 3.0)
    alone[0], several[0] = [5.0, 2.0, 2.0], [4.5, 2.0, 2.0]
    scale = np.full(len(answers.table.queries), 5.0)
    return replace(
        answers, judges=("ada", "bob"), judgements={"single": alone, "several": several}, scale=scale
    )


def test_a_judge_gives_what_it_gave_as_numbers_or_as_words_and_is_priced(recorded: str) -> None:
    there = World(judged(recorded), Embeddings())
    there.at = there.answers.table.queries.index("test-1")
    asked = Query.of("What is 1+7 (test)?")
    assert there.reply(seat("judge ada").rate(asked, ["It is 8.", "It is 61."])).tolist() == [[5.0], [2.0]]
    # 19 characters of the question are 5 tokens, the two answers 2 each, at 3e-3 USD per 4 tokens
    assert there.spent.judgements == 1
    assert there.spent.judges_usd == pytest.approx(9 * 3e-3 / 4)
    with pytest.raises(Unrecorded, match="a judgement of a text that is not recorded"):
        there.reply(seat("judge ada").rate(asked, ["It is 9."]))  # which is said elsewhere


def test_a_mean_over_several_looks_is_spread_over_them_as_whole_levels(recorded: str) -> None:
    there = World(judged(recorded), Embeddings())
    there.at = there.answers.table.queries.index("test-1")
    asked, both = Query.of("What is 1+7 (test)?"), ["It is 8.", "It is 61."]

    def looked(texts: list[str], levels: int) -> str:
        put = Query.of(prompt(asked, texts, levels, "0123456789abcdef"))
        return str(there.reply(seat("judge ada").complete(put))[0].text)

    assert [looked(both, 5), looked(both, 5)] == ['{"1": 4, "2": 2}', '{"1": 5, "2": 2}']  # 4.5 on average
    # of nine levels 4.5 of 5 is 1 + 3.5 · 2 = 8, and 2 is 3
    assert looked(both, 9) == '{"1": 8, "2": 3}'
    assert looked(["It is 8."], 5) == '{"1": 5}'


def test_a_judge_that_is_asked_which_answer_is_best_has_nothing_recorded(recorded: str) -> None:
    there = World(judged(recorded), Embeddings())
    there.at = there.answers.table.queries.index("test-1")
    asked = Query.of("What is 1+7 (test)? Count from 1 to 8.")
    put = fusion(asked, ["It is 8.", "It is 61."], "best", np.random.default_rng(0))
    with pytest.raises(Unrecorded, match="which answer is best"):
        there.reply(seat("judge ada").complete(put))


def test_recorded_option_probabilities_are_the_alternatives_of_the_first_token(tmp_path: Path) -> None:
    letters = [{**row, "response": "AB"[int(row["score"])]} for row in rows()]
    answers = open_answers(written(tmp_path, letters))
    p = np.tile([0.25, 0.75], (len(answers.table), 1))
    there = World(replace(answers, letters=("A", "B"), options=p), Embeddings())
    assert there.offers("ada").logprobs and there.offers("ada").score
    (said,) = there.reply(seat("ada").complete(Query.of("What is 1+7 (test)?"), logprobs=20))
    assert isinstance(said.tokens, Tokens) and said.tokens.top is not None
    assert dict(said.tokens.top[0]) == {b"A": pytest.approx(np.log(0.25)), b"B": pytest.approx(np.log(0.75))}
    (scored,) = there.reply(seat("ada").score(Query.of("What is 1+7 (test)?"), ["A"]))
    assert scored.logp.tolist() == pytest.approx([np.log(0.25)])


# --- measures ---------------------------------------------------------------------------------------


def test_the_bounds_of_the_four_questions(recorded: str) -> None:
    found = {b["name"]: (np.mean(b["quality"]), np.mean(b["usd"])) for b in facts(recorded)["bounds"]}
    assert found["best single (train)"] == pytest.approx((0.5, 3e-3))  # ada: two of four
    assert found["random"] == pytest.approx((5 / 12, 2e-3))  # five of twelve are right
    assert found["oracle"] == pytest.approx((0.75, (1 + 3 + 2 + 1) * 1e-3 / 4))  # the cheapest who is right
    assert found["plurality"] == pytest.approx(
        (0.25, 6e-3)
    )  # all agree on the first; two wrong ones win elsewhere


def test_a_vote_is_worth_what_plurality_is_and_says_so(recorded: str) -> None:
    found = facts(recorded, "agent-forest:samples=1")
    assert found["quality"] == [1.0, 0.0, 0.0, 0.0]
    assert found["usd"] == pytest.approx([6e-3] * 4)
    assert value(found, "− plurality") == 0.0
    assert value(found, "− random") == pytest.approx(0.25 - 5 / 12)
    assert value(found, "− oracle") == pytest.approx(-0.5)
    assert value(found, "answers") == 3.0
    # confidences 1, 2/3, 2/3 and 1 (all wrong alike) for scores 1, 0, 0, 0
    assert value(found, "Brier") == pytest.approx((0 + 4 / 9 + 4 / 9 + 1) / 4)
    assert value(found, "ECE") == pytest.approx((2 * 0.5 + 2 * 2 / 3) / 4)


def test_defaults_that_want_more_samples_take_those_that_are_recorded_and_say_so(recorded: str) -> None:
    found = facts(recorded, "agent-forest")
    assert found["played"] == "samples=1"
    assert found["parameters"]["samples"] == 1
    assert "samples = 1, as the defaults want what is not recorded" in found["notes"]
    given = facts(recorded, "agent-forest:samples=3")
    assert given["missing"] == "several samples of ada, of which 1 is recorded"


def test_a_method_whose_role_nothing_plays_is_missing_before_it_runs(recorded: str) -> None:
    assert facts(recorded, "mixture-of-agents")["missing"] == "the role fuser (text)"


def test_a_method_that_does_not_go_with_a_pool_says_why(recorded: str) -> None:
    found = facts(recorded, "semantic-agreement:tiers=[9]")
    assert "must be sizes of at least 1 that add up to 3 members" in found["missing"]


def test_a_fit_without_labels_sees_the_test_questions_without_their_scores(
    recorded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from septet.methods.c1_noncascade.ow_isp import OwIsp

    seen: list[Table] = []
    fit = OwIsp.fit

    def watched(self: OwIsp, table: Table, roles: Any, rng: Any) -> Any:
        seen.append(table)
        return fit(self, table, roles, rng)

    monkeypatch.setattr(OwIsp, "fit", watched)
    found = facts(recorded, "ow-isp")
    (table,) = seen
    assert table.queries == tuple(f"test-{i}" for i in range(4))
    assert np.isnan(table.score).all()
    assert "fitted without labels on the test questions' own answers" in found["notes"]


def test_a_cascade_is_swept_and_held_against_single_members(recorded: str) -> None:
    found = facts(recorded, "mot-cascade:samples=1")
    # weakest first on train: bob and cyd have one of four, ada all; so bob and cyd vote, then ada is asked
    assert found["curve"]["knob"] == "threshold"
    by = dict(zip(found["curve"]["values"], found["curve"]["cost"], strict=True))
    # below .5 any vote stands: 3e-3 each; at .6 they agree on three of four questions, so ada is asked once
    assert by[0.4] == pytest.approx(3e-3)
    assert by[0.6] == pytest.approx((3 * 3e-3 + 6e-3) / 4)
    # at .6: right, wrong, ada wrong, wrong; the line from cyd (.25 for 1e-3) to ada (.5 for 3e-3) gives
    # .125 per 1e-3, and .25 for 3.75e-3 gives nothing: −100 %
    assert found["quality"] == [1.0, 0.0, 0.0, 0.0]
    assert value(found, "ΔIBC %") == pytest.approx(-100.0)
    # the hull of single members, cyd (.25), bob (.5) and ada (.5), over 1e-3..3e-3: (.375 + .5) / 2
    assert value(found, "AIQ of the zero router") == pytest.approx(0.4375)


def test_where_the_strong_member_says_nothing_the_weak_ones_answer_stands(tmp_path: Path) -> None:
    silent = [{**row, "response": ""} if row["model"] == "ada" else row for row in rows()]
    found = facts(written(tmp_path, silent), "mot-cascade:samples=1")
    # bob is right on question 2 and is the first of the two weak ones
    assert found["quality"] == [1.0, 0.0, 1.0, 0.0]


def test_the_price_of_cost_is_the_knob_of_a_cascade_that_reads_it(tmp_path: Path) -> None:
    many = [
        {**row, "query_id": f"{row['query_id']}-{k}", "query": f"{row['query']} {k}"}
        for k in range(6)
        for row in rows()
    ]
    found = facts(written(tmp_path, many), "route-then-escalate")
    assert found["curve"]["knob"] == "prefer"
    assert found["curve"]["cost"][-1] == pytest.approx(
        1e-3
    )  # at an infinite price the cheapest answers alone


def test_risk_falls_with_coverage_where_confidence_orders_answers() -> None:
    loss = risk_coverage(np.array([0.9, 0.8, 0.1]), np.array([1.0, 1.0, 0.0]))
    assert loss.tolist() == pytest.approx([0, 0, 1 / 3])
    # a confidence that says nothing has the mean loss everywhere
    assert risk_coverage(np.ones(3), np.array([1.0, 1.0, 0.0])).tolist() == pytest.approx([1 / 3] * 3)


def test_a_stream_answers_with_what_its_student_has_learned(tmp_path: Path) -> None:
    same = [
        {
            **row,
            "query_id": f"{row['query_id']}-{k}",
            "query": f"{row['query']} again {k}",
            "response": "yes",
            "score": 1.0,
        }
        for k in range(10)
        for row in rows()
    ]
    found = facts(written(tmp_path, same), "neural-caching:n_init=5,every=5,budget=5,stream=40")
    assert value(found, "answers") == pytest.approx(5 / 40)
    assert set(found["quality"]) == {1.0}  # the student's label is everybody's answer, and scores as it does


def test_the_encoder_is_real_and_its_rows_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def rows_of(texts: list[str]) -> Any:
        asked.extend(texts)
        return np.array([[len(t), 1.0] for t in texts])

    monkeypatch.setattr(embedding, "_embedded", rows_of)
    first = Embeddings(tmp_path)
    assert first.of(["ab", "abc", "ab"]).tolist() == [[2, 1], [3, 1], [2, 1]]
    first.keep()
    assert Embeddings(tmp_path).of(["abc"]).tolist() == [[3, 1]]
    assert asked == ["ab", "abc"]


# --- bad input --------------------------------------------------------------------------------------


def test_what_cannot_be_replayed_is_refused_before_anything_runs(tmp_path: Path) -> None:
    silent = [{k: v for k, v in row.items() if k != "response"} for row in rows()]
    with pytest.raises(ConfigError, match="holds neither responses nor answers"):
        open_answers(written(tmp_path, silent, "silent"))
    unmarked = [{**row, "score": None} for row in rows()]
    with pytest.raises(ConfigError, match="holds no scores"):
        open_answers(written(tmp_path, unmarked, "unmarked"))
    with pytest.raises(UnknownName, match="unknown set of answers 'peereview'; did you mean 'peerreview'"):
        open_answers("peereview")
    with pytest.raises(ConfigError, match="say with --data"):
        runs.comparison([])


def test_only_methods_after_inference_take_part(recorded: str) -> None:
    assert {"agent-forest", "frugal-gpt"} <= set(names())
    assert "eagle" not in names()
    with pytest.raises(ConfigError, match="must combine complete answers"):
        runs.comparison([recorded], [Contender("eagle")])
    with pytest.raises(BadParameter, match="--method: must be name"):
        Contender.of("mbr:samples")


# --- a run ------------------------------------------------------------------------------------------


def test_a_run_goes_on_where_it_stopped_and_its_record_holds_no_text(recorded: str, tmp_path: Path) -> None:
    chosen = [Contender.of(m) for m in ("agent-forest", "mot-cascade", "mixture-of-agents")]
    run = runs.comparison([recorded], chosen, draws=50)
    told: list[tuple[str, int, int]] = []
    assert runs.carry_out(run, tmp_path / "out", progress=lambda *a: told.append(a)) == []
    assert told[-1][1:] == (4, 4)
    again: list[tuple[str, int, int]] = []
    runs.carry_out(run, tmp_path / "out", progress=lambda *a: again.append(a))
    assert again == [("reading", 4, 4)]
    found = runs.results(run, tmp_path / "out")
    assert [r["router"] for r in found["routers"]] == ["agent-forest", "mot-cascade"]
    assert found["missing"] == [
        {"table": "sums", "method": "mixture-of-agents", "missing": "the role fuser (text)"}
    ]
    table = standings.rows(found)
    assert {len(row) for row in table} == {len(standings.COLUMNS)}
    assert [r[1] for r in table if r[3] == "–"] == ["mixture-of-agents"]
    (file,) = standings.save(found, tmp_path / "kept", {"sums": run.sets[recorded].facts})
    text = file.read_text("utf-8")
    assert file.name == "after-sums.json"
    assert "What is" not in text and "It is" not in text
    kept = json.loads(text)
    assert [r["method"] for r in kept["routers"]] == ["agent-forest", "mot-cascade"]
    assert kept["routers"][1]["curve"]["knob"] == "threshold"
    assert "Not played" in page(found, METHODS)


def test_a_later_record_keeps_the_methods_that_it_did_not_measure(recorded: str, tmp_path: Path) -> None:
    for method in ("agent-forest", "mbr"):
        run = runs.comparison([recorded], [Contender(method)], draws=50)
        runs.carry_out(run, tmp_path / "out")
        (file,) = standings.save(
            runs.results(run, tmp_path / "out"), tmp_path / "kept", {"sums": run.sets[recorded].facts}
        )
    assert [r["method"] for r in json.loads(file.read_text("utf-8"))["routers"]] == ["agent-forest", "mbr"]


def test_a_limit_takes_so_many_questions_of_each_part(recorded: str) -> None:
    table = open_answers(recorded, 2).table
    assert sorted(table.splits) == ["test", "test", "train", "train"]


def test_every_recorded_text_stands_for_an_answer_that_is_not_there() -> None:
    table = Table.of(
        [{"query": "?", "model": m, "answer": "4", "score": 1.0, "split": "test"} for m in ("a", "b")]
    )
    from septet.bench.after.sets import _complete

    assert _complete(Answers(Recorded("x", table, ""))).table.text.tolist() == ["4", "4"]
