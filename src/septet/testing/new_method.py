"""Writes a new method's file and its test: python -m septet.testing.new_method FAMILY NAME PAPER.

Each family has a form in `forms/`: the file as it will be, with `$name`, `$Name`, `$module`, `$paper` and
`$title` to be filled in and one function that is left to write. Whatever is written here is meant to be edited.
"""

from __future__ import annotations

import argparse
import keyword
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

from septet.core.errors import BadParameter, ConfigError, SeptetError, UnknownName
from septet.core.facets import Family
from septet.engine import catalogue

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
ARXIV = re.compile(r"\d{2}(0[1-9]|1[0-2])\.\d{4,5}")
DOI = re.compile(r"10\.\d{4,9}/[\w.()/:;-]+")

LONGEST_NAME = 40
"""Characters; a longer name would not fit on the lines that hold it."""


@dataclass(frozen=True)
class NewMethod:
    """What is to be written: a checked family, name and paper, in a checkout of septet at `root`."""

    family: Family
    name: str
    paper: str
    root: Path
    title: str = "the title of the paper"

    def __post_init__(self) -> None:
        if not (self.root / "src" / "septet" / "methods" / self.family.value).is_dir():
            raise ConfigError(f"{self.root} is not a checkout of septet: it has no src/septet/methods")
        if not NAME.fullmatch(self.name) or len(self.name) > LONGEST_NAME or keyword.iskeyword(self.name):
            rule = f"must be words of a-z and 0-9 with dashes between, at most {LONGEST_NAME} characters"
            raise BadParameter("name", self.name, rule)
        if not (ARXIV.fullmatch(self.paper) or DOI.fullmatch(self.paper)):
            raise BadParameter("paper", self.paper, "must be an arXiv id like 2402.05120, or a DOI")
        self._check_new()

    def _check_new(self) -> None:
        """A name used twice would be an error of the whole catalogue."""
        known = catalogue.entries("methods").get(self.name)
        if known is not None:
            raise BadParameter("name", self.name, f"must be new; {known.owner} has a method of this name")
        places = [self.root / "src/septet/methods", self.root / "tests/methods"]
        stems = (self.module, f"test_{self.module}")
        for path in (p for place in places for stem in stems for p in place.glob(f"*/{stem}.py")):
            raise BadParameter("name", self.name, f"must be new; there is {path.relative_to(self.root)}")

    @property
    def module(self) -> str:
        """The name of the file."""
        return self.name.replace("-", "_")

    @property
    def record(self) -> str:
        """The name of the class."""
        return "".join(word.capitalize() for word in self.name.split("-"))

    @property
    def method_file(self) -> Path:
        return self.root / "src" / "septet" / "methods" / self.family.value / f"{self.module}.py"

    @property
    def test_file(self) -> Path:
        return self.root / "tests" / "methods" / self.family.value / f"test_{self.module}.py"

    def write(self) -> list[Path]:
        """Writes the method and its test; returns where they are."""
        written = []
        for path, form in ((self.method_file, self.family.value), (self.test_file, "test")):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._filled(form), encoding="utf-8")
            written.append(path)
        return written

    def _filled(self, form: str) -> str:
        text = files("septet.testing").joinpath("forms", f"{form}.txt").read_text(encoding="utf-8")
        return Template(text).substitute(
            name=self.name,
            Name=self.record,
            module=self.module,
            paper=self.paper,
            title=self.title.replace('"', "'"),
            family=self.family.value,
        )


def family_of(name: str) -> Family:
    """A family by its folder's name or by its code.

    >>> family_of("c1_noncascade") is family_of("c1")
    True
    """
    for family in Family:
        if name in (family.value, family.code):
            return family
    raise UnknownName("family", name, [f.value for f in Family], f"there are {', '.join(Family)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m septet.testing.new_method", description=__doc__)
    parser.add_argument("family", help=f"one of {', '.join(Family)}")
    parser.add_argument("name", help="the public name, like my-vote")
    parser.add_argument("paper", help="the arXiv id or the DOI")
    parser.add_argument("--title", default=NewMethod.title, help="the title of the paper")
    parser.add_argument("--root", type=Path, default=Path(), help="a checkout of septet")
    given = parser.parse_args(arguments)
    try:
        new = NewMethod(family_of(given.family), given.name, given.paper, given.root, given.title)
        written = new.write()
    except SeptetError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stdout.write("".join(f"wrote {path.relative_to(new.root)}\n" for path in written))
    sys.stdout.write(f"next: write the function that raises NotImplementedError in {new.module}.py\n")
    sys.stdout.write(f"then: python -m pytest {written[1].relative_to(new.root)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
