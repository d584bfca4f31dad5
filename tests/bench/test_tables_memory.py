"""The benchmark of reading tables: it runs, and a process that only reads says how much memory that took."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "tables.py"


def test_the_benchmark_reads_every_form_in_a_process_of_its_own() -> None:
    pytest.importorskip("pyarrow")
    command = [sys.executable, str(SCRIPT), "--rows", "2000", "--json"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found["rows"] == 2000
    assert [form["rows"] for form in found["forms"].values()] == [2000, 2000, 2000]
    # per row: indices of question and model (4 + 4), an answer's address (8), four numbers (8 each)
    assert found["forms"]["outcomes.parquet"]["arrays_mb"] == round(2000 * (4 + 4 + 8 + 4 * 8) / 1e6, 1)
    assert all(form["mb"] > form["arrays_mb"] > 0 for form in found["forms"].values())
