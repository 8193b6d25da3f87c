"""Periods against instants worked out by hand, and splits against counting on fingers."""

from __future__ import annotations

import datetime as dt
import itertools
import zoneinfo
from pathlib import Path

import pytest
import yaml

from jobs.contract import Contract, ContractError, load
from jobs.periods import PARTS, Periods

CONF = Path(__file__).parent.parent / "conf"
UTC = dt.UTC


def contract(**sections: object) -> Contract:
    """promo with some top-level sections replaced."""
    return Contract.model_validate(yaml.safe_load((CONF / "promo.yml").read_text()) | sections)


def daily(window: object = "end_of_period", **split: object) -> Contract:
    return contract(
        period={"days": 1, "origin": "2020-01-01T00:00:00", "timezone": "UTC"},
        label={"events": ["purchase"], "window": window},
        split=split,
    )


def days(parts: dict[str, range], periods: Periods) -> dict[str, tuple[str, str]]:
    return {name: (str(periods.day(part[0])), str(periods.day(part[-1]))) for name, part in parts.items()}


def test_the_ad_weeks_of_2017() -> None:
    # Week 1 starts on 2016-12-26, period -1; week n is period n - 2, so week 45 starts 43 weeks after 2017-01-02.
    periods = Periods(load(CONF / "promo_benchmark.yml"), dt.date(2018, 1, 1))
    weeks = {1: "2016-12-26", 2: "2017-01-02", 41: "2017-10-02", 43: "2017-10-16", 45: "2017-10-30", 53: "2017-12-25"}
    assert {week: str(periods.day(week - 2)) for week in weeks} == weeks
    assert all(periods.number(dt.date.fromisoformat(day)) == week - 2 for week, day in weeks.items())
    assert dt.date(2017, 10, 30) == dt.date(2017, 1, 2) + dt.timedelta(weeks=43)


@pytest.mark.parametrize(
    ("day", "number"), [("2017-10-29", 42), ("2017-10-30", 43), ("2017-11-05", 43), ("2017-11-06", 44)]
)
def test_every_day_of_a_week_belongs_to_it(day: str, number: int) -> None:
    assert Periods(contract(), dt.date(2018, 1, 1)).number(dt.date.fromisoformat(day)) == number


@pytest.mark.parametrize(
    ("day", "instant"),
    [
        ("2017-03-06", dt.datetime(2017, 3, 6, 5, tzinfo=UTC)),  # Eastern standard time is UTC - 5
        ("2017-03-13", dt.datetime(2017, 3, 13, 4, tzinfo=UTC)),  # clocks went forward on Sunday 12 March
        ("2017-10-30", dt.datetime(2017, 10, 30, 4, tzinfo=UTC)),
        ("2017-11-06", dt.datetime(2017, 11, 6, 5, tzinfo=UTC)),  # and back on Sunday 5 November
    ],
)
def test_weeks_start_at_local_midnight_across_daylight_saving(day: str, instant: dt.datetime) -> None:
    periods = Periods(contract(), dt.date.fromisoformat(day))
    assert periods.start(periods.scoring) == periods.data_through == instant


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kolkata", "Pacific/Auckland", "America/Havana"])
def test_starts_are_the_local_wall_clock_and_ascend(zone: str) -> None:
    shifted = contract(period={"days": 1, "origin": "2017-01-02T04:30:00", "timezone": zone})
    periods = Periods(shifted, dt.date(2018, 1, 1))
    starts = [periods.start(number) for number in range(-400, 400)]
    assert {start.astimezone(zoneinfo.ZoneInfo(zone)).time() for start in starts} == {dt.time(4, 30)}
    lengths = {after - before for before, after in itertools.pairwise(starts)}
    changes = {dt.timedelta(hours=24)} if zone in ("UTC", "Asia/Kolkata") else {
        dt.timedelta(hours=hours) for hours in (23, 24, 25)
    }  # fmt: skip
    assert lengths == changes
    assert [periods.number(periods.day(number)) for number in range(-400, 400)] == list(range(-400, 400))


def test_relative_split_takes_the_last_periods_before_date() -> None:
    # promo: DATE 2017-12-18 is scored, so the last week with labels is 2017-12-11; 9 + 2 + 2 weeks back from it.
    periods = Periods(contract(), dt.date(2017, 12, 18))
    parts = periods.split(first=-1)
    assert days(parts, periods) == {
        "train": ("2016-12-26", "2017-09-11"),
        "valid": ("2017-09-18", "2017-09-25"),
        "calib": ("2017-10-02", "2017-10-09"),
        "test": ("2017-10-16", "2017-12-11"),
    }
    assert list(parts) == list(PARTS)
    assert [len(parts[part]) for part in PARTS] == [38, 2, 2, 9]


def test_any_day_of_the_scoring_week_gives_the_same_split() -> None:
    whole = [Periods(contract(), dt.date(2017, 12, day)).split(-1) for day in range(18, 25)]
    assert all(parts == whole[0] for parts in whole)
    assert Periods(contract(), dt.date(2017, 12, 25)).split(-1) != whole[0]


def test_train_may_be_limited() -> None:
    periods = Periods(daily(train=5, valid=1, calib=1, test=2), dt.date(2020, 2, 1))
    # scoring 31; test 29, 30; calib 28; valid 27; train 22-26
    assert periods.split(0) == {
        "train": range(22, 27),
        "valid": range(27, 28),
        "calib": range(28, 29),
        "test": range(29, 31),
    }
    assert periods.split(24)["train"] == range(24, 27)


def test_a_window_in_days_keeps_periods_between_the_parts() -> None:
    periods = Periods(daily(window=2, valid=1, calib=1, test=2), dt.date(2020, 2, 1))
    # Scoring 31. An exposure of period 28 can convert until the end of 30, so 28 is the last final one.
    assert (periods.maturity, periods.last_matured) == (2, 28)
    assert periods.split(0) == {
        "train": range(19),
        "valid": range(21, 22),
        "calib": range(24, 25),
        "test": range(27, 29),
    }
    # The last training label is known at the end of period 18 + 2 = 20: before the first row of valid.


@pytest.mark.parametrize(("window", "maturity"), [("end_of_period", 0), (1, 1), (7, 1), (8, 2), (14, 2), (15, 3)])
def test_maturity_is_the_window_in_whole_periods_rounded_up(window: object, maturity: int) -> None:
    weekly = contract(label={"events": ["purchase"], "window": window})
    assert Periods(weekly, dt.date(2017, 12, 18)).maturity == maturity


def test_fixed_split_of_the_benchmark() -> None:
    periods = Periods(load(CONF / "promo_benchmark.yml"), dt.date(2018, 1, 1))
    parts = periods.split(first=-1)
    assert [len(parts[part]) for part in PARTS] == [40, 2, 2, 9]
    assert days(parts, periods)["train"] == ("2016-12-26", "2017-09-25")
    assert parts["test"] == range(43, 52)


def test_parts_never_share_a_period_and_come_in_order() -> None:
    for window in ("end_of_period", 1, 3):
        for train in (None, 4):
            periods = Periods(daily(window=window, train=train, valid=2, calib=3, test=4), dt.date(2020, 2, 1))
            numbers = [number for part in PARTS for number in periods.split(0)[part]]
            assert numbers == sorted(set(numbers))


@pytest.mark.parametrize(("first", "part"), [(30, "calib"), (28, "valid"), (26, "train"), (31, "test"), (40, "test")])
def test_too_little_data(first: int, part: str) -> None:
    # scoring 31; test 29, 30; calib 27, 28; valid 25, 26
    periods = Periods(daily(valid=2, calib=2, test=2), dt.date(2020, 2, 1))
    day = dt.date(2020, 1, 1) + dt.timedelta(days=first)
    message = (
        rf"split\.\w+ must hold at least one period, got none: data starts {day}, labels are final up to 2020-01-31"
    )
    with pytest.raises(ContractError, match=message):
        periods.split(first)


def test_one_training_period_is_enough() -> None:
    periods = Periods(daily(valid=2, calib=2, test=2), dt.date(2020, 2, 1))
    assert periods.split(24)["train"] == range(24, 25)
    with pytest.raises(ContractError, match=r"split\.train must hold at least one period"):
        periods.split(25)


def fixed(**parts: list[str]) -> Contract:
    return daily(**({"train": ["2020-01-01", "2020-01-10"], "valid": ["2020-01-11", "2020-01-12"],
                     "calib": ["2020-01-13", "2020-01-14"], "test": ["2020-01-15", "2020-01-20"]} | parts))  # fmt: skip


def test_a_fixed_test_must_have_matured() -> None:
    assert Periods(fixed(), dt.date(2020, 1, 21)).split(0)["test"] == range(14, 20)
    with pytest.raises(
        ContractError,
        match=r"split\.test must end with a matured period, got 2020-01-20; labels are final up to 2020-01-19",
    ):
        Periods(fixed(), dt.date(2020, 1, 20)).split(0)


def test_a_fixed_part_before_the_data_is_refused() -> None:
    with pytest.raises(
        ContractError, match=r"split\.train must hold at least one period, got none: data starts 2020-01-11"
    ):
        Periods(fixed(), dt.date(2020, 2, 1)).split(10)


def test_fixed_parts_may_not_share_a_period() -> None:
    with pytest.raises(
        ContractError,
        match=r"split\.valid must start after the last period of split\.train, got period 2020-01-10 in both",
    ):
        Periods(fixed(valid=["2020-01-10", "2020-01-12"]), dt.date(2020, 2, 1)).split(0)


def test_fixed_days_inside_one_week_share_its_period() -> None:
    weeks = {"train": ["2017-01-02", "2017-03-08"], "valid": ["2017-03-09", "2017-03-19"]}  # 6 to 12 March is one week
    weeks |= {"calib": ["2017-03-20", "2017-03-26"], "test": ["2017-03-27", "2017-04-02"]}
    with pytest.raises(ContractError, match=r"got period 2017-03-06 in both"):
        Periods(contract(split=weeks), dt.date(2017, 12, 18)).split(0)
