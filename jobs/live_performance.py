"""How did the scores that were served do on what happened since? Expected at once, realised when labels are final.

Of each earlier period: the scores of the release that readers were pointed to, joined with the period's exposures that
are in tonight's snapshot, by entity, match and candidate (the pair scored; an exposure elsewhere had no score).
If p is right and exposures are independent, conversions are Poisson-binomial, with mean sum of p and variance sum of
p (1 - p), and the logloss has the mean sum of H(p) (CBPE: the calibrated p stands in for the label that is not known
yet). How much more exposures of one entity vary together is measured on periods with final labels; the mart widens the
intervals of later ones by it. Only sums reach the driver.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import decision_log, encode, facts, pointings, releases
from jobs.cycle import Cycle
from jobs.lake import Dataset
from jobs.night_history import cycle_date_of
from jobs.periods import Periods

RECENT = 8  # periods worked out anew, since late conversions may come; older rows stay as they were
EPSILON = 1e-7  # what a float32 p may be away from 0 and 1 at least
SUMS = (
    *("n", "entities", "sum_p", "var_conversions", "sum_entropy", "var_logloss", "conversions", "sum_logloss"),
    *("entity_sq_conversions", "entity_sq_logloss"),
)
AFTERWARDS = ("sum_logloss", "entity_sq_conversions", "entity_sq_logloss")  # known with final labels only


@dataclass(frozen=True)
class Live:
    """What readers were pointed to at the end of a period."""

    period_no: int
    release_id: str
    scores: Dataset


def run(cycle: Cycle, spark: SparkSession) -> Dataset:
    """Make the fact `live_performance` of this cycle; without rows on the first one."""
    served = {live.period_no: live for live in served_scores(cycle)}
    inputs = {str(number): live.scores.content for number, live in served.items()}
    inputs["exposures"] = cycle.dataset("exposures").content
    old = [row for row in _last_rows(cycle) if cycle.periods.number(row["period"]) not in served]

    def write(out: Path) -> None:
        rows = old + (measured(cycle, spark, list(served.values())) if served else [])
        rows.sort(key=lambda row: row["period"])
        pq.write_table(facts.table("live_performance", rows), out / "part-0.parquet")

    pointed = {str(number): live.release_id for number, live in served.items()}
    params = {"pointed": pointed, "scoring": cycle.periods.scoring, "old": [str(row["period"]) for row in old]}
    found, _ = cycle.make("live_performance", __name__, inputs, params, write)
    return found


def served_scores(cycle: Cycle) -> list[Live]:
    """What was served in each of the last RECENT periods before this cycle's, as far as its scores are still there."""
    log, keys = decision_log.entries(cycle.warehouse), _keys_of_scores(cycle)
    pointed = live_releases(log, cycle.contract.name, cycle.periods)
    found = []
    for number in range(cycle.periods.scoring - RECENT, cycle.periods.scoring):
        key = keys.get(pointed.get(number, ""))
        scores = cycle.lake.find("scores", key) if key else None
        if scores is not None and scores.rows:
            found.append(Live(number, pointed[number], scores))
    return found


def live_releases(log: Iterable[decision_log.Entry], contract: str, periods: Periods) -> dict[int, str]:
    """Period number -> the release that readers of `contract` were pointed to at its end, for the periods from the
    first release on. A period without a release of its own was served the one before.

    The clock says what was seen from the first period on whose release was there before the period was over: what
    is published or taken back later did not serve it. Before that, history is run again, in which the clock means
    nothing: there the last release pointed to before one of a later period was published counts.
    """
    pointed = [
        (entry, target, _period_of(target, contract, periods) if entry.kind == "publish" else None)
        for entry in log
        if (target := pointings.target(entry)) is not None and entry.payload["contract"] == contract
    ]
    found = _in_order([(target, number) for _, target, number in pointed], periods.scoring)
    moments = [(dt.datetime.fromisoformat(entry.at), target, number) for entry, target, number in pointed]
    in_time = [number for at, _, number in moments if number is not None and at < periods.start(number + 1)]
    for number in range(min(in_time, default=periods.scoring), periods.scoring):
        end = periods.start(number + 1)
        found[number] = next(target for at, target, _ in reversed(moments) if at < end)
    return found


def _in_order(pointed: Iterable[tuple[str, int | None]], stop: int) -> dict[int, str]:
    """What the order of the log says, up to period `stop`, of releases pointed to, each with the period it was
    published for (None: pointed to again)."""
    found: dict[int, str] = {}
    shown: str | None = None  # what readers see at this point of the log
    latest: int | None = None  # the latest period that a release was published for
    for target, number in pointed:
        if number is not None:
            _fill(found, latest, number, shown)
            latest = number if latest is None else max(latest, number)
        shown = target
    _fill(found, latest, stop, shown)
    return found


def _fill(found: dict[int, str], latest: int | None, stop: int, shown: str | None) -> None:
    """Say of the periods from `latest` up to `stop` that `shown` was what readers saw at their end."""
    if latest is not None and shown is not None:
        found |= dict.fromkeys(range(latest, stop), shown)


def measured(cycle: Cycle, spark: SparkSession, served: list[Live]) -> list[dict[str, Any]]:
    """The rows of the fact for the periods of `served`; a period in which nothing was exposed has none."""
    numbers = [live.period_no for live in served]
    exposures = encode.events(cycle, spark)["exposures"].where(F.col("period_no").isin(numbers))
    shown = exposures.select("period_no", *encode.keys(cycle.contract), encode.label(cycle.contract).alias("y"))
    counts = {row["period_no"]: row["n"] for row in shown.groupBy("period_no").agg(F.count("*").alias("n")).collect()}
    parts = [_scores(spark, live) for live in served]
    scores = parts[0]
    for part in parts[1:]:
        scores = scores.unionByName(part)
    sums = {row["period_no"]: row for row in sums_by_period(shown, scores).collect()}
    rows = []
    for live in served:
        if live.period_no not in counts:
            continue
        is_mature = live.period_no <= cycle.periods.last_matured
        found = sums.get(live.period_no)
        # nothing exposed had a score: sums of nothing, and nothing to compare
        values = {name: found[name] for name in SUMS} if found else dict.fromkeys(SUMS, 0)
        about = _about(live.scores)
        rows.append(
            {
                "contract": cycle.contract.name,
                "period": cycle.periods.day(live.period_no),
                "release_id": live.release_id,
                **{name: about[name] for name in ("model_id", "score_date")},
                "score_source": about["source"],
                "exposures": counts[live.period_no],
                "is_mature": is_mature,
                **values,
                **({} if is_mature and found else dict.fromkeys(AFTERWARDS)),
            }
        )
    return rows


def sums_by_period(shown: DataFrame, scores: DataFrame) -> DataFrame:
    """One row per period_no with SUMS of `shown` (period_no, the keys, y) joined with `scores` (period_no, keys, p)."""
    p = F.least(F.greatest(F.col("p").cast("double"), F.lit(EPSILON)), F.lit(1 - EPSILON))
    joined = shown.join(scores, on=["period_no", *encode.KEYS], how="inner").withColumn("q", p)
    q, y = F.col("q"), F.col("y").cast("double")
    odds = F.log(q / (1 - q))
    by_entity = joined.groupBy("period_no", "entity_id").agg(
        F.count("*").alias("n"),
        _sum(q, "sum_p"),
        _sum(q * (1 - q), "var_conversions"),
        _sum(-q * F.log(q) - (1 - q) * F.log(1 - q), "sum_entropy"),
        _sum(q * (1 - q) * odds * odds, "var_logloss"),
        _sum(y, "converted"),
        _sum(F.when(F.col("y") == 1, -F.log(q)).otherwise(-F.log(1 - q)), "sum_logloss"),
    )
    summed = [name for name in SUMS if name not in ("entities", "conversions") and not name.startswith("entity_sq")]
    surprise = F.col("sum_logloss") - F.col("sum_entropy")
    return by_entity.groupBy("period_no").agg(
        *(F.sum(name).alias(name) for name in summed),
        F.count("*").alias("entities"),
        F.sum("converted").cast("long").alias("conversions"),
        F.sum((F.col("converted") - F.col("sum_p")) ** 2).alias("entity_sq_conversions"),
        F.sum(surprise**2).alias("entity_sq_logloss"),
    )


def _sum(values: Column, name: str) -> Column:
    return F.sum(values).alias(name)


def _scores(spark: SparkSession, live: Live) -> DataFrame:
    read = spark.read.parquet(*live.scores.files).select(*encode.KEYS, "p")
    return read.withColumn("period_no", F.lit(live.period_no))


def _about(scores: Dataset) -> dict[str, Any]:
    """What the scores say of themselves; the same in each row."""
    with pq.ParquetFile(scores.files[0]) as file:
        return next(file.iter_batches(1, columns=["model_id", "source", "score_date"])).to_pylist()[0]


def _period_of(release_id: str, contract: str, periods: Periods) -> int | None:
    """The period that a release was published for, from its id <contract>-<date>[-n]."""
    date = cycle_date_of(release_id, contract)
    return None if date is None else periods.number(date)


def _keys_of_scores(cycle: Cycle) -> dict[str, str]:
    """Release id -> key of the scores that it serves, also of releases that were removed since."""
    found = {}
    for path in (cycle.warehouse / "cycles" / cycle.contract.name).glob("[!.]*.json"):
        run = json.loads(path.read_text())["run"]
        if "scores" in run.get("published", {}):
            found[run["published_id"]] = run["published"]["scores"]
    for release in releases.list_releases(cycle.warehouse):
        datasets = json.loads(release.manifest.get("datasets", "{}"))
        if release.manifest["contract"] == cycle.contract.name and "scores" in datasets:
            found[release.release_id] = datasets["scores"]
    return found


def _last_rows(cycle: Cycle) -> list[dict[str, Any]]:
    """The rows of the fact of the last cycle before this one that has it."""
    folder = cycle.warehouse / "cycles" / cycle.contract.name
    for path in sorted(folder.glob("[!.]*.json"), reverse=True):
        key = json.loads(path.read_text())["datasets"].get("live_performance") if path.stem < str(cycle.date) else None
        found = cycle.lake.find("live_performance", key) if key else None
        if found is not None:
            return found.table().to_pylist()
    return []
