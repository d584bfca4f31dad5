"""Smoothie by hand: the centre of embeddings, its closed form, what is learned without labels, who is asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from septet.core.errors import BackendError, BadParameter, NoCandidate
from septet.core.method import Ask, SeatPool
from septet.core.table import Table
from septet.core.types import Completion, Floats, Query
from septet.methods.c1_noncascade.smoothie import Places, Smoothie
from septet.parts.answers.centroid import distances, errors, triplets, truth, weights
from septet.parts.answers.similarity import cosines, mean_of_others
from septet.testing.contract import check_method
from septet.testing.scripted import drive, seat, texts

POOL = SeatPool(tuple(seat(n) for n in ("ada", "bob", "cyd")), {"embedder": (seat("box", embed=True),)})
PLACES = {"north": [1.0, 0.0], "north-east": [0.8, 0.6], "east": [0.0, 1.0], "west": [0.0, -1.0]}


def answering(said: Any) -> Any:
    reply = texts(said)
    return lambda ask: (
        np.array([PLACES.get(t, [1.0, 0.0]) for t in ask.args["texts"]]) if ask.do == "embed" else reply(ask)
    )


def asked(method: Smoothie, said: Any, state: Places | None = None) -> Any:
    state = state or method.begin(POOL.names)
    return drive(method.plan(Query.of("Where?"), POOL, state, np.random.default_rng(0)), answering(said))


def test_the_closed_form_is_the_mean_over_all_triplets() -> None:
    rng = np.random.default_rng(0)
    for m in (3, 4, 6):
        z = rng.standard_normal((7, m, 5))
        squared = ((z[:, :, None] - z[:, None]) ** 2).sum(axis=3).mean(axis=0)
        assert errors(distances(z)) == pytest.approx(triplets(squared))


def test_with_rows_of_length_one_the_nearest_is_the_one_most_like_the_others() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        z = rng.standard_normal((4, 6))
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        s = cosines(z)
        means = mean_of_others(s)
        assert int(distances(z[None]).argmin()) == int(means.argmax())
        # a mean similarity is that to the centre: (m⟨z_i, c⟩ − 1)/(m − 1)
        assert means == pytest.approx((4 * z @ z.mean(axis=0) - 1) / 3)


def test_the_hand_check_of_three_axes_gives_errors_1_4_9() -> None:
    z: Floats = np.diag([1.0, 2.0, 3.0])[None]
    delta = errors(distances(z))
    assert delta == pytest.approx([1, 4, 9])
    assert weights(delta, 3) == pytest.approx([0.7347, 0.1837, 0.0816], abs=5e-5)


def test_points_on_a_line_have_a_negative_estimate_and_still_a_nearest_member() -> None:
    r = distances(np.array([[[0.0], [1.0], [3.0]]]))
    assert errors(r) == pytest.approx([3, -2, 6])
    assert int(r.argmin()) == 1
    with pytest.raises(BadParameter, match="positive"):
        weights(errors(r), 1)
    with pytest.raises(BadParameter, match="three or more"):
        errors(r[:2])


def test_the_middle_answer_is_chosen_and_the_embedder_asked_once() -> None:
    verdict, yielded = asked(Smoothie(), {"ada": "north", "bob": "north-east", "cyd": "east"})
    assert verdict.chosen == 1
    assert [ask.do for items in yielded for ask in items] == ["complete"] * 3 + ["embed"]


def test_a_cut_or_empty_answer_is_never_chosen_where_there_is_a_whole_one() -> None:
    cut = Completion(member="bob", text="north-east", finish="length")
    verdict, yielded = asked(Smoothie(), {"ada": "north", "bob": cut, "cyd": " "})
    assert (verdict.chosen, len(yielded)) == (0, 1)  # one whole answer needs no embedder
    verdict, _ = asked(Smoothie(), {"ada": "north", "bob": cut, "cyd": "north"})
    assert verdict.chosen == 0


def test_the_scope_dataset_takes_the_member_that_was_nearest_in_the_fit_of_those_that_answered() -> None:
    state = Places(np.array([0.3, 0.2, 0.1]), np.zeros((0, 2)), np.zeros((0, 3, 2)))
    verdict, yielded = asked(Smoothie(scope="dataset"), {"ada": "a", "bob": "b", "cyd": "c"}, state)
    assert (verdict.chosen, len(yielded)) == (2, 1)
    verdict, _ = asked(
        Smoothie(scope="dataset"), {"ada": "a", "bob": "b", "cyd": BackendError("down")}, state
    )
    assert verdict.chosen == 1


def test_the_scope_train_asks_the_nearest_member_alone_and_the_next_where_it_fails() -> None:
    state = Places(np.array([0.3, 0.2, 0.1]), np.zeros((0, 2)), np.zeros((0, 3, 2)))
    _, yielded = asked(Smoothie(scope="train"), {"ada": "a", "bob": "b", "cyd": "c"}, state)
    (ask,) = (a for items in yielded for a in items)
    assert isinstance(ask, Ask) and (ask.to.name, ask.final) == ("cyd", True)
    verdict, yielded = asked(
        Smoothie(scope="train"), {"ada": "a", "bob": "b", "cyd": BackendError("x")}, state
    )
    assert [a.to.name for items in yielded for a in items] == ["cyd", "bob"]
    assert verdict.reason == "bob was number 2 in nearness to the centre in the fit"
    with pytest.raises(NoCandidate, match="every member failed: x; x; x"):
        asked(Smoothie(scope="train"), dict.fromkeys(POOL.names, BackendError("x")), state)


def table(rows: list[tuple[str, str, str]]) -> Table:
    return Table.of([{"query_id": q, "query": q, "model": m, "response": t} for q, m, t in rows])


def test_the_fit_reads_no_score_and_leaves_out_questions_that_someone_did_not_answer() -> None:
    rows = [("1", "ada", "north"), ("1", "bob", "north-east"), ("1", "cyd", "east"), ("2", "ada", "west")]
    fit = Smoothie(scope="dataset").fit(table(rows), POOL.roles, np.random.default_rng(0))
    state, _ = drive(fit, answering({}))
    # the centre is (.6, .5333): squared distances .4444, .0444, .5778
    assert state.r == pytest.approx([0.4444, 0.0444, 0.5778], abs=5e-5)
    with pytest.raises(BadParameter, match="every member has answered"):
        drive(Smoothie().fit(table(rows[2:]), POOL.roles, np.random.default_rng(0)), answering({}))


def test_neighbours_are_the_questions_most_like_this_one() -> None:
    answers = np.array([[[1.0, 0], [0, 1.0], [0, 1.0]], [[0, 1.0], [1.0, 0], [1.0, 0]]])
    state = Places(np.zeros(3), np.array([[1.0, 0.0], [0.0, 1.0]]), answers)
    said = {"ada": "north", "bob": "east", "cyd": "west"}
    # alone, ada is in the middle; so is she with the second question, where bob and cyd agree less with nobody
    near = Smoothie(scope="neighbours", neighbours=2)
    verdict, yielded = asked(near, said, state)
    assert yielded[1][0].args["texts"] == ["north", "east", "west", "Where?"]  # type: ignore[union-attr]
    r = distances(np.concatenate([np.array([[[1.0, 0], [0, 1.0], [0, -1.0]]]), answers[:1]]))
    assert verdict.chosen == int(r.argmin())
    assert "on 2 questions" in verdict.reason


def test_rasa_trusts_who_stands_near_the_truth_that_it_finds() -> None:
    rng = np.random.default_rng(2)
    real = rng.standard_normal((200, 8))
    noise = np.array([0.1, 0.5, 1.0])
    z = real[:, None] + noise[:, None] * rng.standard_normal((200, 3, 8))
    z[0, 2] = np.nan  # one answer is missing
    hidden, beta = truth(z)
    assert beta.argsort().tolist() == [2, 1, 0]
    assert ((hidden - real) ** 2).mean() < ((np.nanmean(z, axis=1) - real) ** 2).mean()


@pytest.mark.parametrize("check", check_method(Smoothie), ids=str)
def test_smoothie_keeps_the_contract(check: Any, tmp_path: Any) -> None:
    check(tmp_path)


@pytest.mark.parametrize("check", check_method(Smoothie, scope="neighbours"), ids=str)
def test_smoothie_with_neighbours_keeps_the_contract(check: Any, tmp_path: Any) -> None:
    check(tmp_path)
