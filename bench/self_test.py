"""The self-test in full: what the product prints about truth worlds, against the truth (docs/self_test.md).

Parts of the table, and worlds trained anew one by one, are kept in build/bench/self_test/, so that an interrupted run
goes on where it was; what other code found is not taken.
"""

import functools
import hashlib
import json
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.progress import track

from bench.report import PAGE, RESULTS, ROOT, Measure, write
from jobs import intervals
from jobs.challengers import Challenge
from jobs.dealt_periods import dealt
from jobs.lake import code_sha
from jobs.self_test import MARGIN, TERMS, TOP_N, Case, Share, coverage, trained_world
from jobs.slice_truth import slice_coverage, slice_truths
from jobs.truth_models import Setup, stored_predictions
from jobs.truth_world import TruthWorld

TITLE, DOCS = "Self-test against the truth", ROOT / "docs" / "self_test.md"
# Analysis only: predictions of these worlds are stored, labels drawn afresh.
ANALYSED = tuple(TruthWorld(150_000, seed, 30) for seed in (1, 2, 3, 4))
SETUP = Setup(seeds=(1, 2), train=6, valid=2, calib=2, eta=0.05)
WORLDS, PERIODS = 500, (4, 9, 26)  # of each analysed world
# Trained anew: a third on about 30k rows, where k = 1 does nearly as well, the others on 80k; in half of those the
# taste of a user counts double, and k = 1 cannot follow.
TRAINED, SIZES, PROCESSES, REDRAWS = 172, (9, 26, 52), 2, 15
SEEDS = (1, 2, 3, 4, 5)
CLEARLY = 0.003  # relative logloss: so much worse, a wrong k matters
# Rows of the table that say how often a 95 % interval holds the truth, judged as one family (Šidák 1967): all of them
# together stay within their bands with 95 % if each covers what it says.
FAMILY = 5 * (2 * len(PERIODS) + 2 * len(SIZES)) + 2 * 3
BAND, EACH = 0.95, 0.95 ** (1 / FAMILY)


def main():
    parts = {
        "alike": lambda: coverages([dealt(found, 1) for found in analysed()], "periods alike"),
        "eras": lambda: coverages(analysed(), "periods as they are"),
        "promotions": lambda: promotions(analysed()[0]),
        "slices": lambda: slices(analysed()),
        "trained": trained,
    }
    measures = [measure for name, make in parts.items() for measure in kept(name, make)]
    for page in (PAGE, DOCS):
        write("self_test", TITLE, measures, notes(), page)


@functools.cache
def analysed():
    return [stored_predictions(world, SETUP) for world in track(ANALYSED, "models to analyse", transient=True)]


def kept(name, make):
    """The measures of a part, made unless this code has made them before."""
    file = folder() / f"{name}.json"
    if not file.exists():
        text = json.dumps([asdict(measure) for measure in make()])
        file.write_text(text)
    return [Measure(**found) for found in json.loads(file.read_text())]


@functools.cache
def folder():
    """Where the results of this code are."""
    found = RESULTS / "self_test" / identity()[:12]
    found.mkdir(parents=True, exist_ok=True)
    return found


def notes():
    rows, train = ANALYSED[0].rows / ANALYSED[0].periods, ANALYSED[0].rows / ANALYSED[0].periods * SETUP.train
    return (
        f"Analysis only: {len(ANALYSED)} truth worlds, models trained once on about {train:,.0f} rows of each; a world "
        f"draws its periods, of about {rows:,.0f} rows, from the later ones, with a shift of the log-odds "
        f"(sd {SETUP.shift_sd:g}) per period and fresh labels. Periods as they are have campaigns that come and go; "
        f"alike are periods to which the same rows were dealt by chance. Trained anew: {TRAINED} truth worlds, periods "
        f"as they are, k = 1, 2, 4 with {len(SEEDS)} seeds on 80k rows (every third: 30k), one draw of test periods of "
        f"about 10k rows, and {REDRAWS} more for the same models; in every fourth the largest k is not feasible, in "
        "every third the taste of a user counts double. In brackets the 95 % band of the share: exact binomial; over "
        "worlds (t) where several numbers come from one. Rows that 95 % should be are judged together: `holds` says "
        f"whether the band at {EACH:.3%} has 95 % in it, by Šidák for {FAMILY} rows, and a row whose own 95 % band "
        f"misses says so. The margin is {MARGIN:.1%} of the logloss."
    )


def described(share, text):
    low, high = share.band(BAND)
    return f"{text} [{100 * low:.2f}–{100 * high:.2f} %] of {share.trials:,}"


def percent(share, text, bar="", holds=None):
    return Measure(described(share, text), 100 * share.value, "%", bar, holds)


def nominal(share, text, at_least=False):
    """A share that 95 % should be: in its band, or, where an interval may hold more often, not above its band."""
    return judged(described(share, text), share.value, share.band, at_least)


def judged(text, value, band, at_least=False):
    """`text` has the value and its 95 % band; `holds` goes by `band` at the level that the family asks for."""

    def within(level):
        low, high = band(level)
        return bool(high >= 0.95 and (at_least or low <= 0.95))

    text += "" if within(BAND) else ", **outside its own band**"
    return Measure(text, 100 * value, "%", "≥ 95 % in or below band" if at_least else "95 % in band", within(EACH))


def clustered(found, text, at_least=False):
    """A share of several numbers per world: `found(level)` is its interval over worlds."""

    def band(level):
        interval = found(level)
        return interval.lo, interval.hi

    low, high = band(BAND)
    return judged(f"{text} [{100 * low:.2f}–{100 * high:.2f} %]", found(BAND).value, band, at_least)


def summed(shares):
    return Share(shares[0].name, sum(s.hits for s in shares), sum(s.trials for s in shares))


def coverages(stored, kind):
    found, cases = [], [Case(one, SETUP) for one in stored]
    for n_periods in PERIODS:
        text = f"{kind}, {n_periods} of them"
        parts = [coverage(case, WORLDS, n_periods, seed) for seed, case in enumerate(track(cases, text))]
        for same in zip(*parts, strict=True):
            share = summed(same)
            found.append(nominal(share, f"covered, {text}: {share.name}", "every k" in share.name))
    return found


def promotions(stored):
    """Promoted challengers that are exactly as good as the incumbent, or worse by the margin."""
    found, worlds = [], 2000
    incumbent = (SETUP.ks[-1], SETUP.seeds[0])
    for other in track([(4, 2), (2, 1), (1, 1)], "challengers", transient=True):
        like = f"unlike it as k = {other[0]}, seed {other[1]}"
        equal = Challenge(stored, incumbent, [other], 0.0)
        share = equal.promoted(False, worlds, 9, 1)
        bar = {"bar": "≤ 5 % below band", "holds": share.band(BAND)[1] <= 0.05}
        found.append(percent(share, f"promoted, 9 periods: costs the same, no better, {like}", **bar))
        n = equal.periods_for(0.8, 200, 9, 2)
        rows = n * equal.pool.first[-1] / (len(equal.pool.first) - 1)
        share = equal.promoted(True, worlds if n < 60 else 500, n, 3)
        text = f"promoted, {n} periods of {rows / n:,.0f} rows, as many as the power formula asks: cheaper, as good, "
        found.append(percent(share, text + like, "≥ 80 % in or below band", share.band(BAND)[1] >= 0.8))
        worse = Challenge(stored, incumbent, [other], MARGIN)
        share = worse.promoted(True, worlds, 9, 4)
        bar = {"bar": "≤ 5 % below band", "holds": share.band(BAND)[1] <= 0.05}
        found.append(percent(share, f"promoted, 9 periods: cheaper, worse by the margin, {like}", **bar))
    others = [(k, seed) for k in SETUP.ks for seed in SETUP.seeds if (k, seed) != incumbent]
    text = f"promoted, 9 periods: costs the same, no better, the best on the test periods of {len(others)} such models"
    share = Challenge(stored, incumbent, others, 0.0).promoted(False, worlds, 9, 5)
    found.append(percent(share, text, "≤ 5 % below band", share.band(BAND)[1] <= 0.05))
    return found


def slices(stored):
    """How often what is printed about slices holds the truth, by how many conversions a slice has in a period."""
    found, worlds = [], 250
    incumbent = (SETUP.ks[-1], SETUP.seeds[0])
    for n_periods in (9, 26):
        # Seeds of their own, so that no two truth worlds share the periods and shifts of a draw.
        truths = [slice_truths(one, one.p[incumbent], worlds, n_periods, seed) for seed, one in enumerate(stored, 1)]
        for low, high in ((0, 10), (10, 30), (30, float("inf"))):
            sized = [[row for row in rows if low <= row.conversions / n_periods < high] for rows in truths]
            count = sum(map(len, sized))
            if not count:
                continue
            size = f"{low} to {high}" if high < float("inf") else f"{low} or more"
            silent = 1 - sum(row.printed.mean() for rows in sized for row in rows) / count
            text = f"covered, slices with {size} conversions a period, {n_periods} periods"
            text += f", {count} slices × {worlds} worlds, no interval in {silent:.2%}: calibration ratio"
            # The larger of two variances counts, so few conversions are held more often than 95 %.
            found.append(clustered(functools.partial(slice_coverage, sized), text, at_least=True))
    off = [row for rows in truths for row in rows if not 0.8 <= row.truth <= 1.25]
    found.append(Measure(f"slices whose mean p is truly off by a quarter, of {sum(map(len, truths))}", len(off), ""))
    return found


def trained():
    results = every_trained_world()
    found = []
    for n_periods in SIZES:
        mine = [row for rows in results for row in rows if row["n_periods"] == n_periods]
        groups = {
            "expected to be large enough to tell": [row for row in mine if row["tells"]],
            f"where the smallest k truly costs {CLEARLY:.1%} or more, large and small": [
                row for row in mine if row["smallest"] >= CLEARLY
            ],
            "expected to be too small to tell": [row for row in mine if not row["tells"]],
        }
        for i, (what, group) in enumerate(groups.items()):
            if group:
                found.append(chosen(group, n_periods, what, i < 2))
    for n_periods in SIZES:
        mine = [row for rows in results for row in rows if row["n_periods"] == n_periods]
        for name in mine[0]["covered"]:
            share = Share(name, sum(row["covered"][name] for row in mine), len(mine))
            found.append(nominal(share, f"covered, trained anew, {n_periods} periods: {name}", "every k" in name))
            again = np.array([row["redrawn"][name] for row in mine])
            text = f"covered, the same models, {REDRAWS} more draws, {n_periods} periods: {name}"
            over_worlds = functools.partial(intervals.ratio, again, np.full(len(mine), REDRAWS))
            found.append(clustered(over_worlds, text, "every k" in name))
    return found


def chosen(group, n_periods, what, has_bar):
    """How often the verdict is within the margin; it holds where the value and the lower end of its band do."""
    share = Share("k", sum(row["excess"] <= MARGIN for row in group), len(group))
    size = sum(row["n"] for row in group) / len(group)
    text = f"k within the margin of the best, {n_periods} periods, {size:,.0f} rows, worlds {what}"
    return percent(share, text, *(("≥ 95 % below band", share.band(BAND)[0] >= 0.95) if has_bar else ("", None)))


def every_trained_world():
    """The results of all worlds trained anew, by number; those in the folder are not made again."""
    plan = [(TruthWorld(300_000, 1000 + i, 30, taste=2.0 if i % 3 == 1 else 1.0), setup(i)) for i in range(TRAINED)]
    files = [folder() / f"{i}.json" for i in range(TRAINED)]
    missing = [i for i in range(TRAINED) if not files[i].exists()]
    with ProcessPoolExecutor(PROCESSES) as workers:
        running = {workers.submit(trained_world, *plan[i], SIZES, REDRAWS): i for i in missing}
        for done in track(as_completed(running), "worlds trained anew", total=len(missing)):
            part = files[running[done]].with_suffix(".part")
            part.write_text(json.dumps(done.result()))
            part.rename(files[running[done]])
    return [json.loads(file.read_text()) for file in files]


def setup(i):
    if i % 3 == 0:
        return Setup(seeds=SEEDS, train=3, valid=1, calib=2, eta=0.05)
    return Setup(seeds=SEEDS, train=8, valid=2, calib=2, eta=0.05)


def identity():
    """SHA-256 of all that results depend on: this file, the code that it calls, as far down as it goes, and what the
    files in conf/ say."""
    names = ("challengers", "dealt_periods", "self_test", "slice_truth", "truth_models", "truth_world")
    parts = [Path(__file__).read_text(), *(code_sha(f"jobs.{name}") for name in names), repr((MARGIN, TOP_N, TERMS))]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


if __name__ == "__main__":
    main()
