"""The front door: help, version, unknown verbs, and what is not imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import septet.cli

from .conftest import Run

HEAVY = ("numpy", "pydantic", "typer", "rich", "asyncio")


def test_help_lists_every_verb_and_imports_nothing_heavy():
    script = (
        "import sys; from septet.cli import main; code = main(['--help'])\n"
        f"print(code, [m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "0 []"
    assert all(f"\n  {verb} " in done.stdout for verb in septet.cli.VERBS)


def test_every_verb_has_a_file_of_its_own_and_every_file_is_a_verb():
    files = {p.stem for p in Path(septet.cli.__file__).parent.glob("*.py") if not p.name.startswith("_")}
    assert files == set(septet.cli.VERBS)


def test_only_the_module_of_the_asked_verb_is_imported():
    script = (
        "import sys; from septet.cli import main; main(['trace', '--help'])\n"
        "print(sorted(m for m in sys.modules if m in"
        " ('septet.cli.ask', 'septet.cli.methods', 'septet.cli.trace')), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "['septet.cli.trace']"


def test_no_verb_prints_the_help(run: Run):
    assert run().out.startswith("Usage: septet VERB")


def test_the_version_is_the_distributions(run: Run):
    from importlib.metadata import version

    assert run("--version").out == f"septet {version('septet')}\n"


def test_an_unknown_verb_names_the_nearest_one(run: Run):
    ran = run("aks")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "error: unknown verb 'aks'; did you mean 'ask'?\n"


def test_the_help_of_a_verb_shows_its_options(run: Run):
    ran = run("ask", "--help")
    assert ran.code == 0
    assert "--no-stream" in ran.out
    assert "Ask an ensemble or a member one question." in ran.out
