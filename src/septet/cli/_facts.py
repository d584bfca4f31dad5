"""The facts on the cards of methods and backends, as plain JSON."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from septet.core.caps import Caps
from septet.core.errors import SeptetError
from septet.core.method import parameters_of
from septet.engine import catalogue
from septet.engine.catalogue import Broken


def caps_json(caps: Caps) -> dict[str, bool | int]:
    """The capabilities that are set."""
    return {f.name: value for f in fields(caps) if (value := getattr(caps, f.name))}


def parameters_json(record: type) -> list[dict[str, Any]]:
    """The hyper-parameters or options of a record, in declared order."""
    return [asdict(p) for p in parameters_of(record)]


def method_json(name: str) -> dict[str, Any]:
    """The card of a method, with the needs that its defaults have."""
    record = catalogue.get("methods", name)
    entry, card, defaults = catalogue.entries("methods")[name], record.card, record()
    return {
        "name": name,
        "family": card.facets.family.value,
        "paper": card.paper,
        "title": card.title,
        "idea": catalogue.first_line(entry),
        "facets": asdict(card.facets),
        "needs": caps_json(defaults.needs()),
        "roles": {role: caps_json(caps) for role, caps in defaults.roles().items()},
        "pool": asdict(card.pool),
        "trained": card.trained,
        "online": card.online,
        "scope": card.scope,
        "permutes": card.permutes,
        "labels": card.labels,
        "parameters": parameters_json(record),
        "differs": list(card.differs),
        "package": entry.owner,
    }


def backend_json(name: str) -> dict[str, Any]:
    """The card of a backend."""
    record = catalogue.get("backends", name)
    entry = catalogue.entries("backends")[name]
    return {
        "name": name,
        **asdict(record.card),
        "options": parameters_json(record),
        "package": entry.owner,
    }


def methods_json() -> tuple[list[dict[str, Any]], list[Broken]]:
    """Every method in the order of the families, and the plug-ins that cannot be used."""
    broken = {b.name: b for b in catalogue.broken("methods")}
    found = []
    for name, entry in catalogue.entries("methods").items():
        if name in broken:
            continue
        try:
            found.append(method_json(name))
        except SeptetError as error:
            broken[name] = Broken(name, entry.owner, str(error))
    return sorted(found, key=lambda m: (m["family"], m["name"])), list(broken.values())


def words(caps: dict[str, bool | int]) -> str:
    """Capabilities in words.

    >>> words({"text": True, "topk": 10})
    'text, topk 10'
    """
    return ", ".join(name if value is True else f"{name} {value}" for name, value in caps.items())


def shown(value: Any) -> str:
    """A default as a configuration file would state it, enough to read.

    >>> shown(True), shown("exact"), shown(()), shown(None)
    ('true', 'exact', '[]', 'none')
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(shown, value))}]"
    return str(value)
