"""What went wrong, in OpenAI's shape: a status and {"error": {message, type, param, code}}, never HTML."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil
from typing import Any

from starlette.responses import JSONResponse

from septet.core.errors import (
    BackendError,
    BadParameter,
    ConfigError,
    LimitReached,
    MissingExtra,
    NotFitted,
    RunError,
    SeptetError,
    UnfitPool,
    UnknownName,
)

INVALID = "invalid_request_error"
SERVER = "server_error"


class Refusal(Exception):
    """An answer that is an error. `extra` stands beside `error` in the body, under `septet`."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = INVALID,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.type, self.param, self.code = status, message, type, param, code
        # the house has made its own attempts: a client that repeats the request multiplies the load
        self.headers = {"x-should-retry": "false", **(headers or {})}
        self.extra = dict(extra or {})

    def body(self) -> dict[str, Any]:
        """All four keys, as the official clients require."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": error, **({"septet": self.extra} if self.extra else {})}

    def response(self) -> JSONResponse:
        """The whole HTTP answer."""
        return JSONResponse(self.body(), self.status, headers=self.headers)


def refusal_of(error: Exception) -> Refusal:
    """The HTTP form of an error.

    ========================================  ======  =====================  =========================
    error                                     status  type                   code
    ========================================  ======  =====================  =========================
    the request is wrong (`ConfigError`)      400     invalid_request_error
    unknown model                             404     invalid_request_error  model_not_found
    the house is not ready for it             503     server_error           model_unavailable
    (`NotFitted`, `UnfitPool`, `MissingExtra`)
    a member's server says the request is     400     invalid_request_error  member_refused
    wrong (context overflow)
    a member's server has had enough          429     rate_limit_error       member_rate_limited
    any other failure of members              502     server_error           member_failed
    limit on seconds                          504     timeout_error          limit_seconds
    limit on USD                              402     invalid_request_error  limit_usd_per_request
    limit on calls                            400     invalid_request_error  limit_calls
    anything else                             500     server_error           internal_error
    ========================================  ======  =====================  =========================

    What had been answered when a run failed is in `septet.partial`.
    """
    if isinstance(error, Refusal):
        return error
    if isinstance(error, NotFitted | UnfitPool | MissingExtra):
        return unavailable(error)
    if isinstance(error, ConfigError):
        return Refusal(400, str(error), param=_param(error))
    if isinstance(error, RunError):
        return _of_run(error)
    return Refusal(500, "the server failed; its log says why", type=SERVER, code="internal_error")


def unavailable(error: SeptetError) -> Refusal:
    """A model of the configuration that cannot answer as it stands: the operator's task, not the caller's."""
    return Refusal(503, str(error), type=SERVER, code="model_unavailable")


def _param(error: ConfigError) -> str | None:
    if isinstance(error, BadParameter):
        return error.parameter
    return error.name if isinstance(error, UnknownName) else None


def _of_run(error: RunError) -> Refusal:
    known = {"request": error.request, "partial": error.partial.text if error.partial else ""}
    extra = {name: value for name, value in known.items() if value}
    make = next((make for kind, make in _OF_RUN if isinstance(error, kind)), _failed)
    refusal = make(error)
    refusal.extra = extra
    return refusal


def _limited(error: LimitReached) -> Refusal:
    limit = error.limit.split()[0]
    status, kind = {"seconds": (504, "timeout_error"), "usd_per_request": (402, INVALID)}.get(
        limit, (400, INVALID)
    )
    return Refusal(status, str(error), type=kind, code=f"limit_{limit}")


def _of_backend(error: BackendError) -> Refusal:
    if error.status in (400, 413, 422):
        return Refusal(400, str(error), code="member_refused")
    if error.status == 429:
        wait = {} if error.retry_after is None else {"retry-after": str(ceil(error.retry_after))}
        return Refusal(429, str(error), type="rate_limit_error", code="member_rate_limited", headers=wait)
    return _failed(error)


def _failed(error: RunError) -> Refusal:
    return Refusal(502, str(error), type=SERVER, code="member_failed")


_OF_RUN: tuple[tuple[type[RunError], Callable[[Any], Refusal]], ...] = (
    (LimitReached, _limited),
    (BackendError, _of_backend),
)
