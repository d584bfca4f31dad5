"""A method: a frozen record of hyper-parameters, a card of facts, and one decision without I/O.

A plan is a generator. It yields lists of asks, is sent one reply per ask, and returns a verdict; the
engine's plan runner makes the calls. What a plan holds are *seats*: they carry the names, caps and the
very signatures of `Actor` and `Session`, but each call returns an `Ask` instead of doing anything.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    Protocol,
    TypeVar,
    cast,
    dataclass_transform,
    runtime_checkable,
)

import numpy as np
import pydantic
from pydantic.dataclasses import dataclass as validated
from pydantic_core import PydanticUndefined

from septet.core.actor import Actor, Pool
from septet.core.caps import Caps, PoolRule
from septet.core.errors import BadParameter, ConfigError, SeptetError, UnknownName
from septet.core.facets import Facets
from septet.core.money import Load, Price
from septet.core.session import Fused, Next, Session, View, Vocab
from septet.core.table import Table
from septet.core.types import Battle, Decision, Floats, Query, Tokens, Verdict

T = TypeVar("T")
Rng = np.random.Generator


# --- asks and replies ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ask:
    """One call that a plan wants made. `final` says: this reply is the answer; it stands alone in its list."""

    to: Any
    do: str
    args: Mapping[str, Any]
    purpose: str = "candidate"
    final: bool = False


@dataclass(frozen=True, slots=True)
class Emit:
    """A piece to stream to the user now, with each member's share in it."""

    piece: bytes
    support: Mapping[str, float] = field(default_factory=dict)


class Reply:
    """What came of an ask: `ok`, `error` and `value`. Reading the value of a failed one raises its error."""

    __slots__ = ("_value", "error")

    def __init__(self, value: Any = None, error: SeptetError | None = None) -> None:
        self._value, self.error = value, error

    @property
    def ok(self) -> bool:
        return self.error is None

    @property
    def value(self) -> Any:
        if self.error is not None:
            raise self.error
        return self._value


Plan = Generator[Sequence[Ask | Emit], Sequence[Reply], Verdict]
Asking = Generator[Sequence[Ask | Emit], Sequence[Reply], T]


def asking(step: T | Asking[T]) -> Asking[T]:
    """Delegates to a short form that may be a plain function or a generator of asks."""
    if isinstance(step, Generator):
        return (yield from step)
    return step


# --- seats -----------------------------------------------------------------------------------------

_SEATED: Mapping[str, type] = {"actor": Actor, "session": Session}


@cache
def _signature(kind: str, do: str) -> inspect.Signature:
    """The signature of an ability, taken from the Protocol that states it."""
    ability = getattr(_SEATED[kind], do, None)
    if ability is None or not callable(ability) or do.startswith("_"):
        raise AttributeError(do)
    signature = inspect.signature(ability)
    return signature.replace(parameters=list(signature.parameters.values())[1:])


class Seat:
    """A member, a role or an open session as a plan sees it: facts, and abilities that return asks.

    >>> seat = Seat("smol", Caps(text=True))
    >>> ask = seat.complete(Query.of("Why?"), n=2)
    >>> ask.do, ask.args["n"], ask.purpose
    ('complete', 2, 'candidate')
    """

    def __init__(
        self,
        name: str,
        caps: Caps,
        *,
        price: Price | None = None,
        vocab: Vocab | None = None,
        stop: tuple[str, ...] = (),
        weight: float = 1.0,
        session: Session | None = None,
    ) -> None:
        self.name, self.caps, self.price, self.vocab = name, caps, price, vocab
        self.stop, self.weight, self.session = stop, weight, session

    def __getattr__(self, do: str) -> Callable[..., Ask]:
        signature = _signature("session" if self.__dict__["session"] is not None else "actor", do)

        def ask(*args: Any, purpose: str | None = None, final: bool = False, **named: Any) -> Ask:
            bound = signature.bind(*args, **named)
            bound.apply_defaults()
            default = "candidate" if do == "complete" else do
            return Ask(self, do, bound.arguments, purpose or default, final)

        return ask

    def weighing(self, weight: float) -> Seat:
        """The same seat with a weight that its candidates will carry."""
        copy = Seat(self.name, self.caps, session=self.session)
        copy.__dict__.update(self.__dict__, weight=weight)
        return copy

    def __repr__(self) -> str:
        return f"Seat({self.name})"


@dataclass(frozen=True)
class Choice:
    """A decision over n queries: `weights` (n, n_members); draw one member or all; `state`: what was spent.

    `reasons` (n), one plain sentence per query, is what the trace shows.
    """

    weights: Floats
    draw: Literal["one", "all"] = "one"
    state: Any = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kept:
    """What `keep` made of an event: `value` goes back to the plan, `state` takes the place of the latest one."""

    value: Any
    state: Any


Then = Callable[[Query, "SeatPool", Rng], Plan]


@dataclass(frozen=True)
class SeatPool:
    """The pool a plan sees. `then` is a whole c1 method put here by the engine, for routers that draw several."""

    members: tuple[Seat, ...]
    roles: Mapping[str, tuple[Seat, ...]] = field(default_factory=dict)
    prepared: Any = None
    then_: Then | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(m.name for m in self.members)

    def role(self, name: str) -> tuple[Seat, ...]:
        """The actors of a role; the fit check has made sure that they are there."""
        return self.roles[name]

    def only(self, index: Iterable[int], weights: Floats | None = None) -> SeatPool:
        """The same pool with some members, in the given order, each carrying its weight."""
        picked = tuple(
            self.members[i] if weights is None else self.members[i].weighing(float(weights[i])) for i in index
        )
        return replace(self, members=picked)

    def then(self, query: Query, pool: SeatPool, rng: Rng) -> Plan:
        """The plan of the configured `then` method over some of the members."""
        if self.then_ is None:
            raise ConfigError("this router drew several members, but the ensemble has no 'then' method")
        return self.then_(query, pool, rng)

    def decide(self, q: Floats, c: Floats, prefer: Floats) -> Ask:
        """Asks the engine to run `choose` on the latest state, under the ensemble's lock."""
        return Ask(None, "decide", {"q": q, "c": c, "prefer": prefer}, "decision")

    def keep(self, event: Any) -> Ask:
        """Asks the engine to run the method's `keep` on the latest state, under the ensemble's lock."""
        return Ask(None, "keep", {"event": event}, "keeping")


# --- hyper-parameters ------------------------------------------------------------------------------


def param(sentence: str, **rule: Any) -> Any:
    """What a hyper-parameter means and which values it takes, for `Annotated`.

    `rule`: ge, gt, le, lt as in pydantic. Enums, literals and booleans need no rule.
    """
    return pydantic.Field(description=sentence, **rule)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One hyper-parameter as cards and errors show it."""

    name: str
    default: Any
    rule: str
    sentence: str


def parameters_of(record: type) -> list[Parameter]:
    """The hyper-parameters of a method or the options of a backend, in declared order."""
    return list(_parameters_of(record))


@cache
def _parameters_of(record: type) -> tuple[Parameter, ...]:
    """Read once per record: the rules come from its schema, which takes milliseconds to make."""
    found = []
    for name, info in getattr(record, "__pydantic_fields__", {}).items():
        default = None if info.is_required() else info.get_default(call_default_factory=True)
        default = None if default is PydanticUndefined else default
        found.append(Parameter(name, default, rule_of(info), info.description or ""))
    return tuple(found)


_BOUNDS = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"), ("min_length", "length ≥"))


def rule_of(info: pydantic.fields.FieldInfo) -> str:
    """The rule of a field in words: its bounds, or its choices."""
    bounds = [
        f"{sign} {getattr(meta, attribute)}"
        for meta in info.metadata
        for attribute, sign in _BOUNDS
        if getattr(meta, attribute, None) is not None
    ]
    if bounds:
        return " and ".join(bounds)
    schema = pydantic.TypeAdapter(cast("Any", info.annotation)).json_schema()
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return f"only {schema['const']}"
    return "true or false" if schema.get("type") == "boolean" else ""


def validating(cls: type[T], kind: str) -> type[T]:
    """Makes a frozen, validated record whose errors are ConfigErrors that name the parameter and its rule."""
    record = validated(
        frozen=True, kw_only=True, config=pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    )(cls)
    build = record.__init__

    def checked(self: Any, **values: Any) -> None:
        known = [p.name for p in parameters_of(record)]
        for name in values:
            if name not in known:
                raise UnknownName(f"parameter of {kind}", name, known)
        try:
            build(self, **values)
        except pydantic.ValidationError as error:
            raise _bad_parameter(record, kind, error) from None

    record.__init__ = checked  # type: ignore[method-assign]
    return cast("type[T]", record)


def _bad_parameter(record: type, kind: str, error: pydantic.ValidationError) -> ConfigError:
    """The first problem of a validation, as the error that a user reads."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    rules = {p.name: p.rule for p in parameters_of(record)}
    rule = rules.get(str(first["loc"][0]), "") if first["loc"] else ""
    said = f"must be {rule}" if rule else first["msg"][0].lower() + first["msg"][1:]
    return BadParameter(f"{kind}.{place}", first["input"], said)


# --- the card and the record -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The facts about a method that are not in its code. `differs` says where it departs from the paper."""

    paper: str
    title: str
    facets: Facets
    pool: PoolRule = PoolRule()
    trained: bool = False
    online: bool = False
    scope: Literal["query", "dataset", "stream"] = "query"
    permutes: bool = True
    labels: Literal["scores", "none"] = "scores"
    differs: tuple[str, ...] = ()


class Method:
    """What every method is. A family adds the short form; a method gives its decision.

    `state_type` is the dataclass that `fit` returns, for the methods that are trained or learn online;
    `prepared_type` the one that `prepare` returns, where it is worth keeping on disk.
    """

    card: ClassVar[Card]
    name: ClassVar[str]
    state_type: ClassVar[type | None] = None
    prepared_type: ClassVar[type | None] = None

    @property
    def trainer(self) -> str:
        """The file of `septet.training` that fits it in place of `fit`, and its roles with it; "": none."""
        return ""

    def needs(self) -> Caps:
        """What each member must offer, given these hyper-parameters."""
        return Caps(text=True)

    def needs_of(self, place: int, n_members: int) -> Caps:
        """What the member at a place must offer, where members have different parts."""
        return self.needs()

    def roles(self) -> Mapping[str, Caps]:
        """What each role must offer; a role that is not listed is refused."""
        return {}

    def offers(self, members: Sequence[Caps]) -> Caps:
        """What the ensemble offers as a member of another."""
        return Caps(text=True, samples=True, seed=all(m.seed for m in members))

    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        """The most that one request asks of each actor, by name; `max_tokens` of the query is set."""
        raise NotImplementedError

    def prepare(self, pool: Pool) -> Any:
        """What depends on the members only: deterministic, made once per ensemble, when they are loaded."""
        return None

    def prepared_key(self, pool: Pool) -> str:
        """Names what `prepare` makes of these members, by their contents; "": it is not kept on disk."""
        return ""

    def fit(self, table: Table, roles: Mapping[str, tuple[Seat, ...]], rng: Rng) -> Any:
        """Learns the state from outcomes, or is a generator of asks that does. The role `members` is the pool."""
        raise ConfigError(f"{self.name} learns nothing from outcomes, so it cannot be fitted")

    def begin(self, members: Sequence[str]) -> Any:
        """The state before anything was learned, of a method that may serve without a fit; else None."""
        return None

    def update(self, state: Any, events: Sequence[Battle | Decision], rng: Rng) -> Any:
        """The state after more events; the old one is not changed."""
        raise ConfigError(f"{self.name} does not learn while it serves")

    def plan(self, query: Query, pool: SeatPool, state: Any, rng: Rng) -> Plan:
        """The whole method as a generator of asks."""
        raise NotImplementedError


@runtime_checkable
class PlansMany(Protocol):
    """A method whose decision for one query depends on the others of the call (scope "dataset")."""

    def plan_many(self, queries: Sequence[Query], pool: SeatPool, state: Any, rng: Rng) -> Asking[list[Plan]]:
        """One plan per query, after whatever they have to decide together."""


@runtime_checkable
class Fuses(Protocol):
    """A token-level method: the engine's token loop runs it.

    `consults`: it sees the first member before it says whom else to ask. `asks`: `fuse` asks the members itself,
    and its views show nothing. `complete`: its fused distribution covers all that may come next.
    """

    @property
    def consults(self) -> bool: ...
    @property
    def asks(self) -> bool: ...
    @property
    def complete(self) -> bool: ...

    def start(self, query: Query, prompts: Sequence[Tokens | None], prepared: Any, state: Any) -> Any:
        """The request's value s, before the first token."""

    def consult(self, first: Next, s: Any) -> Sequence[int]:
        """Which members to ask, after the first member's distribution is known."""

    def mixture(self, s: Any) -> Floats | None:
        """(n_members,) constant weights where the fused distribution is the members' arithmetic mean; else None."""

    def hidden_of(self, n_members: int) -> Sequence[int]:
        """The members whose hidden state it reads."""

    def remark(self, s: Any) -> str:
        """What the verdict says about the decoding, beside each member's support; "" for nothing."""

    def fuse(self, views: Sequence[View | None], s: Any) -> tuple[Fused, Any]:
        """The fused distribution over byte strings, and the next value of s; s is not mutated.
        May be a generator of asks that returns the two."""


@runtime_checkable
class Routes(Protocol):
    """A router: its choice is made by the engine on the latest state."""

    def choose(self, q: Floats, c: Floats, prefer: Floats, state: Any, rng: Rng) -> Choice:
        """Weights over members from predicted quality q (n, m), cost c (n, m) and price of cost (n,)."""


@runtime_checkable
class Keeps(Protocol):
    """A method that learns from what its own plans see: the engine changes its state, one writer at a time."""

    def keep(self, event: Any, state: Any, rng: Rng) -> Kept:
        """The reply to the plan, and the state after the event; the old one is not changed."""


M = TypeVar("M", bound=Method)


@dataclass_transform(kw_only_default=True, frozen_default=True)
def method(card: Card) -> Callable[[type[M]], type[M]]:
    """Freezes and validates a method's record and puts its card on it; registers nothing."""

    def make(cls: type[M]) -> type[M]:
        name = cls.__module__.rpartition(".")[2].replace("_", "-")
        record = validating(cls, name)
        record.card, record.name = card, name
        return record

    return make


__all__ = [
    "Annotated",
    "Ask",
    "Asking",
    "Card",
    "Choice",
    "Emit",
    "Fuses",
    "Keeps",
    "Kept",
    "Method",
    "Parameter",
    "Plan",
    "PlansMany",
    "Reply",
    "Rng",
    "Routes",
    "Seat",
    "SeatPool",
    "asking",
    "method",
    "param",
    "parameters_of",
    "rule_of",
    "validating",
]
