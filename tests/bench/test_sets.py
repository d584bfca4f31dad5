"""Recorded outcomes by path and by name."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from septet.bench.sets import open_set
from septet.core.errors import ConfigError, UnknownName


def written(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def row(model: str = "a", **more: object) -> dict[str, object]:
    return {"query": "Why?", "model": model, "score": 1.0} | more


def test_a_file_is_known_by_its_name_and_hash(tmp_path: Path) -> None:
    path = written(tmp_path / "two.jsonl", [row("a", cost_usd=0.1), row("b", cost_usd=0.2)])
    found = open_set(path)
    assert (found.name, found.table.members, found.notes, found.priced) == ("two", ("a", "b"), (), True)
    assert found.sha256 == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert found.facts["questions"] == 1


def test_a_table_of_which_one_cost_is_unknown_is_not_priced(tmp_path: Path) -> None:
    assert not open_set(written(tmp_path / "t.jsonl", [row("a", cost_usd=0.1), row("b")])).priced


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"query": "Why?", "model": "a"}, {"query": "Why?", "model": "b"}], "needs? the column score"),
        ([row("a", score=7.0), row("b")], r"scores outside 0\.\.1"),
        ([row("a"), row("a", query="How?")], "the outcomes of one member"),
        ([{"query_id": "1", "model": m, "score": 1.0} for m in "ab"], "needs? the column query"),
    ],
)
def test_a_table_that_no_router_can_be_measured_on_is_refused(
    rows: list[dict[str, object]], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        open_set(written(tmp_path / "bad.jsonl", rows))


def test_a_name_is_looked_for_in_the_folder_of_the_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nq6").mkdir()
    (tmp_path / "nq6" / "outcomes.parquet").write_bytes(b"")
    monkeypatch.setenv("SEPTET_DATA", str(tmp_path))
    with pytest.raises(UnknownName, match="did you mean 'nq6'"):
        open_set("nq7")
    with pytest.raises(ConfigError, match=r"no outcomes at away/nq7\.jsonl"):
        open_set("away/nq7.jsonl")


def test_a_folder_without_outcomes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no outcomes\.parquet"):
        open_set(str(tmp_path))
