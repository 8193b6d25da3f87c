"""Every job by spark-submit, one after the other, as an engineer or another scheduler runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_world import write_contract

from jobs.java import java_home

JOBS = Path(__file__).resolve().parent.parent / "jobs"
STEPS = ("ingest", "encode", "train", "evaluate", "warehouse", "decide", "score", "monitor", "publish")

pytestmark = pytest.mark.slow


def submit(step: str, *options: str) -> subprocess.CompletedProcess[str]:
    java_home()
    program = Path(sys.executable).parent / "spark-submit"
    told = os.environ | {"PYSPARK_PYTHON": sys.executable}
    command = [str(program), "--master", "local[2]", str(JOBS / f"{step}.py"), *options]
    return subprocess.run(command, env=told, capture_output=True, text=True, timeout=300, check=False)


def test_the_night_step_by_step(small_tables, tmp_path):
    options = ("--contract", str(write_contract(tmp_path, small_tables)), "--warehouse", str(tmp_path / "warehouse"))
    for step in STEPS:
        done = submit(step, *options)
        assert done.returncode == 0, f"{step}: {done.stdout}\n{done.stderr}"
    pointer = json.loads((tmp_path / "warehouse" / "current.json").read_text())
    assert (tmp_path / "warehouse" / pointer["path"] / "mart.duckdb").exists()


def test_a_step_without_its_input_says_what_to_run_first(small_tables, tmp_path):
    options = ("--contract", str(write_contract(tmp_path, small_tables)), "--warehouse", str(tmp_path / "warehouse"))
    done = submit("encode", *options)
    assert done.returncode == 1
    # spark-submit passes a Python driver's stderr on as its own stdout.
    assert "fieldmart: no exposures for small 2017-03-13: run `fieldmart ingest` first" in done.stdout
