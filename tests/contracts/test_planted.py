"""Planted faults are caught: by the contract suite, by the import contracts, by the check of the generated pages.

Every planted method is the sound one below with one fault, so what fails is the fault and nothing else.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from septet.core.errors import SeptetError
from septet.testing import check_method

ROOT = Path(__file__).resolve().parents[2]

SOUND = '''"""Planted: the most common text, the smallest of equally common ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import uuid4

import numpy as np

from septet.core.caps import Caps
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Asking, Card, Rng, SeatPool, method, param
from septet.core.types import Completion, Query, Verdict
from septet.methods.c1_noncascade._family import NonCascadeMethod

CARD = Card(
    paper="2601.01234",
    title="A Planted Method",
    facets=Facets(
        family=Family.NONCASCADE,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.PERFORMANCE,
        supervised=False,
    ),
)


@dataclass(frozen=True)
class Seen:
    """How many rows were learned from, (1,)."""

    rows: np.ndarray


@method(CARD)
class Planted(NonCascadeMethod):
    """argmax over texts (n,) of how many candidates say it."""

    least: Annotated[int, param("Candidates that must agree.", ge=0, le=9)] = 0

    state_type = Seen

    def fit(self, table, roles, rng):
        return Seen(np.array([len(table)]))

    def combine(
        self, query: Query, candidates: Sequence[Completion], pool: SeatPool, state: Any, rng: Rng
    ) -> Verdict | Asking[Verdict]:
        texts = [c.text for c in candidates]
        best = max(sorted(set(texts)), key=texts.count)
        return Verdict(chosen=texts.index(best), reason=f"{texts.count(best)} say it")
'''

DECISION = 'return Verdict(chosen=texts.index(best), reason=f"{texts.count(best)} say it")'
PARAMETER = 'least: Annotated[int, param("Candidates that must agree.", ge=0, le=9)] = 0'


def planted(folder: Path, monkeypatch: pytest.MonkeyPatch, *faults: tuple[str, str]) -> Any:
    """The record of a method file in which the first text of each pair was replaced by the second."""
    source = SOUND
    for sound, faulty in faults:
        assert source.count(sound) == 1
        source = source.replace(sound, faulty)
    path = folder / "planted_method.py"
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("planted_method", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "planted_method", module)  # where annotations are looked up
    spec.loader.exec_module(module)
    return module.Planted


def broken(record: Any, folder: Path, promise: str = "") -> dict[str, str]:
    """What the suite says of the promises that a method breaks: of this one, or of all."""
    checks = [check for check in check_method(record) if promise in ("", check.name)]
    assert checks
    found = {}
    for check in checks:
        (place := folder / check.name.replace(" ", "-")).mkdir(parents=True)
        try:
            check(place)
        except (AssertionError, SeptetError) as error:
            found[check.name] = repr(error)
    return found


def test_the_sound_method_breaks_no_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = planted(tmp_path, monkeypatch)
    assert record.name == "planted-method"
    assert broken(record, tmp_path) == {}


@pytest.mark.parametrize("suffix", ["", " if r.ok"], ids=["and stops at a refusal", "and bears a refusal"])
def test_a_need_that_is_not_declared_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    fault = f"""replies = yield [m.score(query, [best]) for m in pool.members]
        known = [r.value for r in replies{suffix}]
        {DECISION}"""
    record = planted(tmp_path, monkeypatch, (DECISION, fault))
    promise = "it touches nothing that it does not declare"
    assert "score" in broken(record, tmp_path, promise)[promise]


def test_an_await_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = f"""async def inner(x: Any) -> Any:
            return await x

        {DECISION}"""
    promise = "it does no io"
    said = broken(planted(tmp_path, monkeypatch, (DECISION, fault)), tmp_path, promise)
    assert "no async and no await" in said[promise]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ('word: Annotated[str, param("A word.")] = ""', "word has neither a range nor choices"),
        ("least: Annotated[int, param('', ge=0, le=9)] = 0", "least has no sentence"),
        ("least: int = 0", "least has no sentence"),
    ],
    ids=["no rule", "an empty sentence", "neither"],
)
def test_a_parameter_without_a_rule_or_a_sentence_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, message: str
) -> None:
    promise = "every parameter has a rule and a sentence"
    said = broken(planted(tmp_path, monkeypatch, (PARAMETER, fault)), tmp_path, promise)
    assert message in said[promise]


def test_a_state_that_is_changed_while_answering_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = f"""state.rows[0] += 1
        {DECISION}"""
    promise = "answering leaves its state alone"
    said = broken(planted(tmp_path, monkeypatch, (DECISION, fault)), tmp_path, promise)
    assert "rows was changed in place" in said[promise]


@pytest.mark.parametrize(
    ("body", "caught"),
    [("return Seen(state.rows + 1)", False), ("state.rows[0] += 1; return state", True)],
    ids=["a copy", "in place"],
)
def test_a_state_that_is_changed_in_place_while_learning_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, caught: bool
) -> None:
    online = ('title="A Planted Method",', 'title="A Planted Method", online=True,')
    update = ("def combine(", f"def update(self, state, events, rng):\n        {body}\n\n    def combine(")
    promise = "learning changes a copy"
    said = broken(planted(tmp_path, monkeypatch, online, update), tmp_path, promise)
    assert (promise in said) == caught


@pytest.mark.parametrize(
    "fault",
    ["return Verdict(text=str(uuid4()))", "return Verdict(chosen=0, reason=str(uuid4()))"],
    ids=["in its text", "in its reason"],
)
def test_a_draw_that_no_seed_fixes_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    promise = "the same seed gives the same answer"
    assert promise in broken(planted(tmp_path, monkeypatch, (DECISION, fault)), tmp_path, promise)


def test_a_result_that_depends_on_the_order_of_members_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promise = "permuting the members permutes the result"
    record = planted(tmp_path, monkeypatch, (DECISION, "return Verdict(chosen=0)"))
    assert promise in broken(record, tmp_path, promise)


# --- what `make check` catches -------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The sources and the docs in a folder of their own."""
    tree = tmp_path / "tree"
    unwanted = shutil.ignore_patterns("__pycache__")
    for part in ("src", "docs"):
        shutil.copytree(ROOT / part, tree / part, ignore=unwanted)
    shutil.copy(ROOT / "pyproject.toml", tree)
    return tree


def tool(tree: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """What a tool of `make check` says in a tree, whose package comes before the installed one."""
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, *command], cwd=tree, env=environment, capture_output=True, text=True, timeout=120
    )


LINT_IMPORTS = ("-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache")


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("methods/b1_token/unite.py", "septet.backends.toy"),
        ("methods/b1_token/unite.py", "septet.methods.b2_span._family"),
        ("core/caps.py", "aiohttp"),
    ],
    ids=["a method imports a backend", "a family imports another", "core imports a heavy library"],
)
def test_an_import_that_the_rooms_forbid_fails_the_check(copy: Path, importer: str, imported: str) -> None:
    path = copy / "src" / "septet" / importer
    path.write_text(f"{path.read_text(encoding='utf-8')}\n\nimport {imported}\n", encoding="utf-8")
    said = tool(copy, *LINT_IMPORTS)
    assert said.returncode == 1, said.stdout + said.stderr
    assert "BROKEN" in said.stdout
    module = "septet." + importer.removesuffix(".py").replace("/", ".")
    assert f"{module} -> {imported}" in said.stdout


def test_without_a_planted_import_the_check_passes(copy: Path) -> None:
    said = tool(copy, *LINT_IMPORTS)
    assert said.returncode == 0, said.stdout + said.stderr


def test_a_stale_card_fails_the_check_and_is_named(copy: Path) -> None:
    for made in (tool(copy, "docs/build.py"), tool(copy, "docs/build.py", "--check")):
        assert made.returncode == 0, made.stdout + made.stderr
    path = copy / "src" / "septet" / "methods" / "b1_token" / "unite.py"
    text = path.read_text(encoding="utf-8")
    assert "ge=1, le=" in text
    path.write_text(text.replace("ge=1, le=", "ge=2, le=", 1), encoding="utf-8")
    stale = tool(copy, "docs/build.py", "--check")
    assert stale.returncode == 1
    assert "unite.md" in stale.stdout + stale.stderr
