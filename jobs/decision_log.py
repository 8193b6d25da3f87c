"""The decision log: append-only, hash-chained, the one authority on what was decided, published and rolled back.

    <warehouse>/log/decisions.jsonl     one entry a line, in canonical JSON
        {"at", "entry_hash", "kind", "payload", "prev_hash", "seq"}

`entry_hash` is the SHA-256 of the entry's canonical JSON without it, `prev_hash` that of the line before, so no entry
can be changed, moved or removed from the middle unseen. (Whole lines cut off at the end leave a shorter valid chain;
release manifests keep their decision's id.) A line is committed by its newline: a last line without one is what a
crash left of an append that never returned, and counts as not written. Everything else, the alias `champion` above
all, is derived from the log and can be rebuilt.

A model is promoted by a decision GO, or by the approval of a decision HOLD (jobs/approvals.py). On every cycle only
the decision in force counts, the last one written: decided again with another outcome, a cycle promotes nothing any
more. Both count for the cycle that was decided on, whenever they were written: an old date run again sees what was
promoted by its time.
"""

from __future__ import annotations

import datetime as dt
import getpass
import hashlib
import json
import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from jobs.durable import locked, sync
from jobs.gate import Evaluation
from jobs.lake import write_json

Kind = Literal["decision", "publish", "rollback", "opening", "sweep", "approval", "waiver"]
KINDS = ("decision", "publish", "rollback", "opening", "sweep", "approval", "waiver")
FIRST = "0" * 64  # prev_hash of the first entry

logger = logging.getLogger(__name__)


class LogError(RuntimeError):
    """A log that was changed after writing; the message names the line."""


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
        return said["verdict"] if self.kind == "decision" else said["release_id"]


@dataclass(frozen=True)
class Champion:
    """A promoted model: what serves, and the candidate that was judged."""

    promotes: str  # the refit
    model_id: str  # the candidate
    k: int | None
    cycle_date: dt.date
    decision_id: str


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
) -> Entry:
    """Commit the decision on a cycle, or return the entry that says the same already.

    `promotes` is the model that becomes champion on GO when that is not the evaluated one itself but its refit;
    `release_id` is the release that is being built on the evidence; `refit_from` are the keys of the data sets that a
    refit needs and the evidence was made from. Said already: the cycle's latest decision stands on the same evidence,
    data sets, gate and waivers.
    """
    payload = {
        "contract": contract,
        "cycle_date": cycle_date.isoformat(),
        "promotes": promotes or evaluation.model_id,
        "release_id": release_id,
        "refit_from": refit_from,
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


def openings(found: Iterable[Entry], contract: str, as_of: dt.date) -> list[dict[str, Any]]:
    """The rows of the fact `test_openings`: of one contract, of cycles up to `as_of`."""
    day = dt.date.fromisoformat
    return [
        {
            **{name: entry.payload[name] for name in ("contract", "models", "nth")},
            **{name: day(entry.payload[name]) for name in ("cycle_date", "test_from", "test_through")},
            "opened_at": _naive(entry.at),
        }
        for entry in found
        if entry.kind == "opening"
        and entry.payload["contract"] == contract
        and entry.payload["cycle_date"] <= as_of.isoformat()
    ]


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


def champion(warehouse: Path, contract: str, as_of: dt.date | None = None) -> str | None:
    """The model of `contract` that was promoted on the latest cycle, None before the first; HOLD and NO-GO on a later
    cycle leave it as it is.

    With `as_of`, decisions on later cycles do not count: an old date run again sees the champion of its time.
    """
    found = promoted(entries(warehouse), contract, as_of)
    return found.promotes if found else None


def incumbent(warehouse: Path, contract: str, date: dt.date) -> Champion | None:
    """The champion that the cycle of `date` found: promoted on a cycle before it. None if there was none."""
    return promoted(entries(warehouse), contract, date - dt.timedelta(days=1))


def last_decision(warehouse: Path, contract: str, cycle_date: dt.date) -> Entry | None:
    """The decision in force on a cycle: the last one written; None if there is none."""
    found = [e for e in _decisions(entries(warehouse), contract) if e.payload["cycle_date"] == cycle_date.isoformat()]
    return found[-1] if found else None


def approval_of(found: Iterable[Entry], decision_id: str) -> Entry | None:
    """The approval of a decision, None if nobody approved it."""
    return next((e for e in found if e.kind == "approval" and e.payload["decision_id"] == decision_id), None)


def latest_by_cycle(found: Iterable[Entry], contract: str, before: dt.date) -> list[Entry]:
    """The decision in force on each cycle of `contract` before `before`, the latest cycle last."""
    by_cycle = {e.payload["cycle_date"]: e for e in _decisions(found, contract)}
    return [by_cycle[day] for day in sorted(by_cycle) if day < before.isoformat()]


def challenger(warehouse: Path, contract: str, as_of: dt.date) -> str | None:
    """The model judged last on a cycle up to `as_of`, whatever came of it; None before the first."""
    found = _decisions(entries(warehouse), contract, as_of)
    return found[-1].payload["model_id"] if found else None


def write_aliases(warehouse: Path) -> dict[str, Any]:
    """Rebuild <warehouse>/models/aliases.json from the log and return what it holds."""
    found = entries(warehouse)
    champions = {}
    for contract in sorted({entry.payload["contract"] for entry in _decisions(found)}):
        best = promoted(found, contract)
        if best:
            champions[contract] = {
                "model_id": best.promotes,
                "decision_id": best.decision_id,
                "cycle_date": best.cycle_date.isoformat(),
            }
    aliases = {"champion": champions}
    write_json(warehouse / "models" / "aliases.json", aliases)
    return aliases


def to_facts(
    found: list[Entry], contract: str | None = None, as_of: dt.date | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of the facts `decisions` and `decision_rules`, of one contract and of cycles up to `as_of` if given.

    The champion after a decision is the one until the next: on a later cycle, or up to now. So an approval counts that
    was written before a later cycle was decided on; after that it shows from the later decision on.
    """
    decisions, rules = [], []
    approvals = [entry for entry in found if entry.kind == "approval"]
    counted = _decisions(found, contract, as_of)
    for position, entry in enumerate(counted):
        payload = entry.payload
        cycle_date = dt.date.fromisoformat(payload["cycle_date"])
        later = (e for e in _decisions(counted[position:], payload["contract"]) if _day(e) > cycle_date)
        end = min((e.seq for e in later), default=found[-1].seq + 1)
        given = [approval for approval in approvals if approval.seq < end]
        best = promoted([*counted[: position + 1], *given], payload["contract"], cycle_date)
        decisions.append(
            {
                "decision_id": entry.decision_id,
                "seq": entry.seq,
                "cycle_date": cycle_date,
                "decided_at": _naive(entry.at),
                "decided_by": payload.get("by"),
                "verdict": payload["verdict"],
                "reason": payload["reason"],
                "next_action": payload.get("next_action") or None,
                "k": payload["k"],
                "candidate_model_id": payload["model_id"],
                "champion_model_id": best.promotes if best else None,
                "gate_sha": payload["gate_sha"],
                "evidence_sha": payload["evidence_sha"],
                "entry_hash": entry.entry_hash,
            }
        )
        for seq, rule in enumerate(payload["rules"], start=1):
            rules.append({"decision_id": entry.decision_id, "seq": seq, **_NO_NOTE, **rule})
    return decisions, rules


_NO_NOTE = {"note": None, "periods_needed": None, "days_needed": None}  # of rules that were logged without


def approvals_to_facts(
    found: Iterable[Entry], contract: str | None = None, as_of: dt.date | None = None
) -> list[dict[str, Any]]:
    """The rows of the fact `approvals`: approvals and waivers, of one contract and of cycles up to `as_of` if given."""
    day = dt.date.fromisoformat
    return [
        {
            "entry_id": entry.decision_id,
            "seq": entry.seq,
            "kind": entry.kind,
            "cycle_date": day(entry.payload["cycle_date"]),
            "given_at": _naive(entry.at),
            "given_by": entry.payload["by"],
            "why": entry.payload["why"],
            "decision_id": entry.payload.get("decision_id"),
            "promotes": entry.payload.get("promotes"),
            "rule": entry.payload.get("rule"),
            "until": day(entry.payload["until"]) if "until" in entry.payload else None,
            "gate_sha": entry.payload["gate_sha"],
            "entry_hash": entry.entry_hash,
        }
        for entry in found
        if entry.kind in ("approval", "waiver")
        and contract in (None, entry.payload["contract"])
        and (as_of is None or entry.payload["cycle_date"] <= as_of.isoformat())
    ]


def _naive(at: str) -> dt.datetime:
    """An entry's instant as the naive UTC timestamp that facts hold."""
    return dt.datetime.fromisoformat(at).astimezone(dt.UTC).replace(tzinfo=None)


def _decisions(found: Iterable[Entry], contract: str | None = None, as_of: dt.date | None = None) -> list[Entry]:
    return [
        entry
        for entry in found
        if entry.kind == "decision"
        and contract in (None, entry.payload["contract"])
        and (as_of is None or entry.payload["cycle_date"] <= as_of.isoformat())
    ]


def promoted(found: Iterable[Entry], contract: str, as_of: dt.date | None = None) -> Champion | None:
    """What was promoted on the latest cycle (up to `as_of`) whose decision in force is a GO or an approved HOLD.

    Running an old date again must not demote the champion of a later one."""
    found = list(found)
    in_force = {
        _day(entry): entry for entry in _decisions(found, contract, as_of)
    }  # the last one written of each cycle
    for day, entry in sorted(in_force.items(), reverse=True):
        said = entry.payload
        by = entry if said["verdict"] == "GO" else approval_of(found, entry.decision_id)
        if by is not None:
            return Champion(by.payload["promotes"], said["model_id"], said["k"], day, entry.decision_id)
    return None


def _day(decision: Entry) -> dt.date:
    return dt.date.fromisoformat(decision.payload["cycle_date"])


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
