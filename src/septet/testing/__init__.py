"""What tests of methods and backends need: the contract suite, scripted replies, the toy pool and the toy table."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from septet.testing.actors import check_backend as check_backend
    from septet.testing.contract import check_method as check_method
    from septet.testing.scripted import drive as drive
    from septet.testing.scripted import seat as seat
    from septet.testing.scripted import view as view
    from septet.testing.toys import toy_config as toy_config
    from septet.testing.toys import toy_table as toy_table

_DOORS = {
    "check_backend": "actors",
    "check_method": "contract",
    "drive": "scripted",
    "seat": "scripted",
    "toy_config": "toys",
    "toy_table": "toys",
    "view": "scripted",
}

__all__ = sorted(_DOORS)


def __getattr__(name: str) -> Any:
    if name not in _DOORS:
        raise AttributeError(f"module 'septet.testing' has no attribute {name!r}")
    return getattr(import_module(f"septet.testing.{_DOORS[name]}"), name)
