"""`bench after` live: one pool of answers that all methods share, roles that are asked, new texts that are marked."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from septet.bench.after import live as after
from septet.bench.after import standings
from septet.bench.live import task_of
from septet.bench.results import decode
from septet.core.errors import ConfigError, UnknownName
from septet.engine.gate import BoundMember
from septet.engine.house import House
from septet.testing.toys import toy_house

CONFIG = """
[members]
ada = {{ backend = "toy", price = {{ usd_per_mtok_out = 1.0 }} }}
bob = {{ backend = "toy", skill = 0.0, price = {{ usd_per_mtok_out = 1.0 }} }}

[ensembles.forest]
method = "agent-forest"
members = ["ada", "bob"]
samples = 2

[ensembles.risk]
method = "mbr"
members = ["ada", "bob"]
samples = 3

[ensembles.written]
method = "mixture-of-agents"
members = ["ada", "bob"]
roles = {{ fuser = ["ada"] }}
layers = 2

[ensembles.trusting]
method = "frugal-gpt"
members = ["ada", "bob"]
features = "text"

[ensembles.fused]
method = "unite"
members = ["ada", "bob"]

[store]
path = "{folder}/toys.db"
"""


def house(folder: Path) -> House:
    return toy_house(CONFIG.format(folder=folder))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many answers each member gives for real."""
    found: Counter[str] = Counter()
    do = BoundMember.do

    async def counted(self: BoundMember, ability: str, args: Any, purpose: str) -> Any:
        if ability == "complete":
            found[self.name] += args["n"]
        return await do(self, ability, args, purpose)

    monkeypatch.setattr(BoundMember, "do", counted)
    return found


def test_all_methods_share_one_pool_and_a_second_run_asks_no_member(
    tmp_path: Path, asked: Counter[str]
) -> None:
    tasks = [task_of("toy-sums", 9)]
    found, failed, sets = after.live(
        house(tmp_path), tasks, ["forest", "risk"], folder=tmp_path / "out", draws=50
    )
    assert failed == []
    # once in the own way and three times warm, as mbr wants; agent-forest's two are the first of these
    assert asked == {"ada": 9 * 4, "bob": 9 * 4}
    rows = {r["variant"]: r for r in found["routers"]}
    assert set(rows) == {"forest", "risk"}
    assert rows["forest"]["router"] == "agent-forest"
    assert decode(rows["forest"]["metrics"]["answers"]["value"]) == 4.0
    assert decode(rows["risk"]["metrics"]["answers"]["value"]) == 6.0
    assert rows["forest"]["n_test"] == 6  # every third of nine is one to fit on
    single = next(b for b in found["bounds"] if b["name"] == "best single (train)")
    assert decode(single["quality"]["value"]) == pytest.approx(1.0)
    assert sets["live/toy-sums"].priced
    again, _, _ = after.live(house(tmp_path), tasks, ["forest", "risk"], folder=tmp_path / "out", draws=50)
    assert asked == {"ada": 9 * 4, "bob": 9 * 4}
    assert [r["at_zero"] for r in again["routers"]] == [r["at_zero"] for r in found["routers"]]
    assert {len(row) for row in standings.rows(found)} == {len(standings.COLUMNS)}


def test_a_fuser_is_asked_live_and_its_text_is_marked(tmp_path: Path, asked: Counter[str]) -> None:
    found, failed, _ = after.live(
        house(tmp_path), [task_of("toy-sums", 6)], ["written"], folder=tmp_path / "out", draws=50
    )
    assert failed == []
    (row,) = found["routers"]
    # four test questions: two proposals each, of the pool or live, and one text of the fuser
    assert decode(row["metrics"]["answers"]["value"]) == 3.0
    assert row["at_zero"]["quality"]["value"] is not None


def test_what_learns_is_fitted_on_the_questions_to_fit_on(tmp_path: Path) -> None:
    found, failed, _ = after.live(
        house(tmp_path), [task_of("toy-sums", 12)], ["frugal-gpt"], folder=tmp_path / "out", draws=50
    )
    assert [r["n_train"] for r in found["routers"]] + [len(failed)] == [4, 0]


def test_only_ensembles_after_inference_are_taken(tmp_path: Path) -> None:
    assert set(after.contenders(house(tmp_path))) == {"forest", "risk", "written", "trusting"}
    with pytest.raises(UnknownName, match="unknown ensemble or method after inference of this file 'forst'"):
        after.contenders(house(tmp_path), ["forst"])
    only = toy_house('[members]\nada = { backend = "toy" }\n')
    with pytest.raises(ConfigError, match="no ensemble of this file combines complete answers"):
        after.contenders(only)
