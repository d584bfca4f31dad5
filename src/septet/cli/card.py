"""`septet card`: the facts about one method or backend."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from septet.cli._facts import backend_json, method_json, shown, words
from septet.cli._options import AsJson
from septet.cli._terminal import new_table, print_json, print_table
from septet.cli.methods import learns
from septet.core.errors import UnknownName
from septet.engine.catalogue import entries


def card(
    name: Annotated[str, typer.Argument(help="A method or a backend.")],
    json: AsJson = False,
) -> None:
    """Prints the card."""
    if name in entries("methods"):
        facts = method_json(name)
        lines, parameters = method_lines(facts), facts["parameters"]
    elif name in entries("backends"):
        facts = backend_json(name)
        lines, parameters = backend_lines(facts), facts["options"]
    else:
        raise UnknownName("method or backend", name, [*entries("methods"), *entries("backends")])
    if json:
        print_json(facts)
        return
    print("\n".join(lines))
    _print_parameters(parameters)


def method_lines(m: Mapping[str, Any]) -> list[str]:
    """A method's card as text."""
    facets = ", ".join(f"{k} {shown(v)}" for k, v in m["facets"].items() if k != "family" and v is not None)
    facts = {
        "family": m["family"],
        "paper": _link(m["paper"]),
        "facets": facets,
        "needs": words(m["needs"]),
        **{f"role {role}": words(caps) for role, caps in m["roles"].items()},
        "pool": _pool(m["pool"]),
        "learns": learns(m),
        "scope": m["scope"],
        "package": m["package"],
    }
    differs = ["", "Differs from the paper:", *(f"  - {d}" for d in m["differs"])] if m["differs"] else []
    return [f"{m['name']}: {m['title']}", m["idea"], "", *_aligned(facts), *differs]


def backend_lines(b: Mapping[str, Any]) -> list[str]:
    """A backend's card as text."""
    facts = {
        "offers": b["offers"],
        "extra": f'pip install "septet[{b["extra"]}]"' if b["extra"] else "none needed",
        "tested": "; ".join(b["tested"]) or "not said",
        "package": b["package"],
    }
    return [f"{b['name']}: {b['title']}", "", *_aligned(facts)]


def _aligned(facts: Mapping[str, str]) -> list[str]:
    width = max(len(name) for name in facts)
    return [f"  {name:<{width}}  {fact}" for name, fact in facts.items()]


def _link(paper: str) -> str:
    """The address of an arXiv paper; anything else as it is."""
    return f"https://arxiv.org/abs/{paper}" if re.fullmatch(r"\d{4}\.\d{4,5}", paper) else paper


def _pool(pool: Mapping[str, Any]) -> str:
    """The rule for the members in words."""
    most = f" to {pool['at_most']}" if pool["at_most"] is not None else " or more"
    said = [f"{pool['at_least']}{most} members"]
    if pool["vocabulary"] == "same":
        said.append("one vocabulary")
    if pool["order"] != "none":
        said.append(f"order: {pool['order']}")
    if pool["priced"]:
        said.append("each with a price")
    return ", ".join(said)


def _print_parameters(parameters: Sequence[Mapping[str, Any]]) -> None:
    print()
    if not parameters:
        print("It has no parameters.")
        return
    table = new_table("parameter", "default", "rule", "meaning")
    for p in parameters:
        table.add_row(p["name"], shown(p["default"]), p["rule"], p["sentence"])
    print_table(table)
