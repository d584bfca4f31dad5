"""A backend: what reaches a model. A record of options makes an endpoint; an endpoint makes members."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar, dataclass_transform, runtime_checkable

from septet.core.actor import Actor
from septet.core.caps import Caps
from septet.core.errors import MissingExtra
from septet.core.method import validating
from septet.core.money import Price
from septet.core.prompt import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendCard:
    """The facts about a backend; `tested` says against what each part was tested."""

    title: str
    offers: str
    extra: str = ""
    tested: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """A member's own sampling defaults, used where neither the query nor the method says otherwise."""

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 256
    seed: int = 0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberSpec:
    """A member of an endpoint: its name, prompt template, sampling defaults and price."""

    name: str
    prompt: Prompt
    defaults: Defaults = Defaults()
    price: Price | None = None


@runtime_checkable
class Endpoint(Protocol):
    """One loaded model or one server, shared by every member that is `like` another. Loads on first use.

    An endpoint may have `vocabulary: str`, "kind:hash" of its tokenizer's description, "" where that is not
    known before loading: equal ones are one vocabulary, different ones of one kind are two.
    """

    def caps(self) -> Caps:
        """What its members offer, without loading or calling anything."""

    def member(self, spec: MemberSpec) -> Actor:
        """A member; cheap, nothing is loaded."""

    async def aclose(self) -> None:
        """Give back the model, the connections, the threads."""


@runtime_checkable
class Trainable(Protocol):
    """An endpoint whose model a fit can fine-tune for the role of one ensemble."""

    def trained(self, weights: Path | None) -> Endpoint:
        """The same model with the weights in a folder that a fit wrote; None: it waits for its fit. It offers
        what it will offer with weights."""


class Backend:
    """The options of a backend, as a frozen record. `prompt` is the template where the member names none."""

    card: ClassVar[BackendCard]
    name: ClassVar[str]

    def prompt(self, place: Place) -> str:
        """The name of the prompt template for a member that names none; may read a file's header."""
        return "chat"

    def connect(self, place: Place) -> Endpoint:
        """An endpoint; nothing is loaded or called yet. Wrong options raise a ConfigError here."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Place:
    """Where the configuration stands: relative paths start at `folder`; keys come from `environment`."""

    folder: str = "."
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def cache(self) -> Path:
        """Where septet keeps what it can make again: $SEPTET_CACHE, else the user's cache folder."""
        if self.environment.get("SEPTET_CACHE"):
            return Path(self.environment["SEPTET_CACHE"])
        home = self.environment.get("HOME") or Path.home()
        return Path(self.environment.get("XDG_CACHE_HOME") or Path(home) / ".cache") / "septet"


B = TypeVar("B", bound=Backend)


@dataclass_transform(kw_only_default=True, frozen_default=True)
def backend(card: BackendCard) -> Callable[[type[B]], type[B]]:
    """Freezes and validates a backend's options and puts its card on it; registers nothing."""

    def make(cls: type[B]) -> type[B]:
        name = cls.__module__.rpartition(".")[2].replace("_", "-")
        record = validating(cls, name)
        record.card, record.name = card, name
        return record

    return make


def need(module: str, *, extra: str) -> Any:
    """Imports a heavy library where it is used; a missing one raises the error that says how to install it."""
    from importlib import import_module

    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name and not module.startswith(error.name):
            raise
        raise MissingExtra(module, extra) from None
