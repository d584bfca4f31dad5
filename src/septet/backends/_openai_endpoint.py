"""One server and the calls that only some servers have: which flavour it is, its templates, its tokenizer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from septet.backends._openai_flavours import FLAVOURS, GENERIC, PROBES, Flavour, offers
from septet.backends._openai_http import Http
from septet.core.caps import Caps
from septet.core.errors import BackendError
from septet.core.types import Message
from septet.parts.decoding.vocabulary import GrowingVocab

NEWER_LIMIT = ("api.openai.com", ".openai.azure.com")
"""Hosts whose newer models refuse `max_tokens` and take `max_completion_tokens`; others know the older name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What the options say about a server; flavour None: to be asked. `topk` None: as its flavour has it."""

    model: str
    flavour: Flavour | None
    topk: int | None
    context: int
    echo: bool


class Server:
    """A server, shared by the members of one endpoint: its connections, its flavour, the tokens it showed."""

    def __init__(self, stated: Stated, http: Http) -> None:
        self.stated, self.http = stated, http
        self.vocab = GrowingVocab()
        self.shown: dict[bytes, int] = {}
        self.probed: Flavour | None = None
        self._asking = asyncio.Lock()
        self._neutral: int | None = None

    def caps(self, *, plain: bool) -> Caps:
        """What a member offers. A server that is still to be asked offers what every server does, and keeps
        to it afterwards: the fit check has relied on it."""
        return offers(
            self.stated.flavour or GENERIC,
            plain=plain,
            topk=self.topk,
            context=self.stated.context,
            echo=self.stated.echo,
        )

    @property
    def topk(self) -> int:
        """Alternatives per token."""
        return self.stated.topk or (self.stated.flavour or GENERIC).topk

    def limit(self, path: str) -> str:
        """The name of the token limit in a call to this path."""
        host = urlsplit(self.http.base).hostname or ""
        newer = path == "/chat/completions" and any(host.endswith(name) for name in NEWER_LIMIT)
        return "max_completion_tokens" if newer else "max_tokens"

    async def flavour(self) -> Flavour:
        """The stated flavour, else the one that the server's own pages tell; asked once."""
        if self.stated.flavour:
            return self.stated.flavour
        async with self._asking:
            if self.probed is None:
                self.probed = await self._probe()
        return self.probed

    async def _probe(self) -> Flavour:
        for name, path, key in PROBES:
            page = await self.http.found(self.http.root + path)
            if isinstance(page, Mapping) and key in page:
                return FLAVOURS[name]
        return GENERIC

    def named(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A body with the model's name, where one is stated."""
        return {**({"model": self.stated.model} if self.stated.model else {}), **body}

    async def post(self, path: str, body: Mapping[str, Any], *, brief: bool = False) -> Mapping[str, Any]:
        """A call below base_url."""
        reply: Mapping[str, Any] = await self.http.json(self.http.base + path, self.named(body), brief=brief)
        return reply

    async def own(self, path: str, body: Mapping[str, Any], key: str) -> Any:
        """A call to a page of the server's own, below its root; the value of one key of the reply."""
        url = self.http.root + path
        reply = await self.http.json(url, self.named(body), brief=True)
        if key not in reply:
            raise self.http.source(url).wrong(f"answered without {key!r}")
        return reply[key]

    async def render(self, messages: Sequence[Message]) -> str:
        """The prompt that llama-server makes of a conversation, up to where the answer begins."""
        turns = [{"role": m.role, "content": m.content, **m.extra} for m in messages]
        return str(await self.own("/apply-template", {"messages": turns}, "prompt"))

    async def tokenise(self, body: Mapping[str, Any]) -> list[int]:
        """The ids of vLLM's /tokenize: of {prompt} or {messages}."""
        ids = await self.own("/tokenize", body, "tokens")
        if not isinstance(ids, list) or not all(isinstance(i, int) for i in ids):
            raise BackendError(f"{self.http.root}/tokenize sent no list of token ids")
        return ids

    async def neutral(self) -> int:
        """The id of a token of plain ASCII, of llama-server."""
        if self._neutral is None:
            ids = await self.own("/tokenize", {"content": "a", "add_special": False}, "tokens")
            if not ids or not isinstance(ids[-1], int):
                raise BackendError(f"{self.http.root}/tokenize sent no list of token ids")
            self._neutral = ids[-1]
        return self._neutral

    async def show(self, texts: Sequence[str]) -> None:
        """Learns the tokens of these texts, of llama-server; parts of characters are spelled as byte lists."""
        for text in texts:
            body = {"content": text, "add_special": False, "with_pieces": True}
            for token in await self.own("/tokenize", body, "tokens"):
                if isinstance(token, Mapping) and isinstance(token.get("piece"), list):
                    self.shown.setdefault(bytes(token["piece"]), int(token["id"]))
