"""The decision log: append-only, hash-chained, the one authority on what was decided, published and rolled back.

    <warehouse>/log/decisions.jsonl     one entry a line, in canonical JSON
        {"at", "entry_hash", "kind", "payload", "prev_hash", "seq"}

`entry_hash` is the SHA-256 of the entry's canonical JSON without it, `prev_hash` that of the line before, so no entry
can be changed, moved or removed from the middle unseen. (Whole lines cut off at the end leave a shorter valid chain;
`verification.log_faults` holds it against releases and cycles.) A line is committed by its
newline: a last line without one is what a crash left of an append that never returned, and counts as not written.
Everything else is derived from the log and can be rebuilt: who is champion (jobs/champions.py), where readers are
pointed (jobs/pointings.py), the facts (jobs/log_facts.py).
"""

from __future__ import annotations

import datetime as dt
import getpass
import hashlib
import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from jobs.durable import locked, sync
from jobs.gate import Evaluation
from jobs.lake import read_json

Kind = Literal["decision", "publish", "rollback", "opening", "sweep", "approval", "waiver", "guard", "loss"]
KINDS: tuple[str, ...] = get_args(Kind)
FIRST = "0" * 64  # prev_hash of the first entry

logger = logging.getLogger(__name__)


class LogError(RuntimeError):
    """A log that was changed after writing, or is gone; the message names the line, or what shows it."""


@dataclass(frozen=True)
class Entry:
    """One committed line."""

    seq: int  # from 1
    at: str  # UTC, ISO 8601
    kind: Kind
    payload: dict[str, Any]
    prev_hash: str
    entry_hash: str

    @property
    def decision_id(self) -> str:
        return self.entry_hash[:12]

    @property
    def text(self) -> str:
        """What the entry says, in a few words."""
        said = self.payload
        if self.kind == "opening":
            return f"test {said['test_from']} to {said['test_through']}, {said['models']} models, opening {said['nth']}"
        if self.kind == "sweep":
            return f"k = {said['k']} of {said['ks']}, {said['n_seeds']} seeds"
        if self.kind == "approval":
            return f"{said['decision_id']} by {said['by']}: {said['why']}"
        if self.kind == "waiver":
            lasts = f"from {said['cycle_date']} until {said['until']}"
            if said["until"] < said["cycle_date"]:
                lasts = f"no more from {said['cycle_date']} on"
            return f"{said['rule']} {lasts} by {said['by']}: {said['why']}"
        if self.kind == "guard":
            found = "; ".join(breach["text"] for breach in said["breaches"])
            return f"AUTO_ROLLBACK {said['release_id']} to {said['to'] or 'nothing earlier'}: {found}"
        if self.kind == "loss":
            names = [*said["releases"], *(f"cycle {name}" for name in said["cycles"])]
            return f"accepted, set aside in {said['set_aside']}: {', '.join(names) or 'nothing'}"
        return said["verdict"] if self.kind == "decision" else said["release_id"]


@dataclass(frozen=True)
class Report:
    """What `verify` found: a chain that holds, and how many bytes of an unfinished line follow it."""

    entries: int
    head: str  # hash of the last entry
    torn_bytes: int


def path_of(warehouse: Path) -> Path:
    return warehouse / "log" / "decisions.jsonl"


def entries(warehouse: Path) -> list[Entry]:
    """All committed entries, oldest first; LogError if the chain does not hold."""
    return _read(path_of(warehouse))[0]


def verify(warehouse: Path) -> Report:
    """Check every line; LogError names the first one at fault."""
    found, torn = _read(path_of(warehouse))
    return Report(len(found), found[-1].entry_hash if found else FIRST, len(torn))


def refuse_gone(warehouse: Path, besides: str | None = None) -> None:
    """LogError if the log has no entry although there was one: a release (other than `besides`), a cycle or the aliases
    show it. What is written then would start a second chain, or wipe out the last that tells of the first."""
    if entries(warehouse):
        return
    aliases = warehouse / "models" / "aliases.json"
    runs = ((path, read_json(path).get("run")) for path in (warehouse / "cycles").glob("*/[!.]*.json"))
    shown = [
        *(path.parent for path in (warehouse / "releases").glob("[!.]*/manifest.json") if path.parent.name != besides),
        *(path for path, run in runs if isinstance(run, dict) and {"decision_id", "published_id"} & run.keys()),
        *([aliases] if any(read_json(aliases).values()) else []),
    ]
    if shown:
        raise LogError(
            f"{path_of(warehouse)}: has no entry, and {shown[0].relative_to(warehouse)} shows that there was one: bring"
            " the log back from a backup (docs/recovery.md)"
        )


def append(warehouse: Path, kind: Kind, payload: dict[str, Any], at: dt.datetime | None = None) -> Entry:
    """Commit one entry: when this returns, it is on the disk."""
    with locked(_lock(warehouse)):
        return _append(warehouse, kind, payload, at)


def append_decision(
    warehouse: Path,
    contract: str,
    cycle_date: dt.date,
    evaluation: Evaluation,
    promotes: str | None = None,
    at: dt.datetime | None = None,
    release_id: str | None = None,
    refit_from: dict[str, str | None] | None = None,
    card_sha: str | None = None,
) -> Entry:
    """Commit the decision on a cycle, or return the entry that says the same already.

    `promotes` is the model that becomes champion on GO when that is not the evaluated one itself but its refit;
    `release_id` is the release that is being built on the evidence; `refit_from` are the keys of the data sets that a
    refit needs and the evidence was made from; `card_sha` is the hash of the card of the model that is promoted, or
    would be. Said already: the cycle's latest decision stands on the same evidence,
    data sets, gate and waivers.
    """
    payload = {
        "contract": contract,
        "cycle_date": cycle_date.isoformat(),
        "promotes": promotes or evaluation.model_id,
        "release_id": release_id,
        "refit_from": refit_from,
        "card_sha": card_sha,
        **asdict(evaluation),
    }
    key = ("contract", "cycle_date", "gate_sha", "evidence_sha", "verdict", "reason", "refit_from")
    with locked(_lock(warehouse)):
        same_cycle = [
            entry
            for entry in entries(warehouse)
            if entry.kind == "decision" and all(entry.payload[name] == payload[name] for name in key[:2])
        ]
        if same_cycle and all(same_cycle[-1].payload.get(name) == payload[name] for name in key):
            return same_cycle[-1]
        return _append(warehouse, "decision", payload, at)


def append_opening(
    warehouse: Path, opened: dict[str, Any], test_from: dt.date, test_through: dt.date, at: dt.datetime | None = None
) -> Entry:
    """Commit that the test periods test_from..test_through of `opened` (contract, cycle_date, models) were scored.

    The entry counts how often these very periods were opened before: it is the `nth` time.
    """
    window = {"test_from": test_from.isoformat(), "test_through": test_through.isoformat()}
    with locked(_lock(warehouse)):
        before = [e for e in entries(warehouse) if e.kind == "opening" and e.payload["contract"] == opened["contract"]]
        same = [e for e in before if all(e.payload[name] == day for name, day in window.items())]
        return _append(warehouse, "opening", {**opened, **window, "nth": len(same) + 1}, at)


def append_sweep(warehouse: Path, payload: dict[str, Any]) -> Entry:
    """Commit a sweep's verdict {contract, cycle_date, terms_sha, k, best_k, n_seeds, margin, ks}, or return the entry
    that says the same already."""
    with locked(_lock(warehouse)):
        about = ("contract", "cycle_date", "terms_sha")
        before = [e for e in entries(warehouse) if e.kind == "sweep" and all(e.payload[n] == payload[n] for n in about)]
        is_said = bool(before) and all(before[-1].payload.get(name) == value for name, value in payload.items())
        return before[-1] if is_said else _append(warehouse, "sweep", payload, None)


def last_sweep(warehouse: Path, contract: str, as_of: dt.date, terms_sha: str) -> dict[str, Any] | None:
    """The verdict of the latest sweep of `contract` up to `as_of` on the same terms (fields and frozen block)."""
    wanted = {"contract": contract, "terms_sha": terms_sha}
    found = [
        entry
        for entry in entries(warehouse)
        if entry.kind == "sweep"
        and all(entry.payload[name] == value for name, value in wanted.items())
        and entry.payload["cycle_date"] <= as_of.isoformat()
    ]
    last = max(found, key=lambda entry: (entry.payload["cycle_date"], entry.seq), default=None)
    return last.payload if last else None


def _who() -> str:
    """The account that runs the command; an approval says more, who stands for it."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may run under a number that has no name
        return f"uid {os.getuid()}"


def _lock(warehouse: Path) -> Path:
    return path_of(warehouse).with_suffix(".lock")


def _canonical(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _hash(seq: int, at: str, kind: str, payload: dict[str, Any], prev_hash: str) -> str:
    body = {"seq": seq, "at": at, "kind": kind, "payload": payload, "prev_hash": prev_hash}
    return hashlib.sha256(_canonical(body).encode()).hexdigest()


def _append(warehouse: Path, kind: Kind, payload: dict[str, Any], at: dt.datetime | None) -> Entry:
    """Write one line; the caller holds the lock."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    path = path_of(warehouse)
    found, torn = _read(path)
    moment = (at or dt.datetime.now(dt.UTC)).astimezone(dt.UTC).isoformat(timespec="microseconds")
    payload = {"by": _who()} | payload
    if not found and kind != "loss":  # which says that the entries before it are gone
        refuse_gone(warehouse, besides=payload.get("release_id") if kind == "publish" else None)
    seq, prev_hash = len(found) + 1, found[-1].entry_hash if found else FIRST
    try:
        payload = json.loads(_canonical(payload))  # what a reader will get
    except (TypeError, ValueError) as error:
        raise ValueError(f"payload must be JSON with finite numbers, got {payload!r} ({error})") from None
    entry = Entry(seq, moment, kind, payload, prev_hash, _hash(seq, moment, kind, payload, prev_hash))
    with path.open("ab") as stream:
        if torn:
            logger.warning("%s: dropped %d bytes of an unfinished entry after line %d", path, len(torn), len(found))
            stream.truncate(stream.tell() - len(torn))
        stream.write(_canonical(asdict(entry)).encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    if seq == 1:
        sync(path.parent)  # the file's name, too
    return entry


def _read(path: Path) -> tuple[list[Entry], bytes]:
    """The committed entries and the bytes after the last newline; LogError if the chain does not hold."""
    try:
        *lines, torn = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], b""
    found: list[Entry] = []
    for number, line in enumerate(lines, start=1):
        try:
            entry = Entry(**json.loads(line))
            is_whole = line == _canonical(asdict(entry)).encode()
        except (ValueError, TypeError):
            raise LogError(f"{path}, line {number}: is not an entry of the log") from None
        body_hash = _hash(entry.seq, entry.at, entry.kind, entry.payload, entry.prev_hash)
        if not is_whole or entry.entry_hash != body_hash:
            raise LogError(f"{path}, line {number}: was changed after writing, its hash does not fit")
        prev_hash = found[-1].entry_hash if found else FIRST
        if entry.seq != number or entry.prev_hash != prev_hash:
            raise LogError(f"{path}, line {number}: does not follow the line before, entries were removed or moved")
        found.append(entry)
    return found, torn
