"""A model's card: what it is, what it was made from, what it cost and the checksums of its files.

The card is written last, so a model folder without one is not finished.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

NAME = "card.json"
START = "start"  # subfolder: the weights, with sums, that the next day's training may start from


def read(folder: Path | str) -> dict[str, Any]:
    """The card of a model folder; FileNotFoundError if it is not finished."""
    return json.loads((Path(folder) / NAME).read_text())


def write(folder: Path, card: dict[str, Any]) -> None:
    """Commit the model: its card appears whole or not at all."""
    temporary = folder / f".{NAME}"
    with temporary.open("w") as stream:
        json.dump(card, stream, indent=1, sort_keys=True)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(folder / NAME)


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 by path of the model's files, without the card itself and what a crash before it may have left."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): sha256(path) for path in files if not path.name.endswith(NAME)}


def damaged(folder: Path, card: dict[str, Any]) -> str | None:
    """The first file that is missing or not what was written, or None."""
    for name, expected in card["files"].items():
        if not (folder / name).is_file() or sha256(folder / name) != expected:
            return name
    return None


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
