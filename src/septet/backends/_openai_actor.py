"""A member behind an OpenAI-compatible server: a prompt template and sampling defaults on a shared server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from septet.backends._openai_calls import Streamed, Wanted, pieces, read, together, whole
from septet.backends._openai_endpoint import Server
from septet.backends._openai_flavours import Flavour
from septet.backends._openai_remotes import LlamaServer, Vllm
from septet.backends._openai_session import RemoteSession
from septet.backends._openai_tokens import entries_of, spelling
from septet.backends._openai_wire import (
    Call,
    Reading,
    Sampling,
    chat_call,
    choices_of,
    extras,
    shared_usage,
    text_call,
    usage_of,
)
from septet.backends._unable import Unable
from septet.core.backend import MemberSpec
from septet.core.caps import Caps
from septet.core.money import Price, Usage
from septet.core.prompt import stops
from septet.core.session import Session, Vocab
from septet.core.types import Completion, Message, Metered, Piece, Query, Tokens


class RemoteActor(Unable):
    """A member. Every ability makes one attempt; the gate above repeats what may pass."""

    def __init__(self, server: Server, spec: MemberSpec) -> None:
        self._server, self._spec = server, spec
        self._caps = server.caps(plain=spec.prompt.kind == "plain")

    @property
    def name(self) -> str:
        return self._spec.name

    @property
    def caps(self) -> Caps:
        return self._caps

    @property
    def price(self) -> Price | None:
        return self._spec.price

    @property
    def vocab(self) -> Vocab | None:
        """The tokens that the server has shown; None where it shows none through sessions."""
        return self._server.vocab if self._caps.topk else None

    @property
    def stop(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self._spec.prompt.stop, *self._spec.defaults.stop)))

    async def complete(self, query: Query, *, n: int = 1, logprobs: int = 0) -> list[Completion]:
        """n answers. Where the server takes no `n`, or an `until` has to be cut here, n calls at once."""
        self._admit(query)
        if logprobs > self._server.topk:
            raise self._lacks(f"{logprobs} alternatives per token", f" (topk {self._server.topk})")
        flavour = await self._server.flavour()
        wanted = await self._wanted(query, flavour, logprobs)
        if query.until and not flavour.names_stop:
            calls = [read(self._server, flavour, wanted, sample) for sample in range(n)]
            return self._each(wanted, [(s.reading, s.usage) for s in await together(calls)])
        if n > 1 and not flavour.many:
            return self._each(wanted, await self._singly(flavour, wanted, range(n)))
        readings, usage = await whole(self._server, flavour, wanted, n)
        found = self._completions(wanted, readings, usage)
        if len(found) < n:
            rest = await self._singly(flavour, wanted, range(len(found), n))
            found += self._each(wanted, rest, first=len(found))
        return found

    async def stream(self, query: Query) -> AsyncIterator[Piece | Completion]:
        """The text as the server sends it; an `until` ends the stream here."""
        self._admit(query)
        flavour = await self._server.flavour()
        wanted = await self._wanted(query, flavour, 0)
        out = Streamed()
        async with aclosing(pieces(self._server, flavour, wanted, out)) as texts:
            async for text in texts:
                yield Piece(text, {self.name: 1.0})
        yield self._completions(wanted, [out.reading], out.usage)[0]

    async def open(self, query: Query, *, scored: bool = False) -> Session:
        """A session; llama-server renders the prompt now, once."""
        self._admit(query)
        for ability, asked in (("topk", True), ("prompt_scores", scored)):
            if asked and not getattr(self._caps, ability):
                raise self._lacks(ability)
        remote = await self._remote(query, await self._server.flavour())
        prompt, usage = None, Usage()
        if scored and isinstance(remote, Vllm):
            prompt, usage = await remote.prompt_tokens(query.prefix.encode())
        session = RemoteSession(self.name, remote, self._caps, self._server.topk, prompt)
        session.meter.usage += usage
        if query.prefix:
            await session.push(query.prefix.encode())
        return session

    async def score(self, query: Query, texts: Sequence[str]) -> Metered[list[Tokens]]:
        """Log-probabilities of each text as the answer, in one call for all of them."""
        self._admit(query)
        if not self._caps.score:
            raise self._lacks("score")
        flavour = await self._server.flavour()
        if not flavour.scores:
            return await self._echoed(query, texts, flavour)
        remote = await self._remote(query, flavour)
        found, usage = await remote.score(query.prefix.encode(), [text.encode() for text in texts])
        return Metered(found, usage)

    async def aclose(self) -> None:
        """Closes the connections, for all members of the endpoint."""
        await self._server.http.aclose()

    # --- what all abilities share ------------------------------------------------------------------

    def _admit(self, query: Query) -> None:
        if query.prefix and not self._caps.continues:
            raise self._lacks("continues")
        if query.extra and not self._caps.tools:
            raise self._lacks("tools", f" (the query has {', '.join(sorted(query.extra))})")

    def _prompt(self, query: Query) -> str | tuple[Message, ...]:
        """The prompt: a text where it is raw or plain, else the turns of the conversation."""
        if query.raw is not None:
            return query.raw
        prompt = self._spec.prompt
        return prompt.plain(query) if prompt.kind == "plain" else prompt.turns(query)

    async def _call(self, query: Query, flavour: Flavour) -> Call:
        prompt = self._prompt(query)
        if not isinstance(prompt, str) and query.prefix and flavour.continues == "rendered":
            prompt = await self._server.render(prompt)
        return (
            text_call(prompt + query.prefix) if isinstance(prompt, str) else chat_call(prompt, query.prefix)
        )

    async def _wanted(self, query: Query, flavour: Flavour, logprobs: int) -> Wanted:
        own, call = self._spec.defaults, await self._call(query, flavour)
        sampling = Sampling(
            max_tokens=own.max_tokens if query.max_tokens is None else query.max_tokens,
            temperature=own.temperature if query.temperature is None else query.temperature,
            top_p=own.top_p if query.top_p is None else query.top_p,
            # a default seed is no request: it goes only to servers that keep to seeds
            seed=own.seed if query.seed is None and flavour.seeded else query.seed,
            stop=stops(self._spec.prompt, query, own.stop),
        )
        return Wanted(
            call=call,
            sampling=sampling,
            until=query.until,
            logprobs=logprobs,
            extra=extras(query.extra, call),
        )

    async def _singly(
        self, flavour: Flavour, wanted: Wanted, samples: Sequence[int]
    ) -> list[tuple[Reading, Usage | None]]:
        """One call per sample, each with a seed of its own."""

        async def one(sample: int) -> tuple[Reading, Usage | None]:
            seed = wanted.sampling.seed
            own = replace(wanted.sampling, seed=None if seed is None else seed + sample)
            readings, usage = await whole(self._server, flavour, replace(wanted, sampling=own), 1)
            return readings[0], usage

        return await together([one(sample) for sample in samples])

    def _each(
        self, wanted: Wanted, samples: Sequence[tuple[Reading, Usage | None]], first: int = 0
    ) -> list[Completion]:
        return [
            self._completions(wanted, [reading], usage, sample)[0]
            for sample, (reading, usage) in enumerate(samples, start=first)
        ]

    def _completions(
        self, wanted: Wanted, readings: Sequence[Reading], usage: Usage | None, first: int = 0
    ) -> list[Completion]:
        source = self._server.http.source(self._server.http.base + wanted.call.path)
        shares = shared_usage(usage, readings)
        asked, probed = wanted.logprobs > 0, self._server.probed
        found = []
        for sample, (reading, share) in enumerate(zip(readings, shares, strict=True), start=first):
            if probed:
                reading.extra["flavour"] = probed.name
            found.append(reading.completion(self.name, sample, share, source, asked=asked))
        return found

    async def _remote(self, query: Query, flavour: Flavour) -> LlamaServer | Vllm:
        """How this server does what a session needs, after the query's prompt."""
        extras(query.extra, text_call(""))
        prompt = self._prompt(query)
        if flavour.continues == "message":
            return Vllm(self._server, flavour, self.name, prompt)
        text = prompt if isinstance(prompt, str) else await self._server.render(prompt)
        return LlamaServer(self._server, flavour, self.name, text)

    async def _echoed(self, query: Query, texts: Sequence[str], flavour: Flavour) -> Metered[list[Tokens]]:
        """Scores from a completions endpoint that gives the prompt's log-probabilities back."""
        prompt = self._prompt(query)
        if not isinstance(prompt, str):
            raise self._lacks("score", " of a conversation (only of plain prompts)")
        start = len(prompt) + len(query.prefix)
        body: dict[str, Any] = {
            "prompt": [prompt + query.prefix + text for text in texts],
            "max_tokens": 1,
            "temperature": 0.0,
            "echo": True,
            "logprobs": 1,
        }
        reply = await self._server.post("/completions", body)
        source = self._server.http.source(self._server.http.base + "/completions")
        choices = choices_of(reply, source)
        found = []
        for text, choice in zip(texts, choices, strict=False):
            logprobs = choice.get("logprobs") or {}
            entries, offsets = entries_of(logprobs, flavour) or [], logprobs.get("text_offset") or []
            if len(entries) != len(offsets) or not entries or offsets[0] >= start:
                raise source.wrong("did not give the log-probabilities of the prompt (echo)")
            ends = [*offsets[1:], start + len(text) + 1]
            own = [e for e, a, b in zip(entries, offsets, ends, strict=True) if b > start > a - len(text)]
            found.append(spelling(text.encode(), own, top=False))
        if len(found) != len(texts):
            raise source.wrong(f"answered {len(found)} of {len(texts)} prompts")
        return Metered(found, usage_of(reply) or Usage())
