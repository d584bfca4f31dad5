"""The routes, the key, and which error is said in which shape."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from septet.core.errors import SeptetError, near_names
from septet.core.types import Battle
from septet.engine.house import Asked, House
from septet.server.asking import Asking
from septet.server.errors import Refusal, refusal_of, unavailable
from septet.server.replies import Chat, Form, Json, Reply, Text
from septet.server.requests import ChatRequest, CompletionRequest, Rating, Wanted, checked, feedback
from septet.server.transport import CallerLeft, EventStream, json_body, unless_left

OPEN_PATHS = frozenset({"/health"})
"""What may be asked without the key: it says nothing but that the server is up."""

CLOSED_BY_CALLER = 499


def app_of(house: House, key: str, ping_seconds: float) -> Starlette:
    """The routes over one house."""
    desk = Desk(house, ping_seconds)
    chat: Any = desk.answering(ChatRequest, Chat())
    text: Any = desk.answering(CompletionRequest, Text())
    return Starlette(
        routes=[
            Route("/v1/models", desk.models),
            Route("/v1/models/{name:path}", desk.model),
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/completions", text, methods=["POST"]),
            Route("/v1/feedback", desk.feedback, methods=["POST"]),
            Route("/health", health),
        ],
        middleware=[Middleware(Keyed, key)] if key else [],
        exception_handlers={Refusal: _refused, HTTPException: _no_such_route, Exception: _failed},
    )


class Desk:
    """What the routes share: the house, and its models as they are first asked for."""

    def __init__(self, house: House, ping_seconds: float) -> None:
        self.house, self.ping_seconds = house, ping_seconds
        self.started = int(time.time())
        self._ready: dict[str, Asked] = {}
        self._building = asyncio.Lock()

    async def asked(self, name: str) -> Asked:
        """A model by name. Building one reads files, so it is done off the event loop, one at a time."""
        self._check_name(name)
        if name not in self._ready:
            async with self._building:
                await self._build(name)
        return self._ready[name]

    async def _build(self, name: str) -> None:
        if name in self._ready:
            return  # another request has built it while this one waited
        try:
            self._ready[name] = await asyncio.to_thread(self.house.__getitem__, name)
        except SeptetError as error:
            raise unavailable(error) from error

    def _check_name(self, name: str) -> None:
        if name not in self.house.names:
            near = near_names(name, self.house.names)
            hint = (
                f"; did you mean {' or '.join(map(repr, near))}?" if near else "; GET /v1/models lists them"
            )
            raise Refusal(404, f"unknown model {name!r}{hint}", param="model", code="model_not_found")

    async def models(self, request: Request) -> Response:
        """GET /v1/models."""
        return JSONResponse({"object": "list", "data": [self._model(name) for name in self.house.names]})

    async def model(self, request: Request) -> Response:
        """GET /v1/models/{name}."""
        name = request.path_params["name"]
        self._check_name(name)
        return JSONResponse(self._model(name))

    def _model(self, name: str) -> Json:
        config = self.house.config.ensembles.get(name)
        what: Json = {"kind": "member"}
        if config is not None:
            what = {"kind": "ensemble", "method": config.method, "members": list(config.members)}
        return {"id": name, "object": "model", "created": self.started, "owned_by": "septet", "septet": what}

    async def feedback(self, request: Request) -> Response:
        """POST /v1/feedback: how good an answer was, or which of two was better; online methods learn."""
        try:
            said = feedback(await json_body(request))
            if isinstance(said, Rating):
                taken = await self.house.rate(said.request, said.score)
            else:
                battle = Battle(said.query, said.a, said.b, said.winner)
                await self.asked(said.model)
                taken = await self.house.compare(said.model, battle)
        except SeptetError as error:
            raise refusal_of(error) from error
        learned = {"learned": taken.version is not None, "version": taken.version}
        return JSONResponse(
            {"object": "feedback", "model": taken.ensemble, "member": taken.member, **learned}
        )

    def answering(self, kind: type[ChatRequest] | type[CompletionRequest], form: Form) -> Callable[..., Any]:
        """The handler of one kind of request."""

        async def answer(request: Request) -> Any:
            try:
                wanted = checked(kind, await json_body(request))
                asking = Asking(await self.asked(wanted.model), wanted)
            except SeptetError as error:
                raise refusal_of(error) from error
            reply = self._reply(form, asking, wanted)
            if wanted.stream:
                return EventStream(asking, reply, self.ping_seconds)
            return await _whole(request, asking, reply)

        return answer

    def _reply(self, form: Form, asking: Asking, wanted: Wanted) -> Reply:
        return Reply(
            form=form,
            id=f"{form.prefix}-{asking.ids[0]}",
            created=int(time.time()),
            model=wanted.model,
            top=wanted.top,
            include_usage=wanted.include_usage,
        )


async def _whole(request: Request, asking: Asking, reply: Reply) -> Response:
    ids = {"x-septet-request": ", ".join(asking.ids)}
    try:
        answers = await unless_left(request.receive, asking.answers())
    except CallerLeft:
        return Response(status_code=CLOSED_BY_CALLER)  # nobody reads it
    except SeptetError as error:
        refusal = refusal_of(error)
        refusal.headers |= ids
        raise refusal from error
    return JSONResponse(reply.whole(answers, asking.ledgers), headers=ids)


async def health(request: Request) -> Response:
    """GET /health: the server is up."""
    return JSONResponse({"status": "ok"})


class Keyed:
    """Refuses every request without the key, known path or not, but for the open paths."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self.app, self.key = app, key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or self._holds(scope):
            await self.app(scope, receive, send)
            return
        message = "the key is missing or wrong; send it as Authorization: Bearer KEY"
        refusal = Refusal(401, message, type="authentication_error", code="invalid_api_key")
        refusal.headers["www-authenticate"] = "Bearer"
        await refusal.response()(scope, receive, send)

    def _holds(self, scope: Scope) -> bool:
        given = dict(scope["headers"]).get(b"authorization", b"")
        kind, _, key = given.partition(b" ")
        # in constant time, so that the key cannot be guessed byte by byte
        return hmac.compare_digest(key.strip(), self.key) and kind.lower() == b"bearer"


async def _refused(request: Request, error: Exception) -> Response:
    return refusal_of(error).response()


async def _no_such_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}"
    return Refusal(error.status_code, message, code="no_such_route", headers=error.headers).response()


async def _failed(request: Request, error: Exception) -> Response:
    return refusal_of(error).response()  # starlette raises the error again, so that the log has it
