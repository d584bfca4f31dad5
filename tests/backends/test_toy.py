"""The toy: recognisable answers, and strictness about what it does not offer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from septet.backends._toy_model import Knowledge, vocabulary
from septet.backends.toy import Toy
from septet.core.actor import Actor
from septet.core.backend import MemberSpec, Place
from septet.core.errors import BackendError, BadParameter, UnknownName
from septet.core.money import Price
from septet.core.prompt import BUILT_IN
from septet.core.types import Query

FIVE = Query.of("What is 2+3?")


def member(name: str = "toy", *, prompt: str = "chat", **options: Any) -> Actor:
    spec = MemberSpec(name=name, prompt=BUILT_IN[prompt], price=Price(1.0, 2.0))
    return Toy(**options).connect(Place()).member(spec)


async def answer(actor: Actor, query: Query) -> str:
    return (await actor.complete(query))[0].text


@pytest.mark.parametrize("tokenizer", ["words", "bytes"])
@pytest.mark.parametrize("prompt", ["chat", "cot", "qa"])
async def test_it_answers_sums_and_what_it_was_told(tokenizer: str, prompt: str) -> None:
    toy = member(tokenizer=tokenizer, prompt=prompt, answers={"Faust": "Goethe", "Who": "Nobody"})
    assert await answer(toy, FIVE) == "5"
    assert await answer(toy, Query.of("What is 7 * -6?")) == "-42"
    assert await answer(toy, Query.of("Who wrote Faust?")) == "Goethe"
    assert await answer(toy, Query.of("Why?")) == "I do not know."
    await toy.aclose()


async def test_the_pairs_spell_a_b_c_and_nothing_else() -> None:
    toy = member(tokenizer="pairs", answers={"spell": "abcab"})
    assert await answer(toy, Query.of("spell!")) == "abcab"
    vocab = vocabulary("pairs")
    assert [vocab.bytes_of(i) for i in vocab.tokenise(b"abcabca")] == [b"abc", b"abc", b"a"]
    with pytest.raises(BackendError, match="cannot spell"):
        vocab.tokenise(b"d")
    await toy.aclose()


def test_skill_is_the_share_of_questions_that_it_answers_right() -> None:
    questions = [f"What is {i}+{i}?" for i in range(300)]
    rights = [str(2 * i) for i in range(300)]

    def right(**options: Any) -> list[bool]:
        toy = Knowledge(**options)
        return [toy.targets(q)[0] == r for q, r in zip(questions, rights, strict=True)]

    assert all(right(skill=1.0))
    assert not any(right(skill=0.0))
    # 300 draws at .7: five standard deviations are .13.
    assert 0.57 < np.mean(right(skill=0.7, seed=1)) < 0.83
    assert right(skill=0.7, seed=1) != right(skill=0.7, seed=2)
    assert right(skill=0.7, seed=1) == right(skill=0.7, seed=1)


async def test_every_text_comes_back_from_the_words_and_the_bytes() -> None:
    text = " the\x00 né\r\n\t日本👍".encode() + b"\xff\xf0\x9f"
    for spelling in ("words", "bytes"):
        vocab = vocabulary(spelling)  # type: ignore[arg-type]
        assert vocab.join(vocab.tokenise(text)) == text


CALLS: dict[str, Any] = {
    "text": lambda toy: toy.complete(FIVE),
    "samples": lambda toy: toy.complete(FIVE, n=2),
    "logprobs": lambda toy: toy.complete(FIVE, logprobs=1),
    "continues": lambda toy: toy.complete(FIVE.but(prefix="5")),
    "stream": lambda toy: anext(toy.stream(FIVE)),
    "prompt_scores": lambda toy: toy.open(FIVE, scored=True),
    "score": lambda toy: toy.score(FIVE, ["5"]),
    "embed": lambda toy: toy.embed(["a"]),
    "rate": lambda toy: toy.rate(FIVE, ["5"]),
    "compare": lambda toy: toy.compare(FIVE, ["5"]),
    "run": lambda toy: toy.run("1+1"),
}


@pytest.mark.parametrize("ability", CALLS)
async def test_an_ability_that_it_lacks_raises_and_is_named(ability: str) -> None:
    toy = member("stingy", lacks=(ability,))
    assert not getattr(toy.caps, ability)
    with pytest.raises(BackendError, match=f"stingy does not offer {ability}"):
        await CALLS[ability](toy)
    await toy.aclose()


async def test_a_session_is_as_strict_as_its_member() -> None:
    toy = member(lacks=("full", "fork", "score", "hidden"), topk_limit=3)
    session = await toy.open(FIVE)
    for call in (
        session.next(None),
        session.next(4),
        session.fork(),
        session.score([b"5"]),
        session.hidden(),
    ):
        with pytest.raises(BackendError, match="does not offer"):
            await call
    now = await session.next(3)
    assert now.logp_of(b"5") == pytest.approx(float(now.logp[0]), abs=1e-3)
    assert now.logp_of(b"river") is None  # it reports three tokens and says nothing of others
    assert now.logp_of(b"no such token") == -np.inf
    await session.close()
    await toy.aclose()


async def test_without_distributions_and_scores_no_session_opens() -> None:
    toy = member(lacks=("full", "topk", "score"))
    with pytest.raises(BackendError, match="does not offer topk"):
        await toy.open(FIVE)
    await toy.aclose()


async def test_tools_are_refused() -> None:
    toy = member()
    with pytest.raises(BackendError, match=r"does not offer tools \(the query has response_format\)"):
        await toy.complete(FIVE.but(extra={"response_format": {"type": "json_object"}}))
    await toy.aclose()


async def test_equal_strings_of_two_toys_have_equal_embeddings_but_for_a_rotation_and_noise() -> None:
    toys = [member("ada"), member("bob", tokenizer="bytes", variant=5)]
    rows = []
    for toy in toys:
        with pytest.raises(BackendError, match="is not loaded yet"):
            toy.matrix("input")
        await toy.ready()
        assert toy.vocab is not None
        assert toy.matrix("input").shape == (toy.vocab.size, 24)
        np.testing.assert_array_equal(toy.matrix("output"), toy.matrix("input"))
        letters = [toy.vocab.ids_of(bytes([letter]))[0] for letter in range(65, 91)]
        rows.append(toy.matrix("input")[letters])
        await toy.aclose()
    one, other = (r / np.linalg.norm(r, axis=1, keepdims=True) for r in rows)
    assert np.abs(one @ one.T - other @ other.T).max() < 0.2  # angles between letters are alike
    assert np.abs(one - other).max() > 0.3


async def test_a_toy_that_lacks_matrices_refuses_them() -> None:
    toy = member(lacks=("matrices",))
    await toy.ready()
    with pytest.raises(BackendError, match="does not offer matrices"):
        toy.matrix("input")
    await toy.aclose()


async def test_a_failing_toy_fails_at_every_call() -> None:
    toy = member("broken", fail=True)
    for call in CALLS.values():
        with pytest.raises(BackendError, match="broken fails"):
            await call(toy)
    await toy.aclose()


def test_wrong_options_are_refused_with_their_rule() -> None:
    with pytest.raises(UnknownName, match="did you mean 'embed'"):
        Toy(lacks=("embedd",)).connect(Place())
    with pytest.raises(BadParameter, match=r"toy\.skill"):
        Toy(skill=1.5)


async def test_embeddings_are_unit_rows_and_equal_words_are_equal_rows() -> None:
    toy = member()
    rows = (await toy.embed(["the cat", "Cat the", "a river", ""])).value
    assert rows.shape == (4, 64)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(4))
    assert rows[0] == pytest.approx(rows[1])
    assert rows[0] @ rows[2] < 0.9
    await toy.aclose()


async def test_the_right_answer_is_rated_best_and_comparisons_are_antisymmetric() -> None:
    toy = member()
    rated = await toy.rate(FIVE, ["6", "It is 5.", "7"])
    assert rated.value.shape == (3, 1)
    assert rated.value[:, 0].argmax() == 1
    matrix = (await toy.compare(FIVE, ["6", "5", "7"])).value
    assert matrix == pytest.approx(-matrix.T)
    assert (matrix[1, [0, 2]] > 0).all()
    await toy.aclose()


async def test_only_simple_sums_are_run() -> None:
    toy = member()
    assert (await toy.run("print(2+3)")).value.output == "5"
    refused = (await toy.run("import os")).value
    assert not refused.ok
    assert "only one sum" in refused.error
    await toy.aclose()


async def test_members_of_one_endpoint_share_the_model_and_draw_independently() -> None:
    endpoint = Toy(answers={"coin": "Yes"}).connect(Place())
    one, two = (endpoint.member(MemberSpec(name=n, prompt=BUILT_IN["chat"])) for n in ("one", "two"))
    query = Query.of("coin", temperature=1.0)
    first, second = await one.complete(query, n=12), await two.complete(query, n=12)
    assert one.vocab is two.vocab
    assert [c.text for c in first] != [c.text for c in second]
    await endpoint.aclose()
