"""The demo's configuration with its three trained ensembles fitted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from septet.cli import main

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TRAINED = ("router", "elo", "frugal")


@dataclass(frozen=True)
class Demo:
    """The demo's file, and settings on top of it that put the states into a temporary folder."""

    path: Path
    settings: tuple[str, ...]

    @property
    def options(self) -> list[str]:
        """The same for the command line."""
        return ["-c", str(self.path), *(word for s in self.settings for word in ("--set", s))]


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo, fitted as `make demo` does it. Its search and its vote are smaller here, to be quicker."""
    folder = tmp_path_factory.mktemp("demo")
    states = [f"ensembles.{name}.state={folder}/{name}" for name in TRAINED]
    smaller = ["ensembles.search.iterations=2", "ensembles.vote.samples=2"]
    demo = Demo(EXAMPLES / "configs" / "demo.toml", (*states, *smaller))
    data = str(EXAMPLES / "outcomes" / "two-models.jsonl")
    assert main(["fit", *TRAINED, "--data", data, *demo.options]) == 0
    return demo
