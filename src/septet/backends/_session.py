"""One local member's side of a shared answer, for the engine: each call is a short job on the model's worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from septet.backends._strand import Strand
from septet.backends._writing import HOP, Ends, Writing
from septet.core.caps import Caps
from septet.core.errors import BackendError
from septet.core.session import Draft, Meter, Next, Sampler, Session, Vocab
from septet.core.types import Floats, Tokens
from septet.parts.decoding.commit import Rule

if TYPE_CHECKING:
    from septet.backends._local import LocalEndpoint

T = TypeVar("T")


class LocalSession:
    """`core.session.Session` on a strand. `commit_rule` may be set before the first push.

    Calls on one session run one after the other, also where a plan asks for several at once.
    """

    def __init__(
        self,
        endpoint: LocalEndpoint,
        strand: Strand,
        caps: Caps,
        prompt: Tokens | None,
        commit_rule: Rule = "own",
    ) -> None:
        self._endpoint, self._strand, self._caps = endpoint, strand, caps
        self._prompt, self.commit_rule = prompt, commit_rule
        self._turn = asyncio.Lock()
        self._under_way = False  # stays True where a cancelled caller left work behind

    @property
    def vocab(self) -> Vocab:
        return self._strand.vocab

    @property
    def meter(self) -> Meter:
        return self._strand.meter

    @property
    def prompt(self) -> Tokens | None:
        return self._prompt

    @property
    def committed(self) -> bytes:
        """The answer so far."""
        return self._strand.text

    @property
    def ids(self) -> tuple[int, ...]:
        """The member's own tokens for the answer so far."""
        return tuple(self._strand.ids)

    async def next(self, k: int | None, *, agreeing: bytes = b"", hidden: bool = False) -> Next:
        """The distribution after what is committed; with `agreeing`, END is left out, since it does not."""
        self._check_k(k)
        if hidden:
            self._need("hidden")
        return await self._call(partial(self._strand.next, k, agreeing, hidden))

    async def push(self, piece: bytes, *, id: int | None = None) -> None:
        """Commits a piece; its tokens are fed with the next forward.

        That calls no model and takes microseconds, less than the way to the worker and back, so it is done
        here, but for `canonical`, which reads the whole answer anew.
        """
        work = partial(self._strand.push, piece, self.commit_rule, id)
        async with self._turn:
            if self._under_way or self.commit_rule == "canonical":
                await self._endpoint.call(work)
            else:
                work()

    async def look(self, pieces: Sequence[bytes], k: int | None) -> list[Next]:
        """The distributions now and after each successive push; nothing is committed."""
        self._check_k(k)
        return await self._call(lambda: self._strand.look(pieces, k, self.commit_rule))

    async def after(self, paths: Sequence[Sequence[int]]) -> list[Next]:
        """The full distributions after exactly these ids of an answer; nothing is committed."""
        self._need("full")
        return await self._call(lambda: self._strand.after(paths))

    async def write(self, until: Sequence[bytes], max_tokens: int, sampler: Sampler) -> Draft:
        """The member's own continuation, written on the sequence and then cut off it again."""
        self._need("text")
        async with self._turn:
            self._under_way = True
            mark = await self._endpoint.call(self._strand.mark)
            ends = Ends(until=tuple(until))
            writing = Writing(self._strand, sampler, ends, max_tokens=max_tokens)
            try:
                while writing.finish is None:
                    await self._endpoint.call(partial(writing.advance, HOP))
            finally:
                await self._endpoint.surely(partial(self._strand.restore, mark))
            self._under_way = False
            return writing.draft()

    async def score(self, spans: Sequence[bytes]) -> list[Tokens]:
        """Each span as its tokenizer reads it on its own, after what is committed; nothing is committed."""
        self._need("score")
        return [await self._call(partial(self._strand.score, span)) for span in spans]

    async def hidden(self) -> Floats:
        """The hidden state at the last committed position, (d,)."""
        self._need("hidden")
        return await self._call(self._strand.hidden)

    async def fork(self) -> Session:
        """An independent copy that shares the cache so far; its meter starts at nothing."""
        self._need("fork")
        strand = self._strand
        copy = Strand(strand.runtime, strand.name, reported=strand.reported)
        try:
            await self._call(partial(copy.copy_of, strand))
        except BaseException:
            self._endpoint.later(copy.close)
            raise
        return LocalSession(self._endpoint, copy, self._caps, self._prompt, self.commit_rule)

    async def close(self) -> None:
        """Gives the sequence back, after the work that is under way; twice is allowed."""
        await self._endpoint.surely(self._strand.close)

    async def _call(self, work: Callable[[], T]) -> T:
        async with self._turn:
            self._under_way = True
            value = await self._endpoint.call(work)
            self._under_way = False
            return value

    def _need(self, ability: str) -> None:
        if not getattr(self._caps, ability):
            raise BackendError(f"{self._strand.name} does not offer {ability}", status=400)

    def _check_k(self, k: int | None) -> None:
        if k is None:
            self._need("full")
        elif k > self._caps.topk and not self._caps.full:
            raise BackendError(
                f"{self._strand.name} does not offer topk {k} (it offers {self._caps.topk})", status=400
            )
