"""The operations log: what was done to the warehouse, when, whether it went well, how long it took.

    <warehouse>/log/operations.jsonl     one event a line: {"at", "bytes", "detail", "kind", "ok", "rpo_s", "seconds"}

It measures and decides nothing, so its lines carry no hashes (the decision log's do). A line is committed by its
newline, as there: what a crash left of an append does not count.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from jobs.durable import locked, sync

Kind = Literal["backup", "restore", "drill", "rebuild", "gc", "guard", "publish", "probe"]
KINDS: tuple[str, ...] = get_args(Kind)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Event:
    """One line. `seconds` it took, `bytes` it wrote or freed; `rpo_s`: seconds between the newest thing that a backup
    holds and the moment of loss. None where it does not apply."""

    at: str  # UTC, ISO 8601
    kind: str
    ok: bool
    seconds: float | None = None
    bytes: int | None = None
    rpo_s: float | None = None
    detail: str = ""


def path_of(warehouse: Path) -> Path:
    return warehouse / "log" / "operations.jsonl"


def append(
    warehouse: Path,
    kind: Kind,
    *,
    ok: bool,
    seconds: float | None = None,
    bytes: int | None = None,
    rpo_s: float | None = None,
    detail: str = "",
    at: dt.datetime | None = None,
) -> Event:
    """Commit one event: when this returns, it is on the disk. ValueError for a kind that is not known or a number that
    is not finite."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    for name, value in (("seconds", seconds), ("rpo_s", rpo_s)):
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{name} must be finite, got {value}")
    moment = (at or dt.datetime.now(dt.UTC)).astimezone(dt.UTC).isoformat(timespec="microseconds")
    event = Event(moment, kind, ok, seconds, bytes, rpo_s, " ".join(detail.split()))
    path = path_of(warehouse)
    with locked(path.with_suffix(".lock")):
        is_new = not path.exists()
        torn = _torn(path)
        with path.open("ab") as stream:
            if torn:
                logger.warning("%s: dropped %d bytes of an unfinished event", path, torn)
                stream.truncate(stream.tell() - torn)
            stream.write(json.dumps(asdict(event), sort_keys=True).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        if is_new:
            sync(path.parent)  # the file's name, too
    return event


def entries(warehouse: Path) -> list[Event]:
    """All committed events, oldest first; a line that cannot be read is passed over with a warning: the others still
    measure."""
    try:
        *lines, _ = path_of(warehouse).read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(Event(**json.loads(line)))
        except (ValueError, TypeError):
            logger.warning("%s, line %d: is not an event, passed over", path_of(warehouse), number)
    return found


def _torn(path: Path) -> int:
    """Bytes after the last newline."""
    try:
        return len(path.read_bytes().rpartition(b"\n")[2])
    except FileNotFoundError:
        return 0
