"""A model that needs nothing: deterministic, recognisable, and strict about what it offers.

It answers the questions that it was told the answers of, and simple sums, so that ensembles of toys can be
right or wrong in ways that a test or a first try can follow. What it `lacks` raises when it is called.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import field, fields, replace
from typing import Annotated, Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from septet.backends._local import LocalActor, LocalEndpoint
from septet.backends._toy_model import Knowledge, ToyRuntime, calculate, embeddings, unit_hash
from septet.core.backend import Backend, BackendCard, Endpoint, MemberSpec, Place, backend
from septet.core.caps import Caps
from septet.core.errors import BackendError, UnknownName
from septet.core.method import param
from septet.core.money import Usage
from septet.core.types import Floats, Metered, Query, Run

EVERYTHING = Caps(
    text=True,
    samples=True,
    seed=True,
    continues=True,
    stream=True,
    logprobs=True,
    full=True,
    score=True,
    prompt_scores=True,
    fork=True,
    embed=True,
    rate=True,
    compare=True,
    run=True,
    hidden=True,
    matrices=True,
)

N_DIMENSIONS = 64
"""Length of an embedding."""


@backend(
    BackendCard(
        title="A toy model: deterministic, needs nothing",
        offers="all but tools; any of it can be taken away",
        tested=("itself",),
    )
)
class Toy(Backend):
    """The options of a toy."""

    tokenizer: Annotated[
        Literal["words", "bytes", "pairs"], param("How it spells: words, single bytes, or a, b, c, ab, abc.")
    ] = "words"
    answers: Annotated[
        Mapping[str, str], param("What it answers to a question that holds the given words.")
    ] = field(default_factory=dict)
    fallback: Annotated[str, param("What it answers where it knows nothing.")] = "I do not know."
    skill: Annotated[
        float, param("The share of known questions, by hash, that it answers right.", ge=0, le=1)
    ] = 1.0
    variant: Annotated[int, param("Makes toys differ in their noise and in what they get wrong.", ge=0)] = 0
    lacks: Annotated[tuple[str, ...], param("Capabilities that it does not offer; calling one raises.")] = ()
    fail: Annotated[bool, param("Every call raises a BackendError.")] = False
    topk_limit: Annotated[int, param("How many alternatives per token it reports.", ge=0)] = 100
    latency_seconds: Annotated[float, param("How long it waits before each call.", ge=0)] = 0.0
    context: Annotated[int, param("Tokens of prompt and answer together; 0: no limit.", ge=0)] = 8192

    def connect(self, place: Place) -> Endpoint:
        """An endpoint; a capability that does not exist raises here."""
        known = [f.name for f in fields(Caps)]
        for name in self.lacks:
            if name not in known:
                raise UnknownName("capability", name, known, "toy.lacks")
        return ToyEndpoint(self)

    def offered(self) -> Caps:
        """Everything but what it lacks."""
        caps = replace(EVERYTHING, topk=self.topk_limit, context=self.context)
        return replace(caps, **{name: type(getattr(caps, name))() for name in self.lacks})


class ToyEndpoint(LocalEndpoint):
    """One toy, shared by its members."""

    def __init__(self, toy: Toy) -> None:
        super().__init__(toy.offered())
        self.toy = toy
        self.knowledge = Knowledge(toy.answers, toy.fallback, toy.skill, toy.variant)

    @property
    def vocabulary(self) -> str:
        """Toys that spell alike have one vocabulary."""
        return f"toy:{self.toy.tokenizer}"

    def load(self) -> ToyRuntime:
        """Builds the vocabulary."""
        return ToyRuntime(self.knowledge, self.toy.tokenizer, self.toy.context)

    def member(self, spec: MemberSpec) -> ToyActor:
        """A member; nothing is loaded."""
        return ToyActor(self, spec)


class ToyActor(LocalActor):
    """A member of a toy endpoint: all of `LocalActor`, and small stand-ins for encoders, judges and executors."""

    def __init__(self, endpoint: ToyEndpoint, spec: MemberSpec) -> None:
        super().__init__(endpoint, spec)
        self._toy, self._knowledge = endpoint.toy, endpoint.knowledge

    async def admit(self, *always: str, query: Query | None = None, **where: bool) -> None:
        """Waits and fails as its options say, then refuses what it does not offer."""
        if self._toy.latency_seconds:
            await asyncio.sleep(self._toy.latency_seconds)
        if self._toy.fail:
            raise BackendError(f"{self.name} fails, as its option 'fail' says", status=500)
        await super().admit(*always, query=query, **where)

    async def embed(self, texts: Sequence[str]) -> Metered[Floats]:
        """(n, 64) counts of hashed words, rows of length one; an empty text is the first axis."""
        await self.admit("embed")
        rows = np.zeros((len(texts), N_DIMENSIONS))
        for row, text in zip(rows, texts, strict=True):
            for word in _words(text):
                row[crc32(word.encode()) % N_DIMENSIONS] += 1
        rows[~rows.any(axis=1), 0] = 1
        return Metered(rows / np.linalg.norm(rows, axis=1, keepdims=True), _read(texts))

    async def rate(self, query: Query, texts: Sequence[str]) -> Metered[Floats]:
        """(n, 1) in [0, 1]: 0.9 for a text that holds the right answer, else a hash below 0.5."""
        await self.admit("rate")
        return Metered(self._ratings(query, texts)[:, None], _read([query.text, *texts]))

    async def compare(self, query: Query, texts: Sequence[str]) -> Metered[Floats]:
        """(n, n) differences of ratings, so row i column j is minus row j column i."""
        await self.admit("compare")
        ratings = self._ratings(query, texts)
        return Metered(ratings[:, None] - ratings[None, :], _read([query.text, *texts]))

    async def run(self, code: str) -> Metered[Run]:
        """The value of one sum, difference or product of integers; anything else is refused."""
        await self.admit("run")
        found = re.fullmatch(r"\s*(?:print\()?\s*(-?\d+)\s*([-+*])\s*(-?\d+)\s*\)?\s*", code)
        if found is None:
            return Metered(Run(False, error="only one sum, difference or product of integers is run"))
        return Metered(Run(True, output=calculate(*found.groups())))

    def matrix(self, side: Literal["input", "output"]) -> NDArray[np.float32]:
        """(V, 24) embeddings: equal strings of two toys have nearly equal rows, but for a rotation of the space.
        Input and output are one matrix."""
        if not self.caps.matrices:
            raise self._lacks("matrices")
        if not isinstance(self._endpoint.loaded, ToyRuntime):
            raise BackendError(f"{self.name} is not loaded yet, so its matrices are not known")
        return embeddings(self._endpoint.loaded.vocab, self._toy.variant)

    def _ratings(self, query: Query, texts: Sequence[str]) -> Floats:
        known = self._knowledge.right(query.text)
        right = None if known is None else known[1]
        return np.array(
            [
                0.9
                if right is not None and right in text
                else 0.5 * unit_hash(self._toy.variant, "rate", text)
                for text in texts
            ]
        )


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _read(texts: Sequence[str]) -> Usage:
    """What reading these texts took: one token per word."""
    return Usage(prompt_tokens=sum(len(_words(text)) for text in texts))
