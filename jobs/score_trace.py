"""Where one published score comes from: release, decision, model, feature values, and the rows and files behind them.

Everything is read from the release's manifest on, with DuckDB and polars: a past release is traced as it was.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from jobs import decision_log, explain_score, models, privacy, releases
from jobs.contract import Contract
from jobs.lake import Dataset, Lake, LakeError, sha256_file

KEPT, QUARANTINED = "status=kept", "status=quarantined"


class TraceError(ValueError):
    """A score that cannot be traced; the message says which one and why."""


@dataclass(frozen=True)
class Trace:
    """Each part is what its data set, log entry or card says; `missing` names links that are gone."""

    score: dict[str, Any]
    release: dict[str, Any]
    decision: dict[str, Any]
    model: dict[str, Any]
    features: list[dict[str, Any]]  # field, value
    snapshot: dict[str, Any]
    files: list[dict[str, Any]]  # of the source, with what is at their place now
    rows: list[dict[str, Any]]  # the entity's last exposures
    missing: list[str]


def run(
    warehouse: Path,
    contract: Contract,
    entity: str,
    candidate: str | None = None,
    release: str | None = None,
    n_rows: int = 10,
) -> Trace:
    """Trace the score of `entity` (its id, or its hash if the contract hashes) and `candidate` (None: its best) in
    `release` (None: the current one). Raises TraceError if that release holds no such score."""
    found = releases.named(warehouse, release) if release else releases.current(warehouse)
    if found is None:
        raise TraceError(f"no release in {warehouse}: run `fieldmart nightly` first")
    if found.manifest["contract"] != contract.name:
        raise TraceError(
            f"--contract must be that of the release {found.release_id}, {found.manifest['contract']}, got"
            f" {contract.name}"
        )
    of = _Links(Lake(warehouse.resolve()), json.loads(found.manifest["datasets"]))
    score = _score(of, contract, entity, candidate, found.release_id)
    exposures = of.dataset("exposures")
    mine = _rows(exposures, contract, score["entity_id"])
    return Trace(
        score=score,
        release=_release(found),
        decision=_decision(warehouse, found),
        model=_model(of, warehouse, score),
        features=_features(of, warehouse, contract, score),
        snapshot=_snapshot(exposures, mine),
        files=_files(of, mine),
        rows=_last(mine, contract, n_rows),
        missing=of.missing,
    )


@dataclass
class _Links:
    """The data sets a release stands on; those that are gone are noted."""

    lake: Lake
    keys: dict[str, str]

    def __post_init__(self) -> None:
        self.missing: list[str] = []

    def dataset(self, name: str) -> Dataset | None:
        key = self.keys.get(name)
        found = self.lake.find(name, key) if key else None
        if found is None:
            self.missing.append(f"data set {name} {key or '(the release names none)'}")
        return found


def _score(of: _Links, contract: Contract, entity: str, candidate: str | None, release_id: str) -> dict[str, Any]:
    scores = of.dataset("scores")
    if scores is None:
        raise TraceError(f"the scores of {release_id} are gone from the lake ({of.missing[0]})")
    rows = pl.scan_parquet(scores.files)
    wanted = pl.col("rank_in_entity") == 1 if candidate is None else pl.col("candidate_id") == candidate
    for name in _names(rows, contract, entity):
        found = rows.filter((pl.col("entity_id") == name) & wanted).collect().to_dicts()
        if found:
            about = found[0] | {"entity_key": privacy.shown(name, contract), "scores_id": scores.key}
            return about | {"scoring_run": scores.manifest["run"], "scores_content": scores.content}
    pair = f"entity {entity}" + ("" if candidate is None else f" and candidate {candidate}")
    raise TraceError(f"{release_id} has no score of {pair}")


def _names(scores: pl.LazyFrame, contract: Contract, entity: str) -> list[str]:
    """The ids that `entity` may mean: itself and, where the marts show hashes, the id with that hash."""
    if not contract.privacy.hash_entities or len(entity) != privacy.LENGTH:
        return [entity]
    salt = privacy.salt_of(contract.privacy.salt_env)
    known = scores.select("entity_id").unique().collect()["entity_id"]
    return [entity, *(name for name in known if privacy.hashed(name, salt) == entity)]


def _release(found: releases.Release) -> dict[str, Any]:
    names = ("release_id", "contract", "cycle_date", "data_through", "published_at", "content_sha256")
    with duckdb.connect(str(found.folder / releases.MART), read_only=True) as mart:
        [(run_id, git_sha)] = mart.execute("select run_id, git_sha from fct_runs").fetchall()
    return {name: found.manifest[name] for name in names} | {"run_id": run_id, "git_sha": git_sha}


def _decision(warehouse: Path, found: releases.Release) -> dict[str, Any]:
    """The decision that the release shows, and the pointings at it."""
    log = decision_log.entries(warehouse)
    made = next((e for e in log if e.decision_id == found.manifest["decision_id"]), None)
    said = {} if made is None else {n: made.payload.get(n) for n in ("verdict", "reason", "model_id", "promotes")}
    shown = [
        f"{e.kind} {e.at}" for e in log if e.kind != "decision" and e.payload.get("release_id") == found.release_id
    ]
    return {"decision_id": found.manifest["decision_id"]} | said | {"shown": shown}


def _model(of: _Links, warehouse: Path, score: dict[str, Any]) -> dict[str, Any]:
    about = {name: score[name] for name in ("model_id", "calibrator_id", "source")}
    try:
        card = models.read_card(warehouse, score["model_id"])
    except LakeError as error:
        of.missing.append(str(error))
        return about
    made = card.get("lineage", {})
    about |= {name: made.get(name) for name in ("git_sha", "lock_sha", "contract_sha", "cycle_date")}
    return about | {"algorithm": card.get("algorithm"), "role": card.get("role")}


def _features(of: _Links, warehouse: Path, contract: Contract, score: dict[str, Any]) -> list[dict[str, Any]]:
    """The pair's field values as the model saw them; none where another night made the score."""
    inputs = of.dataset("score_inputs")
    if score["source"] == "stale":
        of.missing.append("feature values: the score is stale, trace the release that made it")
        return []
    try:
        card = models.read_card(warehouse, score["model_id"])
        vocabulary = of.lake.get("vocabulary", card["lineage"]["vocabulary"]["key"]).table().to_pylist()
        if inputs is None:
            return []
        ids = explain_score.features(str(inputs.root), score["entity_id"], score)
    except (LakeError, KeyError) as error:
        of.missing.append(f"feature values: {error}")
        return []
    measures = {rule.name: rule.measure for rule in contract.fields}
    text = {row["feature_id"]: explain_score.in_words(measures[row["field"]], row["value"]) for row in vocabulary}
    return [{"field": field, "value": text[int(x)]} for field, x in zip(card["fields"], ids, strict=True)]


def _rows(exposures: Dataset | None, contract: Contract, entity: str) -> pl.DataFrame:
    """The entity's rows of the snapshot with `status`, oldest first."""
    if exposures is None:
        return pl.DataFrame()
    key = pl.concat_str([pl.col(name).cast(pl.String) for name in contract.entity], separator="|", ignore_nulls=True)
    parts = [
        pl.scan_parquet(files).filter(key == entity).with_columns(pl.lit(status.split("=")[1]).alias("status"))
        for status in (KEPT, QUARANTINED)
        if (files := exposures.under(status))
    ]
    return pl.concat(parts, how="vertical_relaxed").collect().sort(contract.exposure_time)


def _snapshot(exposures: Dataset | None, mine: pl.DataFrame) -> dict[str, Any]:
    if exposures is None:
        return {}
    known = {"snapshot_id": exposures.key, "ingest_run": exposures.manifest["run"], "content": exposures.content}
    known |= {"written_at": exposures.manifest["written_at"], "schema_version": exposures.manifest["schema_version"]}
    counted = mine.group_by("status").len() if len(mine) else pl.DataFrame({"status": [], "len": []})
    return known | {"rows_of_entity": dict(counted.sort("status").iter_rows())}


def _files(of: _Links, mine: pl.DataFrame) -> list[dict[str, Any]]:
    """The source files that the entity's rows came from, with what lies at their place now."""
    surveyed = of.dataset("source_files")
    if surveyed is None or "source_file" not in mine.columns:
        return []
    counts = dict(mine.group_by("source_file").len().iter_rows())
    # A row that was derived from several tables names them all.
    rows: dict[str, int] = {}
    for name, n in counts.items():
        for part in _parts(name, surveyed):
            rows[part] = rows.get(part, 0) + n
    found = []
    for file in surveyed.table().to_pylist():
        if file["name"] in rows and file["outcome"] == "read":
            about = {name: file[name] for name in ("table", "name", "path", "bytes", "sha256")}
            found.append(
                about | {"rows_of_entity": rows[file["name"]], "now": _now(Path(file["path"]), file["sha256"])}
            )
    return found


def _parts(name: str, surveyed: Dataset) -> list[str]:
    names = surveyed.table()["name"].to_pylist()
    return [name] if name in names else [part for part in names if part in name.split("+")]


def _now(path: Path, sha256: str) -> str:
    if not path.is_file():
        return "gone"
    return "unchanged" if sha256_file(path) == sha256 else "changed"


def _last(mine: pl.DataFrame, contract: Contract, n: int) -> list[dict[str, Any]]:
    if mine.is_empty():
        return []
    names = [contract.exposure_time, *contract.candidate, contract.conversion_time, contract.value]
    more = [name for name in ("status", "reason", "source_file") if name in mine.columns]
    return mine.select(*dict.fromkeys([*names, *more])).tail(n).to_dicts()


def as_json(found: Trace) -> str:
    return json.dumps(asdict(found), indent=1, default=str)


def show(found: Trace, console: Console) -> None:
    """Print the trace, from the score down to its sources."""
    score = found.score
    told = {"score": f"p = {score['p']:.6f} of {score['entity_id']} and {score['candidate_id']}"}
    told["score"] += f", rank {score['rank_in_entity']} ({score['source']}, scored {score['scored_at']})"
    told["scoring run"] = f"{score['scoring_run']}, scores {score['scores_id']}"
    for name in ("release", "decision", "model", "snapshot"):
        part = getattr(found, name)
        told[name] = ", ".join(f"{key} {value}" for key, value in part.items() if value not in (None, "", []))
    for name, text in told.items():
        console.print(f"[bold]{name:<12}[/bold] {escape(text)}", soft_wrap=True)
    _table(console, "feature values", found.features)
    _table(console, f"the last {len(found.rows)} exposures of the entity in the snapshot", _told(found.rows))
    for file in found.files:
        console.print(
            f"[bold]source file[/bold]  {escape(file['name'])}, {file['bytes']} bytes, sha256 {file['sha256'][:12]}…,"
            f" {file['now']}: {escape(file['path'])}",
            soft_wrap=True,
        )
    for line in found.missing:
        console.print(f"[red]missing[/red]      {escape(line)}", soft_wrap=True)


def _told(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows without their source where it is the same for all: the list of files below says it."""
    same = len({row.get("source_file") for row in rows}) == 1
    return [{name: value for name, value in row.items() if not (same and name == "source_file")} for row in rows]


def _table(console: Console, title: str, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    table = Table(title=title)
    for name in rows[0]:
        table.add_column(Text(name), overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if value is None else str(value)) for value in row.values()))
    console.print(table)
