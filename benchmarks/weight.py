"""What installing septet without extras brings: how many distributions, and how large they are."""

from __future__ import annotations

from importlib.metadata import Distribution, distribution
from pathlib import Path

from figures import Section, Setting, figure

import septet

try:
    from packaging.requirements import Requirement
except ImportError:  # no dependency of ours brings it; every environment that pip fills has pip's own
    from pip._vendor.packaging.requirements import Requirement  # type: ignore[assignment]


def run(setting: Setting) -> Section:
    """Number and size of the core distributions."""
    sizes = {name: size_of(found) for name, found in sorted(core("septet").items())}
    largest = sorted(sizes, key=sizes.__getitem__, reverse=True)
    return Section(
        "weight",
        "septet and what it requires, without extras",
        (
            figure("distributions", [float(len(sizes))], aim=25),
            figure("size", [sum(sizes.values())], unit="MB"),
        ),
        ("MB: " + ", ".join(f"{name} {sizes[name]:.1f}" for name in largest),),
        {"sizes_mb": {name: round(sizes[name], 2) for name in largest}},
    )


def core(name: str) -> dict[str, Distribution]:
    """The distribution of a name and, by their own requirements, all that it needs on this platform."""
    found: dict[str, Distribution] = {}
    waiting: list[tuple[str, tuple[str, ...]]] = [(name, ())]
    seen = set()
    while waiting:
        asked = waiting.pop()
        if asked in seen:
            continue
        seen.add(asked)
        here = distribution(asked[0])
        found[here.metadata["Name"].lower().replace("_", "-")] = here
        wanted = [r for r in map(Requirement, here.requires or ()) if _applies(r, asked[1])]
        waiting += [(r.name, tuple(sorted(r.extras))) for r in wanted]
    return found


def _applies(requirement: Requirement, extras: tuple[str, ...]) -> bool:
    """Whether it is wanted here: by its marker, for no extra or for one of those that were asked for."""
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


def size_of(found: Distribution) -> float:
    """MB of a distribution's files; of septet itself the package, which may be installed in place."""
    if found.metadata["Name"] == "septet":
        paths = list(Path(septet.__file__).parent.rglob("*"))
    else:
        paths = [Path(str(file.locate())) for file in found.files or ()]
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6
