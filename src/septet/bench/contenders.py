"""Who takes part in a comparison of routers: a method with parameters, and whether recorded outcomes suffice for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from septet.bench.sets import Recorded
from septet.core.errors import BadParameter, ConfigError, SeptetError
from septet.engine import catalogue
from septet.parts.routing.plan import Router

FAMILIES = ("a1_pretrained", "a2_nonpretrained")
"""The families whose methods are routers."""


@dataclass(frozen=True)
class Contender:
    """A router by name, with the parameters that were given; the others have their defaults."""

    name: str
    given: tuple[tuple[str, Any], ...] = ()

    option: ClassVar[str] = "--router"
    """What errors call it."""

    @classmethod
    def of(cls, text: str) -> Self:
        """Reads `name` or `name:param=value,param=value`; a value is JSON, "none", or else a word.

        >>> Contender.of("eagle:k=16,rating=last").given
        (('k', 16), ('rating', 'last'))
        """
        name, _, said = text.partition(":")
        given = []
        for part in filter(None, said.split(",")):
            key, equals, value = part.partition("=")
            if not equals:
                raise BadParameter(cls.option, text, "must be name or name:param=value,param=value")
            given.append((key.strip(), _value(value.strip())))
        return cls(name.strip(), tuple(given))

    def __str__(self) -> str:
        return f"{self.name}:{self.variant}" if self.given else self.name

    @property
    def variant(self) -> str:
        """What was given, as it was written."""
        return ",".join(f"{key}={_word(value)}" for key, value in self.given)

    def make(self) -> Router:
        """The router; an unknown name or parameter raises."""
        record = catalogue.get("methods", self.name)
        if not (isinstance(record, type) and issubclass(record, Router)):
            raise BadParameter("--router", self.name, f"must be a router: {', '.join(names())}")
        return record(**dict(self.given))


def _value(text: str) -> Any:
    if text.lower() == "none":
        return None
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _word(value: Any) -> str:
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value)


def names() -> list[str]:
    """The routers that come with septet or with a plug-in, by name; a plug-in that cannot be imported is none."""
    return [name for name in catalogue.entries("methods") if _family(name) in FAMILIES]


def _family(name: str) -> str:
    try:
        return catalogue.family_of(name)
    except SeptetError:
        return ""


def everyone() -> list[Contender]:
    """Every router with its defaults that is fitted without torch and asks no role."""
    found = [Contender(name) for name in names()]
    return [c for c in found if not _alone(c.make())]


def problems(router: Router, recorded: Recorded) -> list[str]:
    """Why a router cannot be measured on a table, one sentence each; empty: it can."""
    rule, m = router.card.pool, len(recorded.table.members)
    found = _alone(router)
    if rule.at_least > m:
        found.append(f"takes {rule.at_least} members or more, and {recorded.name} has {m}")
    if rule.at_most not in (None, 2) and rule.at_most < m:
        found.append(f"takes {rule.at_most} members at most, and {recorded.name} has {m}")
    if getattr(router, "features", "") == "task" and not any(recorded.table.tasks):
        found.append(f"reads the task of a question, and {recorded.name} has no column task")
    return found


def _alone(router: Router) -> list[str]:
    """What it needs beside outcomes."""
    found = [f"needs the role {role}, which recorded outcomes cannot play" for role in router.roles()]
    if trainer := getattr(router, "trainer", ""):
        found.append(f"is fitted by septet.training.{trainer.replace('-', '_')}, with torch")
    return found


def fitting(contenders: Sequence[Contender], recorded: Recorded) -> list[Contender]:
    """Those that can be measured on a table."""
    return [c for c in contenders if not problems(c.make(), recorded)]


def check(contenders: Sequence[Contender], sets: Sequence[Recorded]) -> None:
    """Raises once, with all that does not fit, before anything is fitted."""
    found: list[str] = []
    for contender in contenders:
        try:
            router = contender.make()
        except SeptetError as error:
            found.append(str(error))
            continue
        found += dict.fromkeys(f"{contender} {p}" for recorded in sets for p in problems(router, recorded))
    if len(found) == 1:
        raise ConfigError(found[0])
    if found:
        raise ConfigError("routers that cannot be measured:\n" + "\n".join(f"  {line}" for line in found))
