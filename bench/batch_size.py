"""How many rows an Arrow batch should have that Spark sends to `cvr`: speed and memory of the Python workers by size.

Every size has a process, a session and workers of its own, so that a peak of memory belongs to its size.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import pyarrow as pa
from pyspark.sql import functions as F
from pyspark.sql.functions import arrow_udf

from bench.published import examples, published
from bench.report import ROOT, Measure, write
from ffm_udf.spark import cvr_udf
from jobs.spark_session import session

SIZES, REPEATS = (1_000, 3_000, 10_000, 30_000, 65_536, 100_000), 3
COLUMNAR = "spark.sql.execution.arrow.pythonUDF.columnarInput.enabled"
TITLE = "Arrow batch size of `cvr`"


def main(sizes=SIZES):
    found = published()
    results = {f"{size:,} rows per batch": in_a_process("--one", str(size)) for size in sizes}
    results["straight from Parquet, in the reader's batches"] = in_a_process("--straight")
    measures = []
    for name, result in results.items():
        measures.append(Measure(f"{name}: speed", result["rows_per_s"], "rows/s"))
        measures.append(Measure(f"{name}: largest peak of a worker", result["peak_rss_mib"], "MiB"))
    notes = (
        f"A query that reads {result['rows']:,} encoded rows of {len(found.card['fields'])} fields from Parquet and "
        f"scores them with {found.card['model_id']} on all cores; medians of {REPEATS} runs after one that is not "
        f"counted. The peak is the resident memory of a Python worker, libraries and mapped model included. "
        f"`spark.sql.execution.arrow.maxRecordsPerBatch` counts wherever rows come out of another step; columns that "
        f"come straight from a Parquet reader keep its batches (`spark.sql.parquet.columnarReaderBatchSize`), unless "
        f"`{COLUMNAR}` is off, as it is in all lines but the last."
    )
    write("batch_size", TITLE, measures, notes)


def in_a_process(*options):
    command = [sys.executable, "-m", "bench.batch_size", *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def one(size):
    """Rows, rows per second and the workers' largest peak in MiB with batches of `size` rows; None: the reader's."""
    batches = {} if size is None else {"spark.sql.execution.arrow.maxRecordsPerBatch": str(size), COLUMNAR: "false"}
    found = published()
    spark = session(found.model.parent.parent, batches)
    rows, cvr = spark.read.parquet(*examples(found)), cvr_udf(found.model)
    p = cvr(*[F.col(f"f_{field}") for field in found.card["fields"]])
    seconds = []
    for _ in range(1 + REPEATS):
        began = time.perf_counter()
        rows.select(p).write.format("noop").mode("overwrite").save()
        seconds.append(time.perf_counter() - began)
    n = rows.count()
    # In the workers that scored, after they have.
    [peak] = rows.select(peak_rss()(p).alias("peak")).agg(F.max("peak")).first()
    return {"rows": n, "rows_per_s": n / statistics.median(seconds[1:]), "peak_rss_mib": peak}


def peak_rss():
    unit = 1024 if sys.platform == "linux" else 1024**2

    @arrow_udf("double")
    def peak(p: pa.Array) -> pa.Array:
        """The worker's peak of resident memory so far in MiB, on every row."""
        return pa.repeat(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, len(p))

    return peak


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--one", type=int, metavar="SIZE", help="measure one size and print what was found as JSON")
    which.add_argument("--straight", action="store_true", help="the same with batches as the Parquet reader has them")
    options = parser.parse_args()
    if options.one or options.straight:
        print(json.dumps(one(options.one)))
    else:
        main()
