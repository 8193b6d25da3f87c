"""`cvr`: a finished model as a column function of Spark, for DataFrames and Spark SQL. docs/udf.md shows both.

The one file of the library that imports pyspark. What travels to the workers is paths and names; every Python process
opens the model once, memory-mapped, whatever the number of its tasks and batches. Columns arrive and leave as Arrow.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql.functions import arrow_udf
from pyspark.sql.types import DoubleType

from ffm_udf import card as cards
from ffm_udf.scoring import ScoringModel, opened

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql._typing import UserDefinedFunctionLike

type Ids = tuple[int, dict[str, int]]  # of one field: the id of values it does not know, the id of every other value


def cvr_udf(model_path: Path | str, vocabulary: Path | str | None = None) -> UserDefinedFunctionLike:
    """A function of columns: calibrated P(y = 1) of each row (double) by the finished model in the folder `model_path`.

    It takes one column per field, in the order of the model's `card["fields"]` or by name (`cvr(store=…, family=…)`):
    int feature ids, or with `vocabulary`, the Parquet file of the model's vocabulary, text values, of which the unknown
    ones become their field's OOV feature. p is that of ScoringModel.score. Driver and executors must see both paths.

    Raises ValueError if there is no finished model or the vocabulary is not the model's. A query fails with one line if
    columns are missing, are too many or of another type, or hold a null or an id that the model does not have.
    """
    folder, file = str(Path(model_path).resolve()), None if vocabulary is None else str(Path(vocabulary).resolve())
    card = _card(folder)
    if file is not None:
        _check_vocabulary(file, card)
    model_id, n_features = card["model_id"], card["task"]["n_features"]

    def cvr(*columns: pa.Array, **named: pa.Array) -> pa.Array:
        model = _ready(folder)
        if model.model_id != model_id:
            # Opened once per process: scores of two models must not be mixed without a word.
            raise ValueError(f"model_path {folder} must stay model {model_id}, a worker found {model.model_id} there")
        given = _by_field(model.fields, columns, named)
        known = None if file is None else _vocabulary(file)
        ids = [
            _feature_ids(field, column, n_features) if known is None else _encoded(field, column, known[field])
            for field, column in given.items()
        ]
        X = np.stack(ids, axis=1)
        return pa.array(model.score(X)[1] if len(X) else [], pa.float64())

    # pyspark tells from the type hints that these are arrays; its own stubs do not know that way of asking.
    return arrow_udf(cvr, DoubleType())  # ty: ignore[no-matching-overload]


def register(
    spark: SparkSession, model_path: Path | str, name: str = "cvr", vocabulary: Path | str | None = None
) -> UserDefinedFunctionLike:
    """Makes `cvr_udf(model_path, vocabulary)` the function `name` of the session's SQL, in place of one of that name
    before, and returns it."""
    return spark.udf.register(name, cvr_udf(model_path, vocabulary))


def _card(folder: str) -> dict[str, Any]:
    try:
        return cards.read(folder)
    except OSError as error:
        reason = f"got {folder} ({cards.NAME}: {error.strerror})"
        raise ValueError(f"model_path must be the folder of a finished model, {reason}") from None


@functools.lru_cache(maxsize=128)
def _ready(folder: str) -> ScoringModel:
    """The model of `folder`, one per process, with its kernels compiled by a first row."""
    model = opened(folder)
    model.score(np.zeros((1, len(model.fields)), np.int32))
    return model


def _by_field(fields: Sequence[str], columns: Sequence[pa.Array], named: dict[str, pa.Array]) -> dict[str, pa.Array]:
    """Field -> column in the order of `fields`. Raises ValueError unless every field has exactly one."""
    given = dict(zip(fields, columns, strict=False)) | named
    if len(columns) + len(named) != len(fields) or given.keys() != set(fields):
        names = f" and {', '.join(named)} by name" if named else ""
        wanted = f"one column for each of its model's {len(fields)} fields ({', '.join(fields)})"
        raise ValueError(f"cvr must get {wanted}, got {len(columns)} by place{names}")
    return {field: given[field] for field in fields}


def _feature_ids(field: str, column: pa.Array, n_features: int) -> np.ndarray:
    """The column as int32 [n], checked."""
    _check_column(field, column, pa.types.is_int32(column.type), "int feature ids (cast(… as int))")
    ids = column.to_numpy()
    wrong = (ids < 0) | (ids >= n_features)
    if wrong.any():
        raise ValueError(f"cvr: feature ids of field {field} must be in 0..{n_features - 1}, got {ids[wrong][0]}")
    return ids


def _encoded(field: str, column: pa.Array, known: Ids) -> np.ndarray:
    """The feature ids of a column of text, int32 [n]."""
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    _check_column(field, column, is_text, "text, to be looked up in the vocabulary (cast(… as string))")
    unknown, ids = known
    # Only what differs is looked up: few values per batch, whatever the sizes of batch and vocabulary.
    coded = column.dictionary_encode()
    found = np.array([ids.get(value, unknown) for value in coded.dictionary.to_pylist()], np.int32)
    return found[coded.indices.to_numpy()]


def _check_column(field: str, column: pa.Array, is_right: bool, wanted: str) -> None:
    if not is_right:
        raise ValueError(f"cvr: column of field {field} must be {wanted}, got {column.type}")
    if column.null_count:
        nulls = f"{column.null_count} null of {len(column)} rows"
        raise ValueError(f"cvr: column of field {field} must not be null, got {nulls}")


@functools.lru_cache(maxsize=128)
def _vocabulary(file: str) -> dict[str, Ids]:
    """Field -> ids, in the order of the fields, of a vocabulary: field, value (null: unknown values) and feature_id."""
    table = pq.ParquetFile(file).read(["field", "value", "feature_id"]).to_pylist()
    found: dict[str, Ids] = {row["field"]: (row["feature_id"], {}) for row in table if row["value"] is None}
    for row in table:
        if row["value"] is not None:
            found[row["field"]][1][row["value"]] = row["feature_id"]
    return found


def _check_vocabulary(file: str, card: dict[str, Any]) -> None:
    """Raises ValueError unless the file has the bytes of the vocabulary that the model of `card` learned with."""
    if not Path(file).is_file():
        raise ValueError(f"vocabulary must be a Parquet file, got {file}")
    # A data set of one file is known by this: its name in the lake and its own checksum.
    content = hashlib.sha256(f"part-00000.parquet {cards.sha256(Path(file))}".encode()).hexdigest()
    about = card["lineage"]["vocabulary"]
    if content != about["content"]:
        wanted = f"the one that {card['model_id']} learned with (data set {about['key']})"
        raise ValueError(f"vocabulary must be {wanted}, got {file}")
