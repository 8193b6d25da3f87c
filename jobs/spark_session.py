"""The one way to get a Spark session."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from pyspark.sql import SparkSession

from jobs.java import JavaError, java_home


def driver_memory_mib() -> int:
    """What the JVM of a session of our own may take: FIELDMART_DRIVER_MEMORY, such as 4g or 3000m, else 3 GiB. Raises
    JavaError for anything else."""
    asked = os.environ.get("FIELDMART_DRIVER_MEMORY", "3g")
    found = re.fullmatch(r"(\d+)([mgt])b?", asked.strip().lower())
    if not found:
        raise JavaError(f"FIELDMART_DRIVER_MEMORY must be a size such as 4g or 3000m, got {asked!r}")
    return int(found[1]) * 1024 ** "mgt".index(found[2])


def session(warehouse: Path, extra: Mapping[str, str] | None = None) -> SparkSession:
    """The running session, or a new one: the master of spark-submit, else all local cores. `extra` settings win.

    Raises RuntimeError with one line if no Java is found.
    """
    # Workers must run this interpreter: Spark's own default is whatever `python3` is on the PATH.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    java_home()  # finds or makes one and sets JAVA_HOME
    logging.getLogger("py4j").setLevel(logging.WARNING)
    # Spark's own JSON copy of an error that is raised anyway.
    logging.getLogger("DataFrameQueryContextLogger").setLevel(logging.CRITICAL)
    builder = SparkSession.builder.appName("fieldmart")
    settings = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "8",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "65536",
        # Nanosecond timestamps (the real data has them) arrive as integers instead of failing the read.
        "spark.sql.legacy.parquet.nanosAsLong": "true",
        # Everything keyed by entity may use one shuffle by entity, also joins on more columns than that.
        "spark.sql.requireAllClusterKeysForCoPartition": "false",
        "spark.sql.warehouse.dir": str(warehouse / "spark"),
        # Shuffle sizes are compressed sizes: what is broadcast must be small, what fits a task is hashed, not sorted.
        "spark.sql.autoBroadcastJoinThreshold": "10m",
        "spark.sql.adaptive.autoBroadcastJoinThreshold": "2m",
        "spark.sql.adaptive.maxShuffledHashJoinLocalMapThreshold": "32m",
        # Rows keep their order when one task writes several partition folders, and are not sorted once more.
        "spark.sql.maxConcurrentOutputFileWriters": "16",
        "spark.python.worker.reuse": "true",
        # Tasks fill the cores by themselves: a matrix multiply that takes them all as well would only wait for others.
        **{f"spark.executorEnv.{name}_NUM_THREADS": "1" for name in ("OPENBLAS", "MKL", "OMP", "NUMBA")},
    }
    if "PYSPARK_GATEWAY_PORT" not in os.environ:  # not started by spark-submit, which brings master and driver
        builder = builder.master("local[*,2]")  # a task whose Python worker was killed gets a second try
        settings |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
        settings["spark.driver.memory"] = f"{driver_memory_mib()}m"
    for name, value in (settings | dict(extra or {})).items():
        builder = builder.config(name, value)
    return builder.getOrCreate()
