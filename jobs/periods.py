"""Time cut into the contract's periods, and which period belongs to which part of the split."""

from __future__ import annotations

import datetime as dt
import itertools
import zoneinfo

import polars as pl
from pyspark.sql import Column
from pyspark.sql import functions as F

from jobs.contract import Contract, ContractError, Split

PARTS = ("train", "valid", "calib", "test")


class Periods:
    """The periods of one contract as seen from one DATE, numbered from the contract's origin (number 0).

    Periods turn at the origin's hour on the wall clock of the contract's time zone, also across daylight saving.
    """

    def __init__(self, contract: Contract, date: dt.date) -> None:
        self.length = dt.timedelta(days=contract.period.days)
        self.origin = contract.period.origin
        self.timezone = contract.period.timezone
        self.scoring = self.number(date)
        self._split = contract.split
        window = contract.label.window
        # Periods that must pass before a period's labels are final; 0 when the label's window ends with the period.
        self.maturity = 0 if isinstance(window, str) else -(-dt.timedelta(days=window) // self.length)

    def number(self, day: dt.date) -> int:
        """The period in which the local day `day` begins, seen from the hour at which periods turn."""
        return (dt.datetime.combine(day, self.origin.time()) - self.origin) // self.length

    def start(self, number: int) -> dt.datetime:
        """The instant at which a period starts, in UTC."""
        local = self.origin + number * self.length
        return local.replace(tzinfo=zoneinfo.ZoneInfo(self.timezone)).astimezone(dt.UTC)

    def day(self, number: int) -> dt.date:
        return (self.origin + number * self.length).date()

    @property
    def data_through(self) -> dt.datetime:
        """The first instant that is not read: the start of the scoring period."""
        return self.start(self.scoring)

    @property
    def last_matured(self) -> int:
        return self.scoring - 1 - self.maturity

    def split(self, first: int) -> dict[str, range]:
        """Period numbers of each part, given the first period with data; raises ContractError if one is empty.

        Parts that are given as counts keep `maturity` periods between them, so that no label window reaches into
        the next part.
        """
        parts = self._fixed(self._split) if self._split.is_fixed else self._relative(self._split, first)
        for part in PARTS:
            if len(parts[part]) == 0 or parts[part].stop <= first:
                raise ContractError(
                    f"split.{part} must hold at least one period, got none: data starts {self.day(first)}, "
                    f"labels are final up to {self.day(self.last_matured)}"
                )
        if parts["test"].stop - 1 > self.last_matured:
            raise ContractError(
                f"split.test must end with a matured period, got {self.day(parts['test'].stop - 1)}; "
                f"labels are final up to {self.day(self.last_matured)}"
            )
        return parts

    def _relative(self, split: Split, first: int) -> dict[str, range]:
        parts: dict[str, range] = {}
        stop = self.last_matured + 1
        for part in reversed(PARTS):
            count = getattr(split, part)
            parts[part] = range(first if count is None else max(stop - count, first), stop)
            stop = parts[part].start - self.maturity
        return {part: parts[part] for part in PARTS}

    def _fixed(self, split: Split) -> dict[str, range]:
        parts = {}
        for part in PARTS:
            begin, through = getattr(split, part)
            parts[part] = range(self.number(begin), self.number(through) + 1)
        for before, after in itertools.pairwise(PARTS):
            if parts[after].start < parts[before].stop:
                raise ContractError(
                    f"split.{after} must start after the last period of split.{before}, got period "
                    f"{self.day(parts[after].start)} in both"
                )
        return parts


def period_number(column: str, periods: Periods) -> Column:
    """The period of each timestamp in `column`, as an int column; null stays null."""
    local = F.from_utc_timestamp(F.col(column), periods.timezone)
    seconds = F.unix_timestamp(local) - int(periods.origin.replace(tzinfo=dt.UTC).timestamp())
    return F.floor(seconds / int(periods.length.total_seconds())).cast("int")


def period_expression(column: str, periods: Periods) -> pl.Expr:
    """The same for a polars column of UTC timestamps."""
    local = pl.col(column).dt.replace_time_zone("UTC").dt.convert_time_zone(periods.timezone).dt.replace_time_zone(None)
    seconds = local.dt.epoch("s") - int(periods.origin.replace(tzinfo=dt.UTC).timestamp())
    return seconds.floordiv(int(periods.length.total_seconds())).cast(pl.Int32)
