"""Job: how late conversions come, what is known of every period's label so far and what it will be in the end.

A label as of an instant: conversions from then on are unseen, an exposure whose window is still open and that has not
converted is immature and never a negative. A night of DATE is as of the start of DATE's period: the snapshot holds no
later conversion and the split no later period, so every row that a model learns or is judged on has a closed window.
Spark sends the driver counts per period, group and day of delay; the curve is jobs/delay_curve.py.
"""

from __future__ import annotations

import datetime as dt
import zoneinfo
from typing import Any

import numpy as np
import polars as pl
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from rich.table import Table

from jobs.cycle import Cycle
from jobs.delay_curve import DelayCurve, expected_final, fitted
from jobs.encode import events, known_period, label
from jobs.lake import Dataset

ALL = "all"  # the group of every exposure
COUNTED = ["period_no", "grp", "followed", "delay", "is_first", "is_late"]


class LabelError(ValueError):
    """A date as of which labels cannot be told; the message says which ones can."""


def run(cycle: Cycle, spark: SparkSession) -> Dataset:
    """Make the facts `label_delay` and `label_settling` as of the cycle's own instant; returns the first."""
    params = cycle.contract.part("label", "period", "exposure_time", "conversion_time", "delivered_at")
    params |= {"as_of": cycle.periods.data_through.isoformat()}
    inputs = {"exposures": cycle.dataset("exposures").content}
    keys = {name: cycle.lake.key(name, __name__, inputs, params) for name in ("label_delay", "label_settling")}
    if not all(cycle.lake.find(name, key) for name, key in keys.items()):
        counts = counted(cycle, events(cycle, spark)["exposures"], cycle.periods.scoring)
        curves = curves_of(counts, horizon(cycle))
        found = {"label_delay": delay_rows(curves), "label_settling": settling_rows(cycle, counts, curves)}
        for name, key in keys.items():
            cycle.lake.write_fact(name, key, found[name])
    cycle.remember(keys)
    return cycle.dataset("label_delay")


def horizon(cycle: Cycle) -> int:
    """Days after which an exposure's window is closed at the latest."""
    window = cycle.contract.label.window
    return cycle.contract.period.days if isinstance(window, str) else window


def instant(cycle: Cycle, day: dt.date | None) -> dt.datetime:
    """The instant at which `day` begins for the periods (None: the first that the cycle does not read), in UTC.

    Raises LabelError if the cycle's snapshot does not reach to it.
    """
    if day is None:
        return cycle.periods.data_through
    local = dt.datetime.combine(day, cycle.periods.origin.time(), zoneinfo.ZoneInfo(cycle.periods.timezone))
    found = local.astimezone(dt.UTC)
    if found > cycle.periods.data_through:
        last = cycle.periods.day(cycle.periods.scoring)
        raise LabelError(f"--as-of must not be after {last}, the end of what this cycle knows, got {day}")
    return found


def local_seconds(column: Column, cycle: Cycle) -> Column:
    """Seconds on the wall clock of the periods, so that a day is a day also when clocks change."""
    return F.unix_timestamp(F.from_utc_timestamp(column, cycle.periods.timezone))


def as_of(cycle: Cycle, exposures: DataFrame, moment: dt.datetime) -> DataFrame:
    """`exposures` (with `period_no`, `conversion_no`) before `moment` with what is known of each label at it:

    `state`: converted | not_converted | immature, the last while the window is open and no conversion is seen;
    `followed`: full days it was watched, the horizon once its window is closed; `delay`: full days until it converted,
    null unless `state` is converted; `is_late`: a conversion was seen after the window, which never counts.
    """
    contract, day = cycle.contract, 86_400
    exposed, converted = F.col(contract.exposure_time), F.col(contract.conversion_time)
    if contract.delivered_at:  # a conversion is seen when it was told
        converted = F.when(converted.isNotNull(), F.greatest(converted, F.col(contract.delivered_at)))
    seen = F.coalesce(converted < F.lit(moment), F.lit(False))
    inside = seen & (label(contract) == 1)
    age = local_seconds(F.lit(moment), cycle) - local_seconds(exposed, cycle)
    if isinstance(contract.label.window, str):
        local = moment.astimezone(zoneinfo.ZoneInfo(cycle.periods.timezone)).replace(tzinfo=None)
        open_no = (local - cycle.periods.origin) // cycle.periods.length
        closed = F.col("period_no") < F.lit(open_no)
    else:
        closed = age >= F.lit(contract.label.window * day)
    last = horizon(cycle)
    took = F.floor((local_seconds(converted, cycle) - local_seconds(exposed, cycle)) / day)
    return exposures.where(exposed < F.lit(moment)).select(
        "*",
        F.when(inside, "converted").when(closed, "not_converted").otherwise("immature").alias("state"),
        F.when(closed, last).otherwise(F.least(F.floor(age / day), F.lit(last))).cast("int").alias("followed"),
        F.when(inside, F.least(took, F.lit(last - 1))).cast("int").alias("delay"),
        (seen & ~inside).alias("is_late"),
    )


def counted(cycle: Cycle, exposures: DataFrame, scoring: int, moment: dt.datetime | None = None) -> pl.DataFrame:
    """Exposures as of `moment` (None: the cycle's) counted by COUNTED, the column being `n`: one row per combination.

    `is_first`: it had converted by the end of its own period.
    """
    by = cycle.contract.label.delay_by
    group = F.coalesce(F.col(by).cast("string"), F.lit("(missing)")) if by else F.lit(ALL)
    known = as_of(cycle, exposures.where(F.col("period_no") < scoring), moment or cycle.periods.data_through)
    first = F.col("delay").isNotNull() & (known_period(cycle) == F.col("period_no"))
    rows = known.select("*", group.alias("grp"), first.alias("is_first"))
    found = rows.groupBy(*COUNTED).agg(F.count("*").alias("n"))
    return pl.DataFrame(found.toArrow()).sort(COUNTED, nulls_last=True)


def curves_of(counts: pl.DataFrame, days: int) -> dict[str, DelayCurve]:
    """The delay curve of all exposures and, if there are several, of each group."""
    groups = sorted(counts["grp"].unique().to_list())
    found = {ALL: _curve(counts, days)}
    return found | {name: _curve(counts.filter(pl.col("grp") == name), days) for name in groups if groups != [ALL]}


def _curve(counts: pl.DataFrame, days: int) -> DelayCurve:
    # Of the day that is not over yet only conversions are seen: they say nothing of those who may still convert in it.
    is_event = pl.col("delay").is_not_null() & (pl.col("delay") < pl.col("followed"))
    left = counts.select(
        pl.when(is_event).then(pl.col("delay") + 1).otherwise(pl.col("followed")).alias("day"),
        is_event.alias("converted"),
        "n",
    )
    summed = left.group_by("day", "converted").agg(pl.col("n").sum()).sort("day", "converted")
    return fitted(*(summed[name].to_numpy() for name in ("day", "converted", "n")), days)


def delay_rows(curves: dict[str, DelayCurve]) -> list[dict[str, Any]]:
    """Rows of fact `label_delay`."""
    return [
        {
            "grp": name,
            "delay_days": day,
            "at_risk": int(curve.at_risk[day]),
            "events": int(curve.events[day]),
            **{column: _number(getattr(curve, column)[day]) for column in SHARES},
        }
        for name, curve in curves.items()
        for day in range(len(curve.at_risk))
    ]


SHARES = ("converted", "converted_lo", "converted_hi", "completeness", "completeness_lo", "completeness_hi")


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def settling_rows(cycle: Cycle, counts: pl.DataFrame, curves: dict[str, DelayCurve]) -> list[dict[str, Any]]:
    """Rows of fact `label_settling`: what every period's label was, is and will be."""
    found = []
    for (number,), mine in counts.group_by("period_no", maintain_order=True):
        converted = mine.filter(pl.col("delay").is_not_null())
        known = int(converted["n"].sum())
        value, lo, hi = expected_final(known, *seen_share(mine, curves, horizon(cycle)))
        unsettled = (pl.col("followed") < horizon(cycle)) & pl.col("delay").is_null()
        found.append(
            {
                "period": cycle.periods.day(number),
                "exposures": int(mine["n"].sum()),
                "immature": int(mine.filter(unsettled)["n"].sum()),
                "conversions_first": int(mine.filter("is_first")["n"].sum()),
                "conversions": known,
                "conversions_late": int(mine.filter("is_late")["n"].sum()),
                "expected": value,
                "expected_lo": lo,
                "expected_hi": hi,
            }
        )
    return sorted(found, key=lambda row: row["period"])


def seen_share(mine: pl.DataFrame, curves: dict[str, DelayCurve], last: int) -> tuple[float, float, float]:
    """Share of the final conversions of these exposures that is expected to have been seen, and its band.

    Each group's curve at each age, weighed by the conversions that the group's exposures have in the end; a group whose
    curve is not known yet goes by that of all. 0 if nothing is known.
    """
    cells = mine.group_by("grp", "followed").agg(pl.col("n").sum()).sort("grp", "followed")
    if cells["followed"].min() == last:
        return 1.0, 1.0, 1.0
    weights, shares = [], []
    for name, age, n in cells.iter_rows():
        curve = curves[name] if name in curves and curves[name].is_known else curves[ALL]
        if not curve.is_known:
            return 0.0, 0.0, 0.0
        weights.append(n * curve.converted[-1])
        shares.append([curve.completeness[age], curve.completeness_lo[age], curve.completeness_hi[age]])
    value, lo, hi = np.average(shares, axis=0, weights=weights)
    return float(value), float(lo), float(hi)


def show(cycle: Cycle, spark: SparkSession, day: dt.date | None) -> None:
    """Print what was known of every label as of `day` (None: the cycle's own instant) and what is known by now."""
    moment = instant(cycle, day)
    exposures, scoring = events(cycle, spark)["exposures"], cycle.periods.scoring
    then = counted(cycle, exposures, scoring, moment)
    if then.is_empty():
        raise LabelError(f"--as-of must be after the first exposure, got {day}")
    now = counted(cycle, exposures.where(F.col(cycle.contract.exposure_time) < F.lit(moment)), scoring)
    told = day or cycle.periods.day(scoring)
    table = Table(title=f"{cycle.contract.name}: labels as of {told}, window {cycle.contract.label.version}")
    for name in ("group", "exposures", "converted", "not converted", "immature", "after the window", "half by day"):
        table.add_column(name, justify="right", no_wrap=True)
    curves = curves_of(then, horizon(cycle))
    for name, curve in curves.items():
        table.add_row(name, *(f"{n:,}" for n in states(then, name, horizon(cycle))), _day_of(curve, 0.5))
    cycle.progress.console.print(table)
    cycle.progress.console.print(
        f"As of {told} {_conversions(then):,} conversions are seen of the {_conversions(now):,} that these exposures "
        f"have as of {cycle.periods.day(scoring)}.",
        soft_wrap=True,
    )


def states(counts: pl.DataFrame, group: str, last: int) -> tuple[int, ...]:
    """Five numbers: exposures of the group (ALL: of all), and of them converted, not converted, immature, too late."""
    mine = counts if group == ALL else counts.filter(pl.col("grp") == group)
    none, closed = pl.col("delay").is_null(), pl.col("followed") == last
    parts = (~none, none & closed, none & ~closed, pl.col("is_late"))
    return int(mine["n"].sum()), *(int(mine.filter(part)["n"].sum()) for part in parts)


def _conversions(counts: pl.DataFrame) -> int:
    return int(counts.filter(pl.col("delay").is_not_null() | pl.col("is_late"))["n"].sum())


def _day_of(curve: DelayCurve, share: float) -> str:
    """The first day by which `share` of the conversions have come."""
    return str(int(np.argmax(curve.completeness >= share))) if curve.is_known else "-"


if __name__ == "__main__":
    import typer

    from jobs.cli import label_command

    typer.run(label_command)
