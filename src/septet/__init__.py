"""septet: every way to combine language models at inference time, behind one small set of nouns.

    async with septet.load("septet.toml") as house:
        answer = await house["fused"].ask("What is 2+3?")

The names below are the public door; each is resolved on first use, so that importing septet is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from septet.core.caps import Caps as Caps
    from septet.core.caps import PoolRule as PoolRule
    from septet.core.errors import BackendError as BackendError
    from septet.core.errors import ConfigError as ConfigError
    from septet.core.errors import LimitReached as LimitReached
    from septet.core.errors import NotFitted as NotFitted
    from septet.core.errors import RunError as RunError
    from septet.core.errors import SeptetError as SeptetError
    from septet.core.errors import UnfitPool as UnfitPool
    from septet.core.facets import Facets as Facets
    from septet.core.method import Card as Card
    from septet.core.method import method as method
    from septet.core.method import param as param
    from septet.core.money import Price as Price
    from septet.core.table import Table as Table
    from septet.core.types import Answer as Answer
    from septet.core.types import Battle as Battle
    from septet.core.types import Completion as Completion
    from septet.core.types import Query as Query
    from septet.core.types import Verdict as Verdict
    from septet.engine.blocking import open_blocking as open_blocking
    from septet.engine.house import House as House
    from septet.engine.house import load as load

_DOORS = {
    "Answer": "core.types",
    "BackendError": "core.errors",
    "Battle": "core.types",
    "Caps": "core.caps",
    "Card": "core.method",
    "Completion": "core.types",
    "ConfigError": "core.errors",
    "Facets": "core.facets",
    "House": "engine.house",
    "LimitReached": "core.errors",
    "NotFitted": "core.errors",
    "PoolRule": "core.caps",
    "Price": "core.money",
    "Query": "core.types",
    "RunError": "core.errors",
    "SeptetError": "core.errors",
    "Table": "core.table",
    "UnfitPool": "core.errors",
    "Verdict": "core.types",
    "load": "engine.house",
    "method": "core.method",
    "open_blocking": "engine.blocking",
    "param": "core.method",
}

__all__ = sorted(_DOORS)


def __getattr__(name: str) -> Any:
    if name not in _DOORS:
        raise AttributeError(f"module 'septet' has no attribute {name!r}")
    value = getattr(import_module(f"septet.{_DOORS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
