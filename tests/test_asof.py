"""As of a time: what was live, by which model, and who decided it; and the same as spans in a mart."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import served_world as world
from typer.testing import CliRunner

from jobs import asof, cli, decision_log, facts, log_facts
from jobs.gate import Evaluation

DAY = dt.date(2017, 12, 4)


def at(hour: int) -> dt.datetime:
    """So many hours after the first entry's midnight."""
    return dt.datetime(2026, 11, 1, tzinfo=dt.UTC) + dt.timedelta(hours=hour)


def decided(warehouse: Path, hour: int, week: int, model_id: str, verdict: Any = "GO") -> decision_log.Entry:
    made = Evaluation(verdict, verdict, week + 1, model_id, (), "gate", f"evidence {hour}")
    day = DAY + dt.timedelta(weeks=week)
    return decision_log.append_decision(warehouse, "tiny", day, made, promotes=f"{model_id}-refit", at=at(hour))


def said(warehouse: Path, hour: int, kind: Any, **payload: Any) -> decision_log.Entry:
    return decision_log.append(warehouse, kind, {"contract": "tiny"} | payload, at=at(hour))


def shown(release_id: str, model_id: str, **more: Any) -> dict[str, Any]:
    served = {"release_id": release_id, "serving_model_id": model_id, "score_source": "model"}
    return served | {"cycle_date": str(DAY), "data_through": f"{DAY}T05:00:00+00:00"} | more


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """GO a, published; HOLD b, approved later; published; left by the guard; rolled forward by hand."""
    go = decided(tmp_path, 1, 0, "a")
    said(tmp_path, 2, "publish", **shown("r1", "a-refit", decision_id=go.decision_id))
    held = decided(tmp_path, 25, 1, "b", "HOLD")
    approval = {"cycle_date": held.payload["cycle_date"], "decision_id": held.decision_id, "promotes": "b-refit"}
    said(tmp_path, 26, "approval", **approval, by="ann", why="trial")
    said(tmp_path, 27, "publish", **shown("r2", "b-refit", decision_id=held.decision_id))
    breach = {"rule": "ranks", "value": 0.0, "bound": ">= 0.4", "text": "ranks: 0, must be >= 0.4"}
    guard = shown("r2", "a-refit", to="r1", demotes=held.decision_id, breaches=[breach])
    said(tmp_path, 28, "guard", **guard, decision_id=go.decision_id)
    said(tmp_path, 30, "rollback", **shown("r2", "b-refit", decision_id=held.decision_id))
    return tmp_path


def live(warehouse: Path, hour: float) -> asof.Live:
    [found] = asof.live(decision_log.entries(warehouse), at(0) + dt.timedelta(hours=hour))
    return found


@pytest.mark.parametrize(
    ("hour", "release", "serving", "champion", "by", "approver", "challenger"),
    [
        (1.5, None, None, "a-refit", None, None, "a"),  # decided, not yet published
        (2, "r1", "a-refit", "a-refit", "publish", None, "a"),  # an instant includes what was written at it
        (25.5, "r1", "a-refit", "a-refit", "publish", None, "b"),
        (26.5, "r1", "a-refit", "b-refit", "publish", "ann", "b"),
        (27.5, "r2", "b-refit", "b-refit", "publish", "ann", "b"),
        (28.5, "r1", "a-refit", "a-refit", "guard", None, "b"),
        (31, "r2", "b-refit", "a-refit", "rollback", None, "b"),  # a rollback moves readers, not the champion
    ],
)
def test_what_was_live_at_a_time(
    history: Path,
    hour: float,
    release: str | None,
    serving: str | None,
    champion: str,
    by: str | None,
    approver: str | None,
    challenger: str,
) -> None:
    found = live(history, hour)
    assert (found.release_id, found.serving_model_id, found.by) == (release, serving, by)
    assert (found.champion_model_id, found.approved_by, found.challenger_model_id) == (champion, approver, challenger)
    assert found.is_current == (release is not None)
    assert found.k == (1 if champion == "a-refit" else 2)


def test_before_everything_and_of_nobody_there_is_an_error(history: Path) -> None:
    log = decision_log.entries(history)
    with pytest.raises(
        asof.AsOfError, match=r"nothing was live at 2026-11-01T00:00:00\+00:00: the log begins at 2026-1"
    ):
        asof.live(log, at(0))
    with pytest.raises(asof.AsOfError, match=r"nothing was live at .* of shop: the log does not name it"):
        asof.live(log, at(40), "shop")
    with pytest.raises(asof.AsOfError, match="the time must be YYYY-MM-DD or YYYY-MM-DDTHH:MM, got 'noon'"):
        asof.moment("noon")


def test_a_date_is_when_it_began_and_zones_count() -> None:
    assert asof.moment("2026-11-01") == at(0)
    assert asof.moment("2026-11-01T12:00") == at(12)
    assert asof.moment("2026-11-01T12:00+02:00") == at(10)


def test_entries_from_before_they_said_what_served_lead_to_the_decision(tmp_path: Path) -> None:
    go = decided(tmp_path, 1, 0, "a")
    said(tmp_path, 2, "publish", release_id="r1", decision_id=go.decision_id)
    found = live(tmp_path, 3)
    assert (found.serving_model_id, found.cycle_date, found.score_source) == ("a-refit", str(DAY), "model")


def test_a_release_that_is_gone_can_still_be_told(tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse"
    go = world.decided(warehouse, 0, "a")
    release = world.published(warehouse, 0, "a", world.logits(), go.decision_id)
    shutil.rmtree(release.folder)
    told = CliRunner().invoke(cli.app, ["asof", "2099-01-01", "--warehouse", str(warehouse), "--json"])
    [found] = json.loads(told.stdout)
    assert (found["release_id"], found["serving_model_id"]) == ("tiny-2017-12-04", "a")
    assert found["data_through"] == "2017-12-04T05:00:00+00:00"
    table = CliRunner().invoke(cli.app, ["asof", "2099-01-01", "--warehouse", str(warehouse)]).stdout
    assert "tiny-2017-12-04" in table
    failed = CliRunner().invoke(cli.app, ["asof", "1999-01-01", "--warehouse", str(warehouse)])
    assert failed.exit_code == 1
    assert failed.stderr.startswith("fieldmart: nothing was live at 1999-01-01")


def test_the_spans_of_the_mart_say_the_same_as_asof(history: Path) -> None:
    log = decision_log.entries(history)
    rows = log_facts.of_aliases(log, "tiny")
    assert facts.table("alias_changes", rows).num_rows == len(rows)
    by = {(row["alias"], row["seq"]): row for row in rows}
    assert [(row["alias"], row["model_id"], row["cause"]) for row in rows] == [
        ("champion", "a-refit", "decision"),
        ("challenger", "a", "decision"),
        ("live", "a-refit", "publish"),
        ("challenger", "b", "decision"),
        ("champion", "b-refit", "approval"),
        ("live", "b-refit", "publish"),
        ("champion", "a-refit", "guard"),
        ("live", "a-refit", "guard"),
        ("live", "b-refit", "rollback"),
    ]
    assert by["live", 3]["note"] == "AUTO_ROLLBACK r2 to r1: ranks: 0, must be >= 0.4"
    for hour in (1.5, 2, 25.5, 26.5, 27.5, 28.5, 31):
        when = (at(0) + dt.timedelta(hours=hour)).replace(tzinfo=None)
        found = live(history, hour)
        for alias, expected in (
            ("champion", found.champion_model_id),
            ("challenger", found.challenger_model_id),
            ("live", found.serving_model_id),
        ):
            until = [row for row in rows if row["alias"] == alias and row["changed_at"] <= when]
            assert (until[-1]["model_id"] if until else None) == expected


def test_the_release_in_the_making_is_the_last_change(history: Path) -> None:
    building = {"release_id": "r3", "serving_model_id": "c", "decision_id": "d", "cycle_date": DAY}
    *_, last = log_facts.of_aliases(decision_log.entries(history), "tiny", building)
    assert (last["alias"], last["seq"], last["release_id"], last["entry_id"]) == ("live", 5, "r3", None)


def test_no_champion_any_more_is_a_span_of_its_own(tmp_path: Path) -> None:
    go = decided(tmp_path, 1, 0, "a")
    said(tmp_path, 2, "publish", **shown("r1", "a-refit", decision_id=go.decision_id))
    said(tmp_path, 3, "guard", release_id="r1", to=None, demotes=go.decision_id, breaches=[])
    rows = log_facts.of_aliases(decision_log.entries(tmp_path), "tiny")
    assert [(row["alias"], row["model_id"], row["cause"]) for row in rows if row["alias"] != "challenger"] == [
        ("champion", "a-refit", "decision"),
        ("live", "a-refit", "publish"),
        ("champion", None, "guard"),
    ]


@pytest.mark.parametrize("text", ["0001-01-01T00:00+05:00", "9999-12-31T23:00-05:00"])
def test_a_time_that_utc_does_not_have_is_an_error(text: str) -> None:
    with pytest.raises(asof.AsOfError, match="the time must lie in the years 1 to 9999 of UTC, got"):
        asof.moment(text)
