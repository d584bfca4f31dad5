"""Distributions after given ids: what pushing these ids one by one gives, fed once, and nothing committed."""

from __future__ import annotations

import random

import numpy as np
import pytest

from septet.backends._strand import Strand
from septet.backends._toy_model import Knowledge, ToyRuntime
from septet.core.types import Query

PROMPT = Query.of("Why?")


def strand(runtime: ToyRuntime) -> Strand:
    made = Strand(runtime, "toy")
    ids = runtime.prompt_ids(PROMPT, None)
    made.begin(ids)
    made.prompt(ids, last=True)
    return made


@pytest.fixture
def runtime() -> ToyRuntime:
    return ToyRuntime(Knowledge({"Why?": "Because of Rome."}), "words", 0)


def pushed(runtime: ToyRuntime, path: tuple[int, ...]) -> np.ndarray:
    other = strand(runtime)
    for token in path:
        other.append(token)
    found = other.next(None).logp
    other.close()
    return found


def test_it_is_what_appending_the_ids_gives(runtime: ToyRuntime) -> None:
    made, rng = strand(runtime), random.Random(0)
    usable = range(3, runtime.vocab.size)
    for round_ in range(30):
        made.push(b" the" if round_ % 3 else b"a", "own")
        paths = [tuple(rng.choices(usable, k=rng.randint(0, 4))) for _ in range(3)]
        paths.append((*made.ids[: rng.randint(0, len(made.ids))], rng.choice(usable)))
        before, text = list(made.ids), made.text
        for path, following in zip(paths, made.after(paths), strict=True):
            assert following.full
            np.testing.assert_array_equal(following.logp, pushed(runtime, path))
        assert (made.ids, made.text) == (before, text)
        np.testing.assert_array_equal(made.next(None).logp, pushed(runtime, tuple(before)))


def test_paths_that_begin_each_other_are_one_forward(runtime: ToyRuntime) -> None:
    made = strand(runtime)
    ids = runtime.vocab.tokenise(b"Because of Rome")
    before = made.meter.forwards
    made.after([tuple(ids[: k + 1]) for k in range(len(ids))])
    assert made.meter.forwards == before + 1
    assert made.meter.usage.completion_tokens == 0


def test_the_distribution_after_the_prompt_needs_no_forward_while_it_is_known(runtime: ToyRuntime) -> None:
    made = strand(runtime)
    before = made.meter.forwards
    (start,) = made.after([()])
    assert made.meter.forwards == before
    made.push(b"a", "own")
    (again,) = made.after([()])
    np.testing.assert_array_equal(start.logp, again.logp)


def test_what_is_in_the_cache_is_not_fed_again(runtime: ToyRuntime) -> None:
    made = strand(runtime)
    ids = tuple(runtime.vocab.tokenise(b"Because of Rome"))
    made.after([ids])
    fed = made.meter.usage.fed_tokens
    made.push(b"Because of Rome", "canonical")
    made.after([(*ids, ids[0])])
    assert made.meter.usage.fed_tokens - fed <= len(ids) + 1
    made.close()
    assert runtime.n_open == 0
