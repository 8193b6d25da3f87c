"""What nights came to, from what cycles remember and the log; cycles made by hand."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import fake_operations
import pytest
from rich.console import Console
from small_world import CONF

from jobs import decision_log, facts, slo
from jobs.contract import load
from jobs.cycle import Cycle
from jobs.lake import Lake
from jobs.night_history import History, cycle_date_of
from jobs.progress import Progress

PROMO, POLICY = load(CONF / "promo.yml"), slo.load_slo()
FIRST, SECOND, THIRD = (dt.date(2017, 12, day) for day in (4, 11, 18))
UTC = dt.UTC


def stage(started: str, wall_s: float, status: str = "done", peak: float = 100.0) -> dict[str, Any]:
    about = {"rows": 1, "bytes_written": 2, "peak_rss_mib": peak}
    return {"started_at": f"2026-11-22T{started}", "wall_s": wall_s, "status": status} | about


def remembered(
    warehouse: Path, date: dt.date, stages: dict, run: dict | None = None, datasets: dict | None = None, **more: Any
) -> None:
    path = warehouse / "cycles" / "promo" / f"{date}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"datasets": datasets or {}, "stages": stages, "run": run or {}} | more))


def published(warehouse: Path, release_id: str, at: str, contract: str = "promo") -> None:
    payload = {"contract": contract, "release_id": release_id, "content_sha256": "c", "decision_id": "d"}
    when = dt.datetime.fromisoformat(f"2026-11-22T{at}").replace(tzinfo=UTC)
    decision_log.append(warehouse, "publish", payload, when)


def test_a_night_is_put_together_from_cycle_lake_and_log(tmp_path: Path) -> None:
    scoring = fake_scoring()
    Lake(tmp_path).write_fact("scoring", "s1", [scoring])
    stages = {
        "score": stage("08:10:00", 5.0, peak=300.0),
        "ingest": stage("08:00:00", 60.0),
        "publish": stage("08:20:00", 8.0),
        "publish: dbt": stage("08:20:01", 6.0),
    }
    run = {"verdict": "GO", "score_source": "model", "serving_model_id": "m1", "published_id": "promo-2017-12-04"}
    published(tmp_path, "promo-2017-12-04", "08:20:07")
    remembered(tmp_path, FIRST, stages, run, {"scoring": "s1"})
    published(tmp_path, "promo-2017-12-04-2", "09:00:00")  # published again: readable since the first time
    [row] = History(tmp_path, PROMO, POLICY).nights()
    assert facts.table("nights", [row]).num_rows == 1
    assert row["wall_s"] == 73.0  # parts are in publish already
    assert row["started_at"] == dt.datetime(2026, 11, 22, 8, 0)
    assert row["published_at"] == dt.datetime(2026, 11, 22, 8, 20, 7)
    assert row["due_at"] == dt.datetime(2026, 11, 22, 11, 0)  # history run at 03:00 in New York: by 06:00 there
    assert (row["is_replay"], row["is_own"]) == (True, False)
    assert (row["cpu_s"], row["peak_rss_mib"]) == (scoring["cpu_s"], scoring["peak_rss_mib"])
    assert (row["verdict"], row["champion_model_id"], row["pairs"]) == ("GO", "m1", scoring["pairs"])


def fake_scoring() -> dict[str, Any]:
    import fake_scores

    return fake_scores.night("m1")["scoring"][0] | {"peak_rss_mib": 900.0}


def test_a_release_does_not_know_its_own_publication(tmp_path: Path) -> None:
    stages = {
        "ingest": stage("08:00:00", 60.0),
        "publish": stage("08:20:00", 8.0),
        "publish: dbt": stage("08:20:01", 6.0),
    }
    run = {"release_id": "promo-2017-12-11"}
    remembered(tmp_path, SECOND, stages, run)
    history = History(tmp_path, PROMO, POLICY, SECOND)
    [own] = history.nights(SECOND)
    assert (own["published_at"], own["release_id"], own["wall_s"]) == (None, "promo-2017-12-11", 60.0)
    assert [row["stage"] for row in history.stages(SECOND)] == ["ingest"]
    published(tmp_path, "promo-2017-12-11", "08:20:07")
    [later] = History(tmp_path, PROMO, POLICY).nights()
    assert later["published_at"] == dt.datetime(2026, 11, 22, 8, 20, 7)
    told = [(row["seq"], row["stage"], row["is_part"]) for row in History(tmp_path, PROMO, POLICY).stages()]
    assert told == [(1, "ingest", False), (2, "publish", False), (3, "publish: dbt", True)]


LATE, RERUN = dt.date(2026, 11, 9), dt.datetime(2026, 11, 13, 8, 0)


@pytest.mark.parametrize("is_own", [False, True])
def test_a_night_that_is_run_again_keeps_its_first_deadline(tmp_path: Path, is_own: bool) -> None:
    """06:00 in New York is 11:00 UTC. Begun at 08:00 and readable at 15:00 it is four hours late; the rerun four days
    later is no replay, neither for its own release nor for a later reader."""
    again = {"ingest": stage("08:00:00", 0.1, "reused") | {"started_at": RERUN.isoformat()}}
    remembered(tmp_path, LATE, again, {"release_id": f"promo-{LATE}-2"}, begun_at="2026-11-09T08:00:00")
    for number, at in (("", "2026-11-09T15:00:00"), ("-2", "2026-11-13T08:10:00")):
        payload = {"contract": "promo", "release_id": f"promo-{LATE}{number}"}
        payload |= {"content_sha256": "c", "decision_id": "d"}
        decision_log.append(tmp_path, "publish", payload, dt.datetime.fromisoformat(at).replace(tzinfo=UTC))
    nights = History(tmp_path, PROMO, POLICY, LATE).nights(LATE if is_own else None)
    assert (nights[0]["is_replay"], nights[0]["started_at"]) == (False, dt.datetime(2026, 11, 9, 8, 0))
    assert nights[0]["due_at"] == dt.datetime(2026, 11, 9, 11, 0)
    assert nights[0]["published_at"] == dt.datetime(2026, 11, 9, 15, 0)
    found = {row["slo"]: row for row in slo.report(tmp_path, PROMO, POLICY, nights, dt.datetime(2026, 11, 14))}
    ready = found["scores_ready"]
    assert (ready["good"], ready["observations"], ready["is_met"]) == (0, 1, False)
    assert ready["last_value"] == 4 * 3600


def test_a_failed_night_that_is_mended_days_later_is_late(tmp_path: Path) -> None:
    mended = {"ingest": stage("08:00:00", 60.0), "publish": stage("08:20:00", 8.0)}
    remembered(tmp_path, dt.date(2026, 11, 19), mended, begun_at="2026-11-19T08:00:00")
    published(tmp_path, "promo-2026-11-19", "08:20:07")  # on the 22nd, three days after it failed
    nights = History(tmp_path, PROMO, POLICY).nights()
    assert nights[0]["is_replay"] is False
    [ready] = [
        row
        for row in slo.report(tmp_path, PROMO, POLICY, nights, dt.datetime(2026, 11, 23))
        if row["slo"] == "scores_ready"
    ]
    assert (ready["good"], ready["observations"]) == (0, 1)


def test_a_resumed_night_costs_what_its_runs_took_together(tmp_path: Path) -> None:
    """The first run ingested (60 s) and scored (5 s), the second found both and published."""
    scoring = fake_scoring()
    Lake(tmp_path).write_fact("scoring", "s1", [scoring])
    made = {"ingest": stage("08:00:00", 60.0), "score": stage("08:10:00", 5.0), "publish": stage("12:00:02", 8.0)}
    last = {name: stage("12:00:00", 0.1, "reused") for name in ("ingest", "score")}
    remembered(
        tmp_path, FIRST, last | {"publish": made["publish"]}, None, {"scoring": "s1"}, made=made,
        begun_at="2026-11-22T08:00:00")  # fmt: skip
    history = History(tmp_path, PROMO, POLICY)
    [row] = history.nights()
    assert (row["wall_s"], row["cpu_s"]) == (73.0, scoring["cpu_s"])
    assert [(each["stage"], each["status"], each["wall_s"]) for each in history.stages()] == [
        ("ingest", "done", 60.0), ("score", "done", 5.0), ("publish", "done", 8.0)
    ]  # fmt: skip


def test_a_cycle_remembers_its_first_start_and_the_work_of_each_stage(tmp_path: Path) -> None:
    cycle = Cycle(PROMO, FIRST, tmp_path, Progress(Console(quiet=True)))
    with pytest.raises(RuntimeError, match="no memory"), cycle.stage("ingest"):
        raise RuntimeError("no memory")
    begun = cycle.state()["begun_at"]
    for reused in (False, True):
        with cycle.stage("ingest") as running:
            running.reused = reused
    state = cycle.state()
    assert state["begun_at"] == begun < state["made"]["ingest"]["started_at"]
    assert state["made"]["ingest"]["started_at"] < state["stages"]["ingest"]["started_at"]
    assert (state["made"]["ingest"]["status"], state["stages"]["ingest"]["status"]) == ("done", "reused")


def test_a_cycle_from_before_that_was_remembered_began_with_its_first_stage(tmp_path: Path) -> None:
    known = {"encode": "2026-01-01T08:01:00", "ingest": "2026-01-01T08:00:00"}
    remembered(tmp_path, FIRST, {name: stage("", 1.0) | {"started_at": at} for name, at in known.items()})
    cycle = Cycle(PROMO, FIRST, tmp_path, Progress(Console(quiet=True)))
    with cycle.stage("encode"):
        pass
    assert cycle.state()["begun_at"] == "2026-01-01T08:00:00"


def test_what_was_reused_cost_nothing_and_later_cycles_do_not_count(tmp_path: Path) -> None:
    Lake(tmp_path).write_fact("scoring", "s1", [fake_scoring()])
    for date in (FIRST, SECOND, THIRD):
        remembered(tmp_path, date, {"score": stage("08:10:00", 0.1, "reused", peak=50.0)}, None, {"scoring": "s1"})
    remembered(tmp_path, dt.date(2017, 12, 25), {})  # begun, nothing done
    found = History(tmp_path, PROMO, POLICY, SECOND).nights(SECOND)
    assert [row["cycle_date"] for row in found] == [FIRST, SECOND]
    assert [(row["cpu_s"], row["peak_rss_mib"]) for row in found] == [(0.0, 50.0)] * 2
    assert [row["published_at"] for row in found] == [None, None]


def test_a_cycle_whose_data_are_gone_keeps_its_times(tmp_path: Path) -> None:
    remembered(tmp_path, FIRST, {"score": stage("08:10:00", 5.0)}, None, {"scoring": "gone", "training_cost": "gone"})
    [row] = History(tmp_path, PROMO, POLICY).nights()
    assert (row["wall_s"], row["pairs"], row["logloss"]) == (5.0, None, None)


@pytest.mark.parametrize(
    ("release_id", "expected"),
    [
        ("promo-2017-12-11", SECOND),
        ("promo-2017-12-11-3", SECOND),
        ("promo_benchmark-2017-12-11", None),
        ("promo-by-hand", None),
    ],
)
def test_a_release_is_of_the_cycle_its_id_names(release_id: str, expected: dt.date | None) -> None:
    assert cycle_date_of(release_id, "promo") == expected


def test_the_fake_facts_are_rows_of_the_facts() -> None:
    for name, rows in fake_operations.operations_facts("m", 4).items():
        assert facts.table(name, rows).num_rows == len(rows) > 0
