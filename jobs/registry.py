"""Models and runs where teams look for them: an MLflow store, registry/mlflow.db, fed from the decision log.

An experiment per contract with a run per trained model (parameters, metrics of the test periods, lineage as tags), and
a registered model per contract with a version per promoted model and the aliases `champion` and `challenger`. The log
stays the authority: all this is derived, can be deleted, and is made again by `fieldmart heal`. No weights are copied;
a version's source names the model's folder. MLflow is imported here alone, and only if there is something to write.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from ffm_udf.card import NAME
from jobs import champions, decision_log, releases
from jobs.decision_log import Entry
from jobs.durable import locked
from jobs.lake import PROJECT, read_json, sha256_json, write_json

KEY = "fieldmart.model_id"  # the tag by which a run is found again
LAYOUT = 1  # of what is written; another one is written anew
METRICS = ("logloss", "normalized_entropy", "auc", "pr_auc", "calibration_ratio", "usd_per_1m_scores")
PATIENCE = 120.0  # seconds
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}  # nothing is sent anywhere


class RegistryError(RuntimeError):
    """A registry that cannot be read or written; it can be deleted and made again."""


@dataclass(frozen=True)
class Synced:
    """What a run of `sync` wrote."""

    runs: int
    versions: int
    aliases: int
    is_new: bool

    @property
    def changed(self) -> bool:
        return self.is_new or any((self.runs, self.versions, self.aliases))

    @property
    def line(self) -> str:
        if not self.changed:
            return "registry: up to date"
        made = "made anew, " if self.is_new else ""
        return f"registry: {made}{self.runs} runs, {self.versions} versions, {self.aliases} aliases written"


@dataclass(frozen=True)
class Wanted:
    """What the store should hold."""

    cards: dict[str, dict[str, Any]]  # model_id -> card
    metrics: dict[str, dict[str, float]]
    promoted: dict[str, list[tuple[str, Entry, Entry]]]  # contract -> (model_id, decision, what promoted it)
    aliases: dict[str, dict[str, str]]  # contract -> alias -> model_id
    sha: str


def path_of(warehouse: Path) -> Path:
    return warehouse / "registry" / "mlflow.db"


def update(warehouse: Path, say: Callable[[str], None]) -> None:
    """`sync` in a process of its own, for MLflow brings much along; what goes wrong is only told: nothing that serves
    depends on the registry."""
    command = [sys.executable, "-W", "ignore", "-m", "jobs.registry", str(warehouse)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, cwd=PROJECT)
        fault = "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
    except (OSError, subprocess.TimeoutExpired) as error:
        fault = str(error)
    if fault:
        say(f"the registry was not brought up to date, `fieldmart heal` does it: {fault}")


def sync(warehouse: Path, check: bool = False) -> Synced:
    """Bring the store up to date with the log and the cards; what it holds already is left alone. One that was brought
    up to date since the last entry is not opened, unless with `check`.

    Raises RegistryError if the store is damaged.
    """
    wanted = _wanted(warehouse)
    done = warehouse / "registry" / "synced.json"
    if not check and path_of(warehouse).is_file() and read_json(done).get("sha") == wanted.sha:
        return Synced(0, 0, 0, False)
    with locked(warehouse / "registry" / ".lock"):
        is_new = not path_of(warehouse).is_file()
        runs, versions, aliases = _write(warehouse, wanted)
        write_json(done, {"sha": wanted.sha})
    return Synced(runs, versions, aliases, is_new)


def is_whole(path: Path) -> bool:
    """Whether the store's file `path` is a database that can be read and holds tables."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            is_sound = connection.execute("pragma quick_check").fetchone() == ("ok",)
            return is_sound and connection.execute("select 1 from sqlite_master limit 1").fetchone() is not None
    except sqlite3.Error:
        return False


def _wanted(warehouse: Path) -> Wanted:
    log = decision_log.entries(warehouse)
    cards = {
        card["model_id"]: card
        for path in sorted((warehouse / "models").glob(f"*/{NAME}"))
        if (card := read_json(path)) and {"model_id", "lineage", "task"} <= card.keys()
    }
    promoted: dict[str, list[tuple[str, Entry, Entry]]] = {}
    for decision in champions.decisions(log):
        ways = [decision] if decision.payload["verdict"] == "GO" else []
        ways += [e for e in log if e.kind == "approval" and e.payload["decision_id"] == decision.decision_id]
        for by in ways:
            known = promoted.setdefault(decision.payload["contract"], [])
            if by.payload["promotes"] and by.payload["promotes"] not in (model_id for model_id, *_ in known):
                known.append((by.payload["promotes"], decision, by))
    by_alias = champions.aliases(log)
    aliases: dict[str, dict[str, str]] = {}
    for alias, contracts in by_alias.items():
        for contract, held in contracts.items():
            aliases.setdefault(contract, {})[alias] = held["model_id"]
    head = log[-1].entry_hash if log else decision_log.FIRST
    metrics = _metrics(warehouse)
    sha = sha256_json([LAYOUT, head, sorted(cards), sorted(metrics)])
    return Wanted(cards, metrics, promoted, aliases, sha)


def _metrics(warehouse: Path) -> dict[str, dict[str, float]]:
    """model_id -> metrics of its test periods, from the marts of the releases that are there."""
    found: dict[str, dict[str, float]] = {}
    for release in releases.list_releases(warehouse):
        try:
            with duckdb.connect(str(release.folder / releases.MART), read_only=True) as mart:
                rows = mart.execute(f"select model_id, {', '.join(METRICS)} from fct_accuracy_cost_by_k").fetchall()
        except duckdb.Error:  # damaged, or from before these columns
            continue
        for model_id, *values in rows:
            found[model_id] = {n: float(v) for n, v in zip(METRICS, values, strict=True) if v is not None}
    return found


def _write(warehouse: Path, wanted: Wanted) -> tuple[int, int, int]:
    """Add what is missing; the numbers of runs, versions and aliases written."""
    os.environ.update(QUIET)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="mlflow")  # its own use of SQLAlchemy
            return _fill(f"sqlite:///{path_of(warehouse)}", warehouse, wanted)
    except Exception as error:  # of MLflow, SQLAlchemy or alembic, which are not imported for their names alone
        if type(error).__module__.split(".")[0] not in ("mlflow", "sqlalchemy", "alembic", "sqlite3"):
            raise
        raise RegistryError(f"{path_of(warehouse)}: {' '.join(str(error).split())[:300]}") from None


def _fill(uri: str, warehouse: Path, wanted: Wanted) -> tuple[int, int, int]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    runs = _runs(client, warehouse, wanted)
    made = [_versions(client, wanted, contract, runs) for contract in wanted.aliases]
    aliases = sum(_aliases(client, contract, held) for contract, held in wanted.aliases.items())
    return runs.new, sum(made), aliases


class _Runs(dict[str, str]):
    """model_id -> run_id; `new` counts those just made."""

    new = 0


def _runs(client: Any, warehouse: Path, wanted: Wanted) -> _Runs:
    """A run for every card, in the experiment of its contract."""
    from mlflow.entities import Metric, Param, RunTag

    found = _Runs()
    for contract in sorted({card["lineage"]["contract"] for card in wanted.cards.values()}):
        known = client.get_experiment_by_name(contract)
        # Artifacts are the model folders; a relative place would be made below whatever folder a command runs in.
        place = (warehouse / "models").as_uri()
        experiment = known.experiment_id if known else client.create_experiment(contract, artifact_location=place)
        token = None
        while True:
            page = client.search_runs([experiment], max_results=1000, page_token=token)
            found |= {run.data.tags[KEY]: run.info.run_id for run in page if KEY in run.data.tags}
            token = page.token
            if not token:
                break
        for model_id, card in wanted.cards.items():
            metrics = wanted.metrics.get(card["task"].get("candidate_id") or model_id, {})
            if card["lineage"]["contract"] != contract:
                continue
            at = int(card.get("began_at", 0) * 1000)
            is_new = model_id not in found
            if is_new:
                tags = {KEY: model_id} | _tags(card)
                run = client.create_run(experiment, start_time=at, run_name=model_id, tags=tags)
                found[model_id] = run.info.run_id
                found.new += 1
            run_id = found[model_id]
            values = metrics | {name: float(card["cost"][name]) for name in ("cpu_s", "artifact_bytes", "train_rows")}
            before = {} if is_new else client.get_run(run_id).data.metrics if metrics else values
            new = [Metric(name, value, at, 0) for name, value in values.items() if before.get(name) != value]
            params = [Param(name, str(value)) for name, value in card["task"]["hyperparameters"].items()]
            if new or is_new:
                client.log_batch(
                    run_id, metrics=new, params=params if is_new else [], tags=[RunTag("role", card["role"])]
                )
            if is_new:
                client.set_terminated(run_id, "FINISHED", int(card.get("ended_at", 0) * 1000))
    return found


def _tags(card: dict[str, Any]) -> dict[str, str]:
    """The lineage of a card, flat: data sets by their key and content."""
    told = {"algorithm": card["algorithm"], "role": card["role"], "model_folder": f"models/{card['model_id']}"}
    for name, value in card["lineage"].items():
        if isinstance(value, dict):
            told |= {f"{name}.{part}": str(inner) for part, inner in value.items()}
        else:
            told[name] = str(value)
    return told


def _versions(client: Any, wanted: Wanted, contract: str, runs: dict[str, str]) -> int:
    """A version for every promoted model of `contract`, and one for its challenger, in the order of the log."""
    known = _known_versions(client, contract)
    challenger = wanted.aliases.get(contract, {}).get("challenger")
    rows = [(model_id, decision, by) for model_id, decision, by in wanted.promoted.get(contract, [])]
    made = 0
    for model_id, decision, by in rows:
        if model_id not in known:
            said = decision.payload
            tags = {
                KEY: model_id,
                "decision_id": decision.decision_id,
                "cycle_date": said["cycle_date"],
                "verdict": said["verdict"],
                "gate_sha": said["gate_sha"],
                "evidence_sha": said["evidence_sha"],
                "approved_by": by.payload["by"] if by.kind == "approval" else "",
                "promoted_at": by.at,
            }
            client.create_model_version(contract, f"models/{model_id}", runs.get(model_id), tags=tags)
            made += 1
    if challenger and challenger not in {*known, *(model_id for model_id, *_ in rows)}:
        client.create_model_version(contract, f"models/{challenger}", runs.get(challenger), tags={KEY: challenger})
        made += 1
    return made


def _known_versions(client: Any, contract: str) -> dict[str, str]:
    """model_id -> version; the registered model is made if absent."""
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(contract)
    except MlflowException:
        client.create_registered_model(contract, description="Fed from the decision log, which is the authority.")
    found = client.search_model_versions(f"name='{contract}'", max_results=10_000)
    return {version.tags[KEY]: version.version for version in found if KEY in version.tags}


def _aliases(client: Any, contract: str, held: dict[str, str]) -> int:
    """Make the aliases those of the log; how many were moved, set or removed."""
    versions = _known_versions(client, contract)
    wanted = {alias: str(versions[model_id]) for alias, model_id in held.items() if model_id in versions}
    now = {alias: str(version) for alias, version in client.get_registered_model(contract).aliases.items()}
    for alias in now.keys() - wanted.keys():
        client.delete_registered_model_alias(contract, alias)
    moved = [alias for alias, version in wanted.items() if now.get(alias) != version]
    for alias in moved:
        client.set_registered_model_alias(contract, alias, wanted[alias])
    return len(moved) + len(now.keys() - wanted.keys())


if __name__ == "__main__":
    sync(Path(sys.argv[1]))
