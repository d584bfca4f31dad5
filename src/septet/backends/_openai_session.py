"""One remote member's side of a shared answer: the prompt and the committed bytes are sent with every call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np

from septet.backends._openai_tokens import Entry
from septet.core.caps import Caps
from septet.core.errors import BackendError
from septet.core.money import Usage
from septet.core.session import END, Draft, Meter, Next, Sampler, Session
from septet.core.types import Floats, Tokens
from septet.parts.decoding.vocabulary import GrowingVocab

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """What a server reports about the next token."""

    entries: tuple[tuple[bytes, float], ...]
    usage: Usage


class Remote(Protocol):
    """How a flavour does what a session needs, after a prompt and these committed bytes."""

    vocab: GrowingVocab

    async def row(self, committed: bytes, k: int) -> Row:
        """The k best next tokens."""

    async def write(
        self, committed: bytes, until: Sequence[bytes], max_tokens: int, sampler: Sampler
    ) -> tuple[Draft, Usage]:
        """The member's own continuation."""

    async def score(self, committed: bytes, spans: Sequence[bytes]) -> tuple[list[Tokens], Usage]:
        """Each span's own tokens after what is committed."""


class RemoteSession:
    """`core.session.Session` over HTTP. Nothing is held on the server: closing gives nothing back.

    The server reads the whole answer anew at every call, so both commit rules come to the same: its
    tokenizer's own reading. Usage counts what the server counts: the prompt again with every call.
    """

    def __init__(
        self, name: str, remote: Remote, caps: Caps, topk: int, prompt: Tokens | None = None
    ) -> None:
        self._name, self._remote, self._caps, self._topk = name, remote, caps, topk
        self._prompt = prompt
        self.commit_rule = "own"
        self._committed = b""
        self._meter = Meter()
        self._seen: tuple[bytes, int, Row] | None = None

    @property
    def vocab(self) -> GrowingVocab:
        return self._remote.vocab

    @property
    def meter(self) -> Meter:
        return self._meter

    @property
    def prompt(self) -> Tokens | None:
        return self._prompt

    @property
    def committed(self) -> bytes:
        """The answer so far."""
        return self._committed

    async def next(self, k: int | None, *, agreeing: bytes = b"", hidden: bool = False) -> Next:
        """The k best after what is committed; with `agreeing`, those of all that the server reports."""
        if hidden:
            raise self._lacks("hidden")
        return await self._after(self._committed, self._checked(k), agreeing)

    async def push(self, piece: bytes, *, id: int | None = None) -> None:
        """Commits a piece; it is sent with the next call."""
        if piece == END:
            raise BackendError(f"{self._name}: END ends an answer; it cannot be committed to it")
        if id is not None and self.vocab.bytes_of(id) != piece:
            raise BackendError(f"{self._name}: id {id} has not the bytes {piece!r}")
        self._committed += piece

    async def look(self, pieces: Sequence[bytes], k: int | None) -> list[Next]:
        """One call for each of the len(pieces)+1 distributions; nothing is committed."""
        k = self._checked(k)
        texts = [self._committed + b"".join(pieces[:i]) for i in range(len(pieces) + 1)]
        return [await self._after(text, k, b"") for text in texts]

    async def after(self, paths: Sequence[Sequence[int]]) -> list[Next]:
        """A server tells no full distribution."""
        raise self._lacks("full distributions")

    async def write(self, until: Sequence[bytes], max_tokens: int, sampler: Sampler) -> Draft:
        """The member's own continuation, in one call."""
        return await self._metered(self._remote.write(self._committed, until, max_tokens, sampler))

    async def score(self, spans: Sequence[bytes]) -> list[Tokens]:
        """Each span as the server's tokenizer reads it on its own, after what is committed."""
        if not self._caps.score:
            raise self._lacks("score")
        return await self._metered(self._remote.score(self._committed, spans))

    async def hidden(self) -> Floats:
        """Not offered by any server."""
        raise self._lacks("hidden")

    async def fork(self) -> Session:
        """A copy with the same committed bytes; its meter starts at nothing."""
        twin = RemoteSession(self._name, self._remote, self._caps, self._topk, self._prompt)
        twin._committed, twin.commit_rule, twin._seen = self._committed, self.commit_rule, self._seen
        return twin

    async def close(self) -> None:
        """The server holds nothing for a session."""

    async def _after(self, committed: bytes, k: int, agreeing: bytes) -> Next:
        row = await self._row(committed, self._topk if agreeing else k)
        best = [(p, x) for p, x in merged(row.entries) if not agreeing or _agrees(p, agreeing)][:k]
        known = dict(merged(row.entries))
        add = self.vocab.add
        return Next(
            at=len(committed),
            ids=np.array([add(piece) for piece, _ in best], dtype=np.int32),
            logp=np.array([logp for _, logp in best], dtype=np.float32),
            # a server that reports its best k tokens says nothing about any other
            lookup=lambda piece, first: known.get(piece),
        )

    async def _row(self, committed: bytes, k: int) -> Row:
        if self._seen is None or self._seen[0] != committed or self._seen[1] < k:
            row = await self._metered(self._with_usage(committed, k))
            self._seen = (committed, k, row)
        return self._seen[2]

    async def _with_usage(self, committed: bytes, k: int) -> tuple[Row, Usage]:
        row = await self._remote.row(committed, k)
        return row, row.usage

    async def _metered(self, call: Awaitable[tuple[T, Usage]]) -> T:
        loop = asyncio.get_running_loop()
        began = loop.time()
        value, usage = await call
        self._meter.usage += usage
        self._meter.forwards += 1
        self._meter.forward_seconds += loop.time() - began
        return value

    def _checked(self, k: int | None) -> int:
        if k is None:
            raise self._lacks("full")
        if k > self._topk:
            raise self._lacks(f"topk {k} (it offers {self._topk})")
        return k

    def _lacks(self, ability: str) -> BackendError:
        return BackendError(f"{self._name} does not offer {ability}", status=400)


def merged(entries: Sequence[tuple[bytes, float]]) -> list[tuple[bytes, float]]:
    """Each string once, with the probabilities of its tokens summed; most probable first, ties by bytes.

    >>> merged([(b"", -1.0), (b"a", -0.5), (b"", -1.0)])
    [(b'', -0.3068528194400547), (b'a', -0.5)]
    """
    found: dict[bytes, float] = {}
    for piece, logp in entries:
        found[piece] = float(np.logaddexp(found[piece], logp)) if piece in found else logp
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))


def _agrees(piece: bytes, with_: bytes) -> bool:
    return bool(piece) and (with_.startswith(piece) or piece.startswith(with_))


def whole_text(committed: bytes, name: str) -> str:
    """Committed bytes as the text that JSON can carry; half a character cannot be sent."""
    try:
        return committed.decode()
    except UnicodeDecodeError:
        raise BackendError(
            f"{name}: the answer so far is not valid UTF-8, and this server takes text only",
            hint="Put it with members that share its tokens, or leave it out for such texts",
        ) from None


def with_end(tokens: Tokens, entries: Sequence[Entry]) -> Tokens:
    """The tokens, and after them END as b"" with its log-probability, NaN where the server did not list it."""
    last = entries[-1] if entries and entries[-1].piece == END else Entry(END, float("nan"))
    top = None if tokens.top is None else (*tokens.top, last.top)
    return replace(tokens, texts=(*tokens.texts, END), logp=np.append(tokens.logp, last.logp), top=top)


def prompt_of(text: str, committed: bytes, id_of: Mapping[bytes, int]) -> str | list[int | str] | None:
    """A prompt for llama-server: text, then ids for the half character at the end of the answer.

    None where no tokens are known that spell it.

    >>> prompt_of("Q:", b"a\\xf0\\x9f", {b"\\xf0\\x9f": 7})
    ['Q:a', 7]
    """
    head, tail = split_whole(committed)
    if not tail:
        return text + head
    ids = _spelled_by_ids(tail, id_of)
    return None if ids is None else [text + head, *ids]


def split_whole(committed: bytes) -> tuple[str, bytes]:
    """The whole characters at the beginning, and the rest."""
    try:
        return committed.decode(), b""
    except UnicodeDecodeError as error:
        return committed[: error.start].decode(), committed[error.start :]


def completions_of(tail: bytes) -> list[str]:
    """Characters that begin with these bytes; none where no character does.

    >>> completions_of(b"\\xf0\\x9f\\x98")
    ['😀', '😟', '😥', '😿']
    """
    found = []
    for filler in (0x80, 0x9F, 0xA5, 0xBF):
        for missing in range(1, 4):
            try:
                found.append((tail + bytes([filler]) * missing).decode())
            except UnicodeDecodeError:
                continue
    return found


def _spelled_by_ids(tail: bytes, id_of: Mapping[bytes, int]) -> list[int] | None:
    """Ids of tokens that the server has shown and whose bytes are the tail; longest first, None if none."""
    if not tail:
        return []
    for n in range(len(tail), 0, -1):
        if tail[:n] in id_of:
            rest = _spelled_by_ids(tail[n:], id_of)
            if rest is not None:
                return [id_of[tail[:n]], *rest]
    return None
