"""Foreign formats of outcomes, one file each: its name with dashes is the name of the format.

A module has `SENTENCE`, what the format is and where it comes from, and `read(path)`, which gives a `Table` or a
list of `Battle`. A new format is a new file; nothing else is edited.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from septet.core.errors import UnknownName
from septet.core.table import Table
from septet.core.types import Battle


def formats() -> dict[str, str]:
    """What there is: the sentence of each format by its name.

    >>> sorted(formats())
    ['llmrouter', 'llmrouterbench', 'routellm-battles', 'routerarena', 'routerbench', 'shared']
    """
    names = sorted(m.name for m in iter_modules(__path__) if not m.name.startswith("_"))
    return {name.replace("_", "-"): import_module(f"{__name__}.{name}").SENTENCE for name in names}


def read_format(format: str, path: Path) -> Table | list[Battle]:
    """The outcomes or battles that a foreign file or folder holds."""
    known = formats()
    if format not in known:
        raise UnknownName("format", format, known)
    found: Table | list[Battle] = import_module(f"{__name__}.{format.replace('-', '_')}").read(path)
    return found
