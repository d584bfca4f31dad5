"""A model that only reads, on a thread of its own: encoders and reward models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from septet.core.errors import BackendError

M = TypeVar("M")
T = TypeVar("T")


class OneThread(Generic[M]):
    """Holds one model, None before the first request, and makes every call of it on one worker thread.

    `what` names its kind in the error of a closed one. Because the thread is one, loading needs no lock.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._model: M | None = None
        self._closed = False
        self._worker = ThreadPoolExecutor(
            max_workers=1, thread_name_prefix=f"septet-{what.replace(' ', '-')}"
        )

    async def _call(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise BackendError(f"the {self.what} was closed and can answer no more")
        return await asyncio.wrap_future(self._worker.submit(work))

    async def aclose(self) -> None:
        """Frees the model, after the work that is under way; twice is allowed."""
        if not self._closed:
            self._closed = True
            await asyncio.shield(asyncio.wrap_future(self._worker.submit(self._free)))
            self._worker.shutdown(wait=False)

    def _free(self) -> None:
        self._model = None
