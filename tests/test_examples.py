"""The example package: what it installs is found, listed, checked and shown like a method of septet's own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest

from septet.cli import main
from septet.core.errors import ConfigError
from septet.engine import catalogue
from septet.testing import check_method, toy_config
from septet.testing.contract import Check

HELLO = Path(sys.prefix) / "hello"
"""Where `make` installs the example, beside the environment: only these tests see it."""

sys.path.insert(0, str(HELLO))
try:
    from septet_hello.longest import Longest
finally:
    sys.path.remove(str(HELLO))

Install = Callable[[str, str], None]

GROUP = "septet.methods"


class Distribution:
    """An installed package, as far as an entry point knows of it."""

    name = "septet-broken"


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The example is found while a test of this file runs; the catalogue is read anew before and after."""
    monkeypatch.syspath_prepend(HELLO)
    catalogue._entries.cache_clear()
    yield
    catalogue._entries.cache_clear()


@pytest.fixture
def plug_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Makes an entry point look installed; the catalogue is read anew before and after."""
    real = metadata.entry_points

    def install(name: str, value: str) -> None:
        point = metadata.EntryPoint(name, value, GROUP)._for(Distribution())  # type: ignore[attr-defined]

        def found(*, group: str) -> list[metadata.EntryPoint]:
            return [*real(group=group), *([point] if group == GROUP else [])]

        monkeypatch.setattr(catalogue, "entry_points", found)
        catalogue._entries.cache_clear()

    yield install
    catalogue._entries.cache_clear()


def said_by(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    """What a verb prints, and what it says on stderr."""
    capsys.readouterr()
    assert main(list(arguments)) == 0
    said = capsys.readouterr()
    return said.out, said.err


def test_the_method_of_an_installed_package_is_found_with_its_owner() -> None:
    entry = catalogue.entries("methods")["longest"]
    assert (entry.owner, entry.module, entry.attribute) == ("septet-hello", "septet_hello.longest", "Longest")
    assert catalogue.family_of("longest") == "c1_noncascade"
    assert catalogue.get("methods", "longest").name == "longest"


@pytest.mark.parametrize("check", check_method(Longest), ids=str)
def test_it_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    check(tmp_path)


def test_methods_lists_it_with_its_package(capsys: pytest.CaptureFixture[str]) -> None:
    listed = {m["name"]: m["package"] for m in json.loads(said_by(capsys, "methods", "--json")[0])}
    assert listed["longest"] == "septet-hello"
    assert listed["unite"] == "septet"


def test_card_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    card, _ = said_by(capsys, "card", "longest")
    assert card.startswith("longest: The smallest method that can be installed\n")
    assert "septet-hello" in card


def test_it_answers_a_question_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "septet.toml"
    file.write_text(
        toy_config(
            "longest", members={"cyd": {"fallback": "It is, I am afraid, not known to me."}}, folder=tmp_path
        ),
        encoding="utf-8",
    )
    out, _ = said_by(capsys, "ask", "-c", str(file), "What is known?")
    assert out.strip() == "It is, I am afraid, not known to me."


def test_its_docstring_is_its_idea() -> None:
    idea = catalogue.first_line(catalogue.entries("methods")["longest"])
    assert idea == "Longest: every member answers, and the longest answer is taken."


def test_the_example_is_as_short_as_it_claims() -> None:
    source = Path(__file__).parents[1] / "examples/septet-hello/src/septet_hello/longest.py"
    code = [line for line in source.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(code) <= 40


def test_a_plug_in_that_does_not_import_is_listed_with_its_reason_and_the_others_still_work(
    plug_in: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    plug_in("lost", "no_such_package.lost:Lost")
    out, err = said_by(capsys, "methods", "--json")
    assert "longest" in {m["name"] for m in json.loads(out)}
    assert "cannot be used: lost of septet-broken" in err
    assert "No module named 'no_such_package'" in err


def test_asking_for_a_broken_plug_in_says_whose_it_is(plug_in: Install) -> None:
    plug_in("lost", "no_such_package.lost:Lost")
    with pytest.raises(ConfigError, match="method 'lost' of septet-broken cannot be imported"):
        catalogue.get("methods", "lost")


def test_a_name_that_is_taken_is_an_error_that_names_both_owners(plug_in: Install) -> None:
    plug_in("unite", "septet_hello.longest:Longest")
    with pytest.raises(ConfigError, match="'unite' is provided twice: by septet and by septet-broken"):
        catalogue.entries("methods")
