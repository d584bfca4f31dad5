"""The contract suite over every method in the catalogue."""

from __future__ import annotations

from pathlib import Path

import pytest

from septet.engine import catalogue
from septet.testing.contract import Check, check_method

CHECKS = [
    check for name in catalogue.entries("methods") for check in check_method(catalogue.get("methods", name))
]


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_every_method_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    check(tmp_path)
