"""What a caller may send: OpenAI's request bodies, checked, and made into a query. Nothing is ignored silently."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from septet.core.errors import BadParameter, ConfigError, UnknownName
from septet.core.types import Message, Query

IGNORED = frozenset(
    {
        "metadata",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)
"""Fields about accounts and billing, which clients send as a matter of course: they change no answer."""

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": (),
    "functions": (),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "prediction": (),
    "presence_penalty": (0,),
    "reasoning_effort": (),
    "suffix": ("",),
    "verbosity": (),
    "web_search_options": (),
}
"""Options that are not supported, and the values (besides null) that ask for nothing."""

PASSED_ON = ("tools", "tool_choice", "parallel_tool_calls", "response_format")
"""What goes to the one member that answers, in `Query.extra`."""

SEED_MASK = 2**63 - 1
"""Seeds of the wire are signed 64-bit numbers, those of the house are not negative."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A checked request. `top`: alternatives per token, None where no log-probabilities are asked for.
    `tools_for`: the field that only a model with tools can honour, "" where there is none."""

    model: str
    query: Query
    n: int = 1
    top: int | None = None
    stream: bool = False
    include_usage: bool = False
    tools_for: str = ""


class _Checked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class StreamOptions(_Checked):
    """Options of a stream; padding against traffic analysis is accepted and not made."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class HouseOptions(_Checked):
    """The `septet` object of a body: the fields of a query that OpenAI's format lacks."""

    task: str = ""
    tenant: str = ""
    prefer: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    until: list[Annotated[str, Field(min_length=1)]] = []


class Part(_Checked):
    """One part of a turn: text. Images, audio and files are refused, since no member says that it reads them."""

    type: Literal["text"]
    text: str


class Turn(_Checked):
    """One turn of a conversation; a plain string is one part."""

    role: Literal["developer", "system", "user", "assistant", "tool"]
    content: list[Part] | None = None
    name: str | None = None
    refusal: None = None
    tool_call_id: str | None = None
    tool_calls: list[dict[str, Any]] | None = None

    @field_validator("content", mode="before")
    @classmethod
    def _as_parts(cls, content: Any) -> Any:
        return [{"type": "text", "text": content}] if isinstance(content, str) else content

    def message(self) -> Message:
        """The turn as the house holds it; `developer` is OpenAI's newer word for `system`."""
        role = "system" if self.role == "developer" else self.role
        text = "".join(part.text for part in self.content or ())
        extra = {"name": self.name, "tool_call_id": self.tool_call_id, "tool_calls": self.tool_calls}
        return Message(role, text, {k: v for k, v in extra.items() if v is not None})


class _Sampled(_Checked):
    """The fields that both kinds of request have."""

    model: Annotated[str, Field(min_length=1)]
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stop: Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=4)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    septet: HouseOptions = HouseOptions()

    @field_validator("stop", mode="before")
    @classmethod
    def _as_list(cls, stop: Any) -> Any:
        return [stop] if isinstance(stop, str) else stop

    def sampling(self) -> dict[str, Any]:
        """The query's fields on how to sample."""
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": None if self.seed is None else self.seed & SEED_MASK,
            "stop": tuple(self.stop or ()),
            "until": tuple(self.septet.until),
            "task": self.septet.task,
            "tenant": self.septet.tenant,
            "prefer": self.septet.prefer,
        }

    def how(self) -> dict[str, Any]:
        """How the answer is to be sent."""
        if self.stream_options is not None and not self.stream:
            raise BadParameter("stream_options", "stream is off", "is only allowed with stream = true")
        options = self.stream_options or StreamOptions()
        return {
            "model": self.model,
            "n": self.n or 1,
            "stream": bool(self.stream),
            "include_usage": bool(options.include_usage),
        }


class ChatRequest(_Sampled):
    """The body of POST /v1/chat/completions."""

    messages: Annotated[list[Turn], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None

    def wanted(self) -> Wanted:
        """The request as the house takes it."""
        both = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(both) > 1:
            raise BadParameter("max_tokens", self.max_tokens, "must not differ from max_completion_tokens")
        if self.top_logprobs is not None and not self.logprobs:
            raise BadParameter("top_logprobs", self.top_logprobs, "is only allowed with logprobs = true")
        messages = tuple(turn.message() for turn in self.messages)
        extra = {name: value for name in PASSED_ON if (value := getattr(self, name)) not in (None, [])}
        if extra.get("response_format") == {"type": "text"}:
            del extra["response_format"]
        told = [
            f"messages[{i}]"
            for i, m in enumerate(messages)
            if m.extra.keys() & {"tool_calls", "tool_call_id"}
        ]
        query = _query(
            "messages", messages=messages, max_tokens=next(iter(both), None), extra=extra, **self.sampling()
        )
        top = (self.top_logprobs or 0) if self.logprobs else None
        return Wanted(query=query, top=top, tools_for=next(iter([*extra, *told]), ""), **self.how())


class CompletionRequest(_Sampled):
    """The body of POST /v1/completions: one prompt, given to the members without a template."""

    prompt: str
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None

    @field_validator("prompt", mode="before")
    @classmethod
    def _one(cls, prompt: Any) -> Any:
        return prompt[0] if isinstance(prompt, list) and len(prompt) == 1 else prompt

    def wanted(self) -> Wanted:
        """The request as the house takes it."""
        query = _query("prompt", raw=self.prompt, max_tokens=self.max_tokens, **self.sampling())
        return Wanted(query=query, top=self.logprobs, **self.how())


def checked(kind: type[ChatRequest] | type[CompletionRequest], body: Any) -> Wanted:
    """A request from its JSON; the first thing that is wrong is a ConfigError that names the field."""
    if not isinstance(body, dict):
        raise BadParameter("body", body, "must be a JSON object")
    for name, neutral in NEUTRAL.items():
        if body.get(name) is not None and body[name] not in neutral:
            raise BadParameter(name, body[name], "is not supported, since members cannot all honour it")
    known = {k: v for k, v in body.items() if k not in IGNORED and k not in NEUTRAL}
    try:
        return kind.model_validate(known).wanted()
    except ValidationError as error:
        raise _first_problem(kind, error) from None


class Rating(_Checked):
    """A body of /v1/feedback about one answer: the id of its request, and how good it was, 0 to 1."""

    request: Annotated[str, Field(min_length=1)]
    score: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Comparison(_Checked):
    """A body of /v1/feedback about two members' answers to one question; `winner`: a's name, b's or "tie"."""

    model: Annotated[str, Field(min_length=1)]
    query: Annotated[str, Field(min_length=1)]
    a: str
    b: str
    winner: str


def feedback(body: Any) -> Rating | Comparison:
    """A feedback from its JSON: a rating of a request, or a comparison where it says who won."""
    if not isinstance(body, dict):
        raise BadParameter("body", body, "must be a JSON object")
    kind: type[Rating] | type[Comparison] = Comparison if "winner" in body else Rating
    # a score of 1 is a number too
    given = {k: float(v) if k == "score" and type(v) is int else v for k, v in body.items()}
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise _first_problem(kind, error) from None


def _query(field: str, **fields: Any) -> Query:
    """A query; what it says about the question is said about the field that held it."""
    try:
        return Query(**fields)
    except BadParameter as error:
        if error.parameter == "question":
            raise BadParameter(field, error.value, "must hold a question that is not empty") from None
        raise


def _first_problem(kind: type[_Checked], error: ValidationError) -> ConfigError:
    first = error.errors()[0]
    place = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in first["loc"]).lstrip(".")
    if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
        return UnknownName("field", place, [*kind.model_fields, *NEUTRAL, *IGNORED])
    if first["type"] == "missing":
        return BadParameter(place, None, "is required")
    message = first["msg"].removeprefix("Input should be ")
    said = f"must be {message}" if message != first["msg"] else message[0].lower() + message[1:]
    return BadParameter(place, first["input"], said)
