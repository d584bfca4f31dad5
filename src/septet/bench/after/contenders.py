"""Who takes part: a method of the families after inference with parameters, as the catalogue has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from septet.bench import contenders
from septet.core.errors import BadParameter, ConfigError, SeptetError
from septet.core.facets import Family
from septet.core.method import Method
from septet.engine import catalogue

FAMILIES = (Family.NONCASCADE, Family.CASCADE)
"""The families whose methods combine complete answers."""


@dataclass(frozen=True)
class Contender(contenders.Contender):
    """A method by name, with the parameters that were given; the others have their defaults."""

    option: ClassVar[str] = "--method"

    def make(self) -> Any:
        """The method; an unknown name or parameter raises."""
        record = catalogue.get("methods", self.name)
        if not (isinstance(record, type) and issubclass(record, Method)) or family(record) not in FAMILIES:
            raise BadParameter("--method", self.name, f"must combine complete answers: {', '.join(names())}")
        return record(**dict(self.given))


def family(record: type[Method]) -> Family:
    """The family of a method."""
    return record.card.facets.family


def names() -> list[str]:
    """The methods after inference, ours and plug-ins'; a plug-in that cannot be imported is none."""
    found = []
    for name in catalogue.entries("methods"):
        try:
            record = catalogue.get("methods", name)
        except SeptetError:
            continue
        if isinstance(record, type) and issubclass(record, Method) and family(record) in FAMILIES:
            found.append(name)
    return sorted(found)


def everyone() -> list[Contender]:
    """Every method with its defaults."""
    return [Contender(name) for name in names()]


def check(chosen: Sequence[Contender]) -> None:
    """Raises once, with all that cannot be made, before anything is fitted."""
    found = []
    for contender in chosen:
        try:
            contender.make()
        except SeptetError as error:
            found.append(str(error))
    if found:
        raise ConfigError(
            found[0] if len(found) == 1 else "methods that cannot be made:\n  " + "\n  ".join(found)
        )
