"""How long the evaluation of a sweep takes on the 615,070 test rows of promo: 5 k × 5 seeds, all facts, in one session.

The models learn for one epoch only: what is timed does not depend on how good they are. Spark's start is apart.
"""

import resource
import shutil
import time

from bench.report import ROOT, Measure, write
from jobs import cli, encode, evaluate, ingest, train
from jobs.contract import Grid
from jobs.spark_session import session
from jobs.training_plan import Options

CONTRACT, WAREHOUSE = ROOT / "conf" / "promo_benchmark.yml", ROOT / "build" / "evaluate"
TITLE = "Evaluation"
GRID = Grid(k=(1, 2, 4, 8, 16), seeds=(1, 2, 3, 4, 5), baselines=("lr",))


def main():
    cycle, spark = cli.cycle_of(CONTRACT, None, WAREHOUSE, {"epochs": 1, "patience": 1}), session(WAREHOUSE)
    grids = cycle.contract.grid.model_copy(update={"sweep": GRID})
    cycle.contract = cycle.contract.model_copy(update={"grid": grids})
    ingest.run(cycle, spark)
    encode.run(cycle, spark)
    train.run(cycle, spark, Options(sweep=True))
    for name in ("logits", "predictions", "judged_rows"):  # what an earlier run left would be reused
        forget(cycle, name)
    before, clock = peak(), time.perf_counter()
    policies = (cli.policy(CONTRACT, f"{name}.yml") for name in ("gate", "rates", "value"))
    evaluate.run(cycle, spark, *policies)
    wall = time.perf_counter() - clock
    rows = [row for row in cycle.dataset("model_metrics").table().to_pylist() if row["split"] == "test"]
    measures = [
        Measure.at_most("5 k × 5 seeds, logistic regression and the prior, all facts", wall, "s", 90),
        Measure("test rows", rows[0]["n"], ""),
        Measure("models", len(rows), ""),
        Measure("growth of the Python driver's peak memory", peak() - before, "MiB"),
    ]
    notes = (
        "`fieldmart evaluate` on `conf/promo_benchmark.yml` after a sweep of one epoch each: logits of valid, calib and"
        " test, calibrators of every method and period, metrics by period, clustered and bootstrap intervals, slices,"
        " reliability, audits, scoring cost and value. Spark was running."
    )
    write("evaluate", TITLE, measures, notes)


def forget(cycle, name):
    """Remove what the cycle's data set `name` was made into, so that it is made again."""
    key = cycle.state()["datasets"].get(name)
    found = cycle.lake.find(name, key) if key else None
    if found is not None:
        shutil.rmtree(found.folder)


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
