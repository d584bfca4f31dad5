"""The error tree: what is wrong with the request, and what went wrong while answering it.

Two branches decide everything a caller has to know. A `ConfigError` means that nothing has run and
nothing was spent; a `RunError` means that a request was under way, and says where. The exit codes of
the command line are class attributes, so that they are stated once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from septet.core.types import Answer


class SeptetError(Exception):
    """Any error that septet raises on purpose; `exit_code` is what the command line returns for it."""

    exit_code = 1


class ConfigError(SeptetError):
    """The file or the arguments are wrong; nothing has run and nothing was spent."""

    exit_code = 2


class UnknownName(ConfigError):
    """A name that nothing answers to; the message lists the three nearest that exist.

    >>> str(UnknownName("method", "unit", ["unite", "eagle"]))
    "unknown method 'unit'; did you mean 'unite'?"
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], place: str = "") -> None:
        self.kind, self.name, self.place = kind, name, place
        self.near = near_names(name, known)
        where = f" ({place})" if place else ""
        hint = f"; did you mean {' or '.join(repr(n) for n in self.near)}?" if self.near else ""
        super().__init__(f"unknown {kind} {name!r}{where}{hint}")


class BadParameter(ConfigError):
    """A parameter whose value breaks its rule; says the parameter, the value, the rule and the place."""

    def __init__(self, parameter: str, value: Any, rule: str, place: str = "") -> None:
        self.parameter, self.value, self.rule, self.place = parameter, value, rule, place
        where = f" ({place})" if place else ""
        shown = repr(value)
        shown = shown if len(shown) <= 80 else shown[:77] + "..."
        super().__init__(f"{parameter}: {rule}, got {shown}{where}")


class UnfitPool(ConfigError):
    """A method that cannot work with the members it was given; every problem is listed at once."""

    def __init__(self, ensemble: str, method: str, problems: Sequence[str]) -> None:
        self.ensemble, self.method, self.problems = ensemble, method, tuple(problems)
        lines = "".join(f"\n  - {problem}" for problem in problems)
        super().__init__(f"{method} does not fit the members of {ensemble!r}:{lines}")


class MissingExtra(ConfigError):
    """A feature whose library is not installed; says the command that installs it."""

    def __init__(self, feature: str, extra: str) -> None:
        self.feature, self.extra = feature, extra
        self.command = f'pip install "septet[{extra}]"'
        super().__init__(f"{feature} is not installed; install it with: {self.command}")


class NotFitted(SeptetError):
    """A trained method without its state; says the command that fits it."""

    exit_code = 2

    def __init__(self, ensemble: str, method: str) -> None:
        self.ensemble, self.method = ensemble, method
        super().__init__(
            f"{ensemble!r} uses {method}, which has to be fitted first: "
            f"septet fit {ensemble} -c FILE --data OUTCOMES.jsonl"
        )


class RunError(SeptetError):
    """Something failed while a request was answered; says which request, method, member and step.

    The engine fills in what it knows at the place where the error passes (`at`); `partial` is what
    had been answered by then, if anything.
    """

    exit_code = 3

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.request = self.method = self.member = ""
        self.step: int | None = None
        self.partial: Answer | None = None

    def at(
        self, *, request: str = "", method: str = "", member: str = "", step: int | None = None
    ) -> RunError:
        """Note the place; what is already known stays, since the innermost place is the exact one."""
        self.request = self.request or request
        self.method = self.method or method
        self.member = self.member or member
        self.step = step if self.step is None else self.step
        return self

    def __str__(self) -> str:
        known = [("member", self.member), ("method", self.method), ("request", self.request)]
        if self.step is not None:
            known.insert(1, ("step", str(self.step)))
        where = ", ".join(f"{name} {value}" for name, value in known if value)
        return f"{self.message} [{where}]" if where else self.message


class BackendError(RunError):
    """A member's backend failed. `retryable` and `retry_after` (seconds) guide the gate; `hint` the reader."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retryable: bool = False,
        retry_after: float | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(f"{message}. {hint}" if hint else message)
        self.status, self.retryable, self.retry_after, self.hint = status, retryable, retry_after, hint


class NoCandidate(RunError):
    """Every member failed or abstained, so there is nothing to choose from."""


class LimitReached(RunError):
    """A limit of the request was reached; `partial` holds what had been answered by then."""

    exit_code = 4

    def __init__(self, limit: str, used: float, allowed: float) -> None:
        self.limit, self.used, self.allowed = limit, used, allowed
        super().__init__(f"limit {limit} reached: {used:g} of {allowed:g}")


def near_names(name: str, known: Iterable[str]) -> list[str]:
    """The up to three names most like `name`, best first."""
    return get_close_matches(name, sorted(known), n=3, cutoff=0.5)
