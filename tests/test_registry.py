"""The MLflow registry: fed from the log alone, without a socket, and made again when it is lost."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import served_world as world
from typer.testing import CliRunner

from jobs import champions, cli, decision_log, heal, registry, verification

# Opens the store as a team would, in a process in which any socket is an error.
LOOK = """
import json, socket, sys

class Refused(socket.socket):
    def connect(self, address):
        raise AssertionError(f"connects to {address}")
    connect_ex = connect

socket.socket = Refused
def refuse(*given, **named):
    raise AssertionError(f"looks up {given}")
socket.getaddrinfo = socket.create_connection = refuse
from pathlib import Path
from jobs import registry
root = Path(sys.argv[1])
lines = [registry.sync(root).line, registry.sync(root, check=True).line]
from mlflow import MlflowClient
uri = f"sqlite:///{registry.path_of(root)}"
client = MlflowClient(tracking_uri=uri, registry_uri=uri)
experiment = client.get_experiment_by_name("tiny")
runs = client.search_runs([experiment.experiment_id])
model = client.get_registered_model("tiny")
versions = client.search_model_versions("name='tiny'")
print(json.dumps({
    "lines": lines,
    "runs": {r.data.tags["fieldmart.model_id"]: [r.data.params, r.data.metrics, r.data.tags["rows.key"]] for r in runs},
    "aliases": {alias: str(version) for alias, version in model.aliases.items()},
    "versions": {str(v.version): [v.tags["fieldmart.model_id"], v.source, v.tags.get("decision_id")] for v in versions},
}))
"""


def card(warehouse: Path, model_id: str) -> None:
    folder = warehouse / "models" / model_id
    folder.mkdir(parents=True)
    made = {"contract": "tiny", "cycle_date": "2017-12-04", "rows": {"key": f"rows of {model_id}", "content": "c"}}
    said: dict[str, Any] = {"model_id": model_id, "algorithm": "ffm", "role": "refit", "lineage": made}
    said |= {"began_at": 1e9, "ended_at": 1e9 + 60}
    said |= {"task": {"hyperparameters": {"k": 4, "seed": 1}, "candidate_id": None}}
    (folder / "card.json").write_text(
        json.dumps(said | {"cost": {"cpu_s": 7.5, "artifact_bytes": 100, "train_rows": 30}})
    )


def looked(warehouse: Path) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", LOOK, str(warehouse)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_the_store_follows_the_log_without_a_socket_and_is_made_again(tmp_path: Path) -> None:
    for model_id in ("a", "b", "c"):
        card(tmp_path, model_id)
    first, second = (world.decided(tmp_path, week, model_id) for week, model_id in enumerate("ab"))
    world.decided(tmp_path, 2, "c", "HOLD")
    champions.write_aliases(tmp_path)
    found = looked(tmp_path)
    # 3 cards; versions of a and b, which were promoted, and of the challenger c; both aliases.
    assert found["lines"] == ["registry: made anew, 3 runs, 3 versions, 2 aliases written", "registry: up to date"]
    assert found["runs"]["a"] == [
        {"k": "4", "seed": "1"},
        {"cpu_s": 7.5, "artifact_bytes": 100.0, "train_rows": 30.0},
        "rows of a",
    ]
    assert found["versions"] == {
        "1": ["a", "models/a", first.decision_id],
        "2": ["b", "models/b", second.decision_id],
        "3": ["c", "models/c", None],
    }
    assert found["aliases"] == {"champion": "2", "challenger": "3"}

    guard = {"contract": "tiny", "release_id": "r2", "to": "r1", "demotes": second.decision_id, "breaches": []}
    decision_log.append(tmp_path, "guard", guard)
    assert looked(tmp_path)["aliases"] == {"champion": "1", "challenger": "3"}

    with contextlib.closing(sqlite3.connect(registry.path_of(tmp_path))) as store:
        store.execute("update registered_model_aliases set version = 4 - version")  # 1 and 3 swapped
        store.commit()
    found = looked(tmp_path)
    # The log is as it was, so a night does not look into the store; with a check it does.
    assert found["lines"] == ["registry: up to date", "registry: 0 runs, 0 versions, 2 aliases written"]
    assert found["aliases"] == {"champion": "1", "challenger": "3"}

    registry.path_of(tmp_path).write_bytes(b"no database")
    champions.write_aliases(tmp_path)
    assert heal.run(tmp_path)[-2:] == [
        "registry/mlflow.db: damaged, put aside as mlflow.damaged",
        "registry: made anew, 3 runs, 3 versions, 2 aliases written",
    ]


@pytest.mark.slow
def test_a_registry_that_cannot_be_written_is_told_and_stops_nothing(tmp_path: Path) -> None:
    card(tmp_path, "a")
    world.decided(tmp_path, 0, "a")
    (tmp_path / "registry").mkdir()
    registry.path_of(tmp_path).write_bytes(b"no database")
    said: list[str] = []
    registry.update(tmp_path, said.append)
    [line] = said
    assert line.startswith("the registry was not brought up to date, `fieldmart heal` does it: ")
    assert "file is not a database" in line


@pytest.mark.parametrize(("text", "is_whole"), [(b"", False), (b"no database", False), (None, True)])
def test_a_store_that_was_emptied_or_overwritten_is_not_whole(
    tmp_path: Path, text: bytes | None, is_whole: bool
) -> None:
    path = registry.path_of(tmp_path)
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as store:
        store.execute("create table runs (run_id text)")
        store.commit()
    if text is not None:
        path.write_bytes(text)
    assert registry.is_whole(path) == is_whole
    faults = verification.verify_warehouse(tmp_path).faults
    assert faults == ([] if is_whole else [f"{path}: is damaged: `fieldmart heal` makes it anew"])


def test_the_command_looks_into_the_store_whatever_was_done_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An alias that somebody moved there changes nothing that the log knows of."""
    asked: list[bool] = []

    def sync(_: Path, check: bool = False) -> registry.Synced:
        asked.append(check)
        return registry.Synced(0, 0, 2, False)

    monkeypatch.setattr(registry, "sync", sync)
    (tmp_path / "log").mkdir()
    told = CliRunner().invoke(cli.app, ["registry", "--warehouse", str(tmp_path)])
    assert (asked, told.stdout) == ([True], "registry: 0 runs, 0 versions, 2 aliases written\n")
