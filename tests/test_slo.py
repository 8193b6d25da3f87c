"""Promises: the file, the deadline of a night, and that the command says what the mart says."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import fake_operations
import pytest
from small_world import CONF
from typer.testing import CliRunner

from jobs import cli, facts, mart_sql, operations_log, slo
from jobs.contract import load
from jobs.policies import PolicyError

PROMO = load(CONF / "promo.yml")  # its clocks are those of New York
MODELS = Path(mart_sql.__file__).resolve().parent.parent / "dbt" / "models"
UTC = dt.UTC


def test_the_committed_file_promises_what_the_project_promises() -> None:
    policy = slo.load_slo()
    rows = {row["slo"]: row for row in slo.objectives(policy, PROMO, dt.datetime(2026, 11, 21))}
    assert rows["scores_ready"]["title"] == "Scores ready by 06:00 America/New_York"
    assert rows["mart_readable"]["objective"] == 0.999
    assert rows["recovery_point"]["threshold"] == 24 * 3600
    assert (rows["recovery_time"]["threshold"], rows["recovery_time"]["regression_alarm"]) == (15 * 60, 0.2)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('by: "06:00"', 'by: "6am"', r"scores_ready\.by: .*pattern.*got '6am'"),
        ("objective: 0.999", "objective: 99.9", r"mart_readable\.objective: .*less than or equal to 1, got 99.9"),
        ("window_days: 90", "window_days: 0", r"recovery_point\.window_days: .*greater than or equal to 1, got 0"),
        ("  regression_alarm: 0.2\n", "", r"recovery_time\.regression_alarm: must be given"),
        ("mart_readable:", "mart_readible:", r"mart_readible: is not a known key"),
        ("  replay_after_days: 2", "  replay_after_days: 2\n  timezone: EST5", r"timezone must be a name like"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = slo.FILE.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "slo.yml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(PolicyError, match=message):
        slo.load_slo(path)


@pytest.mark.parametrize(
    ("date", "started", "due"),
    [
        # 02:00 in New York (UTC-5 in winter) on the very day: by 06:00 there, 11:00 UTC
        ("2026-11-21", "2026-11-21T07:00", "2026-11-21T11:00"),
        # in summer New York is at UTC-4
        ("2026-07-01", "2026-07-01T06:00", "2026-07-01T10:00"),
        # the evening before
        ("2026-11-21", "2026-11-20T23:00", "2026-11-21T11:00"),
        # a day late is late, not a replay
        ("2026-11-21", "2026-11-22T07:00", "2026-11-21T11:00"),
        # history run again at 02:00 there, and at 08:00 there: the next 06:00
        ("2017-12-18", "2026-11-21T07:00", "2026-11-21T11:00"),
        ("2017-12-18", "2026-11-21T13:00", "2026-11-22T11:00"),
    ],
)
def test_a_night_is_due_on_its_day_and_history_by_the_next_such_hour(date: str, started: str, due: str) -> None:
    ready = slo.load_slo().scores_ready
    begun = dt.datetime.fromisoformat(started).replace(tzinfo=UTC)
    assert ready.due(dt.date.fromisoformat(date), begun, PROMO) == dt.datetime.fromisoformat(due).replace(tzinfo=UTC)
    assert ready.is_replay(dt.date.fromisoformat(date), begun, PROMO) == (date == "2017-12-18")


def test_no_model_of_promises_takes_a_mean() -> None:
    """Percentiles and shares: the mean of 39 fast answers and one of 10 s is fast."""
    for name in ("fct_slo", "int_slo_observations", "fct_stage_percentiles", "fct_operations", "finding_operations"):
        [path] = MODELS.rglob(f"{name}.sql")
        sql = path.read_text(encoding="utf-8")
        assert not re.search(r"\b(avg|mean|favg)\s*\(", sql, re.IGNORECASE), name
    assert "quantile_cont" in next(MODELS.rglob("fct_slo.sql")).read_text(encoding="utf-8")


def test_the_command_and_the_mart_have_the_same_formulas() -> None:
    rows = fake_operations.operations_facts("m", 4)
    tables = {name: facts.table(name, rows[name]) for name in ("operations", "nights", "slo_objectives")}
    found = {row["slo"]: row for row in mart_sql.rows("fct_slo", tables)}
    # From fake_operations: 2 of 3 nights in time, 999 of 1,000 minutes, two drills.
    assert found["scores_ready"]["attained"] == pytest.approx(2 / 3)
    assert (found["mart_readable"]["good"], found["mart_readable"]["is_met"]) == (999, True)
    assert found["mart_readable"]["error_budget_left"] == 0  # one may fail, one did
    assert found["recovery_time"]["regression"] == pytest.approx(0.25)
    assert slo.broken(list(found.values())) == ["scores_ready", "recovery_time"]


def test_a_model_with_macros_cannot_be_run_without_dbt() -> None:
    with pytest.raises(KeyError, match="needs the fact 'operations'"):
        mart_sql.rows("fct_operations", {})
    bins = {"drift_bins": facts.table("drift_bins", [])}
    with pytest.raises(ValueError, match="must use no Jinja but ref and source"):
        mart_sql.rows("fct_drift_by_field", bins)


def test_events_older_than_two_windows_and_after_now_do_not_count(tmp_path: Path) -> None:
    now = dt.datetime(2026, 11, 21)
    longest = slo.load_slo().longest_days
    for days in (-1, 1, 2 * longest - 1, 2 * longest + 1):
        operations_log.append(
            tmp_path, "drill", ok=True, seconds=1.0, at=now.replace(tzinfo=UTC) - dt.timedelta(days=days)
        )
    found = slo.operations(tmp_path, slo.load_slo(), now)
    assert [(now - row["happened_at"]).days for row in found] == [2 * longest - 1, 1]


def test_the_command_fails_where_a_promise_is_broken(tmp_path: Path) -> None:
    now = dt.datetime.now(UTC)
    for minute in range(10):
        operations_log.append(tmp_path, "probe", ok=minute != 3, at=now - dt.timedelta(minutes=minute))
    told = CliRunner().invoke(cli.app, ["slo", "--warehouse", str(tmp_path)])
    assert told.exit_code == 1
    assert "Mart readable: 9 of 10 observations in the last 28 days are good, 90.00 % of 99.90 % promised: broken." in (
        " ".join(told.stdout.split())
    )
    empty = CliRunner().invoke(cli.app, ["slo", "--json", "--warehouse", str(tmp_path / "none")])
    assert empty.exit_code == 0  # nothing observed is nothing broken
    assert empty.stdout.count('"is_met": null') == 4
