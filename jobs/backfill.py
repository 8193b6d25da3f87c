"""Scores of past dates: what they would cost, a budget, and one cycle after the other.

Each scoring period between the two dates is a cycle of its own, with the champion of its time and data up to its own
start. Its scores go into the tree of scores by date, never into a release. A date that is done is found done: after a
crash, the same command goes on where it was.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table

from jobs import exit_codes, score_tree
from jobs.contract import Contract
from jobs.cycle import Cycle
from jobs.lake import Dataset
from jobs.periods import Periods
from jobs.policies import Rates
from jobs.progress import Progress
from jobs.spark_session import driver_memory_mib

GIB = 1024.0**3


class BackfillError(RuntimeError):
    """A backfill that is not started; the message says what to change."""


@dataclass(frozen=True)
class Cost:
    """What one date took: `ingest_s` and memory whatever its size, the rest in proportion to `pairs`."""

    pairs: int
    ingest_s: float
    score_s: float
    cpu_s: float  # of scoring alone
    bytes: float
    peak_rss_mib: float  # of the largest worker
    workers: int  # Python processes that scored blocks
    measured_on: dt.date | None = None  # None: not measured in this warehouse

    @property
    def memory_gib(self) -> float:
        """What must be there from the first second to the last: every worker at the largest one's peak, and what the
        JVM may take, which is not measured."""
        return (self.workers * self.peak_rss_mib + driver_memory_mib()) / 1024


# Where nothing was measured: 100M generated pairs with full scores on a machine of two cores (`make bench ONLY=score`),
# and the year of `promo` to ingest; rounded up.
ASSUMED = Cost(100_000_000, ingest_s=40, score_s=40, cpu_s=60, bytes=1.3e9, peak_rss_mib=1024, workers=2)


@dataclass(frozen=True)
class Need:
    """What a date, or all of them, needs; of a date with scores already, nothing."""

    pairs: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    bytes: float = 0.0
    usd: float = 0.0

    def __add__(self, other: Need) -> Need:
        return Need(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Need)))


@dataclass(frozen=True)
class Plan:
    """Every cycle with what it needs, None where it has scores already."""

    dates: list[tuple[Cycle, Need | None]]
    cost: Cost

    @property
    def total(self) -> Need:
        return sum((need for _, need in self.dates if need), Need())


@dataclass
class Report:
    """How a backfill ended: dates scored (those by the prior in place of a champion twice), found scored and failed."""

    scored: list[dt.date] = field(default_factory=list)
    degraded: list[dt.date] = field(default_factory=list)
    reused: list[dt.date] = field(default_factory=list)
    failed: dict[dt.date, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        return exit_codes.FAILED if self.failed else exit_codes.DEGRADED if self.degraded else 0


def cycles(contract: Contract, warehouse: Path, progress: Progress, first: dt.date, last: dt.date) -> list[Cycle]:
    """One cycle per scoring period from the one of day `first` to that of `last`, dated by the period's first day."""
    if last < first:
        raise BackfillError(f"--to must not lie before --from, got {last} and {first}")
    start, end = (Periods(contract, day) for day in (first, last))
    days = [start.day(number) for number in range(start.scoring, end.scoring + 1)]
    return [Cycle(contract, day, warehouse, progress) for day in days]


def measured(cycle: Cycle) -> Cost | None:
    """What the contract's latest cycle with scores of its own took; None if there is none."""
    folder = cycle.warehouse / "cycles" / cycle.contract.name
    days = sorted((dt.date.fromisoformat(path.stem) for path in folder.glob("[!.]*.json")), reverse=True)
    known = [Cycle(cycle.contract, day, cycle.warehouse, cycle.progress) for day in days]
    took = (seconds for seconds in (_stage_s(found, "ingest") for found in known) if seconds is not None)
    ingest_s = next(took, ASSUMED.ingest_s)
    for found in known:
        if not (found.has("scoring") and found.has("score_blocks")):
            continue
        scoring = _scoring(found)
        if scoring["source"] != "stale" and scoring["pairs"]:
            score_s = _stage_s(found, "score") or scoring["wall_s"]
            blocks = found.dataset("score_blocks").table().to_pylist()
            return Cost(
                scoring["pairs"],
                ingest_s,
                score_s,
                scoring["cpu_s"],
                sum(block["bytes_written"] for block in blocks),
                scoring["peak_rss_mib"],
                _workers(blocks),
                found.date,
            )
    return None


def _workers(blocks: Sequence[dict[str, Any]]) -> int:
    """How many processes scored: those of the run that finished, blocks of an interrupted one are another's."""
    own = {block["worker"] for block in blocks if not block["is_resumed"]}
    return len(own or {block["worker"] for block in blocks})


def is_scored(cycle: Cycle, model_id: str | None) -> bool:
    """Whether the tree has the cycle's scores by model `model_id`, or by the prior if that is None."""
    if not (cycle.has("scores") and cycle.has("scoring")):
        return False
    made = _scoring(cycle)
    if made["source"] != ("model" if model_id else "prior") or model_id not in (None, made["model_id"]):
        return False
    key = cycle.dataset("scores").key
    tree = score_tree.listing(cycle.warehouse, cycle.contract.name)
    return any(dated.date == cycle.date and dated.key == key and dated.is_whole for dated in tree)


def plan(chosen: Sequence[Cycle], is_done: Callable[[Cycle], bool], cost: Cost | None, rates: Rates) -> Plan:
    """What the `chosen` cycles need, from what one of them took before; without a measurement, from `ASSUMED`.

    A cycle that was ingested knows its pairs; any other counts like the measured one. Raises BackfillError if nothing
    says how many pairs there are.
    """
    basis, dates = cost or ASSUMED, []
    for cycle in chosen:
        pairs = _pairs(cycle) or (cost.pairs if cost else None)
        done = is_done(cycle)
        if not done and pairs is None:
            raise BackfillError(
                f"no cost can be projected for {cycle.date}: no cycle of {cycle.contract.name} was ever scored; "
                f"run `fieldmart score` for one date first"
            )
        dates.append((cycle, None if done else _need(pairs or 0, basis, rates)))
    return Plan(dates, basis)


def refuse_above(found: Plan, budget: float | None) -> None:
    """Raise BackfillError if the plan costs more than `budget` US dollars."""
    if budget is not None and found.total.usd > budget:
        todo = sum(need is not None for _, need in found.dates)
        raise BackfillError(
            f"projected ${found.total.usd:.4g} for {todo} dates, more than --budget ${budget:.4g}: choose fewer dates, "
            f"or a budget of at least the projection"
        )


def show(found: Plan, console: Console) -> None:
    """Print the plan as a table."""
    table = Table(title="Backfill")
    for name in ("date", "pairs", "CPU-s", "wall s", "MiB", "$"):
        table.add_column(name, justify="right", no_wrap=True)
    for cycle, need in found.dates:
        table.add_row(str(cycle.date), *(_cells(need) if need else ("has scores", "", "", "", "0")))
    table.add_section()
    table.add_row("total", *_cells(found.total))
    console.print(table)
    on = found.cost.measured_on
    basis = f"as measured on {on}" if on else "by an assumption that was not measured here"
    memory = f"{found.cost.memory_gib:.1f} GiB of memory all the time, storage for one month"
    console.print(f"Projected {basis}, priced by rates.yml: {memory}.", soft_wrap=True)


def run(found: Plan, score_one: Callable[[Cycle], Dataset]) -> Report:
    """Score each date that has no scores and put it into the tree; a date that fails does not lose the others.

    `score_one` ingests and scores a cycle, makes its fact `scoring` and returns its scores.
    """
    report = Report(reused=[cycle.date for cycle, need in found.dates if need is None])
    todo = [cycle for cycle, need in found.dates if need is not None]
    for place, cycle in enumerate(todo, start=1):
        note = f"{cycle.date}, {place} of {len(todo)}"
        try:
            dataset = score_one(cycle)
            made = _scoring(cycle)
            if made["source"] == "stale":
                raise BackfillError("its own scores failed the audits, and another night's do not belong there")
            score_tree.point(cycle.warehouse, cycle.contract.name, cycle.date, dataset)
        except Exception as error:  # whatever befell this date, Spark's own errors included
            [reason, *_] = str(error).splitlines() or [type(error).__name__]
            report.failed[cycle.date] = reason
            cycle.progress.note(f"{note}: failed, {reason}")
        else:
            report.scored.append(cycle.date)
            if made["is_degraded"]:
                report.degraded.append(cycle.date)
            cycle.progress.note(f"{note}: {dataset.rows:,} scores by {made['model_id']} ({made['source']})")
    return report


def summary(report: Report, console: Console) -> None:
    """Print how it ended; every failed date with its reason."""
    console.print(f"{len(report.scored)} dates scored, {len(report.reused)} had scores, {len(report.failed)} failed.")
    for date in report.degraded:
        console.print(f"  {date}: scored by the prior, though there is a champion", soft_wrap=True)
    for date, reason in report.failed.items():
        console.print(f"  {date}: {reason}", soft_wrap=True, markup=False)


def _scoring(cycle: Cycle) -> dict[str, Any]:
    """The one row of the cycle's fact `scoring`."""
    [row] = cycle.dataset("scoring").table().to_pylist()
    return row


def _stage_s(cycle: Cycle, stage: str) -> float | None:
    """Seconds of a stage that did its work; None if it found it done, or never ran."""
    record: dict[str, Any] = cycle.state()["stages"].get(stage, {})
    return record["wall_s"] if record.get("status") == "done" else None


def _pairs(cycle: Cycle) -> int | None:
    """Entities × candidates of their match, if the cycle's lists were made."""
    return pc.sum(cycle.dataset("entities").table()["candidates"]).as_py() if cycle.has("entities") else None


def _need(pairs: int, cost: Cost, rates: Rates) -> Need:
    """The part of `cost` that is due to `pairs`; ingesting keeps one core busy, and memory is held all the time."""
    share = pairs / cost.pairs
    cpu_s, wall_s = cost.ingest_s + cost.cpu_s * share, cost.ingest_s + cost.score_s * share
    size = cost.bytes * share
    usd = (
        cpu_s / 3600 * rates.usd_per_cpu_hour
        + cost.memory_gib * wall_s / 3600 * rates.usd_per_gib_hour
        + size / GIB * rates.usd_per_gib_month
    )
    return Need(pairs, cpu_s, wall_s, size, usd)


def _cells(need: Need) -> tuple[str, ...]:
    return (
        f"{need.pairs:,}",
        f"{need.cpu_s:,.0f}",
        f"{need.wall_s:,.0f}",
        f"{need.bytes / 2**20:,.0f}",
        f"{need.usd:.4g}",
    )
