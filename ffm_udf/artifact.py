"""A baseline's folder on disk: arrays as .npy, texts, and `<kind>.json` with the checksum of each. Never pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ffm_udf.card import sha256 as checksum

FORMAT = 1


def save(
    folder: Path | str,
    kind: str,
    header: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray] | None = None,
    texts: Mapping[str, str] | None = None,
) -> int:
    """Write `<name>.npy` and `<name>.txt` files into `folder`, the header `<kind>.json` last; returns their bytes.

    A folder without the header is not a model, so one that a crash left half-written cannot be loaded.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kind}.json"
    path.unlink(missing_ok=True)
    written = []
    for name, array in (arrays or {}).items():
        written.append(folder / f"{name}.npy")
        np.save(written[-1], np.ascontiguousarray(array), allow_pickle=False)
    for name, text in (texts or {}).items():
        written.append(folder / f"{name}.txt")
        written[-1].write_text(text, encoding="utf-8")
    files = {file.name: checksum(file) for file in written}
    temporary = folder / f".{kind}.json"
    content = {"format": FORMAT, "files": files, **header}
    content["sha256"] = _checksum(content)
    temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    temporary.replace(path)
    return sum(file.stat().st_size for file in (*written, path))


def load(folder: Path | str, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The header of `folder` and its contents by name: memory-mapped arrays and texts.

    Raises FileNotFoundError if it is no `kind` model, ValueError if it is damaged or of another format version.
    """
    folder = Path(folder)
    path = folder / f"{kind}.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is not a {kind} model: it has no {path.name}")
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{kind} model {folder} is damaged: {path.name} is not JSON ({error})") from None
    version = header.get("format") if isinstance(header, dict) else None
    if version != FORMAT:
        raise ValueError(f"{kind} model {folder} has format {version!r}, this version reads format {FORMAT}")
    if header.get("sha256") != _checksum(header):
        raise ValueError(f"{kind} model {folder} is damaged: {path.name} does not match its own checksum")
    found = {}
    for name, sha256 in header["files"].items():
        file = folder / name
        if not file.is_file():
            raise ValueError(f"{kind} model {folder} is damaged: {name} is missing")
        if checksum(file) != sha256:
            raise ValueError(f"{kind} model {folder} is damaged: {name} does not match its checksum")
        text = file.suffix == ".txt"
        found[file.stem] = (
            file.read_text(encoding="utf-8") if text else np.load(file, mmap_mode="r", allow_pickle=False)
        )
    return header, found


def _checksum(header: Mapping[str, Any]) -> str:
    text = json.dumps({name: value for name, value in header.items() if name != "sha256"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
