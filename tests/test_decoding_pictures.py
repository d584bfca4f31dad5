"""The pictures of the guide to decoding: drawn from traces, one box per piece, and those in the tree are such."""

from __future__ import annotations

import importlib.util
import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType

import pytest

from septet.core.trace import PieceEvent

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def pictures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("decoding_pictures", DOCS / "decoding_pictures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def event(number: int, piece: bytes, share: float, fed: dict[str, int]) -> PieceEvent:
    return PieceEvent(
        request="r", path="p", number=number, at=0, piece=piece, logp=math.nan,
        support={"ada": share, "bob": 1 - share}, fed=fed,
    )  # fmt: skip


def test_a_piece_is_a_box_with_its_shares_and_what_each_member_was_fed(pictures: ModuleType) -> None:
    drawn = pictures.picture([event(0, b" <a", 0.75, {"ada": 3}), event(1, b"", 0.5, {"ada": 1, "bob": 2})])
    root = ElementTree.fromstring(drawn)
    said = ["".join(t.itertext()) for t in root.findall(".//{*}text")]
    assert said == ["ada", "bob", "\u00a0<a", "3", "END", "1", "2"]
    bars = [float(r.get("width", "")) for r in root.findall(".//{*}rect") if r.get("height") == "5"]
    assert bars[0] == pytest.approx(3 * bars[1], abs=0.2)
    assert bars[2] == pytest.approx(bars[3], abs=0.2)
    assert len(list(root.findall(".//{*}circle"))) == 1  # bob was not fed for the first


def test_a_long_answer_goes_on_in_the_next_line_within_the_picture(pictures: ModuleType) -> None:
    root = ElementTree.fromstring(pictures.picture([event(i, b"word", 0.5, {}) for i in range(40)]))
    boxes = [r for r in root.findall(".//{*}rect") if r.get("class") == "box"]
    assert len(boxes) == 40
    assert len({r.get("y") for r in boxes}) == 3
    assert max(float(r.get("x", "")) + float(r.get("width", "")) for r in boxes) <= pictures.WIDTH
    assert max(float(r.get("y", "")) for r in boxes) < float(root.get("height", ""))


def test_the_pictures_in_the_tree_show_what_their_schedules_do(pictures: ModuleType) -> None:
    boxes, fed = {}, {}
    for name in pictures.ASKED:
        text = (DOCS / "guide" / f"decoding-{name}.svg").read_text(encoding="utf-8")
        boxes[name] = re.findall(r'<rect class="box".*?<text [^>]*>([^<]*)<', text)
        fed[name] = [int(n) for n in re.findall(r'class="fed"[^>]*>(\d+)<', text)]
        assert len(boxes[name]) == pictures.PIECES
    assert boxes["draft"] == boxes["every"]
    n = pictures.PIECES
    assert len(fed["every"]) == 2 * (n - 1)
    assert len(fed["draft"]) < len(fed["every"]) / 2
    assert sum(fed["draft"]) > sum(fed["every"])
    assert len(fed["mixture"]) < n
