"""A method's first files: one function is left to write, and with it every contract check passes."""

from __future__ import annotations

import doctest
import importlib.util
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest

from septet.core.facets import Family
from septet.engine import catalogue
from septet.testing import check_method
from septet.testing.new_method import main

ROOT = Path(__file__).parents[2]

WRITTEN: Mapping[Family, str] = {
    Family.PRETRAINED: """\
        nearest = np.argsort(-state.rows.cosines(x), axis=1, kind="stable")[:, : self.k]
        return state.scores[nearest].mean(axis=1)
""",
    Family.NONPRETRAINED: """\
        dear = np.nan_to_num(state.spending.usd)  # decides between equals
        return np.tile(state.won / state.fought - dear, (len(x), 1))
""",
    Family.TOKEN: """\
        p = [{v.vocab.bytes_of(int(i)): float(l) for i, l in zip(v.next.ids, v.next.logp)} for v in views if v]
        texts = sorted(set().union(*p))
        rows = np.exp([[one.get(text, -np.inf) for text in texts] for one in p])
        rows = rows / rows.sum(axis=1, keepdims=True) / len(p)
        support = np.zeros((len(texts), len(views)))
        support[:, [i for i, v in enumerate(views) if v]] = (rows / rows.sum(axis=0)).T
        return Fused(tuple(texts), rows.sum(axis=0), support), s
""",
    Family.SPAN: """\
        means = [[-np.inf if t is None else t.logp.mean() for t in row] for row in tokens]
        return int(np.max(means, axis=0).argmax()), s
""",
    Family.PROCESS: """\
        open_ = [i for i, node in enumerate(tree.nodes) if not node.closed]
        live = [i for i in range(s.n_members) if i not in tree.failed]
        if s.done >= self.iterations or not open_ or not live:
            return []
        best = max(open_, key=lambda i: (tree.nodes[i].depth, tree.nodes[i].value, -i))
        return [Growth(best, live[s.done % len(live)])]
""",
    Family.NONCASCADE: """\
        texts = [c.text for c in candidates]
        most = max(texts, key=lambda text: (texts.count(text), text))
        return Verdict(chosen=texts.index(most), reason=f"{texts.count(most)} of {len(texts)} say it")
""",
    Family.CASCADE: """\
        return 0.0 if "not know" in so_far[-1].completion.text else 1.0
""",
}
"""The one function of each form, written in the plainest way."""

NUMPY = "import numpy as np\n\n"
"""What most filled forms import beside what they came with."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout as far as `new_method` looks at it."""
    for family in Family:
        (tmp_path / "checkout" / "src" / "septet" / "methods" / family.value).mkdir(parents=True)
    return tmp_path / "checkout"


def made(root: Path, family: str = "c1_noncascade", name: str = "my-vote", paper: str = "2601.01234") -> Path:
    assert main([family, name, paper, "--root", str(root)]) == 0
    return root / "src" / "septet" / "methods" / family / f"{name.replace('-', '_')}.py"


def imported(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of a file under the name that it has once it lies in septet's own tree."""
    name = f"septet.methods.{path.parent.name}.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def fill_in(path: Path, family: Family) -> None:
    """Puts the written function in the place of the one that raises."""
    text = path.read_text(encoding="utf-8")
    before, gap, _ = text.partition("        raise NotImplementedError")
    assert gap
    if "np." in WRITTEN[family] and NUMPY not in before:
        before = before.replace("from septet", f"{NUMPY}from septet", 1)
    path.write_text(before + WRITTEN[family], encoding="utf-8")


@pytest.mark.parametrize("family", Family)
def test_every_family_s_form_imports_and_lacks_one_function(
    family: Family, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(root, family.value)
    module = imported(path, monkeypatch)
    assert module.MyVote.name == "my-vote"
    assert module.MyVote.card.paper == "2601.01234"
    assert module.MyVote.card.facets.family is family
    assert path.read_text(encoding="utf-8").count("raise NotImplementedError") == 1
    tried = doctest.DocTestRunner(verbose=False)
    (example,) = doctest.DocTestFinder(recurse=False).find(module.MyVote, "MyVote", module, module.__dict__)
    found = tried.run(example, out=lambda text: None)
    assert found.failed > 0, "the example passes before anything is written"


@pytest.mark.parametrize("family", Family)
def test_with_its_one_function_written_every_contract_check_passes(
    family: Family, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(root, family.value)
    fill_in(path, family)
    module = imported(path, monkeypatch)
    checks = check_method(module.MyVote)
    assert len(checks) >= 15
    for i, check in enumerate(checks):
        (tmp_path / str(i)).mkdir()
        check(tmp_path / str(i))
    result = doctest.testmod(module)
    assert (result.attempted > 0, result.failed) == (True, 0)


def test_before_it_is_written_the_contract_says_what_is_missing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = imported(made(root), monkeypatch)
    check = next(c for c in check_method(module.MyVote) if c.name == "the same seed gives the same answer")
    with pytest.raises(NotImplementedError, match="my-vote: write combine"):
        check(tmp_path)


def test_what_it_writes_is_formatted_and_linted(root: Path) -> None:
    for family in Family:
        made(root, family.value, f"my-{family.code}")
    for tool in (["format", "--check"], ["check"]):
        command = [sys.executable, "-m", "ruff", *tool, "--config", str(ROOT / "pyproject.toml"), str(root)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_what_it_writes_is_fully_typed(root: Path) -> None:
    paths = [str(made(root, family.value, f"my-{family.code}")) for family in Family]
    options = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            *options,
            "--no-explicit-package-bases",
            "--no-namespace-packages",
            *paths,
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("c1_noncascde", "my-vote", "2601.01234"), "unknown family 'c1_noncascde'"),
        (("c1_noncascde", "my-vote", "2601.01234"), "did you mean 'c1_noncascade'"),
        (("", "my-vote", "2601.01234"), "there are a1_pretrained, a2_nonpretrained"),
        (("c1_noncascade", "agent-forest", "2601.01234"), "septet has a method of this name"),
        (("c1_noncascade", "My_Vote", "2601.01234"), "must be words of a-z and 0-9"),
        (("c1_noncascade", "lambda", "2601.01234"), "must be words of a-z and 0-9"),
        (("c1_noncascade", "a" * 41, "2601.01234"), "at most 40 characters"),
        (("c1_noncascade", "my-vote", "2613.01234"), "must be an arXiv id like 2402.05120, or a DOI"),
        (("c1_noncascade", "my-vote", "a nice paper"), "must be an arXiv id like 2402.05120, or a DOI"),
    ],
)
def test_what_cannot_be_made_is_refused_with_the_rule_and_nothing_is_written(
    arguments: tuple[str, ...], said: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--root", str(root)]) == 2
    assert said in capsys.readouterr().err
    assert not list(root.rglob("*.py"))


def test_the_name_of_an_installed_package_s_method_is_refused(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(sys.prefix) / "hello")  # where `make` installs the example
    catalogue._entries.cache_clear()
    try:
        assert main(["c1_noncascade", "longest", "2601.01234", "--root", str(root)]) == 2
        assert "septet-hello has a method of this name" in capsys.readouterr().err
    finally:
        catalogue._entries.cache_clear()


def test_a_file_that_is_there_is_never_overwritten(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = made(root)
    path.write_text("mine", encoding="utf-8")
    assert main(["c2_cascade", "my-vote", "2601.01234", "--root", str(root)]) == 2
    assert "there is src/septet/methods/c1_noncascade/my_vote.py" in capsys.readouterr().err
    assert path.read_text(encoding="utf-8") == "mine"


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["c1", "my-vote", "2601.01234", "--root", str(tmp_path)]) == 2
    assert "is not a checkout of septet" in capsys.readouterr().err
