"""A stand-in that answers from a trace."""

from __future__ import annotations

from typing import Any

import pytest

from septet.cli._recorded import Recorded, Recording
from septet.core.actor import Actor
from septet.core.caps import Caps
from septet.core.errors import BackendError, ConfigError
from septet.core.types import Completion, Piece, Query
from septet.engine.wire import completion_json, query_json

ASKED = Query.of("Why?", seed=0)


class Real:
    """A member that must not be called."""

    name, caps, price, stop = "ada", Caps(text=True), None, ("\n",)

    @property
    def vocab(self) -> None:
        raise AssertionError("reading the vocabulary would load the model")


def recorded(*texts: str, **more: Any) -> tuple[Actor, Recording]:
    calls = [
        {
            "member": "ada",
            "do": "complete",
            "input": {"query": query_json(ASKED), "n": 1, "logprobs": 0},
            "output": {"completions": [completion_json(Completion(member="ada", text=text))]},
            "error": "",
            **more,
        }
        for text in texts
    ]
    recording = Recording(calls)
    return Recorded(Real(), recording), recording  # type: ignore[arg-type,return-value]


async def test_the_same_query_gets_the_recorded_answers_in_their_order():
    actor, _ = recorded("one", "two")
    assert [(await actor.complete(ASKED))[0].text for _ in range(2)] == ["one", "two"]


async def test_a_stream_is_one_piece_and_the_completion():
    actor, _ = recorded("one")
    first, last = [item async for item in actor.stream(ASKED)]
    assert first == Piece("one")
    assert isinstance(last, Completion)


async def test_what_was_not_asked_then_is_an_error_and_is_noted():
    actor, recording = recorded("one")
    with pytest.raises(BackendError, match="not asked then"):
        await actor.complete(ASKED.but(seed=1))
    assert recording.missed == ["ada, asked 'Why?' with seed 1"]


async def test_a_call_that_failed_then_fails_again():
    actor, _ = recorded("one", error="no reply")
    with pytest.raises(BackendError, match="failed then: no reply"):
        await actor.complete(ASKED)


async def test_log_probabilities_are_refused_not_made_up():
    actor, _ = recorded("one")
    with pytest.raises(BackendError, match="no log-probabilities"):
        await actor.complete(ASKED, logprobs=5)


async def test_an_ability_whose_output_is_not_kept_is_refused_by_name():
    actor, _ = recorded("one")
    with pytest.raises(BackendError, match="no output of 'rate'"):
        await actor.rate(ASKED, ["x"])


def test_a_trace_with_a_session_is_refused_before_anything_runs():
    with pytest.raises(ConfigError, match="session by ada"):
        recorded("one", do="session")


def test_its_facts_are_those_of_the_real_member_but_the_vocabulary_is_not_read():
    actor, _ = recorded()
    assert (actor.name, actor.caps, actor.stop, actor.vocab) == ("ada", Caps(text=True), ("\n",), None)
