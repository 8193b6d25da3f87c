"""Warm against cold start on the real data: a week's candidates started from those of the week before, or from nothing.

Both are trained and judged as always: early stopping on valid, rehearsal through calib, logloss on the test weeks.
"""

from bench.report import ROOT, Measure, write
from jobs import cli, encode, evaluate, ingest, train
from jobs.spark_session import session
from jobs.training_plan import Options

CONTRACT, WAREHOUSE = ROOT / "conf" / "promo.yml", ROOT / "build" / "warm"
BEFORE, NIGHT = "2017-12-11", "2017-12-18"
TITLE = "Warm start"


def main():
    spark = session(WAREHOUSE)
    encoded(BEFORE, spark, evaluated=False)
    cycle = encoded(NIGHT, spark)
    cold = found(cycle)
    train.run(cycle, spark, Options(init=BEFORE))
    judge(cycle, spark)
    warm = found(cycle)
    measures = []
    for k in sorted(cold):
        for name, unit in (("best epoch", ""), ("CPU-seconds to the end of early stopping", "s"), ("test logloss", "")):
            measures += [
                Measure(f"k = {k}, {how}: {name}", of[k][name], unit) for how, of in (("cold", cold), ("warm", warm))
            ]
        change = 100 * (warm[k]["test logloss"] / cold[k]["test logloss"] - 1)
        measures.append(Measure(f"k = {k}: test logloss, warm against cold", change, "%"))
    notes = (
        f"`fieldmart train` on `conf/promo.yml` for {NIGHT}, cold and with `--init {BEFORE}`: from the epoch before "
        f"the best one of that cycle's candidates, with their AdaGrad sums. One seed, nine test weeks."
    )
    write("warm", TITLE, measures, notes)


def encoded(date, spark, evaluated=True):
    """The cycle of `date`, trained cold."""
    cycle = cli.cycle_of(CONTRACT, date, WAREHOUSE)
    ingest.run(cycle, spark)
    encode.run(cycle, spark)
    train.run(cycle, spark)
    if evaluated:
        judge(cycle, spark)
    return cycle


def judge(cycle, spark):
    policies = (cli.policy(CONTRACT, f"{name}.yml") for name in ("gate", "rates", "value"))
    evaluate.run(cycle, spark, *policies)


def found(cycle):
    """By k, what training took and what came of it."""
    models = {row["model_id"]: row for row in cycle.dataset("models").table().to_pylist()}
    result = {}
    for row in cycle.dataset("model_metrics").table().to_pylist():
        model = models.get(row["model_id"])
        if row["split"] == "test" and model and model["algorithm"] == "ffm":
            result[model["k"]] = {
                "best epoch": model["best_epoch"],
                "CPU-seconds to the end of early stopping": model["cpu_s"],
                "test logloss": row["sum_logloss"] / row["n"],
            }
    return result


if __name__ == "__main__":
    main()
