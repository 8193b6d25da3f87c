"""What nights came to, from what cycles remember and the log; cycles made by hand."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import fake_operations
import pytest
from small_world import CONF

from jobs import decision_log, facts, slo
from jobs.contract import load
from jobs.lake import Lake
from jobs.night_history import History, cycle_date_of

PROMO, POLICY = load(CONF / "promo.yml"), slo.load_slo()
FIRST, SECOND, THIRD = (dt.date(2017, 12, day) for day in (4, 11, 18))
UTC = dt.UTC


def stage(started: str, wall_s: float, status: str = "done", peak: float = 100.0) -> dict[str, Any]:
    about = {"rows": 1, "bytes_written": 2, "peak_rss_mib": peak}
    return {"started_at": f"2026-11-22T{started}", "wall_s": wall_s, "status": status} | about


def remembered(
    warehouse: Path, date: dt.date, stages: dict, run: dict | None = None, datasets: dict | None = None
) -> None:
    path = warehouse / "cycles" / "promo" / f"{date}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"datasets": datasets or {}, "stages": stages, "run": run or {}}))


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
    remembered(tmp_path, FIRST, stages, run, {"scoring": "s1"})
    published(tmp_path, "promo-2017-12-04", "08:20:07")
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
    run = {"release_id": "promo-2017-12-11-2", "published_id": "promo-2017-12-11"}
    remembered(tmp_path, SECOND, stages, run)
    published(tmp_path, "promo-2017-12-11", "08:20:07")  # the publication before this one
    history = History(tmp_path, PROMO, POLICY, SECOND)
    [own] = history.nights(SECOND)
    assert (own["published_at"], own["release_id"], own["wall_s"]) == (None, "promo-2017-12-11-2", 60.0)
    assert [row["stage"] for row in history.stages(SECOND)] == ["ingest"]
    [later] = History(tmp_path, PROMO, POLICY).nights()
    assert later["published_at"] == dt.datetime(2026, 11, 22, 8, 20, 7)
    told = [(row["seq"], row["stage"], row["is_part"]) for row in History(tmp_path, PROMO, POLICY).stages()]
    assert told == [(1, "ingest", False), (2, "publish", False), (3, "publish: dbt", True)]


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
