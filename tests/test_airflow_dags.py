"""The DAGs, loaded and run by Airflow in its own environment (`make airflow-env`); the commands are stand-ins."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.exit_codes import DEGRADED, ROLLED_BACK

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv-airflow" / "bin"
DAGS = ROOT / "airflow_dags"
TRAINING = ["ingest", "encode", "train", "evaluate", "warehouse", "decide"]
SCORING = ["ingest", "score", "monitor", "publish"]
GUARD, LAST = "guard", "served_fresh"

pytestmark = pytest.mark.slow

# These run inside Airflow's environment and print what they see as the last line.
LOOK = """
import json, sys
from airflow.configuration import conf
from airflow.dag_processing.dagbag import DagBag

bag = DagBag(dag_folder=sys.argv[1])
dags = {
    dag.dag_id: {
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "schedule": dag.schedule,
        "tasks": [[task.task_id, task.retries, sorted(task.upstream_task_ids)] for task in dag.topological_sort()],
        "commands": [t.bash_command.split("{")[0] for t in dag.topological_sort() if hasattr(t, "bash_command")],
    }
    for dag in bag.dags.values()
}
telemetry = conf.getboolean("usage_data_collection", "enabled")
print(json.dumps({"errors": bag.import_errors, "dags": dags, "telemetry": telemetry}))
"""
RUN = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.models import DagRun
from airflow.utils.session import create_session

dag = DagBag(dag_folder=sys.argv[1]).dags[sys.argv[2]]
for task in dag.tasks:
    task.retries = 0  # a retry would wait its five minutes
run = dag.test(run_conf=json.loads(sys.argv[3]))
with create_session() as session:
    states = {task.task_id: str(task.state) for task in run.get_task_instances(session=session)}
    others = [other for other in session.query(DagRun).order_by(DagRun.id) if other.id > run.id]
    started = [[other.dag_id, other.conf] for other in others]
    print(json.dumps({"state": str(run.state), "states": states, "started": started}))
"""


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Calls a program of Airflow's environment with the committed settings and a home of its own."""
    made = subprocess.run(["make", "airflow-env"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    home = tmp_path_factory.mktemp("airflow")

    def call(*arguments: str, **environment: str) -> str:
        told = {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW_CONFIG": str(DAGS / "airflow.cfg"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
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
def seen(airflow: Callable[..., str]) -> dict[str, Any]:
    return json.loads(airflow("python", "-c", LOOK, str(DAGS)).splitlines()[-1])


@pytest.fixture(scope="module")
def scheduler(airflow: Callable[..., str]) -> Callable[..., str]:
    """`airflow` with a database that knows the DAGs, so that one can start another."""
    airflow("airflow", "db", "migrate")
    airflow("airflow", "dags", "reserialize")
    return airflow


class Night:
    """A folder in place of the checkout, whose `fieldmart` notes its call and ends some steps with another code."""

    def __init__(self, folder: Path, scheduler: Callable[..., str]) -> None:
        self.folder, self.scheduler = folder, scheduler
        self.called = folder / "called.txt"

    def run(self, dag: str, conf: dict[str, str], fails: str = "-", code: int = 1) -> dict[str, Any]:
        """Run a DAG in which the steps of the shell pattern `fails` end with `code`."""
        program = self.folder / ".venv" / "bin" / "fieldmart"
        program.parent.mkdir(parents=True)
        log = f'echo "$@, $FIELDMART_TODAY" >> "{self.called}"'
        program.write_text(f'#!/bin/sh\n{log}\necho "a line of $1"\ncase $1 in {fails}) exit {code};; esac\n')
        program.chmod(0o755)
        told = {"FIELDMART_HOME": str(self.folder), "FIELDMART_WAREHOUSE": "/data/warehouse"}
        return json.loads(
            self.scheduler("python", "-c", RUN, str(DAGS), dag, json.dumps(conf), **told).splitlines()[-1]
        )

    def calls(self) -> list[str]:
        return self.called.read_text(encoding="utf-8").splitlines()


@pytest.fixture
def night(tmp_path: Path, scheduler: Callable[..., str]) -> Night:
    return Night(tmp_path, scheduler)


def chained(steps: list[str]) -> list[list[Any]]:
    return [[step, 2, steps[i - 1 : i] if i else []] for i, step in enumerate(steps)]


def test_training_and_scoring_are_dags_of_their_own(seen):
    assert seen["errors"] == {}
    nights = {"fieldmart_train", "fieldmart_sweep", "fieldmart_score", "fieldmart_approve"}
    assert set(seen["dags"]) == nights | {"fieldmart_backup", "fieldmart_drill"}
    ends = [["start_score", 2, ["decide"]], ["trained", 2, ["decide"]]]
    for name in ("fieldmart_train", "fieldmart_sweep"):
        assert seen["dags"][name]["tasks"] == chained(TRAINING) + ends
    ends = [[GUARD, 0, ["publish"]], [LAST, 0, [GUARD]]]
    assert seen["dags"]["fieldmart_score"]["tasks"] == [*chained(SCORING), *ends]
    assert seen["dags"]["fieldmart_backup"]["tasks"] == chained(["backup", "gc"])
    assert seen["dags"]["fieldmart_drill"]["tasks"] == chained(["drill"])
    for dag in seen["dags"].values():
        assert (dag["catchup"], dag["max_active_runs"]) == (False, 1)


def test_every_day_has_one_training_and_a_time_for_scores(seen):
    schedules = {name: dag["schedule"] for name, dag in seen["dags"].items()}
    assert schedules == {
        "fieldmart_train": "0 2 * * 1-6",
        "fieldmart_sweep": "0 2 * * 0",
        "fieldmart_score": "0 6 * * *",
        "fieldmart_approve": None,
        "fieldmart_backup": "0 8 * * *",
        "fieldmart_drill": "0 9 * * 0",
    }


def test_the_dags_run_the_commands_of_their_tasks_and_the_sweep_differs_in_one_option(seen):
    commands = {name: dag["commands"] for name, dag in seen["dags"].items()}
    assert commands["fieldmart_train"] == [f".venv/bin/fieldmart {step}" for step in TRAINING]
    assert commands["fieldmart_score"] == [
        *(f".venv/bin/fieldmart {step}" for step in (*SCORING, GUARD)),
        "exit ",
    ]
    sweep = [command.replace("train", "train --sweep") for command in commands["fieldmart_train"]]
    assert commands["fieldmart_sweep"] == sweep


def test_the_committed_settings_turn_telemetry_off(seen):
    assert seen["telemetry"] is False


def test_a_training_calls_every_command_once_and_starts_the_scores_of_the_same_cycle(night: Night):
    found = night.run("fieldmart_train", {"date": "2017-12-18", "contract": "conf/promo.yml", "today": "2026-11-20"})
    options = "--date 2017-12-18 --contract conf/promo.yml --warehouse /data/warehouse, 2026-11-20"
    assert night.calls() == [f"{step} {options}" for step in TRAINING]
    assert found["state"] == "success"
    given = {"date": "2017-12-18", "contract": "conf/promo.yml", "warehouse": "/data/warehouse", "today": "2026-11-20"}
    assert found["started"] == [["fieldmart_score", given]]


def test_a_failed_training_starts_the_scores_and_counts_as_failed(night: Night):
    found = night.run("fieldmart_sweep", {"today": "2026-11-20"}, fails="train")
    options = "--warehouse /data/warehouse, 2026-11-20"
    assert night.calls() == [f"ingest {options}", f"encode {options}", f"train --sweep {options}"]
    assert found["state"] == "failed"
    assert found["states"]["start_score"] == "success"
    [(started, conf)] = found["started"]
    assert (started, conf["today"]) == ("fieldmart_score", "2026-11-20")


def test_scoring_needs_nothing_of_a_training(night: Night):
    found = night.run("fieldmart_score", {"date": "2017-12-18", "today": "2026-11-20"})
    dated = [f"{step} --date 2017-12-18 --warehouse /data/warehouse, 2026-11-20" for step in SCORING]
    assert night.calls() == [*dated, "guard --warehouse /data/warehouse, 2026-11-20"]
    assert (found["state"], found["started"]) == ("success", [])


@pytest.mark.parametrize("steps", ["score|publish", "score"])
def test_degraded_scores_are_published_and_the_run_counts_as_failed(night: Night, steps: str):
    found = night.run("fieldmart_score", {"today": "2026-11-20"}, fails=steps, code=DEGRADED)
    assert night.calls() == [f"{step} --warehouse /data/warehouse, 2026-11-20" for step in (*SCORING, GUARD)]
    assert found["states"] == dict.fromkeys((*SCORING, GUARD), "success") | {LAST: "failed"}
    assert found["state"] == "failed"


def test_scores_that_failed_are_not_published(night: Night):
    found = night.run("fieldmart_score", {"today": "2026-11-20"}, fails="score")
    assert [call.split()[0] for call in night.calls()] == ["ingest", "score"]
    assert (found["states"]["score"], found["states"]["publish"]) == ("failed", "upstream_failed")
    assert (found["states"][LAST], found["state"]) == ("upstream_failed", "failed")


def test_a_guard_that_went_back_fails_the_run_and_is_not_tried_again(night: Night):
    found = night.run("fieldmart_score", {"today": "2026-11-20"}, fails="guard", code=ROLLED_BACK)
    assert [call.split()[0] for call in night.calls()] == [*SCORING, GUARD]
    assert (found["states"]["publish"], found["states"][GUARD], found["state"]) == ("success", "failed", "failed")


def test_a_backup_comes_before_the_clean_up_which_waits_for_its_success(night: Night):
    found = night.run("fieldmart_backup", {"target": "s3://bucket/fieldmart", "today": "2026-11-20"})
    at = "--warehouse /data/warehouse, 2026-11-20"
    assert night.calls() == [f"backup s3://bucket/fieldmart --keep 30 {at}", f"gc {at}"]
    assert found["state"] == "success"


def test_without_a_backup_nothing_is_cleaned_up(night: Night):
    found = night.run("fieldmart_backup", {"target": "/mnt/backups", "today": "2026-11-20"}, fails="backup")
    assert [call.split()[0] for call in night.calls()] == ["backup"]
    assert (found["states"]["gc"], found["state"]) == ("upstream_failed", "failed")


def test_the_drill_is_held_on_the_place_where_backups_lie(night: Night):
    night.run("fieldmart_drill", {"target": "/mnt/backups", "today": "2026-11-20"})
    assert night.calls() == ["drill --target /mnt/backups --warehouse /data/warehouse, 2026-11-20"]


def test_an_approval_hands_on_what_was_said_word_by_word_and_starts_scoring(night: Night):
    """Quotes and dollars of the reason stay text: the shell never sees them as its own."""
    why = 'a "week\'s" trial; $HOME `id`'
    conf = {"date": "2017-12-18", "by": "ann", "why": why, "today": "2026-11-20"}
    found = night.run("fieldmart_approve", conf)
    assert night.calls() == [f"approve --by ann --why {why} --date 2017-12-18 --warehouse /data/warehouse, 2026-11-20"]
    assert found["state"] == "success"
    [(started, handed_on)] = found["started"]
    assert (started, handed_on["date"]) == ("fieldmart_score", "2017-12-18")


def test_what_cannot_be_approved_starts_no_scoring(night: Night):
    found = night.run("fieldmart_approve", {"by": "eve", "why": "no", "today": "2026-11-20"}, fails="approve")
    assert (found["state"], found["started"]) == ("failed", [])
