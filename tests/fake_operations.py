"""Facts of operating the warehouse: earlier nights, the operations log, promises, scores that met their period."""

from __future__ import annotations

import datetime as dt

from fake_training import CYCLE, Rows

STARTED = dt.datetime(2026, 11, 21, 2, 0)  # of the release's own night
DUE = dt.datetime(2026, 11, 21, 11, 0)  # 06:00 in New York
NIGHTS = 4  # this one included


def operations_facts(champion: str, k: int) -> dict[str, Rows]:
    """All of them; `champion` scored in every night."""
    return {
        "operations": operations(),
        "nights": nights(champion, k),
        "night_stages": night_stages(),
        "slo_objectives": objectives(),
        "live_performance": live_performance(champion),
    }


def nights(champion: str, k: int) -> Rows:
    """Four weekly nights replayed on four days: the second late by an hour, the last this release's own."""
    found = []
    for age in reversed(range(NIGHTS)):
        shift, cycle = dt.timedelta(days=age), CYCLE - dt.timedelta(weeks=age)
        took = dt.timedelta(hours=10 if age == 2 else 1)
        found.append(
            {"contract": "tiny", "cycle_date": cycle, "is_own": age == 0, "is_replay": True}
            | {"started_at": STARTED - shift, "due_at": DUE - shift, "release_id": f"tiny-{cycle}-0001"}
            | {"published_at": None if age == 0 else STARTED - shift + took, "wall_s": 100.0 + age, "cpu_s": 360.0}
            | {"peak_rss_mib": 2_048.0, "verdict": "GO", "k": k, "champion_model_id": champion}
            | {"score_source": "stale" if age == 2 else "model", "is_degraded": age == 2, "logloss": 0.25 + 0.01 * age}
            | {"pairs": 450}
        )
    return found


def night_stages() -> Rows:
    """Three nights of train (10, 20 and 30 s) and score (1 to 3 s); publish and its part dbt of the earlier nights."""
    found = []
    for age in (2, 1, 0):
        stages = [("train", 10.0 * (3 - age)), ("score", 3.0 - age)]
        stages += [("publish", 8.0), ("publish: dbt", 6.0)] if age else []
        for seq, (stage, seconds) in enumerate(stages, start=1):
            found.append(
                {"contract": "tiny", "cycle_date": CYCLE - dt.timedelta(weeks=age), "seq": seq, "stage": stage}
                | {"is_part": ":" in stage, "status": "done", "started_at": STARTED - dt.timedelta(days=age)}
                | {"wall_s": seconds, "rows": 100, "bytes_written": 1_000, "peak_rss_mib": 200.0}
            )
    return found


def objectives() -> Rows:
    about = {"as_of": STARTED + dt.timedelta(hours=1), "slo_sha": "slo", "regression_alarm": None, "window_days": 28}
    return [
        {"slo": "scores_ready", "title": "Scores ready by 06:00 America/New_York", "threshold": 0.0}
        | {"unit": "s after the deadline", "objective": 0.95}
        | about,
        {"slo": "mart_readable", "title": "Mart readable", "threshold": 0.0, "unit": "failed probes in the minute"}
        | {"objective": 0.999}
        | about,
        {"slo": "recovery_point", "title": "Recovery point within 24 h", "threshold": 86_400.0, "unit": "s"}
        | {"objective": 1.0}
        | about
        | {"window_days": 90},
        {"slo": "recovery_time", "title": "Recovery time within 15 min", "threshold": 900.0, "unit": "s"}
        | {"objective": 1.0}
        | about
        | {"window_days": 90, "regression_alarm": 0.2},
    ]


def operations() -> Rows:
    """1,000 minutes of probes, one of them failed; two drills, the second a quarter slower; a backup."""
    about: dict = {"seconds": None, "bytes": None, "rpo_s": None, "detail": ""}
    probes = [
        about
        | {"happened_at": STARTED - dt.timedelta(minutes=1_000 - i), "kind": "probe", "ok": i != 500, "seconds": 0.01}
        for i in range(1_000)
    ]
    drills = [
        about
        | {
            "happened_at": STARTED - dt.timedelta(days=day),
            "kind": "drill",
            "ok": True,
            "seconds": seconds,
            "rpo_s": 3_600.0,
        }
        for day, seconds in ((2, 40.0), (1, 50.0))
    ]
    backup = about | {"happened_at": STARTED - dt.timedelta(hours=12), "kind": "backup", "ok": True, "seconds": 5.0}
    return [*probes, *drills, backup | {"bytes": 1_000_000, "detail": "2 files new"}]


def live_performance(model_id: str) -> Rows:
    """Two periods of 1,000 scored exposures of the p 0.1 each: 104 converted in the first, the second is not final."""
    shared = {"contract": "tiny", "model_id": model_id, "score_source": "model", "exposures": 1_250, "n": 1_000}
    shared |= {"entities": 100, "sum_p": 100.0, "var_conversions": 90.0, "sum_entropy": 325.0, "var_logloss": 434.0}
    final = {"is_mature": True, "conversions": 104, "sum_logloss": 334.0}
    final |= {"entity_sq_conversions": 108.0, "entity_sq_logloss": 520.8}
    young = {"is_mature": False, "conversions": 20, "sum_logloss": None}
    young |= {"entity_sq_conversions": None, "entity_sq_logloss": None}
    return [
        shared
        | state
        | {"period": CYCLE - dt.timedelta(weeks=weeks), "score_date": CYCLE - dt.timedelta(weeks=weeks)}
        | {"release_id": f"tiny-{CYCLE - dt.timedelta(weeks=weeks)}-0001"}
        for weeks, state in ((2, final), (1, young))
    ]
