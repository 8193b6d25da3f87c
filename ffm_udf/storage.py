"""A model on disk: a folder of .npy arrays and model.json with their checksums. Never pickle."""

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ffm_udf.card import sha256
from ffm_udf.layout import Layout
from ffm_udf.weights import Weights

FORMAT = 1
HEADER = "model.json"


def save(model, path, state):
    """Writes `model` as the folder `path`, which appears whole or not at all; see `FFM.save`."""
    weights = model.fitted_weights()
    if state and weights.layout.sums is None:
        raise ValueError("this model has no AdaGrad sums to save: it was loaded or converted for scoring only")
    layout, columns = weights.layout, 2 if state else 1
    weights_part = weights.table if state else weights.table[:, : layout.weights_width]
    arrays = {"blocks": weights_part, "linear": weights.linear[:, :columns], "bias": weights.bias[:, :columns]}
    header = {
        "format": FORMAT,
        "parameters": asdict(model),
        "layout": asdict(layout) | {"sums": layout.sums if state else None},
        "n_parameters": model.n_parameters_,
        "history": model.history_,
        "best_epoch": model.best_epoch_,
        "compile_seconds": model.compile_seconds_,
        "half_loss": model.half_loss_,
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        size = _fill(staging, header, arrays)
        _put(staging, path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return size


def _fill(folder, header, arrays):
    files, size = {}, 0
    for name, array in arrays.items():
        file = folder / f"{name}.npy"
        np.save(file, np.ascontiguousarray(array), allow_pickle=False)
        about = {"sha256": sha256(file), "dtype": array.dtype.name, "shape": list(array.shape)}
        files[name] = about | {"bytes": file.stat().st_size}
        size += file.stat().st_size
    header = header | {"arrays": files}
    header["sha256"] = _header_checksum(header)
    (folder / HEADER).write_text(json.dumps(header, indent=1, sort_keys=True, default=_plain) + "\n")
    folder.chmod(0o755)
    return size + (folder / HEADER).stat().st_size


def _put(staging, path):
    """Moves `staging` to `path`, replacing what is there."""
    if not path.exists():
        os.replace(staging, path)
        return
    if not (path / HEADER).exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"{path} exists and is not a model folder; it is left as it is")
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
    os.replace(path, old / path.name)
    try:
        os.replace(staging, path)
    except OSError:
        os.replace(old / path.name, path)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _plain(value):
    """numpy scalars as JSON numbers."""
    return value.item()


def _header_checksum(header):
    text = json.dumps({k: v for k, v in header.items() if k != "sha256"}, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def load(path, verify):
    """(constructor parameters, attributes) of the model folder `path`; see `FFM.load`."""
    path = Path(path)
    if not (path / HEADER).exists():
        raise FileNotFoundError(f"{path} is not a model folder: it has no {HEADER}")
    header = _read_header(path)
    layout = Layout(**header["layout"])
    columns = 1 if layout.sums is None else 2
    shapes = {
        "blocks": (layout.n_features, layout.stride),
        "linear": (layout.n_features, columns),
        "bias": (1, columns),
    }
    arrays = {name: _read_array(path, name, header["arrays"][name], shape, verify) for name, shape in shapes.items()}
    attributes = {
        "weights_": Weights(layout, arrays["blocks"].reshape(-1), arrays["linear"], arrays["bias"]),
        "history_": header["history"],
        "best_epoch_": header["best_epoch"],
        "compile_seconds_": header["compile_seconds"],
        "half_loss_": header["half_loss"],
    }
    return header["parameters"], attributes


def _read_header(path):
    try:
        header = json.loads((path / HEADER).read_bytes())
    except ValueError as error:
        raise ValueError(f"model {path} is damaged: {HEADER} is not JSON ({error})") from None
    version = header.get("format") if isinstance(header, dict) else None
    if version is None:
        raise ValueError(f"model {path} is damaged: {HEADER} has no format version")
    if version != FORMAT:
        raise ValueError(f"model {path} has format {version!r}, this version of ffm_udf reads format {FORMAT}")
    if header.get("sha256") != _header_checksum(header):
        raise ValueError(f"model {path} is damaged: {HEADER} does not match its own checksum")
    return header


def _read_array(path, name, about, shape, verify):
    file = path / f"{name}.npy"
    if not file.exists():
        raise ValueError(f"model {path} is damaged: {file.name} is missing")
    if file.stat().st_size != about["bytes"]:
        raise ValueError(f"model {path} is damaged: {file.name} has {file.stat().st_size} bytes, not {about['bytes']}")
    if verify and sha256(file) != about["sha256"]:
        raise ValueError(f"model {path} is damaged: {file.name} does not match its checksum")
    try:
        array = np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))
    except ValueError as error:
        raise ValueError(f"model {path} is damaged: {file.name} cannot be read ({error})") from None
    if array.shape != shape or array.dtype.name != about["dtype"]:
        raise ValueError(f"model {path} is damaged: {file.name} is {array.dtype.name} {array.shape}, not {shape}")
    return array
