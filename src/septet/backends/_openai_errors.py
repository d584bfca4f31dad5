"""What went wrong with a server, as the error that the gate and the reader need. The key is in none of them."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from septet.core.errors import BackendError, ConfigError

SHOWN = 300
"""Characters of a server's own message that an error shows."""


class Secret:
    """An API key and the environment variable it came from; prints as ***."""

    __slots__ = ("_value", "variable")

    def __init__(self, value: str, variable: str) -> None:
        self._value, self.variable = value.strip(), variable
        if not self._value.isascii() or not self._value.isprintable():
            raise ConfigError(f"the environment variable {variable} holds characters that no API key has")

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("an API key is not written down")

    def headers(self) -> dict[str, str]:
        """The header that carries the key, if there is one."""
        return {"Authorization": f"Bearer {self._value}"} if self._value else {}

    def hidden_in(self, text: str) -> str:
        """A text that a server wrote, without the key."""
        return text.replace(self._value, "***") if self._value else text


@dataclass(frozen=True, slots=True)
class Source:
    """Where a reply came from: the URL, the model that was asked for, and the key not to show."""

    url: str
    model: str
    secret: Secret

    def refused(self, status: int, headers: Mapping[str, str], body: bytes) -> BackendError:
        """A reply with an error status."""
        said = self.said(body)
        message = f"{self.url} answered {status}" + (f": {said}" if said else "")
        return BackendError(
            message.rstrip(". "),
            status=status,
            retryable=may_pass(status, headers),
            retry_after=retry_after(headers, time.time()),
            hint=self._hint(status, said),
        )

    def failed(self, error: Any) -> BackendError:
        """An error object inside a reply whose status was 200."""
        code = error.get("code") if isinstance(error, Mapping) else None
        status = code if isinstance(code, int) and 400 <= code < 600 else None
        said = self._shortened(_message(error) or json.dumps(error)[:SHOWN])
        return BackendError(
            f"{self.url} answered with an error: {said}".rstrip(". "),
            status=status,
            retryable=status is not None and may_pass(status, {}),
            hint=self._hint(status or 0, said),
        )

    def wrong(self, what: str, *, retryable: bool = False) -> BackendError:
        """A reply that is not what was asked for."""
        return BackendError(f"{self.url} {self.secret.hidden_in(what)}", retryable=retryable)

    def said(self, body: bytes) -> str:
        """A server's own message, from the JSON of its error or the beginning of its text."""
        text = body.decode("utf-8", "replace")
        try:
            data = json.loads(text)
        except ValueError:
            return self._shortened(" ".join(text.split()))
        error = data.get("error", data) if isinstance(data, Mapping) else data
        return self._shortened(_message(error) or " ".join(text.split()))

    def _shortened(self, text: str) -> str:
        # hidden first: a cut through the key would leave half of it
        return self.secret.hidden_in(text)[:SHOWN]

    def _hint(self, status: int, said: str) -> str:
        if status in (401, 403):
            if self.secret.variable:
                return f"Check the API key in the environment variable {self.secret.variable}"
            return "This server wants a key: name the environment variable that holds it with key_env"
        if status == 404:
            return f"Check that the server has the model {self.model!r} and that base_url is right"
        if 300 <= status < 400:
            return "Redirects are not followed; state the address that it points to as base_url"
        if "context" in said and status in (400, 413):
            return f"The prompt and the answer are too long for {self.model or 'this model'}"
        return ""


def _message(error: Any) -> str:
    """The message in the shapes that servers use: a text, {message}, {detail}, {error}."""
    if isinstance(error, str):
        return error
    if isinstance(error, Mapping):
        for key in ("message", "detail", "error"):
            if isinstance(error.get(key), str):
                return str(error[key])
    return ""


def may_pass(status: int, headers: Mapping[str, str]) -> bool:
    """Whether the same request may succeed later; the server's own word (x-should-retry) comes first."""
    own = headers.get("x-should-retry", "").lower()
    if own in ("true", "false"):
        return own == "true"
    return status in (408, 409, 429) or status >= 500


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait, from `retry-after-ms` or `retry-after` (seconds or a date); `now` is a Unix time.

    >>> retry_after({"retry-after": "Thu, 01 Jan 1970 00:01:00 GMT"}, now=20.0)
    40.0
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        if not text:
            continue
        try:
            seconds = float(text) / unit
        except ValueError:
            try:
                seconds = parsedate_to_datetime(text).timestamp() - now
            except ValueError:
                continue
        if math.isfinite(seconds):
            return max(seconds, 0.0)
    return None
