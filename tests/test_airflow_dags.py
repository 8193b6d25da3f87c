"""The DAG, loaded and run by Airflow in its own environment (`make airflow-env`); the commands are stand-ins."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv-airflow" / "bin"
DAG_FILE = ROOT / "airflow_dags" / "fieldmart_nightly.py"
STEPS = ["ingest", "encode", "train", "evaluate", "warehouse", "decide", "score", "monitor", "publish"]

pytestmark = pytest.mark.slow

# Runs inside Airflow's environment and prints what it sees as the last line.
LOOK = """
import json, sys
from airflow.configuration import conf
from airflow.dag_processing.dagbag import DagBag

bag = DagBag(dag_folder=sys.argv[1])
dags = {
    dag.dag_id: {
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "tasks": [[task.task_id, task.retries, sorted(task.upstream_task_ids)] for task in dag.topological_sort()],
    }
    for dag in bag.dags.values()
}
telemetry = conf.getboolean("usage_data_collection", "enabled")
print(json.dumps({"errors": bag.import_errors, "dags": dags, "telemetry": telemetry}))
"""


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory):
    """Calls a program of Airflow's environment with the committed settings and a home of its own."""
    made = subprocess.run(["make", "airflow-env"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    home = tmp_path_factory.mktemp("airflow")

    def call(*arguments: str, **environment: str) -> str:
        told = {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW_CONFIG": str(ROOT / "airflow_dags" / "airflow.cfg"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAG_FILE.parent),
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "FIELDMART"))}
        done = subprocess.run(
            [str(BIN / arguments[0]), *arguments[1:]],
            env=kept | told | environment,
            cwd=home,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    return call


@pytest.fixture(scope="module")
def seen(airflow) -> dict:
    return json.loads(airflow("python", "-c", LOOK, str(DAG_FILE.parent)).splitlines()[-1])


def test_the_dag_loads_as_one_chain_in_the_order_of_the_nightly(seen):
    assert seen["errors"] == {}
    assert list(seen["dags"]) == ["fieldmart_nightly"]
    dag = seen["dags"]["fieldmart_nightly"]
    assert dag["tasks"] == [[step, 2, STEPS[i - 1 : i] if i else []] for i, step in enumerate(STEPS)]
    assert dag["catchup"] is False
    assert dag["max_active_runs"] == 1


def test_the_committed_settings_turn_telemetry_off(seen):
    assert seen["telemetry"] is False


def test_a_run_calls_every_command_once_and_passes_the_options(airflow, tmp_path: Path):
    """Airflow runs the DAG; in place of the checkout stands a folder whose `fieldmart` writes down its call."""
    called = tmp_path / "called.txt"
    stand_in = tmp_path / ".venv" / "bin" / "fieldmart"
    stand_in.parent.mkdir(parents=True)
    stand_in.write_text(f'#!/bin/sh\necho "$@" >> "{called}"\n', encoding="utf-8")
    stand_in.chmod(0o755)
    airflow("airflow", "db", "migrate")
    chosen = json.dumps({"date": "2017-12-18", "contract": "conf/promo.yml"})
    airflow(
        *("airflow", "dags", "test", "-f", str(DAG_FILE), "-c", chosen, "fieldmart_nightly"),
        FIELDMART_HOME=str(tmp_path),
        FIELDMART_WAREHOUSE="/data/warehouse",
    )
    options = "--date 2017-12-18 --contract conf/promo.yml --warehouse /data/warehouse"
    assert called.read_text(encoding="utf-8").splitlines() == [f"{step} {options}" for step in STEPS]
