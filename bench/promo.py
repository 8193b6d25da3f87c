"""Quality on the test weeks of the real data: the sweep of the benchmark contract, as the jobs themselves report it.

Everything that could be chosen was chosen on folds before the test weeks (docs/levers.md); opening these weeks is
logged in build/benchmark/log. A finished sweep is reused.
"""

from bench import promo_rows
from bench.report import Measure, write
from jobs import cli, evaluate, train
from jobs.training_plan import Options

TITLE = "Quality on promo, test weeks 45 to 53"


def main():
    cycle, spark = promo_rows.cycle_with_rows()
    train.run(cycle, spark, Options(sweep=True))
    policies = (cli.policy(promo_rows.CONTRACT, f"{name}.yml") for name in ("gate", "rates", "value"))
    evaluate.run(cycle, spark, *policies)
    compared = cycle.dataset("k_comparison").table().to_pylist()
    metrics = {
        row["model_id"]: row for row in cycle.dataset("model_metrics").table().to_pylist() if row["split"] == "test"
    }
    verdict = next(row for row in compared if row["is_verdict"])
    shown = metrics[verdict["model_id"]]
    measures = [
        Measure.at_most(f"verdict k = {verdict['k']}, seed that ships: logloss", _loss(shown), "", 0.0595),
        Measure.at_least(f"verdict k = {verdict['k']}, seed that ships: AUC", shown["auc"], "", 0.907),
    ]
    for row in compared:
        low, high = (100 * row[name] / row["logloss"] for name in ("delta_lo_simultaneous", "delta_hi_simultaneous"))
        name = f"k = {row['k']}, mean of {row['n_seeds']} seeds: logloss (against k = {row['best_k']}: "
        measures.append(Measure(f"{name}{low:+.2f} % to {high:+.2f} %)", row["logloss"], ""))
    for row in cycle.dataset("baseline_comparison").table().to_pylist():
        name = f"{row['algorithm']}: verdict's logloss better by"
        gain, low, high = (-100 * row[f"delta_relative{end}"] for end in ("", "_hi", "_lo"))
        about = f"{name} (paired 95 % interval {low:.2f} to {high:.2f} %; its own is {row['logloss']:.5f})"
        held = row["algorithm"] == "lightgbm"
        measures.append(Measure.at_least(about, gain, "%", 1.5) if held else Measure(about, gain, "%"))
        if held:
            measures.append(Measure.at_least("lightgbm: lower end of that interval", low, "%", 0.0))
    opened = cycle.dataset("test_openings").table().to_pylist()
    notes = (
        f"`fieldmart train --sweep` and `evaluate` on `conf/promo_benchmark.yml`: candidates learn from weeks 1 to 40, "
        f"choose epochs on 41 and 42, calibrate on 43 and 44, and are judged as their rehearsals, trained through 44. "
        f"Intervals over {verdict['n_periods']} test weeks, those of k simultaneous. These weeks were opened "
        f"{len(opened)} times in this warehouse."
    )
    write("promo", TITLE, measures, notes)


def _loss(row):
    return row["sum_logloss"] / row["n"]


if __name__ == "__main__":
    main()
