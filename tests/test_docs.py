"""The documentation is true: its code runs, its files parse, its commands print what it says, its cards are fresh.

In a page, a toml block whose first line is `# NAME.toml` is written to the page's folder. Python blocks share one
namespace. In a `console run` block, lines with `$` are run and the others must be what is printed, where … stands
for anything. The walk-through of a new method runs in a copy of the checkout.
"""

from __future__ import annotations

import doctest
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from types import ModuleType
from typing import Any

import pytest

import septet
from septet.cli import main
from septet.core.facets import Family
from septet.engine import catalogue, config

ROOT = Path(__file__).parents[1]

PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("guide/*.md")),
    *sorted((ROOT / "docs").glob("design/*.md")),
]

FENCE = re.compile(r"^```(?P<kind>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: what stands after the fence, and its text."""

    kind: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [Block(m["kind"], m["text"], text.count("\n", 0, m.start()) + 1) for m in FENCE.finditer(text)]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def commands(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with what it should print."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, output = part.replace("\\\n", " ").partition("\n")
        yield command, output


def matches(expected: str, got: str) -> bool:
    """Whether the text is as expected, where … stands for anything and the width of a gap does not count."""
    pattern = ".*?".join(re.escape(" ".join(part.split())) for part in expected.split("…"))
    return re.fullmatch(rf"\s*{pattern}\s*", " ".join(got.split()), re.DOTALL) is not None


def written(block: Block, folder: Path) -> None:
    """Writes a toml block that names itself."""
    found = re.match(r"# (\w+\.toml)\n", block.text)
    if found:
        (folder / found[1]).write_text(block.text, encoding="utf-8")


# --- pages -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_example_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page):
        if block.kind == "toml":
            config.parse(block.text, environment={})
            written(block, tmp_path)
        elif block.kind == "python":
            exec(compile("\n" * block.line + block.text, str(page), "exec"), namespace)
        elif block.kind == "console run":
            for command, expected in commands(block.text):
                program, *arguments = shlex.split(command)
                assert program == "septet", command
                capsys.readouterr()
                code = main(arguments)
                said = capsys.readouterr()
                assert code == 0, f"{name_of(page)}: {command}\n{said.err}"
                assert matches(expected, said.out), f"{name_of(page)}: {command}\n{said.out}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_toml_block_names_methods_backends_and_options_that_exist(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks(page):
        if block.kind == "toml":
            septet.House(config.parse(block.text, environment={"OPENAI_API_KEY": "none"}))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{name_of(page)} links to {target}"


def test_the_readme_lists_a_method_of_every_family_that_has_one() -> None:
    rows = re.findall(r"^\| ([abc]\d) \|.*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [family.code for family in Family]
    for row in re.findall(
        r"^\| [abc]\d \|.*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    ):
        code, method = row[2:4], re.findall(r"\[([\w-]+)\]\(docs/methods", row)[0]
        assert catalogue.entries("methods")[method].family.startswith(code), row


def test_a_page_that_says_what_is_not_printed_is_noticed() -> None:
    assert matches("5 …\nand more\n", "5  apples\nand   more")
    assert not matches("5\n", "6")
    assert not matches("…\nend\n", "end of it")


# --- generated pages ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_pages_are_fresh(build: ModuleType) -> None:
    assert build.stale(ROOT / "docs") == [], "write them anew with: make docs"


def test_a_stale_a_missing_and_a_left_over_page_are_each_named(
    build: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build.write(tmp_path)
    assert build.main(["--check", "--docs", str(tmp_path)]) == 0
    card = tmp_path / "methods" / "unite.md"
    card.write_text(card.read_text(encoding="utf-8").replace("`10`", "`11`"), encoding="utf-8")
    (tmp_path / "cli.md").unlink()
    (tmp_path / "methods" / "gone.md").write_text("a method that was removed", encoding="utf-8")
    assert build.main(["--check", "--docs", str(tmp_path)]) == 1
    said = capsys.readouterr().err.splitlines()
    named = ["stale: docs/cli.md", "stale: docs/methods/gone.md", "stale: docs/methods/unite.md"]
    assert said == [*named, "write them anew with: make docs"]
    assert build.main(["--docs", str(tmp_path)]) == 0
    assert build.stale(tmp_path) == []


def test_a_plug_in_has_no_page_among_ours(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(sys.prefix) / "hello")  # where `make` installs the example
    catalogue._entries.cache_clear()
    try:
        assert catalogue.entries("methods")["longest"].owner == "septet-hello"
        assert not [path for path in build.pages() if path.stem == "longest"]
    finally:
        catalogue._entries.cache_clear()


def test_the_pages_do_not_depend_on_the_terminal(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    narrow = build.cli_page()
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert build.cli_page() == narrow


# --- the walk-through --------------------------------------------------------------------------------------

WALK = ROOT / "docs" / "guide" / "add-a-method.md"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the walk-through needs, with commands that run this Python on it."""
    copy = tmp_path / "septet"
    spare = shutil.ignore_patterns("__pycache__", "*.jsonl")
    for folder in ("src/septet", "docs"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=spare)
    for file in ("Makefile", "pyproject.toml", "constraints.txt", "tests/conftest.py"):
        (copy / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, copy / file)
    programs = copy / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, arguments in (
        ("python", ""),
        ("septet", ' -c "import sys; from septet.cli import main; sys.exit(main())"'),
    ):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}"{arguments} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
    for stamp in ("made", "dev"):  # so that make installs nothing
        (copy / ".venv" / stamp).touch()
    return copy


def shell(command: str, folder: Path) -> str:
    """What a command prints that is run in the copy."""
    environment = {
        # not the settings of a make that runs this test
        **{k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")},
        "PATH": f"{folder / '.venv' / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(folder / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="the walk-through begins with make")
def test_the_walk_through_of_a_new_method_works_as_written(checkout: Path) -> None:
    ran = 0
    for block in blocks(WALK):
        if block.kind == "console in the checkout":
            for command, expected in commands(block.text):
                said = shell(command, checkout)
                assert matches(expected, said), f"{command}\n{said}"
                ran += 1
        elif block.kind == "python in my_vote.py":
            (path,) = checkout.glob("src/septet/methods/*/my_vote.py")
            text = path.read_text(encoding="utf-8")
            start = text.index(block.text.splitlines()[0] + "\n")
            assert "raise NotImplementedError" in text[start:]
            path.write_text(text[:start] + block.text, encoding="utf-8")
        elif block.kind == "python added to test_my_vote.py":
            (path,) = checkout.glob("tests/methods/*/test_my_vote.py")
            path.write_text(path.read_text(encoding="utf-8") + "\n\n" + block.text, encoding="utf-8")
        elif block.kind == "toml":
            written(block, checkout)
        else:
            assert block.kind == "", f"line {block.line}: nobody runs a block of kind {block.kind!r}"
    assert ran >= 7
    for path in checkout.glob("*/**/*my_vote.py"):
        shell(f"python -m ruff check {path}", checkout)
        shell(f"python -m ruff format --check {path}", checkout)


# --- doctests ----------------------------------------------------------------------------------------------

MODULES = sorted(m.name for m in walk_packages(septet.__path__, "septet.") if not m.name.endswith("__main__"))


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_a_module_s_docstrings_hold(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert doctest.testmod(import_module(name)).failed == 0
