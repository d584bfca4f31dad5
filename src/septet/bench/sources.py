"""What code a number was made by: the hash of a module and of all of septet that it imports, at any depth."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path


def code_of(*modules: str) -> str:
    """64 hexadecimal digits that change when any of these modules, or of septet's that they import, does.

    Nothing is imported but the packages on the way to a module.
    """
    seen: dict[str, bytes] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen[name], more = _source(name)
            waiting += more
    digest = hashlib.sha256()
    for name in sorted(seen):
        digest.update(name.encode() + b"\0" + hashlib.sha256(seen[name]).digest())
    return digest.hexdigest()


@cache
def _source(module: str) -> tuple[bytes, tuple[str, ...]]:
    """The bytes of a module, and the modules of septet that it imports; a name that is no module has neither."""
    spec = find_spec(module) if _is_package(module.rpartition(".")[0]) else None
    if spec is None or spec.origin is None:
        return b"", ()
    content = Path(spec.origin).read_bytes()
    found: set[str] = set()
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
    return content, tuple(sorted(name for name in found if name.partition(".")[0] == "septet"))


def _is_package(name: str) -> bool:
    """Whether a name can have modules below it; the root can."""
    if not name:
        return True
    spec = find_spec(name) if _is_package(name.rpartition(".")[0]) else None
    return spec is not None and spec.submodule_search_locations is not None
