"""What starting costs: importing septet, its help text, and listing what there is, in fresh processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from figures import Section, Setting, figure

# Memory in use now, in MB: /proc where there is one, else the most it has been.
_PROBE = """
import json, sys, time
def used():
    try:
        with open("/proc/self/statm") as statm:
            import os
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        import resource
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
used()
before, began = used(), time.perf_counter()
{work}
seconds = time.perf_counter() - began
print(json.dumps(dict(ms=seconds * 1e3, mb=used() - before, methods=[
    m for m in sys.modules if m.startswith("septet.methods.") and m.count(".") > 2])))
"""

_LIST = """
from septet.engine import catalogue
names = [list(catalogue.entries(kind)) for kind in ("methods", "backends", "tasks")]
"""


def run(setting: Setting) -> Section:
    """Wall time and memory, and what the catalogue imports, which is a fact and therefore asserted."""
    n = setting.samples
    empty = _walls([sys.executable, "-c", "pass"], n)
    imported, door, listed = (
        [_probe(work) for _ in range(n)] for work in ("import septet", "from septet import *", _LIST)
    )
    loaded = {method for probe in listed for method in probe["methods"]}
    assert not loaded, f"listing the catalogue imported {sorted(loaded)}"
    asked = set(_probe("from septet.engine import catalogue; catalogue.get('methods', 'unite')")["methods"])
    assert asked == {"septet.methods.b1_token.unite", "septet.methods.b1_token._family"}, asked
    walls = _walls([sys.executable, "-c", "import septet"], n)
    helped = _walls([str(Path(sys.executable).with_name("septet")), "--help"], n)
    return Section(
        "start",
        f"fresh processes, {n} of each; an empty python takes {median(empty):.0f} ms",
        (
            figure("import septet", [p["ms"] for p in imported], unit="ms", aim=150),
            figure("import septet, memory added", [p["mb"] for p in imported], unit="MB", aim=45),
            figure("import septet ÷ python -c pass", [w / median(empty) for w in walls]),
            figure("all names of the door", [p["ms"] for p in door], unit="ms"),
            figure("all names of the door, memory added", [p["mb"] for p in door], unit="MB"),
            figure("septet --help", helped, unit="ms", aim=300),
            figure("septet --help ÷ python -c pass", [h / median(empty) for h in helped]),
            figure("listing the catalogue", [p["ms"] for p in listed], unit="ms"),
        ),
        ("Listing the catalogue imported no method; asking for one imported that one.",),
    )


def _probe(work: str) -> dict[str, Any]:
    """What one fresh process says of a piece of work."""
    code = _PROBE.replace("{work}", work)
    done = subprocess.run(
        [sys.executable, "-c", code], env=_environment(), capture_output=True, text=True, check=True
    )
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def _walls(command: list[str], n: int) -> list[float]:
    """(n,) milliseconds from start to end of a process, after one that nobody counts."""
    took = []
    for _ in range(n + 1):
        began = perf_counter()
        subprocess.run(command, env=_environment(), stdout=subprocess.DEVNULL, check=True)
        took.append((perf_counter() - began) * 1e3)
    return took[1:]


def _environment() -> dict[str, str]:
    """This one, but with compiled modules kept, as they are for whoever installs septet."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
