"""Cool-Fusion by hand: which span wins, how answers end, and what happens when members fail."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.caps import Caps
from septet.core.errors import BackendError, NoCandidate
from septet.core.method import Ask, Emit, Seat, SeatPool
from septet.core.session import Draft
from septet.core.types import Completion, Query, Tokens, Verdict
from septet.methods.b2_span._together import Candidate
from septet.methods.b2_span.cool_fusion import CoolFusion
from septet.testing.contract import Check, check_method
from septet.testing.scripted import drive
from septet.testing.toys import toy_config, toy_house
from speaker import Speaker, together

CHECKS = [*check_method(CoolFusion), *check_method(CoolFusion, segments="shortest", rerank=True)]


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_cool_fusion_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    check(tmp_path)


def read(*p: float) -> Tokens:
    return Tokens(tuple(b"x" for _ in p), np.log(p))


class Writer:
    """A member that wants to write its text, one word a token, and likes a span by a table (else p = .1).

    It scores END as certain. `fails`: the ability that raises.
    """

    def __init__(self, text: str, likes: Mapping[str, float], fails: str = "") -> None:
        self.words = [b" " + w.encode() for w in text.split()]
        self.likes, self.fails = likes, fails
        self.committed = b""

    def __call__(self, ask: Ask) -> Any:
        if ask.do == self.fails:
            return BackendError(f"{ask.to.name} cannot {ask.do}")
        return getattr(self, ask.do)(ask)

    def open(self, ask: Ask) -> Seat:
        nobody: Any = object()
        return Seat(ask.to.name, Caps(text=True), session=nobody)

    def write(self, ask: Ask) -> Draft:
        left = self.words[self.committed.count(b" ") :][: ask.args["max_tokens"]]
        ended = len(left) < ask.args["max_tokens"]
        texts = (*left, b"") if ended else tuple(left)
        return Draft(b"".join(left), Tokens(texts, np.full(len(texts), -0.1)), ended)

    def score(self, ask: Ask) -> list[Tokens]:
        texts = ask.args["spans"] if "spans" in ask.args else [t.encode() for t in ask.args["texts"]]
        return [Tokens((t,), np.log([self.likes.get(t.decode(), 0.1)])) for t in texts]

    def look(self, ask: Ask) -> list[Any]:
        class After:
            def logp_of(self, piece: bytes) -> float:
                return 0.0

        return [After()] * (len(ask.args["pieces"]) + 1)

    def push(self, ask: Ask) -> None:
        self.committed += ask.args["piece"]

    def complete(self, ask: Ask) -> list[Completion]:
        return [Completion(member=ask.to.name, text=b"".join(self.words).decode())]


def fused(
    writers: Mapping[str, Writer], query: Query | None = None, stop: tuple[str, ...] = (), **parameters: Any
) -> tuple[Verdict, list[Any]]:
    pool = SeatPool(tuple(Seat(name, Caps(text=True), stop=stop) for name in writers))
    plan = CoolFusion(**parameters).plan(query or Query.of("?"), pool, None, np.random.default_rng(0))
    return drive(plan, lambda ask: writers[ask.to.name](ask))


def emitted(asked: list[Any]) -> bytes:
    return b"".join(item.piece for items in asked for item in items if isinstance(item, Emit))


def test_k20_the_mean_of_perplexities_decides_and_not_of_log_likelihoods() -> None:
    # p of s1: 1 and e^-1.3; of s2: e^-.7 and e^-.7: mean NLL .65 < .70, mean perplexity 2.33 > 2.01
    s1, s2 = Candidate(b" s1", False, (0,), 1), Candidate(b" s2", False, (1,), 1)
    table = [[read(1.0), read(np.exp(-0.7))], [read(np.exp(-1.3)), read(np.exp(-0.7))]]
    assert CoolFusion().choose([s1, s2], table, None)[0] == 1


def test_the_span_that_surprises_least_on_average_is_committed_to_all() -> None:
    writers = {
        "ada": Writer("a red cat", {" red": 0.5, " blue": 0.4}),  # perplexities 2, 2.5
        "bob": Writer("a blue cat", {" red": 0.1, " blue": 0.5}),  # perplexities 10, 2
    }
    verdict, asked = fused(writers)
    assert verdict.text == " a blue cat"
    assert emitted(asked) == b" a blue cat"
    assert {w.committed for w in writers.values()} == {b" a blue cat"}
    assert verdict.finish == "stop"
    np.testing.assert_allclose(verdict.weights, [(0.5 + 0 + 0.5) / 3, (0.5 + 1 + 0.5) / 3])
    assert verdict.reason == "3 spans, written by ada 33%, bob 67%"


def test_a_span_that_all_wrote_is_not_scored() -> None:
    _, asked = fused({"ada": Writer("yes it is", {}), "bob": Writer("yes it is", {})})
    assert {item.do for items in asked for item in items if isinstance(item, Ask)} == {
        "open", "write", "push",
    }  # fmt: skip


def test_an_ended_span_is_scored_with_its_end() -> None:
    class Unending(Writer):
        def look(self, ask: Ask) -> list[Any]:
            class After:
                def logp_of(self, piece: bytes) -> float | None:
                    return float(np.log(0.001)) if piece == b"" else None

            return [After()] * (len(ask.args["pieces"]) + 1)

    # " no" then END: perplexity sqrt(1/(.9·.001)) = 33; " yes", which goes on: 1/.1 = 10
    writers = {"ada": Unending("no", {" no": 0.9}), "bob": Unending("yes sir", {" no": 0.9})}
    verdict, _ = fused(writers, Query.of("?", max_tokens=2))
    assert (verdict.text or "").startswith(" yes")


def test_a_tie_goes_to_the_smaller_bytes_whatever_the_order_of_members() -> None:
    ada, bob = ("ada", "x one"), ("bob", "x two")
    texts = []
    for order in ((ada, bob), (bob, ada)):
        verdict, _ = fused({name: Writer(text, {}) for name, text in order})
        texts.append(verdict.text)
    assert texts == [" x one", " x one"]


@pytest.mark.parametrize("where", ["query", "member"])
def test_a_stop_string_across_spans_ends_the_answer_before_it(where: str) -> None:
    query = Query.of("?", stop=(" c d",) if where == "query" else ())
    verdict, asked = fused(
        {"ada": Writer("a b c d e", {})}, query, stop=(" c d",) if where == "member" else ()
    )
    assert (verdict.text, verdict.finish) == (" a b", "stop")
    assert emitted(asked) == b" a b"


def test_an_until_string_stays_in_the_text() -> None:
    verdict, _ = fused({"ada": Writer("a b c d", {})}, Query.of("?", until=("b c",)))
    assert (verdict.text, verdict.finish) == (" a b c", "until")


def test_max_tokens_truncates_the_answer_and_says_so() -> None:
    verdict, _ = fused({"ada": Writer("a b c d", {})}, Query.of("?", max_tokens=2))
    assert (verdict.text, verdict.finish) == (" a b", "length")


def test_a_member_that_fails_on_the_way_leaves_the_answer() -> None:
    writers = {"ada": Writer("a b c", {}), "bob": Writer("a x c", {" x": 0.9}, fails="score")}
    verdict, _ = fused(writers)
    assert verdict.text == " a b c"
    assert verdict.reason.endswith("; failed: bob cannot score")
    assert writers["bob"].committed == b" a"


@pytest.mark.parametrize("step", ["open", "write", "push"])
def test_if_every_member_fails_all_causes_are_named(step: str) -> None:
    writers = {name: Writer("a b", {}, fails=step) for name in ("ada", "bob")}
    with pytest.raises(NoCandidate, match=f"ada cannot {step}; bob cannot {step}"):
        fused(writers)


def test_rerank_takes_the_answer_with_the_lowest_mean_perplexity() -> None:
    likes = {" b": 0.5, " c d": 0.8}
    writers = {"ada": Writer("b", likes), "bob": Writer("c d", likes)}
    verdict, asked = fused(writers, rerank=True)
    # word by word " b" (END certain) beats " c"; as whole answers " c d" beats " b"
    assert verdict.chosen == 1
    assert verdict.text is None
    np.testing.assert_array_equal(verdict.weights, [0.0, 1.0])
    assert verdict.reason.startswith("the answer of bob, mean perplexity 1.250 of 3 answers")
    assert emitted(asked) == b""


def test_rerank_keeps_the_fused_answer_where_it_is_the_best() -> None:
    likes = {" a": 0.9, " b": 0.9, " a b": 0.7}
    writers = {"ada": Writer("a z", likes), "bob": Writer("y b", likes)}
    verdict, _ = fused(writers, rerank=True)
    assert (verdict.text, verdict.chosen) == (" a b", None)


def test_what_a_query_asks_for_wins_over_greedy_writing() -> None:
    _, asked = fused({"ada": Writer("a", {})}, Query.of("?", temperature=0.7, top_p=0.9))
    sampler = asked[1][0].args["sampler"]
    assert (sampler.temperature, sampler.top_p) == (0.7, 0.9)


@pytest.mark.parametrize("parameters", [{}, {"segments": "shortest"}])
def test_k2_a_member_fused_with_its_twin_says_what_it_says_alone(
    parameters: dict[str, Any], tmp_path: Path
) -> None:
    same = {"tokenizer": "words", "skill": 1.0}
    text = toy_config(
        "cool-fusion", parameters, members={"ada": same, "bob": same}, order=("ada", "bob"), folder=tmp_path
    )

    async def both() -> tuple[str, str, str]:
        async with toy_house(text) as house:
            own = await house["ada"].ask("Who wrote Faust?", temperature=0.0)
            together = await house["toys"].ask("Who wrote Faust?")
            return own.text, together.text, "".join(piece.text for piece in together.pieces)

    own, together, streamed = asyncio.run(both())
    assert own == together == streamed == "Goethe wrote Faust."


def test_a_segment_is_committed_as_its_authors_own_tokens_and_to_others_as_text() -> None:
    ada = Speaker({b"": {b" ca": 0.9}, b" ca": {b"ts": 0.9}, b" cats": {b" sit": 0.9}})
    bob = Speaker({b"": {b" cats": 0.9}, b" cats": {b" s": 0.9}, b" cats s": {b"it": 0.9}})
    cyd = Speaker({}, always={b" dogs": 0.3})
    verdict, _ = together(CoolFusion(), {"ada": ada, "bob": bob, "cyd": cyd})
    assert verdict.text == " cats sit"
    assert ada.pushed == [b" ca", b"ts", b" sit"]
    assert bob.pushed == [b" cats", b" s", b"it"]
    assert cyd.pushed == [b" cats", b" sit"]


def test_it_streams_unless_it_ranks_again() -> None:
    member = Caps(text=True, continues=True, score=True, topk=1)
    assert CoolFusion().offers([member]).stream
    assert not CoolFusion(rerank=True).offers([member]).stream
