"""What a session asks of llama-server and of vLLM: next tokens, a continuation, scores of given texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from septet.backends._openai_calls import Wanted, read
from septet.backends._openai_endpoint import Server
from septet.backends._openai_flavours import Flavour
from septet.backends._openai_session import Row, completions_of, prompt_of, split_whole, whole_text, with_end
from septet.backends._openai_tokens import Entry, entry_of, number, spelled, spelling
from septet.backends._openai_wire import Call, Reading, Sampling, chat_call, choices_of, text_call, usage_of
from septet.core.errors import BackendError
from septet.core.money import Usage
from septet.core.session import END, Draft, Sampler
from septet.core.types import Message, Tokens

FORCED = 1000.0
"""A logit bias that no other token comes near."""


class Written:
    """A continuation as a stream, cut after the first `until`: then the tokens of that string are known too."""

    def __init__(self, server: Server, flavour: Flavour, name: str) -> None:
        self.server, self.flavour, self.name = server, flavour, name
        self.vocab = server.vocab

    async def call(self, committed: bytes) -> Call:
        """The call that continues after these bytes."""
        raise NotImplementedError

    async def write(
        self, committed: bytes, until: Sequence[bytes], max_tokens: int, sampler: Sampler
    ) -> tuple[Draft, Usage]:
        wanted = Wanted(
            call=await self.call(committed),
            sampling=Sampling(
                max_tokens=max_tokens,
                temperature=sampler.temperature,
                top_p=sampler.top_p,
                seed=int(np.random.default_rng(sampler.seed).integers(2**31)),
            ),
            until=tuple(whole_text(u, self.name) for u in until),
            logprobs=1,
        )
        out = await read(self.server, self.flavour, wanted, 0)
        reading = out.reading
        if reading.entries is None and reading.text:
            raise BackendError(f"{self.name}: the server gave no log-probabilities of the text that it wrote")
        entries, ended = reading.entries or [], reading.finish == "stop"
        tokens = spelling(reading.text.encode(), entries, top=False)
        if ended:
            tokens = with_end(tokens, entries)
        hit = next((u for u in wanted.until if reading.finish == "until" and reading.text.endswith(u)), "")
        usage = out.usage or Usage(completion_tokens=len(entries), fed_tokens=len(entries))
        return Draft(reading.text.encode(), tokens, ended, hit), usage


class LlamaServer(Written):
    """The prompt as llama-server rendered it, and its own endpoint /completion.

    The next token is asked for with another one forced: the reported probabilities are those before any
    bias, and a token that is sampled from half a character would not be reported at all.
    Every token that the server writes as nothing counts as END.
    """

    def __init__(self, server: Server, flavour: Flavour, name: str, text: str) -> None:
        super().__init__(server, flavour, name)
        self._text = text

    async def call(self, committed: bytes) -> Call:
        prompt = prompt_of(self._text, committed, self.server.shown)
        if prompt is None:
            await self.server.show(completions_of(split_whole(committed)[1]))
            prompt = prompt_of(self._text, committed, self.server.shown)
        return text_call(whole_text(committed, self.name) if prompt is None else prompt)

    async def row(self, committed: bytes, k: int) -> Row:
        fields = ("tokens_evaluated", "tokens_predicted", "timings/cache_n", "completion_probabilities")
        body = {
            **(await self.call(committed)).body,
            "n_predict": 1,
            "n_probs": k,
            "temperature": 0.0,
            "cache_prompt": True,
            "logit_bias": [[await self.server.neutral(), FORCED]],
            "response_fields": fields,
        }
        url = self.server.http.root + "/completion"
        reply = await self.server.http.json(url, self.server.named(body), brief=True)
        listed = reply.get("completion_probabilities")
        first = listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], Mapping) else {}
        tokens = [t for t in first.get("top_logprobs") or () if isinstance(t, Mapping)]
        if not tokens:
            raise self.server.http.source(url).wrong("reported no probabilities of the next token")
        for token in tokens:
            if isinstance(token.get("id"), int) and isinstance(token.get("bytes"), list):
                self.server.shown.setdefault(bytes(token["bytes"]), token["id"])
        prompt, cached = int(reply.get("tokens_evaluated") or 0), int(reply.get("timings/cache_n") or 0)
        return Row(entry_of(first, self.flavour).top, Usage(prompt, 1, cached, max(prompt - cached, 0) + 1))

    async def score(self, committed: bytes, spans: Sequence[bytes]) -> tuple[list[Tokens], Usage]:
        raise BackendError(f"{self.name} does not offer score", status=400)


class Vllm(Written):
    """A conversation whose last, unfinished turn is the answer so far; or, for a plain prompt, its text.

    vLLM spells tokens as text: those that are no whole characters are left out of what it reports. Where it
    drops a leading space from that spelling (some SentencePiece tokenizers), it is refused.
    """

    def __init__(self, server: Server, flavour: Flavour, name: str, prompt: str | Sequence[Message]) -> None:
        super().__init__(server, flavour, name)
        self._prompt = prompt

    async def call(self, committed: bytes) -> Call:
        text = whole_text(committed, self.name)
        return (
            text_call(self._prompt + text) if isinstance(self._prompt, str) else chat_call(self._prompt, text)
        )

    async def row(self, committed: bytes, k: int) -> Row:
        call = await self.call(committed)
        one = Sampling(max_tokens=1, temperature=0.0).fields(self.server.limit(call.path))
        reply = await self.server.post(call.path, {**call.body, **one, **call.asking(k)}, brief=True)
        source = self.server.http.source(self.server.http.base + call.path)
        reading = Reading()
        reading.add(choices_of(reply, source)[0], self.flavour)
        if not reading.entries:
            raise source.wrong("reported no probabilities of the next token")
        chosen = reading.entries[0]
        if reading.text and chosen.piece not in (None, END, reading.text.encode()):
            raise source.wrong(
                f"spells the token {reading.text!r} as {chosen.piece!r}: its tokens cannot be compared as bytes"
            )
        return Row(chosen.top, usage_of(reply) or Usage(completion_tokens=1, fed_tokens=1))

    async def score(self, committed: bytes, spans: Sequence[bytes]) -> tuple[list[Tokens], Usage]:
        base = await self._ids(committed)
        texts = [whole_text(span, self.name) for span in spans]
        own = [await self.server.tokenise({"prompt": t, "add_special_tokens": False}) for t in texts]
        rows, usage = await self._prompt_entries([[*base, *ids] for ids in own])
        found = [
            spelling(span, row[len(row) - len(ids) :], top=False)
            for span, row, ids in zip(spans, rows, own, strict=True)
        ]
        return found, usage

    async def prompt_tokens(self, committed: bytes) -> tuple[Tokens, Usage]:
        """The prompt's own tokens; nothing comes before the first, so its logp is NaN."""
        rows, usage = await self._prompt_entries([await self._ids(committed)])
        logp = np.array([entry.logp for entry in rows[0]], dtype=np.float64)
        return Tokens(tuple(entry.piece or b"" for entry in rows[0]), logp), usage

    async def _ids(self, committed: bytes) -> list[int]:
        """The ids of the prompt and the answer so far."""
        body = (await self.call(committed)).body
        return await self.server.tokenise(
            {"add_generation_prompt": True, **body} if "messages" in body else body
        )

    async def _prompt_entries(self, prompts: list[list[int]]) -> tuple[list[list[Entry]], Usage]:
        """The log-probability of every token of each prompt, in one call."""
        body = {"prompt": prompts, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
        reply = await self.server.post("/completions", body)
        source = self.server.http.source(self.server.http.base + "/completions")
        choices = choices_of(reply, source)
        rows = [_listed(c.get("prompt_logprobs"), ids) for c, ids in zip(choices, prompts, strict=False)]
        found = [row for row in rows if row is not None]
        if len(found) != len(prompts):
            raise source.wrong("did not report the log-probabilities of every prompt")
        return found, usage_of(reply) or Usage()


def _listed(logprobs: Any, ids: Sequence[int]) -> list[Entry] | None:
    """vLLM's prompt_logprobs: per token a map from its id to {logprob, decoded_token}; null for the first."""
    if not isinstance(logprobs, list) or len(logprobs) != len(ids):
        return None
    found = []
    for row, token_id in zip(logprobs, ids, strict=True):
        item = row.get(str(token_id)) if isinstance(row, Mapping) else None
        if not isinstance(item, Mapping):
            found.append(Entry(None, float("nan")))
            continue
        found.append(Entry(spelled(str(item.get("decoded_token") or "")), number(item.get("logprob"))))
    return found
