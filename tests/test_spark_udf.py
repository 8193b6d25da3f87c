"""`cvr` as a column function: the model's own p, one load per process, refusals in one line, what docs/udf.md shows."""

from __future__ import annotations

import hashlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.errors import PythonException
from pyspark.sql import functions as F
from pyspark.sql.functions import arrow_udf
from row_task import FIELDS, OFFSET, SIZE, draw, training_task
from scipy import special
from standalone_cluster import SETTINGS, Cluster

from ffm_udf import scorer, scoring, workers
from ffm_udf.model import FFM
from ffm_udf.spark import cvr_udf, register

UDF_PAGE = Path(__file__).resolve().parent.parent / "docs" / "udf.md"
SAME = {"slope": 1.0, "intercept": 0.0}  # a calibrator that changes nothing: p is predict_proba's
# Field f's ids begin with the one of unknown values; the others are named after their ids.
VALUES = [
    (field, None if number == first else f"value {number}", number)
    for field, first, end in zip(FIELDS, OFFSET, [*OFFSET[1:], SIZE], strict=True)
    for number in range(first, end)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("udf")


@pytest.fixture(scope="module")
def vocabulary(folder: Path) -> Path:
    columns = dict(zip(("field", "value", "feature_id"), zip(*VALUES, strict=True), strict=True))
    pq.write_table(pa.table({name: list(column) for name, column in columns.items()}), folder / "words.parquet")
    return folder / "words.parquet"


@pytest.fixture(scope="module")
def models(folder: Path, vocabulary: Path) -> dict[str, str]:
    """Name -> folder of finished models."""
    # The lake's content of a data set of one file, as jobs/lake.py defines it.
    sha = hashlib.sha256(vocabulary.read_bytes()).hexdigest()
    content = hashlib.sha256(f"part-00000.parquet {sha}".encode()).hexdigest()
    lineage = {"vocabulary": {"key": "words", "content": content}}
    made = {
        "ffm": training_task(folder, "ffm", lineage=lineage),
        "prior": training_task(folder, "prior", lineage=lineage),
        "ffm as is": training_task(folder, "ffm", model_id="ffm-as-is", calib=None, calibrator=SAME),
        "prior as is": training_task(folder, "prior", model_id="prior-as-is", calib=None, calibrator=SAME),
    }
    for task in made.values():
        workers.train(task)
    return {name: task["folder"] for name, task in made.items()}


@pytest.fixture(scope="module")
def X() -> np.ndarray:
    return draw(11, 1000)[0]


@pytest.fixture
def rows(spark: Any, X: np.ndarray) -> Iterator[Any]:
    """The rows with a `row` number and a text beside them, in five partitions that travel in batches of 17."""
    before = spark.conf.get("spark.sql.execution.arrow.maxRecordsPerBatch")
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", 17)
    columns = {"row": np.arange(len(X)), "note": [f"row {i}" for i in range(len(X))]}
    columns |= {field: X[:, place] for place, field in enumerate(FIELDS)}
    yield spark.createDataFrame(pa.table(columns)).repartition(5)
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", before)


def p_by_row(scored: Any) -> np.ndarray:
    """p in the order of the rows' numbers."""
    table = scored.select("row", "p").toArrow().sort_by("row")
    assert table["p"].type == pa.float64()
    assert table["row"].to_pylist() == list(range(len(table)))
    return table["p"].to_numpy()


# --- p ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ffm", "prior"])
def test_p_is_that_of_the_scoring_model_to_the_bit(spark, models, rows, X, name):
    expected = scoring.ScoringModel(models[name]).score(X)[1]
    np.testing.assert_array_equal(p_by_row(rows.withColumn("p", cvr_udf(models[name])(*FIELDS))), expected)


def test_p_is_that_of_predict_proba(spark, models, rows, X):
    found = p_by_row(rows.withColumn("p", cvr_udf(models["ffm as is"])(*FIELDS)))
    np.testing.assert_allclose(found, FFM.load(models["ffm as is"]).predict_proba(X)[:, 1], rtol=0, atol=1e-15)
    found = p_by_row(rows.withColumn("p", cvr_udf(models["prior as is"])(*FIELDS)))
    logits = scorer.open_model("prior", models["prior as is"]).decision_function(X)
    np.testing.assert_allclose(found, special.expit(logits.astype(np.float64)), rtol=0, atol=1e-15)


def test_columns_by_name_may_come_in_any_order(spark, models, rows, X):
    by_name = {field: F.col(field) for field in reversed(FIELDS)}
    found = p_by_row(rows.withColumn("p", cvr_udf(models["ffm"])(**by_name)))
    np.testing.assert_array_equal(found, scoring.opened(models["ffm"]).score(X)[1])


def test_sql_calls_it_by_place_and_by_name(spark, models, rows, X):
    register(spark, models["ffm"])
    register(spark, models["prior"], "heuristic")
    rows.createOrReplaceTempView("udf_rows")
    by_name = ", ".join(f"{field} => {field}" for field in reversed(FIELDS))
    for call, name in (("cvr(category, family, household)", "ffm"), (f"heuristic({by_name})", "prior")):
        found = p_by_row(spark.sql(f"select row, {call} as p from udf_rows"))
        np.testing.assert_array_equal(found, scoring.opened(models[name]).score(X)[1])
    register(spark, models["prior"])
    found = p_by_row(spark.sql("select row, cvr(category, family, household) as p from udf_rows"))
    np.testing.assert_array_equal(found, scoring.opened(models["prior"]).score(X)[1])


def test_other_columns_stay_and_two_models_score_side_by_side(spark, models, rows, X):
    two = {"p": cvr_udf(models["ffm"])(*FIELDS), "other": cvr_udf(models["prior"])(*FIELDS)}
    table = rows.withColumns(two).toArrow().sort_by("row")
    assert table.column_names == ["row", "note", *FIELDS, "p", "other"]
    assert table["note"].to_pylist() == [f"row {i}" for i in range(len(X))]
    for name, column in (("ffm", "p"), ("prior", "other")):
        np.testing.assert_array_equal(table[column].to_numpy(), scoring.opened(models[name]).score(X)[1])


def test_no_rows_give_no_p(spark, models, rows):
    none = rows.where("row < 0").withColumn("p", cvr_udf(models["ffm"])(*FIELDS))
    assert (none.toArrow().num_rows, none.schema["p"].dataType.simpleString()) == (0, "double")
    found = cvr_udf(models["ffm"]).func(*[pa.array([], pa.int32())] * 3)
    assert (len(found), found.type) == (0, pa.float64())


def test_text_is_encoded_by_the_vocabulary_of_the_model(spark, models, vocabulary, rows, X):
    # Household 18 is called by a word that the vocabulary does not have, so it scores as id 9, its field's OOV feature.
    word = F.when(F.col("household") == 18, "never seen").otherwise(F.concat(F.lit("value "), "household"))
    texts = [F.concat(F.lit("value "), field) for field in FIELDS[:2]] + [word]
    found = p_by_row(rows.withColumn("p", cvr_udf(models["ffm"], vocabulary)(*texts)))
    told = X.copy()
    told[told[:, 2] == 18, 2] = 9
    assert (told != X).any()
    np.testing.assert_array_equal(found, scoring.opened(models["ffm"]).score(told)[1])


# --- one load ---------------------------------------------------------------------------------------------------------


def test_a_worker_loads_the_model_once_for_all_tasks_and_batches(spark, models, rows, folder):
    fresh = folder / "loaded once"  # no worker knows this path yet
    shutil.copytree(models["ffm"], fresh)

    @arrow_udf("struct<pid: int, before: int, loads: int, batch: int, p: double>")
    def counted(*columns: pa.Array) -> pa.Array:
        before = scoring.loads()
        p = cvr.func(*columns)
        about = {"pid": os.getpid(), "before": before, "loads": scoring.loads(), "batch": len(p)}
        told = [pa.array([number] * len(p), pa.int32()) for number in about.values()]
        return pa.StructArray.from_arrays([*told, p], names=[*about, "p"])

    cvr = cvr_udf(fresh)
    scored = rows.repartition(12).select(counted(*FIELDS).alias("it"), F.spark_partition_id().alias("task"))
    found = scored.select("it.*", "task").toArrow().to_pylist()
    assert {row["task"] for row in found} == set(range(12))
    assert max(row["batch"] for row in found) == 17
    for pid in {row["pid"] for row in found}:
        mine = [row for row in found if row["pid"] == pid]
        # Other tests' models count too: what matters is by how much the count grew since this worker's first batch.
        assert max(row["loads"] for row in mine) - min(row["before"] for row in mine) == 1


def test_loads_counts_models_that_were_loaded_whoever_asked(models, tmp_path):
    before = scoring.loads()
    scoring.ScoringModel(models["ffm"])
    scoring.opened(models["ffm"])
    now = scoring.loads()
    assert now - before in (1, 2)  # another test may have opened it before
    scoring.opened(models["ffm"])
    with pytest.raises(FileNotFoundError):
        scoring.ScoringModel(str(tmp_path))
    assert scoring.loads() == now


def test_what_travels_is_small(models, vocabulary):
    held = inspect.getclosurevars(cvr_udf(models["ffm"], vocabulary).func).nonlocals
    assert {type(value) for value in held.values()} <= {str, int, NoneType}


# --- refusals ---------------------------------------------------------------------------------------------------------


def ids(*numbers: int | None, kind: pa.DataType | None = None) -> pa.Array:
    return pa.array(numbers, kind or pa.int32())


GOOD = [ids(1, 2), ids(4, 5), ids(10, 11)]
FIELDS_MEANT = r"one column for each of its model's 3 fields \(category, family, household\)"


@pytest.mark.parametrize(
    ("columns", "named", "message"),
    [
        (GOOD[:2], {}, rf"^cvr must get {FIELDS_MEANT}, got 2 by place$"),
        ([*GOOD, GOOD[0]], {}, rf"^cvr must get {FIELDS_MEANT}, got 4 by place$"),
        (GOOD[:2], {"store": GOOD[2]}, rf"^cvr must get {FIELDS_MEANT}, got 2 by place and store by name$"),
        (GOOD[:2], {"family": GOOD[2]}, rf"^cvr must get {FIELDS_MEANT}, got 2 by place and family by name$"),
        (
            [GOOD[0], ids(4, 5, kind=pa.int64()), GOOD[2]],
            {},
            r"^cvr: column of field family must be int feature ids \(cast\(… as int\)\), got int64$",
        ),
        (
            [*GOOD[:2], pa.array(["a", "b"])],
            {},
            r"^cvr: column of field household must be int feature ids .*, got string$",
        ),
        (
            [GOOD[0], ids(4, None), GOOD[2]],
            {},
            r"^cvr: column of field family must not be null, got 1 null of 2 rows$",
        ),
        ([*GOOD[:2], ids(10, 19)], {}, r"^cvr: feature ids of field household must be in 0\.\.18, got 19$"),
        ([ids(1, -1), *GOOD[1:]], {}, r"^cvr: feature ids of field category must be in 0\.\.18, got -1$"),
    ],
)
def test_columns_that_are_not_the_models_are_refused(models, columns, named, message):
    with pytest.raises(ValueError, match=message):
        cvr_udf(models["ffm"]).func(*columns, **named)


def test_text_columns_that_are_no_text_are_refused(models, vocabulary):
    cvr = cvr_udf(models["ffm"], vocabulary).func
    texts = [pa.array(["value 1"])] * 3
    with pytest.raises(ValueError, match=r"field family must be text, .* \(cast\(… as string\)\), got int32$"):
        cvr(texts[0], ids(4), texts[2])
    with pytest.raises(ValueError, match=r"field household must not be null, got 1 null of 1 rows$"):
        cvr(*texts[:2], pa.array([None], pa.string()))


def test_a_query_fails_with_the_line(spark, models, rows):
    doubled = rows.withColumn("household", F.col("household") * 2)  # ids run to 18, so 20 and more are too many
    with pytest.raises(PythonException, match=r"ValueError: cvr: feature ids of field household must be in 0\.\.18"):
        doubled.select(cvr_udf(models["ffm"])(*FIELDS)).collect()


def test_a_folder_without_a_finished_model_is_refused(spark, tmp_path):
    message = r"model_path must be the folder of a finished model, got .* \(card\.json: No such file or directory\)"
    with pytest.raises(ValueError, match=message):
        cvr_udf(tmp_path)
    with pytest.raises(ValueError, match=message):
        register(spark, tmp_path)


def test_another_vocabulary_is_refused(models, vocabulary, tmp_path):
    with pytest.raises(ValueError, match=rf"vocabulary must be a Parquet file, got {tmp_path}$"):
        cvr_udf(models["ffm"], tmp_path)
    pq.write_table(pq.read_table(vocabulary).slice(1), tmp_path / "words.parquet")
    with pytest.raises(ValueError, match=r"vocabulary must be the one that ffm learned with \(data set words\), got"):
        cvr_udf(models["ffm"], tmp_path / "words.parquet")


def test_a_model_put_in_the_place_of_another_is_refused(models, tmp_path):
    place = tmp_path / "model"
    shutil.copytree(models["ffm"], place)
    cvr_udf(place).func(*GOOD)
    shutil.rmtree(place)
    shutil.copytree(models["prior"], place)
    with pytest.raises(ValueError, match=rf"model_path {place} must stay model prior, a worker found ffm there"):
        cvr_udf(place).func(*GOOD)


# --- documentation, cluster -------------------------------------------------------------------------------------------


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_documentation_does_what_it_shows(night, monkeypatch):
    monkeypatch.chdir(night.cycle.warehouse.parent)
    told: dict[str, Any] = {}
    for block in blocks(UDF_PAGE):
        exec(compile(block.replace('"promo"', '"small"'), str(UDF_PAGE), "exec"), told)
    fields = told["card"]["fields"]
    table = told["scored"].toArrow()
    X = np.column_stack([table[f"f_{field}"].to_numpy() for field in fields]).astype(np.int32)
    np.testing.assert_array_equal(table["p"].to_numpy(), scoring.opened(str(told["model"].resolve())).score(X)[1])
    # The rates by split that SQL shows, and p of the same rows from text.
    [total] = told["scored"].groupBy().agg(F.sum("p")).collect()[0]
    by_split = {row["split"]: row["predicted"] * row["n"] for row in told["rates"].collect()}
    assert sum(by_split.values()) == pytest.approx(total, rel=1e-12)
    [from_text] = told["by_text"].groupBy().agg(F.sum("p")).collect()[0]
    assert from_text == pytest.approx(total, rel=1e-12)
    joined = told["encoded"].toArrow().to_pylist()
    assert {row["feature_id"] for row in joined if row["value"] == "never seen"} == {told["unknown"]}
    assert all(row["feature_id"] != told["unknown"] for row in joined if row["value"] != "never seen")


PROGRAM = """
import sys
from pyspark.sql import SparkSession
from ffm_udf.spark import cvr_udf
model, rows, out, *fields = sys.argv[1:]
spark = SparkSession.builder.getOrCreate()
spark.read.parquet(rows).repartition(4).withColumn("p", cvr_udf(model)(*fields)).write.parquet(out)
"""


@pytest.mark.slow
def test_on_a_cluster_by_spark_submit(models, X, tmp_path):
    (tmp_path / "score.py").write_text(PROGRAM)
    columns = {"row": np.arange(len(X))} | {field: X[:, place] for place, field in enumerate(FIELDS)}
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    told = os.environ | {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    with Cluster(tmp_path / "cluster", workers=2) as cluster:
        program = [str(Path(sys.executable).parent / "spark-submit"), "--master", cluster.url]
        settings = [part for name, value in SETTINGS.items() for part in ("--conf", f"{name}={value}")]
        job = [tmp_path / "score.py", models["ffm"], tmp_path / "rows.parquet", tmp_path / "out", *FIELDS]
        command = [*program, *settings, *map(str, job)]
        done = subprocess.run(command, env=told, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    found = pq.read_table(tmp_path / "out").sort_by("row")
    np.testing.assert_array_equal(found["p"].to_numpy(), scoring.opened(models["ffm"]).score(X)[1])
