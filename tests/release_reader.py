"""A reader of releases as a process of its own: again and again it looks up the pointer, reads several marts and writes
down what it saw.

`python release_reader.py KIND WAREHOUSE OUT`; KIND is a key of READERS. One JSON object per read: began and ended (Unix
seconds), the release that the pointer named, the release ids in the answer and its counts; or the error. It stops when
WAREHOUSE/stop exists.
"""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# Every mart of the test's releases carries its release's id: marts of two releases that met would show.
ANSWER = """
    select dim_release.release_id, fct_k.release_id as id_of_k, fct_scores.release_id as id_of_scores, count(*) as n
    from dim_release
    cross join fct_k
    cross join fct_scores
    where fct_k.k = fct_scores.k
    group by dim_release.release_id, fct_k.release_id, fct_scores.release_id
"""
PAUSE = 0.05  # seconds between reads: five readers that never rest leave the publisher no core
MARTS = ("dim_release", "fct_k", "fct_scores")
Rows = list[tuple[str, str, str, int]]


def pointed(warehouse: Path) -> Path:
    """The release's folder by the pointer."""
    return warehouse / json.loads((warehouse / "current.json").read_text())["path"]


def duckdb_python(release: Path) -> Rows:
    import duckdb

    with duckdb.connect(str(release / "mart.duckdb"), read_only=True) as connection:
        return connection.execute(ANSWER).fetchall()


def duckdb_parquet(release: Path) -> Rows:
    import duckdb

    with duckdb.connect() as connection:
        for mart in MARTS:
            connection.execute(f"create view {mart} as from read_parquet('{release}/marts/{mart}.parquet')")
        return connection.execute(ANSWER).fetchall()


def duckdb_cli(release: Path) -> Rows:
    """The command line of another DuckDB version, one process per read."""
    command = [str(Path(sys.executable).with_name("duckdb")), "-readonly", "-csv", "-noheader"]
    done = subprocess.run([*command, str(release / "mart.duckdb"), ANSWER], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return [(row[0], row[1], row[2], int(row[3])) for row in csv.reader(io.StringIO(done.stdout))]


def sqlalchemy_engine(release: Path) -> Rows:
    import sqlalchemy
    from sqlalchemy.pool import NullPool

    url = f"duckdb:///{release / 'mart.duckdb'}"
    engine = sqlalchemy.create_engine(url, connect_args={"read_only": True}, poolclass=NullPool)
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sqlalchemy.text(ANSWER))]


def spark_sql(release: Path) -> Rows:
    from pyspark.sql import SparkSession

    from jobs.java import java_home

    java_home()  # finds or makes one and sets JAVA_HOME
    fast = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
    spark = SparkSession.builder.master("local[1]").config("spark.driver.extraJavaOptions", fast)
    spark = spark.config("spark.sql.shuffle.partitions", 1).config("spark.ui.enabled", False).getOrCreate()
    for mart in MARTS:
        spark.read.parquet(f"{release}/marts/{mart}.parquet").createOrReplaceTempView(mart)
    return [tuple(row) for row in spark.sql(ANSWER).collect()]


READERS: dict[str, Callable[[Path], Rows]] = {
    "duckdb": duckdb_python,
    "parquet": duckdb_parquet,
    "cli": duckdb_cli,
    "sqlalchemy": sqlalchemy_engine,
    "spark": spark_sql,
}


def reads(kind: str, warehouse: Path) -> Iterator[dict[str, object]]:
    """One entry per read until the test says stop, and one read after that."""
    stopped = False
    while not stopped:
        time.sleep(PAUSE)
        stopped = (warehouse / "stop").exists()
        began = time.time()
        try:
            release = pointed(warehouse)
            rows = READERS[kind](release)
        except Exception as error:  # whatever a client raises is what the test must know
            yield {"began": began, "ended": time.time(), "error": repr(error)}
            continue
        ids = sorted({value for row in rows for value in row[:3]})
        found = {"pointed": release.name, "ids": ids, "rows": [row[3] for row in rows]}
        yield {"began": began, "ended": time.time()} | found


def main() -> None:
    kind, warehouse, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    with out.open("w", buffering=1) as written:
        for entry in reads(kind, warehouse):
            written.write(json.dumps(entry) + "\n")


if __name__ == "__main__":
    main()
