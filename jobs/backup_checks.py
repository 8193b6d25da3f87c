"""What a backup is refused for: a place that is not this warehouse's; and what it cannot take."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

from jobs import durable, reachable, releases
from jobs.backup_store import BackupError, Store
from jobs.lake import write_json


def identity(warehouse: Path) -> str:
    """The random id of the warehouse, made when it is first asked for; a restored warehouse has that of its backup."""
    path = _identity_path(warehouse)
    with durable.locked(path.with_name(".warehouse_id.lock")):
        if not path.exists():
            write_json(path, {"warehouse_id": uuid.uuid4().hex})
            durable.sync(path.parent)
    try:
        return str(json.loads(path.read_text())["warehouse_id"])
    except (ValueError, KeyError, TypeError):
        raise BackupError(f"{path} must name the warehouse, and cannot be read: bring it back from a backup") from None


def _identity_path(warehouse: Path) -> Path:
    return warehouse / "log" / "warehouse_id.json"


def refuse_inside(store: Store, warehouse: Path) -> None:
    """BackupError if the place lies in the warehouse: it would be lost with it, and be backed up itself."""
    if store.is_local and Path(store.root).resolve().is_relative_to(warehouse):
        raise BackupError(f"the place of backups must lie outside of the warehouse {warehouse}, got {store.name}")


def refuse_others(store: Store, warehouse: Path, own: str) -> None:
    """BackupError if the place holds backups of another warehouse: a restore would take the last of either."""
    for manifest in store.readable():
        there = manifest.get("warehouse_id")
        if there not in (None, own):
            raise BackupError(
                f"{store.name} holds backups of another warehouse, {manifest['warehouse']} ({there}): take a place of"
                f" its own for each; if it is this one, {_identity_path(warehouse)} is to name it"
            )
        if there == own:
            return


def unreadable(warehouse: Path, kept: list[releases.Release]) -> Iterator[str]:
    """Releases and cycles that no more say what they are made of; the caller holds the lock of the releases."""
    known = {release.release_id for release in kept}
    for folder in sorted((warehouse / "releases").glob("[!.]*/")):
        if folder.name not in known:
            yield f"release {folder.name}: manifest.json is missing or cannot be read: it is left out"
    for path in reachable.unreadable_cycles(warehouse):
        yield f"{path} cannot be read: what only it named is left out"
