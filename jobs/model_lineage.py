"""A model traced to all that it rests on: code, lock, machine, data, contract, sweep, evaluation, gate, decision,
approver and the releases that it served. With `verify` every hash is computed again.

A link that does not resolve has a `fault`. What was removed on purpose is told, and no fault: a release that retention
took is known by the log.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ffm_udf import card as cards
from jobs import asof, champions, decision_log, gate, kept_texts, models, pointings, releases
from jobs.decision_log import Entry
from jobs.lake import Lake, LakeError
from jobs.lineage import env_hash
from jobs.mart_checks import MartError

DATA = ("snapshot", "examples", "rows", "vocabulary")
DATASET = {"snapshot": "exposures"}  # what the lake calls it
EVALUATION = ("model_metrics", "period_metrics", "k_comparison")


class LineageError(ValueError):
    """A model that cannot be traced at all."""


@dataclass(frozen=True)
class Link:
    """One thing the model rests on. `value` names it, `note` tells more; `fault`: why it does not resolve."""

    name: str
    value: str
    note: str = ""
    fault: str | None = None

    @property
    def named(self) -> str:
        return f"{self.name} ({self.fault})"

    @property
    def line(self) -> str:
        told = f"  {self.note}" if self.note else ""
        return f"{'BROKEN ' if self.fault else 'ok     '}{self.name}: {self.value}{told}" + (
            f"  [{self.fault}]" if self.fault else ""
        )


def trace(warehouse: Path, model_id: str, verify: bool = False) -> list[Link]:
    """The links of `model_id` (or of the alias `champion`), from the model to the releases it served.

    Raises LineageError if there is no such model, and none that the log or a card names.
    """
    log, broken = _log(warehouse)
    if broken and model_id.endswith("champion"):
        raise LineageError(f"{broken}: which model is {model_id} cannot be told without the log")
    model_id = _named(log, model_id)
    try:
        card = models.read_card(warehouse, model_id)
    except LakeError as error:
        known = [e for e in log if model_id in (e.payload.get("promotes"), e.payload.get("model_id"))]
        if not known:
            raise LineageError(f"{error}, and the decision log does not name it") from None
        return [Link("card", model_id, fault=str(error)), *_decision(warehouse, log, broken, model_id, None, verify)]
    judged = card["task"].get("candidate_id") or model_id
    return [
        *_files(warehouse, card, judged, verify),
        *_environment(warehouse, card["lineage"], verify),
        *_data(warehouse, card["lineage"], verify),
        _contract(warehouse, card["lineage"], verify),
        *_evaluation(warehouse, log, card, judged, verify),
        *_decision(warehouse, log, broken, model_id, card, verify),
        *_served(warehouse, log, model_id, verify),
    ]


def _log(warehouse: Path) -> tuple[list[Entry], str | None]:
    try:
        return decision_log.entries(warehouse), None
    except decision_log.LogError as error:
        return [], str(error)


def _named(log: list[Entry], model_id: str) -> str:
    """The model behind the alias `champion`, or CONTRACT:champion where there are several contracts."""
    if not model_id.endswith("champion"):
        return model_id
    held = champions.aliases(log)["champion"]
    contract = model_id.removesuffix("champion").rstrip(":")
    found = [alias["model_id"] for name, alias in held.items() if contract in ("", name)]
    if len(found) != 1:
        raise LineageError(f"{model_id} must name one model, got {', '.join(sorted(held)) or 'no champion'}")
    return found[0]


def _files(warehouse: Path, card: dict[str, Any], judged: str, verify: bool) -> Iterable[Link]:
    """Card and files of the model, and of the candidate that was judged in its place."""
    for name, model_id in {"model": card["model_id"], "candidate": judged}.items():
        try:
            own = models.read_card(warehouse, model_id)
        except LakeError as error:
            yield Link(name, model_id, fault=str(error))
            continue
        folder = models.model_folder(warehouse, model_id)
        if verify:
            bad = cards.damaged(folder, own)
            fault = f"{bad} is missing or was changed" if bad else None
        else:
            gone = [file for file in own["files"] if not (folder / file).is_file()]
            fault = f"{gone[0]} is missing" if gone else None
        yield Link(name, model_id, f"{own['algorithm']}, {len(own['files'])} files", fault)
    told = card["task"]["hyperparameters"]
    yield Link("hyperparameters", json.dumps(told, sort_keys=True), fault=None if told else "the card names none")


def _environment(warehouse: Path, links: dict[str, Any], verify: bool) -> Iterable[Link]:
    code = links.get("training_code_sha")
    is_commit = links.get("git_sha") not in (None, "none")
    yield Link(
        "code", str(links.get("git_sha")), f"training code {code}", None if code or is_commit else "is not named"
    )
    lock = links.get("lock_sha")
    kept = None if lock in (None, "none") else kept_texts.fault(warehouse, lock)
    yield Link("lock", str(lock), fault="is not named" if lock is None else kept)
    told = ", ".join(
        f"{name} {links[name]}" for name in ("python", "spark", "jvm", "machine", "cores") if name in links
    )
    named, fault = links.get("env_hash"), None
    if named is None and not told:
        fault = "is not named"
    elif named is not None and verify and _env_hash(links) != named:
        fault = "the card's environment is not the one that was hashed"
    yield Link("environment", str(named or "not hashed (an older card)"), told, fault)


def _env_hash(links: dict[str, Any]) -> str | None:
    try:
        return env_hash(links)
    except KeyError:
        return None


def _data(warehouse: Path, links: dict[str, Any], verify: bool) -> Iterable[Link]:
    lake = Lake(warehouse)
    for name in DATA:
        said = links.get(name)
        if said is None:
            yield Link(name, "None", fault="is not named")
            continue
        found, fault, note = lake.find(DATASET.get(name, name), said["key"]), None, ""
        if found is None:
            fault = f"lake/{DATASET.get(name, name)}/{said['key']} is missing"
        else:
            note = f"{found.rows} rows in {len(found.files)} files"
            fault = None if found.content == said["content"] else "its manifest names other files"
            if verify and fault is None:
                fault = _fault_of(found.verify)
        yield Link(name, said["key"], note, fault)


def _fault_of(check: Callable[[], object]) -> str | None:
    try:
        check()
    except (LakeError, MartError, OSError) as error:
        return str(error)
    return None


def _contract(warehouse: Path, links: dict[str, Any], verify: bool) -> Link:
    sha = links["contract_sha"]
    return Link("contract", sha, f"{links['contract']}, cycle {links['cycle_date']}", kept_texts.fault(warehouse, sha))


def _evaluation(warehouse: Path, log: list[Entry], card: dict[str, Any], judged: str, verify: bool) -> Iterable[Link]:
    """The facts that the candidate was judged by, and the sweep that chose its k."""
    contract, date = card["lineage"]["contract"], card["lineage"]["cycle_date"]
    swept = [
        e for e in log if e.kind == "sweep" and e.payload["contract"] == contract and e.payload["cycle_date"] <= date
    ]
    last = swept[-1] if swept else None
    yield Link("sweep", last.decision_id if last else "none", last.text if last else "k of the night's own comparison")
    path, lake = warehouse / "cycles" / contract / f"{date}.json", Lake(warehouse)
    try:
        keys = json.loads(path.read_text())["datasets"]
    except (OSError, ValueError, KeyError):
        yield Link("evaluation", judged, fault=f"{path.relative_to(warehouse)} is missing or cannot be read")
        return
    found = {name: lake.find(name, keys[name]) if name in keys else None for name in EVALUATION}
    gone = [name for name, dataset in found.items() if dataset is None]
    fault = f"fact {gone[0]} of {contract} {date} is missing" if gone else None
    if fault is None and verify:
        fault = next((bad for data in found.values() if data and (bad := _fault_of(data.verify))), None)
    metrics, mine = found["model_metrics"], []
    if metrics is not None and fault is None:
        try:
            mine = [row for row in metrics.table().to_pylist() if row["model_id"] == judged]
        except (OSError, pa.ArrowException) as error:
            fault = f"model_metrics of {contract} {date} cannot be read: {' '.join(str(error).split())}"
    if fault is None and not mine:
        fault = f"model_metrics of {contract} {date} does not name {judged}"
    yield Link("evaluation", judged, f"{len(mine)} rows of metrics, cycle {date}", fault)


def _decision(
    warehouse: Path, log: list[Entry], broken: str | None, model_id: str, card: dict[str, Any] | None, verify: bool
) -> Iterable[Link]:
    """The decision about the model, its gate and its evidence, who approved it, and whether it was demoted."""
    if broken:
        yield Link("decision", model_id, fault=broken)
        return
    judged = (card["task"].get("candidate_id") or model_id) if card else model_id
    approvals = [e for e in log if e.kind == "approval" and e.payload["promotes"] == model_id]
    ids = {e.payload["decision_id"] for e in approvals}
    about = [e for e in champions.decisions(log) if e.decision_id in ids or e.payload["promotes"] == model_id]
    about = about or [e for e in champions.decisions(log) if e.payload["model_id"] == judged]
    if not about:
        yield Link("decision", "none", "not chosen on any cycle: it was never promoted")
        return
    entry = about[-1]
    promoted = champions.promotion_of(log, entry)
    said = entry.payload
    yield Link("decision", entry.decision_id, f"{said['verdict']} on {said['cycle_date']} by {said.get('by')}")
    yield Link("gate", said["gate_sha"], fault=kept_texts.fault(warehouse, said["gate_sha"]))
    yield _evidence(warehouse, log, entry, verify)
    approver = promoted.payload["by"] if promoted is not None and promoted.kind == "approval" else None
    by = approver or ("the gate" if said["verdict"] == "GO" else "nobody")
    yield Link("approver", by, "demoted by the guard" if promoted is None and said["verdict"] == "GO" else "")
    vouches = (approvals[-1] if approvals else entry).payload
    if vouches.get("card_sha") and vouches["promotes"] == model_id:
        path = models.model_folder(warehouse, model_id) / cards.NAME
        is_same = path.is_file() and cards.sha256(path) == vouches["card_sha"]
        yield Link("card", vouches["card_sha"], fault=None if is_same else "the card is not the one that was promoted")


def _evidence(warehouse: Path, log: list[Entry], entry: Entry, verify: bool) -> Link:
    """The marts that the decision was read from, digested again while a release on it and its gate are there."""
    said, note, fault = entry.payload, "", None
    made = [r for r in releases.list_releases(warehouse) if r.manifest["decision_id"] == entry.decision_id]
    if not made:
        return Link("evidence", said["evidence_sha"], "its release is removed: `evaluation` tells of the facts")
    if verify and kept_texts.fault(warehouse, said["gate_sha"]) is None:
        terms = gate.Gate.model_validate_json(kept_texts.path_of(warehouse, said["gate_sha"]).read_text())
        try:
            is_same = gate.evidence_sha(terms, made[-1].folder / releases.MART) == said["evidence_sha"]
            fault = None if is_same else f"the evidence marts of {made[-1].release_id} are not those that were judged"
        except MartError as error:
            fault = str(error)
    return Link("evidence", said["evidence_sha"], note or f"in {made[-1].release_id}", fault)


def _served(warehouse: Path, log: list[Entry], model_id: str, verify: bool) -> Iterable[Link]:
    """Every release that the model served, also those that are gone."""
    known = {release.release_id: release for release in releases.list_releases(warehouse)}
    seen: dict[str, Entry] = {}
    for entry in log:
        name = pointings.target(entry)
        if name is not None and asof.served(log, entry).get("serving_model_id") == model_id:
            seen.setdefault(name, entry)
    if not seen:
        yield Link("release", "none", "it served no release")
    left = pointings.left(log)
    for name, entry in seen.items():
        note = f"published {entry.at}" + (", left by the guard" if name in left else "")
        if name not in known:
            yield Link("release", name, f"{note}, removed since")
            continue
        fault = releases.damage(known[name]) if verify else None
        yield Link("release", name, note, fault)
