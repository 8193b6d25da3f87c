"""What it is worth to bring a refit's calibrator to the refit's own level: one week ahead of six weeks of promo.

The refit of a week has learned from the very weeks that its calibrator was learned on, by models that had not. No week
is one of the benchmark contract's test weeks.
"""

import numpy as np

from bench.promo_rows import cycle_with_rows
from bench.report import Measure, write
from ffm_udf import FFM
from ffm_udf.calibration import Calibrator, fit, levelled
from ffm_udf.metrics import row_logloss
from jobs import row_arrays

ORIGINS = (22, 26, 30, 34, 37, 40)  # the last week that a refit learns from; the next one is scored
CALIB = 2  # weeks that teach the calibrator
UNSEEN = {"candidate": 4, "rehearsal": 9}  # weeks at the end of the refit's data that the model has not seen
TITLE = "Level of a refit's calibrator"


def main():
    cycle, _ = cycle_with_rows()
    store = row_arrays.opened(cycle)
    n_features = int(store.X.max()) + 1
    found = {}
    for origin in ORIGINS:
        refit = trained(store, origin, n_features)
        own, ahead = logits(store, refit, origin - CALIB + 1, origin), logits(store, refit, origin + 1, origin + 1)
        ways = {"none": Calibrator()}
        for name, unseen in UNSEEN.items():
            other = trained(store, origin - unseen, n_features)
            ways[name] = fit(*logits(store, other, origin - CALIB + 1, origin))
            ways[f"{name}, at the refit's level"] = levelled(ways[name], *own)
        for name, calibrator in ways.items():
            found.setdefault(name, []).append(judged(calibrator, *ahead))
    measures = []
    for name, weeks in found.items():
        ratio, loss = np.array(weeks).T
        off = np.sqrt((np.log(ratio) ** 2).mean())
        change = 100 * (loss.mean() / np.mean([week[1] for week in found["none"]]) - 1)
        measures += [
            Measure(f"{name}: expected over observed conversions, root mean square of the log", off, ""),
            Measure(f"{name}: logloss against no calibration", change, "%"),
        ]
    notes = (
        f"FFM, k = 4, three epochs, on all weeks up to {', '.join(map(str, ORIGINS))} of `conf/promo_benchmark.yml`;"
        f" calibrators are Platt's, learned on the last {CALIB} of these weeks from the logits of a model that had seen"
        f" {UNSEEN['candidate']} (candidate) or {UNSEEN['rehearsal']} (rehearsal) weeks less, and judged on the week"
        " after. Six weeks: no interval is claimed."
    )
    write("calibrator_level", TITLE, measures, notes)


def trained(store, last, n_features):
    """The model of all weeks up to `last`."""
    rows, model = store.span(min(store.periods), last), FFM(k=4, eta=0.2, l2=2e-5, epochs=3, seed=1, patience=None)
    model.fit(store.X[rows], store.y[rows].astype(np.float32), n_features=n_features)
    return model


def logits(store, model, first, last):
    """Logits and labels of the weeks first..last."""
    rows = store.span(first, last)
    return model.decision_function(np.ascontiguousarray(store.X[rows])), np.asarray(store.y[rows])


def judged(calibrator, z, y):
    p = calibrator(z)
    return p.mean() / y.mean(), row_logloss(y, p).mean()


if __name__ == "__main__":
    main()
