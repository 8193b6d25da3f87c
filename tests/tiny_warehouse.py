"""A whole warehouse in milliseconds: cycles, data sets, models, log, releases and links, no Spark and no dbt.

It can be run as a program in a process of its own: `python tiny_warehouse.py publish ROOT FIRST LAST`.
"""

from __future__ import annotations

import atexit
import datetime as dt
import functools
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from ffm_udf import card as cards
from jobs import champions, decision_log, releases, score_tree
from jobs.lake import Lake, write_json
from jobs.release_audits import Audit

CONTRACT = "tiny"
GOOD = [Audit("lowest_p", 0.01, ">", 0.0, True, "a probability")]
ROWS = 50


def day(night: int) -> dt.date:
    return dt.date(2026, 1, 1) + dt.timedelta(days=night)


def put(warehouse: Path, name: str, key: str, table: pa.Table) -> str:
    lake = Lake(warehouse)
    if lake.find(name, key) is None:
        with lake.writing(name, key) as folder:
            pq.write_table(table, folder / "part-0.parquet")
    return key


def model(warehouse: Path, model_id: str, datasets: dict[str, str], role: str) -> None:
    folder = warehouse / "models" / model_id
    if (folder / cards.NAME).exists():
        return
    folder.mkdir(parents=True)
    (folder / "weights.npy").write_bytes(model_id.encode() * 10)
    named = {"vocabulary": "vocabulary", "rows": "rows", "snapshot": "exposures"}
    lineage = {link: {"key": datasets[name], "content": "c"} for link, name in named.items()}
    task = {"init": None, "candidate_id": model_id.replace(role, "candidate")}
    about = {"model_id": model_id, "algorithm": "ffm", "role": role, "lineage": lineage, "task": task}
    cards.write(folder, about | {"files": cards.checksums(folder)})


def evaluate(warehouse: Path, night: int, verdict: str = "HOLD") -> dict[str, str]:
    """What a night makes before it publishes; returns its data sets."""
    ids = {role: f"ffm-{role}-{night}" for role in ("candidate", "rehearsal", "refit")}
    numbers = {"v": list(range(night, night + ROWS))}
    datasets = {
        name: put(warehouse, name, f"{name}{night}", pa.table(numbers | {"of": [name] * ROWS}))
        for name in ("exposures", "vocabulary", "rows", "runs", "scores")
    }
    for role, model_id in ids.items():
        if role != "refit" or verdict == "GO":
            model(warehouse, model_id, datasets, role)
    listed = pa.table({"model_id": [ids["candidate"], ids["rehearsal"]]})
    serves = ids["refit"] if verdict == "GO" else ids["candidate"]
    served = {
        "model_id": [serves],
        "calibrator_id": ["c"],
        "data_through": [dt.datetime.combine(day(night), dt.time())],
    }
    datasets |= {
        "models": put(warehouse, "models", f"models{night}", listed),
        "scoring": put(warehouse, "scoring", f"scoring{night}", pa.table(served)),
    }
    said = {"contract": CONTRACT, "cycle_date": str(day(night)), "verdict": verdict, "k": 4, "reason": "because"}
    if champions.last_decision(warehouse, CONTRACT, day(night)) is None:
        about = {"promotes": ids["refit"], "model_id": ids["candidate"], "rules": []}
        decision_log.append(warehouse, "decision", said | about)
    champions.write_aliases(warehouse)
    state = {"datasets": datasets, "stages": {}, "run": {"release_id": f"{CONTRACT}-{day(night)}"}}
    write_json(warehouse / "cycles" / CONTRACT / f"{day(night)}.json", state)
    return datasets


def mart(folder: Path, release_id: str, night: int) -> None:
    folder.mkdir(exist_ok=True)
    with duckdb.connect(str(folder / releases.MART)) as connection:
        connection.execute(f"create table dim_release as select '{release_id}' as release_id")
        connection.execute(f"create table fct_k as select range as k, {night} as v from range({ROWS})")


def datasets_of(warehouse: Path, night: int) -> dict[str, str]:
    """What the cycle of a night stands on."""
    return json.loads((warehouse / "cycles" / CONTRACT / f"{day(night)}.json").read_text())["datasets"]


def follow(warehouse: Path, night: int) -> None:
    """Let the scores by date follow."""
    dataset = Lake(warehouse).get("scores", datasets_of(warehouse, night)["scores"])
    score_tree.point(warehouse, CONTRACT, day(night), dataset)


def publish(warehouse: Path, night: int, datasets: dict[str, str], keep: int = releases.KEEP) -> releases.Release:
    building = releases.open_building(warehouse, f"{CONTRACT}-{day(night)}")
    mart(building.folder, building.release_id, night)
    decision = champions.last_decision(warehouse, CONTRACT, day(night))
    assert decision is not None
    manifest: dict[str, Any] = {
        "contract": CONTRACT,
        "cycle_date": str(day(night)),
        "content_sha256": f"sha of {night}",
        "decision_id": decision.decision_id,
        "data_through": str(day(night)),
        "datasets": json.dumps(datasets),
    }
    release = releases.publish(warehouse, building.release_id, manifest, GOOD, keep=keep)
    follow(warehouse, night)
    return release


def run_night(warehouse: Path, night: int, verdict: str = "HOLD", keep: int = releases.KEEP) -> releases.Release:
    return publish(warehouse, night, evaluate(warehouse, night, verdict), keep)


def make(warehouse: Path, nights: int = 2) -> Path:
    """`nights` nights; the first promotes a model."""
    for night in range(nights):
        run_night(warehouse, night, "GO" if night == 0 else "HOLD")
    return warehouse


@functools.cache
def _template(nights: int) -> Path:
    """Made once per process: what is flushed to the disk costs more than what is copied."""
    folder = Path(tempfile.mkdtemp(prefix="tiny-warehouse-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return make(folder / "wh", nights)


def copy(warehouse: Path, nights: int = 2) -> Path:
    """What `make` would make."""
    return shutil.copytree(_template(nights), warehouse, symlinks=True)


def read(warehouse: Path) -> tuple[str, int]:
    """What a reader sees without any of our code: (release id, value); fails if it is no whole release."""
    pointer = json.loads((warehouse / "current.json").read_text())
    with duckdb.connect(str(warehouse / pointer["path"] / "mart.duckdb"), read_only=True) as connection:
        [(release_id,)] = connection.execute("select release_id from dim_release").fetchall()
        [(value, count)] = connection.execute("select v, count(*) from fct_k group by v").fetchall()
    assert (release_id, count) == (pointer["release_id"], ROWS)
    return release_id, value


if __name__ == "__main__":
    root, first, last = Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    for number in range(first, last):
        run_night(root, number, keep=2)
        print(number, flush=True)
