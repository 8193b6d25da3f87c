"""What is promised of the warehouse (`conf/slo.yml`), and whether it is kept: the formulas are those of the marts.

The mart `fct_slo` says how things stood when its release was built. `report` says how they stand now: the same SQL,
over the logs as they are.
"""

from __future__ import annotations

import datetime as dt
import zoneinfo
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
from pydantic import Field, field_validator
from rich.console import Console
from rich.table import Table

from jobs import facts, mart_sql, operations_log
from jobs.contract import Contract
from jobs.policies import Number, Policy, Text, read_policy

FILE = Path(__file__).resolve().parent.parent / "conf" / "slo.yml"
DAY = dt.timedelta(days=1)


class SloError(RuntimeError):
    """There is nothing to report on; the message says what to run."""


class Objective(Policy):
    """The share of observations within the window that have to be good."""

    objective: Annotated[Number, Field(gt=0, le=1)]
    window_days: Annotated[int, Field(strict=True, ge=1)]


class ScoresReady(Objective):
    """By which hour of the day the scores of a night can be read."""

    by: Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    timezone: Text | None = None  # default: the contract's
    replay_after_days: Annotated[int, Field(strict=True, ge=1)]

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, name: str | None) -> str | None:
        if name is not None and name not in zoneinfo.available_timezones():
            raise ValueError(f"timezone must be a name like America/New_York, got {name!r}")
        return name

    def zone(self, contract: Contract) -> str:
        return self.timezone or contract.period.timezone

    def is_replay(self, date: dt.date, started: dt.datetime, contract: Contract) -> bool:
        """Whether the night of `date`, `started` then (aware), is history run again."""
        begins = dt.datetime.combine(date, dt.time(), zoneinfo.ZoneInfo(self.zone(contract)))
        return started > begins + self.replay_after_days * DAY

    def due(self, date: dt.date, started: dt.datetime, contract: Contract) -> dt.datetime:
        """The instant (UTC) by which the scores of the night of `date` have to be there."""
        zone = zoneinfo.ZoneInfo(self.zone(contract))
        hour = dt.time.fromisoformat(self.by)
        day = date
        if self.is_replay(date, started, contract):
            here = started.astimezone(zone)
            day = here.date() if here.time() < hour else here.date() + DAY
        return dt.datetime.combine(day, hour, zone).astimezone(dt.UTC)


class RecoveryPoint(Objective):
    """How old what a backup holds may be."""

    within_hours: Annotated[Number, Field(gt=0)]


class RecoveryTime(Objective):
    """How long a restore may take, and how much longer than before."""

    within_minutes: Annotated[Number, Field(gt=0)]
    regression_alarm: Annotated[Number, Field(gt=0)]


class Health(Policy):
    """What `fieldmart health` holds beside the promises."""

    calibration_low: Annotated[Number, Field(gt=0, le=1)]
    calibration_high: Annotated[Number, Field(ge=1)]
    disk_free_gib: Annotated[Number, Field(ge=0)]


class Slo(Policy):
    """The whole file."""

    scores_ready: ScoresReady
    mart_readable: Objective
    recovery_point: RecoveryPoint
    recovery_time: RecoveryTime
    health: Health

    @property
    def longest_days(self) -> int:
        parts: tuple[Objective, ...] = (
            self.scores_ready,
            self.mart_readable,
            self.recovery_point,
            self.recovery_time,
        )
        return max(part.window_days for part in parts)


def load_slo(path: Path = FILE) -> Slo:
    """The promises in the YAML file `path`; PolicyError names file, place, rule and value of each fault."""
    return read_policy(path, Slo)


def objectives(policy: Slo, contract: Contract, as_of: dt.datetime) -> list[dict[str, Any]]:
    """The rows of the fact `slo_objectives`; windows end at `as_of` (naive UTC)."""
    ready, point, time = policy.scores_ready, policy.recovery_point, policy.recovery_time
    told = (
        ("scores_ready", f"Scores ready by {ready.by} {ready.zone(contract)}", ready, 0.0, "s after the deadline"),
        ("mart_readable", "Mart readable", policy.mart_readable, 0.0, "failed probes in the minute"),
        ("recovery_point", f"Recovery point within {point.within_hours:g} h", point, point.within_hours * 3600, "s"),
        ("recovery_time", f"Recovery time within {time.within_minutes:g} min", time, time.within_minutes * 60, "s"),
    )
    return [
        {
            "slo": name,
            "title": title,
            "threshold": threshold,
            "unit": unit,
            "objective": part.objective,
            "window_days": part.window_days,
            "regression_alarm": getattr(part, "regression_alarm", None),
            "as_of": as_of,
            "slo_sha": policy.sha,
        }
        for name, title, part, threshold, unit in told
    ]


def operations(warehouse: Path, policy: Slo, as_of: dt.datetime) -> list[dict[str, Any]]:
    """The rows of the fact `operations`: events up to `as_of` (naive UTC) of twice the longest window, oldest first."""
    first = as_of - 2 * policy.longest_days * DAY
    found = []
    for event in operations_log.entries(warehouse):
        at = dt.datetime.fromisoformat(event.at).astimezone(dt.UTC).replace(tzinfo=None)
        if first < at <= as_of:
            said = {name: getattr(event, name) for name in ("kind", "ok", "seconds", "bytes", "rpo_s", "detail")}
            found.append({"happened_at": at, **said})
    return sorted(found, key=lambda row: row["happened_at"])


def report(
    warehouse: Path, contract: Contract, policy: Slo, nights: list[dict[str, Any]], as_of: dt.datetime
) -> list[dict[str, Any]]:
    """The rows of `fct_slo` as of now (naive UTC), from the logs: `nights` are rows of the fact of that name."""
    rows = {
        "operations": operations(warehouse, policy, as_of),
        "nights": nights,
        "slo_objectives": objectives(policy, contract, as_of),
    }
    tables: dict[str, pa.Table] = {name: facts.table(name, listed) for name, listed in rows.items()}
    return mart_sql.rows("fct_slo", tables, order_by="seq")


def broken(found: list[dict[str, Any]]) -> list[str]:
    """Names of the promises that are not kept or raise an alarm; one that nothing was observed of is not among them."""
    return [row["slo"] for row in found if row["is_alarm"]]


def show(found: list[dict[str, Any]], console: Console) -> None:
    """Print the report as a table and, below it, each promise in words."""
    table = Table(title="Promises (conf/slo.yml)")
    for name in ("promise", "objective", "attained", "seen", "budget left", "before", "state"):
        table.add_column(name, justify="left" if name in ("promise", "state") else "right")
    for row in found:
        state = "alarm" if row["is_alarm"] else "not observed" if row["is_met"] is None else "kept"
        table.add_row(
            row["title"],
            f"{row['objective']:.1%}",
            _share(row["attained"]),
            f"{row['observations']:,}",
            _share(row["error_budget_left"]),
            _share(row["previous_attained"]),
            f"[bold red]{state}[/bold red]" if row["is_alarm"] else state,
        )
    console.print(table)
    for row in found:
        console.print(row["sentence"], soft_wrap=True)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
