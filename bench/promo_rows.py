"""The encoded rows of the real data with the fixed split, made once in build/benchmark for several benchmarks."""

from bench.report import ROOT
from jobs import cli, encode, ingest
from jobs.spark_session import session

CONTRACT, WAREHOUSE = ROOT / "conf" / "promo_benchmark.yml", ROOT / "build" / "benchmark"


def cycle_with_rows():
    """The benchmark contract's cycle, ingested and encoded, and a Spark session."""
    cycle = cli.cycle_of(CONTRACT, None, WAREHOUSE)
    spark = session(WAREHOUSE)
    ingest.run(cycle, spark)
    encode.run(cycle, spark)
    return cycle, spark
