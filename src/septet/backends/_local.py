"""In-process models: an endpoint holds one loaded copy, its members answer, each request on its own sequence.

A backend gives its capabilities and `load`, which makes a `Runtime`; all else is written here, once.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TypeVar
from zlib import crc32

import numpy as np

from septet.backends._runtime import Runtime
from septet.backends._session import LocalSession
from septet.backends._strand import PROMPT_CHUNK, SCORED_CHUNK, Strand
from septet.backends._unable import Unable
from septet.backends._writing import HOP, Ends, Writing, as_bytes, new_decoder, whole_characters
from septet.core.backend import MemberSpec
from septet.core.caps import Caps
from septet.core.errors import BackendError
from septet.core.money import Price, Usage
from septet.core.prompt import stops
from septet.core.session import Sampler, Session, Vocab
from septet.core.types import Completion, Metered, Piece, Query, Tokens

T = TypeVar("T")


def whole_model(vocabulary: int, context: int, **more: bool) -> Caps:
    """What a model in this process offers: everything that its tokens and their probabilities allow."""
    return Caps(
        text=True,
        samples=True,
        seed=True,
        continues=True,
        stream=True,
        logprobs=True,
        topk=vocabulary,
        full=True,
        score=True,
        prompt_scores=True,
        fork=True,
        context=context,
        **more,
    )


class LocalEndpoint(ABC):
    """One loaded model, shared by its members. Every call of the runtime is made on one worker thread.

    The worker takes short jobs in turn, so requests interleave; because it is one, loading needs no lock.
    """

    def __init__(self, offers: Caps) -> None:
        self._offers = offers
        self._loaded: Runtime | None = None
        self._closed = False
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="septet-model")

    @property
    def vocabulary(self) -> str:
        """What names its tokenizer without loading it; "" where nothing does."""
        return ""

    @abstractmethod
    def load(self) -> Runtime:
        """Loads the model; called once, on the worker, at the first request."""

    def caps(self) -> Caps:
        """What its members offer, without loading anything."""
        return self._offers

    def member(self, spec: MemberSpec) -> LocalActor:
        """A member; nothing is loaded."""
        return LocalActor(self, spec)

    @property
    def loaded(self) -> Runtime | None:
        """The model, None before the first request."""
        return self._loaded

    async def runtime(self) -> Runtime:
        """The model, loaded at the first call; a failed load is tried again by the next one."""
        if self._loaded is None:
            return await self.call(self._load)
        return self._loaded

    def _load(self) -> Runtime:
        if self._loaded is None:
            self._loaded = self.load()
        return self._loaded

    async def call(self, work: Callable[[], T]) -> T:
        """Runs blocking work on the worker. A cancelled caller leaves; work that has begun ends by itself."""
        return await asyncio.wrap_future(self._submit(work))

    def later(self, work: Callable[[], object]) -> None:
        """Queues work that has to be done even if nobody waits for it; a closed model needs none."""
        if not self._closed:
            self._submit(work)

    async def surely(self, work: Callable[[], object]) -> None:
        """Runs work that a cancelled caller must not take back."""
        if not self._closed:
            await asyncio.shield(asyncio.wrap_future(self._submit(work)))

    def _submit(self, work: Callable[[], T]) -> Future[T]:
        if self._closed:
            raise BackendError("the model was closed and can answer no more")
        return self._worker.submit(work)

    async def aclose(self) -> None:
        """Frees the model, after the work that is under way; twice is allowed."""
        if self._closed:
            return
        freed = self._submit(self._free)
        self._closed = True
        await asyncio.shield(asyncio.wrap_future(freed))
        self._worker.shutdown(wait=False)

    def _free(self) -> None:
        if self._loaded is not None:
            self._loaded.shutdown()
            self._loaded = None


class LocalActor(Unable):
    """A member of a local endpoint: the loaded model, a prompt template and sampling defaults.

    `usage` of several samples: the first carries the prompt, which is fed once for all of them.
    """

    def __init__(self, endpoint: LocalEndpoint, spec: MemberSpec) -> None:
        self._endpoint, self._spec = endpoint, spec

    @property
    def name(self) -> str:
        return self._spec.name

    @property
    def caps(self) -> Caps:
        return self._endpoint.caps()

    @property
    def price(self) -> Price | None:
        return self._spec.price

    @property
    def vocab(self) -> Vocab | None:
        """None until the model is loaded."""
        return self._endpoint.loaded.vocab if self._endpoint.loaded else None

    @property
    def stop(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self._spec.prompt.stop, *self._spec.defaults.stop)))

    async def ready(self) -> None:
        """Loads the model, if it is not yet; from then on `vocab` is known."""
        await self._endpoint.runtime()

    async def complete(self, query: Query, *, n: int = 1, logprobs: int = 0) -> list[Completion]:
        """n answers; sample j of a query is drawn by its own numbers, so n = 1 gives the first of n = 5."""
        await self.admit("text", samples=n > 1, logprobs=logprobs > 0, query=query)
        self._check_k(logprobs)
        strand, _ = await self._begin(query)
        try:
            drawn = 1 if self._temperature(query) == 0 else n
            found = []
            for sample in range(drawn):
                own = strand if sample == drawn - 1 else await self._fork(strand)
                found.append(await self._finish(own, query, sample, logprobs))
            # At temperature 0 every sample is the first one.
            return found + [_again(found[0], sample) for sample in range(drawn, n)]
        finally:
            self._endpoint.later(strand.close)

    async def _finish(self, strand: Strand, query: Query, sample: int, logprobs: int) -> Completion:
        """One sample, on a strand that it closes."""
        writing = self._writing(strand, query, sample, logprobs)
        try:
            while writing.finish is None:
                await self._endpoint.call(partial(writing.advance, HOP))
        finally:
            self._endpoint.later(strand.close)
        return self._completion(writing, sample)

    def _completion(self, writing: Writing, sample: int) -> Completion:
        return Completion(
            member=self.name,
            text=whole_characters(writing.shown),
            finish=writing.finish or "cancelled",
            usage=writing.strand.meter.usage,
            tokens=writing.tokens() if writing.alternatives else None,
            sample=sample,
        )

    async def stream(self, query: Query) -> AsyncIterator[Piece | Completion]:
        """Complete characters only; what may become a stop string is held back until it is certain."""
        await self.admit("text", "stream", query=query)
        strand, _ = await self._begin(query)
        try:
            writing = self._writing(strand, query, 0, 0)
            decoder, n_shown, n_summed = new_decoder(), 0, 0
            while writing.finish is None:
                await self._endpoint.call(partial(writing.advance, 1))
                shown = writing.shown
                text = whole_characters(shown[n_shown:], decoder)
                n_shown = len(shown)
                if text:
                    logp = sum(token.logp for token in writing.written[n_summed:])
                    n_summed = len(writing.written)
                    yield Piece(text, {self.name: 1.0}, logp)
            yield self._completion(writing, 0)
        finally:
            self._endpoint.later(strand.close)

    async def open(self, query: Query, *, scored: bool = False) -> Session:
        """A session after the prompt; its `commit_rule` may be set before the first push."""
        caps = self.caps
        await self.admit(topk=not (caps.full or caps.score), prompt_scores=scored, query=query)
        strand, prompt = await self._begin(query, scored=scored)
        return LocalSession(self._endpoint, strand, caps, prompt)

    async def score(self, query: Query, texts: Sequence[str]) -> Metered[list[Tokens]]:
        """Log-probabilities of each text as the answer; the prompt is fed once."""
        await self.admit("score", query=query)
        strand, _ = await self._begin(query)
        try:
            found = [await self._endpoint.call(partial(strand.score, text)) for text in as_bytes(texts)]
        finally:
            self._endpoint.later(strand.close)
        return Metered(found, strand.meter.usage + Usage(prompt_tokens=sum(map(len, found))))

    async def aclose(self) -> None:
        """Frees the model, for all members of the endpoint."""
        await self._endpoint.aclose()

    # --- what all abilities share ------------------------------------------------------------------

    async def admit(self, *always: str, query: Query | None = None, **where: bool) -> None:
        """Refuses an ability that the caps do not name; `where` names those that this call asks for."""
        asked = [*always, *(name for name, wanted in where.items() if wanted)]
        if query is not None and query.prefix:
            asked.append("continues")
        for ability in asked:
            if not getattr(self.caps, ability):
                raise self._lacks(ability)
        if query is not None and query.extra and not self.caps.tools:
            raise self._lacks("tools", f" (the query has {', '.join(sorted(query.extra))})")

    def _check_k(self, k: int) -> None:
        if k > self.caps.topk and not self.caps.full:
            raise self._lacks(f"{k} alternatives per token", f" (topk {self.caps.topk})")

    def _temperature(self, query: Query) -> float:
        return self._spec.defaults.temperature if query.temperature is None else query.temperature

    def _writing(self, strand: Strand, query: Query, sample: int, logprobs: int) -> Writing:
        own = self._spec.defaults
        seed = own.seed if query.seed is None else query.seed
        sampler = Sampler(
            temperature=self._temperature(query),
            top_p=own.top_p if query.top_p is None else query.top_p,
            # Name and question: members, and questions, that share a seed do not share their draws.
            seed=(seed % 2**64, crc32(f"{self.name} {query.text}".encode(errors="replace")), sample),
        )
        ends = Ends(as_bytes(stops(self._spec.prompt, query, own.stop)), as_bytes(query.until))
        limit = own.max_tokens if query.max_tokens is None else query.max_tokens
        return Writing(strand, sampler, ends, max_tokens=limit, alternatives=logprobs)

    def _prompt_ids(self, runtime: Runtime, query: Query) -> list[int]:
        """The prompt's tokens, then those of the answer so far, each read on its own."""
        prompt = self._spec.prompt
        if query.raw is not None:
            ids = runtime.prompt_ids(query, query.raw)
        elif prompt.kind == "plain":
            ids = runtime.prompt_ids(query, prompt.plain(query))
        else:
            ids = runtime.prompt_ids(query.but(messages=prompt.turns(query)), None)
        return [*ids, *runtime.vocab.tokenise(query.prefix.encode())]

    async def _begin(self, query: Query, *, scored: bool = False) -> tuple[Strand, Tokens | None]:
        """A strand with the prompt fed, in equal chunks so that equal prompts give equal logits."""
        runtime = await self._endpoint.runtime()
        ids = await self._endpoint.call(partial(self._prompt_ids, runtime, query))
        strand = Strand(runtime, self.name, reported=self.caps.full)
        try:
            held = await self._endpoint.call(partial(strand.begin, ids, anew=scored))
            if scored:
                return strand, await self._scored_prompt(strand, ids)
            for start in range(held, len(ids), PROMPT_CHUNK):
                chunk = ids[start : start + PROMPT_CHUNK]
                await self._endpoint.call(
                    partial(strand.prompt, chunk, last=start + PROMPT_CHUNK >= len(ids))
                )
        except BaseException:
            self._endpoint.later(strand.close)
            raise
        return strand, None

    async def _scored_prompt(self, strand: Strand, ids: list[int]) -> Tokens:
        """Feeds the prompt and gives its own tokens; nothing comes before the first, so its logp is NaN."""
        logp = [float("nan")]
        for start in range(0, len(ids), SCORED_CHUNK):
            chunk, rest = ids[start : start + SCORED_CHUNK], ids[start + SCORED_CHUNK :]
            logp += await self._endpoint.call(partial(strand.scored_prompt, chunk, rest[0] if rest else None))
        return Tokens(tuple(map(strand.vocab.bytes_of, ids)), np.array(logp))

    async def _fork(self, strand: Strand) -> Strand:
        copy = Strand(strand.runtime, self.name, reported=strand.reported)
        try:
            await self._endpoint.call(partial(copy.copy_of, strand))
        except BaseException:
            self._endpoint.later(copy.close)
            raise
        return copy


def _again(first: Completion, sample: int) -> Completion:
    """The same answer as another sample, which took nothing more."""
    return replace(first, sample=sample, usage=Usage())


__all__ = ["LocalActor", "LocalEndpoint", "LocalSession"]
