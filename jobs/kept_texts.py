"""What people wrote and a model rests on, kept by hash: contracts, gates and the lock of the environment.

    <warehouse>/kept/<sha256>     the exact bytes that have this hash (`sha256sum` says so)

A card or a log entry names a contract or a gate by the hash of its meaning. The files under conf/ are edited, so a hash
alone could not be resolved any more.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path

from jobs.durable import sync
from jobs.lake import PROJECT


def keep(warehouse: Path, *texts: str) -> None:
    """Keep each text, if it is not there already and whole."""
    for text in texts:
        sha = hashlib.sha256(text.encode()).hexdigest()
        path = path_of(warehouse, sha)
        if text and fault(warehouse, sha) is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            new = path.with_name(f".{sha}.{uuid.uuid4().hex}")
            new.write_bytes(text.encode())
            sync(new)
            os.replace(new, path)
            sync(path.parent)


def path_of(warehouse: Path, sha: str) -> Path:
    return warehouse / "kept" / sha


def fault(warehouse: Path, sha: str) -> str | None:
    """Why the text of this hash cannot be had, None if it can."""
    path = path_of(warehouse, sha)
    if not path.is_file():
        return f"kept/{sha} is missing"
    is_whole = hashlib.sha256(path.read_bytes()).hexdigest() == sha
    return None if is_whole else f"kept/{sha} was changed"


def lock() -> str:
    """The lock of this environment; empty where the project was installed without one."""
    path = PROJECT / "requirements.lock"
    return path.read_text() if path.exists() else ""
