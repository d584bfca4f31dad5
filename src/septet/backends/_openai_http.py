"""One attempt at a call over HTTP: four clocks, bounded replies, event streams; every failure a BackendError."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from septet.backends._openai_errors import Secret, Source
from septet.core.errors import BackendError

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

T = TypeVar("T")

LARGEST_REPLY = 64 * 2**20
"""Bytes of a reply, after decompression."""

IDLE_CONNECTION = 4.0
"""Seconds for which an unused connection is kept. uvicorn and llama-server close theirs after 5: a call that
is sent just then would be lost."""

LARGEST_ERROR = 64 * 2**10


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """Seconds: to connect; until the first byte; between two bytes; for the whole call."""

    connect: float
    first_byte: float
    idle: float
    total: float


class Waits:
    """The clocks of one call. Each wait ends with its own clock or with the whole call's."""

    def __init__(self, clocks: Clocks, source: Source) -> None:
        self._clocks, self._source = clocks, source
        self._ends = asyncio.get_running_loop().time() + clocks.total

    async def first(self, what: Awaitable[T], *, whole: bool) -> T:
        """The wait for the first byte; a reply that comes `whole` takes as long as its answer."""
        clocks = self._clocks
        return await self._within(what, clocks.total if whole else clocks.first_byte, "sent nothing")

    async def more(self, what: Awaitable[T]) -> T:
        """The wait for the next bytes."""
        return await self._within(what, self._clocks.idle, "fell silent")

    async def _within(self, what: Awaitable[T], seconds: float, silence: str) -> T:
        import aiohttp

        left = self._ends - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(max(min(seconds, left), 0.0)):
                return await what
        except aiohttp.ClientError:
            raise  # its connection clock is a TimeoutError too
        except TimeoutError:
            if seconds < left:
                raise self._source.wrong(f"{silence} for {seconds:g} s", retryable=True) from None
            raise self._source.wrong(f"took longer than {self._clocks.total:g} s") from None


class Http:
    """The connections to one server, kept alive. Redirects are not followed: only the stated host is called."""

    def __init__(self, base_url: str, secret: Secret, clocks: Clocks, model: str) -> None:
        self.base = base_url.rstrip("/")
        self.root = self.base.removesuffix("/v1")
        self._secret, self._clocks, self._model = secret, clocks, model
        self._session: ClientSession | None = None

    def source(self, url: str) -> Source:
        """What errors about a URL say."""
        return Source(url, self._model, self._secret)

    async def json(self, url: str, body: Mapping[str, Any] | None, *, brief: bool = False) -> Any:
        """The JSON object that a POST (a GET where there is no body) returns. `brief`: an answer of one
        token or none, so that the first-byte clock applies; a longer one comes whole, when it is complete."""
        async with self._reply(url, body, whole=not brief) as (response, waits):
            data = await self._read(response, waits, LARGEST_REPLY)
            return _parsed(data, response.headers.get("Content-Type", ""), self.source(url))

    async def found(self, url: str) -> Any:
        """The JSON at a URL; None where the server has no such page, or one that is not JSON. A server that
        cannot say so now (busy, loading a model) is an error, not a no."""
        try:
            return await self.json(url, None, brief=True)
        except BackendError as error:
            if error.retryable:
                raise
            return None

    async def events(self, url: str, body: Mapping[str, Any]) -> AsyncGenerator[Mapping[str, Any], None]:
        """The JSON objects of an event stream, up to [DONE] or the end; an error object is raised."""
        source = self.source(url)
        async with self._reply(url, body, whole=False, stream=True) as (response, waits):
            kind = response.headers.get("Content-Type", "")
            if "event-stream" not in kind:
                _parsed(await self._read(response, waits, LARGEST_REPLY), kind, source)
                raise source.wrong(f"sent {kind or 'no content type'} where an event stream was asked for")
            lines = EventLines()
            first = True
            while not lines.ended:
                waiting = response.content.readany()
                chunk = await (waits.first(waiting, whole=False) if first else waits.more(waiting))
                first = False
                for event in lines.feed(chunk) if chunk else lines.end():
                    if event == b"[DONE]":
                        return
                    yield _parsed(event, "text/event-stream", source)
                if lines.waiting > LARGEST_REPLY:
                    raise source.wrong(f"sent an event of more than {LARGEST_REPLY} bytes")

    async def aclose(self) -> None:
        """Closes the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @asynccontextmanager
    async def _reply(
        self, url: str, body: Mapping[str, Any] | None, *, whole: bool, stream: bool = False
    ) -> AsyncIterator[tuple[ClientResponse, Waits]]:
        source = self.source(url)
        waits = Waits(self._clocks, source)
        with _translated(source, self._clocks):
            session = self._opened()
            data = None if body is None else _written(body, source)
            call = session.request(
                "GET" if body is None else "POST",
                url,
                data=data,
                allow_redirects=False,
                # llama-server closes after a stream without saying so, and the next call would be lost
                headers={"Connection": "close"} if stream else None,
            )
            response = await waits.first(call, whole=whole)
            try:
                if response.status != 200:
                    said = await self._read(response, waits, LARGEST_ERROR)
                    raise source.refused(response.status, response.headers, said)
                yield response, waits
            finally:
                # a reply that was read to its end has given its connection back already, a stream has none
                response.close()

    def _opened(self) -> ClientSession:
        import aiohttp

        if self._session is None:
            c = self._clocks
            self._session = aiohttp.ClientSession(
                # the gate limits the calls; a limit here would count its queue as time to connect
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_CONNECTION),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=c.connect),
                headers={"Content-Type": "application/json", **self._secret.headers()},
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def _read(self, response: ClientResponse, waits: Waits, limit: int) -> bytes:
        """The body; one that is longer than the limit is an error, except where it only explains an error."""
        parts, size = list[bytes](), 0
        while chunk := await waits.more(response.content.readany()):
            parts.append(chunk)
            size += len(chunk)
            if size > limit:
                if response.status != 200:
                    break
                raise self.source(str(response.url)).wrong(f"sent more than {limit} bytes")
        return b"".join(parts)


def _written(body: Mapping[str, Any], source: Source) -> bytes:
    """The body as JSON; a lone surrogate, which UTF-8 cannot hold, is refused before the call."""
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except (UnicodeEncodeError, ValueError, TypeError) as error:
        raise source.wrong(f"cannot be sent this request: {error}") from None


def _parsed(data: bytes, kind: str, source: Source) -> Any:
    """A JSON object without an error in it."""
    value, wrong = _loaded(data)
    start = " ".join(data[:200].decode("utf-8", "replace").split())
    if wrong == "broken" and "json" not in kind and "event-stream" not in kind:
        raise source.wrong(f"sent {kind or 'no content type'} where JSON was asked for: {start!r}")
    if wrong == "broken":
        raise source.wrong(f"sent JSON that is broken or cut off: {start!r}", retryable=True)
    if wrong:
        raise source.wrong(f"sent {wrong}")
    if not isinstance(value, dict):
        raise source.wrong(f"sent JSON that is no object: {str(value)[:80]!r}")
    if value.get("error"):
        raise source.failed(value["error"])
    return value


def _loaded(data: bytes) -> tuple[Any, str]:
    """The JSON value, or what is wrong with it; the library's own errors hold the whole text."""
    try:
        return json.loads(data.decode()), ""
    except UnicodeDecodeError:
        return None, "bytes that are not UTF-8"
    except RecursionError:
        return None, "JSON that is nested too deeply"
    except ValueError:
        return None, "broken"


@contextmanager
def _translated(source: Source, clocks: Clocks) -> Iterator[None]:
    """Turns the client library's errors into ours. They are not chained: some of them hold the headers."""
    import aiohttp

    try:
        yield
    except aiohttp.ConnectionTimeoutError:
        raise source.wrong(f"could not be connected to in {clocks.connect:g} s", retryable=True) from None
    except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
        raise source.wrong(f"has no certificate that can be trusted: {error}") from None
    except aiohttp.ClientConnectorError as error:
        reason = error.strerror or str(error.os_error)
        raise source.wrong(f"could not be connected to: {reason}", retryable=True) from None
    except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
        raise source.wrong(f"broke off its reply: {error or type(error).__name__}", retryable=True) from None
    except aiohttp.ClientError as error:
        # the text of some holds the request; the kind says enough
        raise source.wrong(f"did not answer in HTTP: {type(error).__name__}", retryable=True) from None


class EventLines:
    """Server-sent events from bytes, however they are cut: the data of each event, without comments."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self.ended = False

    @property
    def waiting(self) -> int:
        """Bytes of the event that is not complete yet."""
        return len(self._rest) + sum(map(len, self._data))

    def feed(self, chunk: bytes) -> list[bytes]:
        """The events that these bytes complete.

        >>> EventLines().feed(b": ping\\r\\ndata: a\\ndata:b\\n\\nda")
        [b'a\\nb']
        """
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [event for line in lines if (event := self._line(line)) is not None]

    def end(self) -> list[bytes]:
        """The event that the end of the stream completes, if any."""
        self.ended = True
        last, self._rest = self._rest, b""
        events = [self._line(last), self._line(b"")]
        return [event for event in events if event is not None]

    def _line(self, line: bytes) -> bytes | None:
        line = line.removesuffix(b"\r")
        if not line:
            event, self._data = b"\n".join(self._data), []
            return event or None
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
        return None
