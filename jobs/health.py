"""Is what readers see fresh and right? Uptime alone says neither: a warehouse can answer every query with last week's
scores, or with wrong ones.

Every check says what it found and what to do. `probe` is the small one for every minute: pointer, mart, one answer.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import duckdb
from rich.console import Console
from rich.table import Table

from jobs import decision_log, operations_log, pointings, releases, slo, verification
from jobs.cycle import Cycle
from jobs.facts import utc
from jobs.mart_checks import MartError, reading
from jobs.night_history import History

Status = Literal["ok", "warn", "red"]


@dataclass(frozen=True)
class Check:
    """One question, its answer, and what to do unless it is `ok`; `warn` is what is not known yet."""

    name: str
    status: Status
    evidence: str
    advice: str = ""


def check(cycle: Cycle, policy: slo.Slo, now: dt.datetime) -> list[Check]:
    """All checks of the cycle's contract as of `now` (aware); those that read marts only if there is a release."""
    release = _shown(cycle)
    found = [
        _guarded("log chain", lambda: _log_chain(cycle)),
        _guarded("pointer", lambda: _pointer(cycle, release)),
    ]
    if release is not None:
        found += [
            _guarded("release whole", lambda: _whole(release)),
            _guarded("fresh", lambda: _fresh(cycle, policy, release, now)),
            _guarded("served", lambda: _served(release)),
            _guarded("audits", lambda: _audits(release)),
            _guarded("calibration", lambda: _calibration(policy, release)),
            _guarded("guard", lambda: _guard(cycle)),
        ]
    found.append(_guarded("backup", lambda: _backup(cycle, policy, now)))
    found.append(_guarded("disk", lambda: _disk(cycle, policy)))
    return found + _promises(cycle, policy, now)


def probe(warehouse: Path) -> operations_log.Event:
    """Resolve the pointer, open the mart, get one answer, and log how that went."""
    started = time.perf_counter()
    problem = ""
    try:
        release = releases.current(warehouse)
        if release is None:
            problem = "no release is current"
        elif _one(release, "select count(*) from dim_release") != (1,):
            problem = f"{release.release_id} does not answer with one release"
    except (releases.ReleaseError, MartError, OSError, ValueError, KeyError) as error:
        problem = str(error)
    took = time.perf_counter() - started
    return operations_log.append(warehouse, "probe", ok=not problem, seconds=took, detail=problem)


def is_red(found: list[Check]) -> bool:
    return any(one.status == "red" for one in found)


def as_json(found: list[Check]) -> str:
    worst = "red" if is_red(found) else "warn" if any(one.status == "warn" for one in found) else "ok"
    return json.dumps({"status": worst, "checks": [asdict(one) for one in found]}, indent=1)


def show(found: list[Check], console: Console) -> None:
    """Print one row per check, and what to do about those that are not ok."""
    table = Table(title="Fresh and right?")
    for name in ("check", "state", "found"):
        table.add_column(name)
    colours = {"ok": "green", "warn": "yellow", "red": "bold red"}
    for one in found:
        table.add_row(one.name, f"[{colours[one.status]}]{one.status}[/]", one.evidence)
    console.print(table)
    for one in found:
        if one.advice:
            console.print(f"{one.name}: {one.advice}", soft_wrap=True)


def _guarded(name: str, step: Callable[[], Check]) -> Check:
    """The check's answer; what it cannot read is red, and the other checks go on."""
    try:
        return step()
    except MartError as error:
        told = " ".join(str(error).split("LINE 1")[0].split())
        return Check(name, "red", told, "publish again: the release is damaged or of another version")
    except decision_log.LogError as error:
        return Check(name, "red", " ".join(str(error).split()), "bring the log back from a backup (docs/recovery.md)")
    except (releases.ReleaseError, OSError, ValueError, KeyError) as error:
        return Check(name, "red", " ".join(str(error).split()), "`fieldmart heal`, then look at the release")


def _shown(cycle: Cycle) -> releases.Release | None:
    """The contract's release that readers see; None if there is none or it cannot be read."""
    try:
        found = releases.current(cycle.warehouse)
        if found is not None and found.manifest["contract"] == cycle.contract.name:
            return found
        last = releases.last_pointed(cycle.warehouse, cycle.contract.name)
        return releases.named(cycle.warehouse, last) if last else None
    except (releases.ReleaseError, decision_log.LogError, OSError, ValueError, KeyError):
        return None


def _one(release: releases.Release, sql: str) -> tuple[Any, ...] | None:
    """The first row of `sql` over the release's mart; MartError if it cannot be read."""
    with reading(release.folder / releases.MART) as mart:
        mart.execute("use mart.main")
        return mart.execute(sql).fetchone()


def _log_chain(cycle: Cycle) -> Check:
    report, lost = decision_log.verify(cycle.warehouse), verification.log_faults(cycle.warehouse)
    if lost:
        more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
        advice = "entries were lost: bring the log back from a backup (docs/recovery.md)"
        return Check("log chain", "red", f"{lost[0]}{more}", advice)
    told = f"{report.entries} entries, the chain holds"
    if report.torn_bytes:
        more = f"{told}; {report.torn_bytes} bytes of an unfinished one follow"
        return Check("log chain", "warn", more, "the next entry removes them")
    return Check("log chain", "ok", told)


def _pointer(cycle: Cycle, release: releases.Release | None) -> Check:
    if release is None:
        releases.current(cycle.warehouse)  # says what is wrong with it, if anything is there
        return Check("pointer", "red", "no release can be read", "run the nightly, or `fieldmart heal`")
    [answer] = _one(release, "select release_id from dim_release") or (None,)
    if answer != release.release_id:
        return Check("pointer", "red", f"{release.folder} answers as {answer}", "`fieldmart rollback`")
    return Check("pointer", "ok", f"{release.release_id} answers")


def _whole(release: releases.Release) -> Check:
    broken = releases.damage(release)
    if broken:
        return Check("release whole", "red", broken, "`fieldmart rollback`; rebuild the release from its facts")
    return Check("release whole", "ok", f"{len(release.manifest['files'])} files have their hashes")


def _fresh(cycle: Cycle, policy: slo.Slo, release: releases.Release, now: dt.datetime) -> Check:
    """Served scores have to be for the period of the cycle's date; before the hour of that day, for the one before."""
    row = _one(release, "select score_date from fct_scoring")
    if row is None:
        return Check("fresh", "red", "the release tells of no scores", "`fieldmart rollback`")
    [score_date] = row
    behind = cycle.periods.scoring - cycle.periods.number(score_date)
    told = f"scores of {score_date}, wanted for {cycle.date}"
    if behind <= 0:
        return Check("fresh", "ok", told)
    due = policy.scores_ready.due(cycle.date, now, cycle.contract)
    is_replay = policy.scores_ready.is_replay(cycle.date, now, cycle.contract)
    told += f": {behind} period{'s' if behind > 1 else ''} behind"
    if behind == 1 and now < due and not is_replay:
        return Check("fresh", "warn", f"{told}, due {due:%Y-%m-%d %H:%M} UTC", "wait for tonight's release")
    return Check("fresh", "red", told, f"run `fieldmart nightly --date {cycle.date}` and read its first error")


def _served(release: releases.Release) -> Check:
    row = _one(release, "select score_source, is_degraded, reason, model_id from fct_scoring")
    if row is None:
        return Check("served", "red", "the release does not say what it serves", "publish again")
    source, is_degraded, reason, model_id = row
    if is_degraded:
        return Check("served", "red", f"{source}: {reason}", "mend what the reason names and run `fieldmart score`")
    if source == "prior":
        return Check("served", "warn", f"the prior scores: {reason}", "normal before the gate's first GO")
    return Check("served", "ok", f"{model_id}, the champion")


def _audits(release: releases.Release) -> Check:
    failed = [audit["name"] for audit in release.manifest["audits"] if not audit["passed"]]
    row = _one(
        release,
        "select count(*), count(*) filter (where not passed), string_agg(audit, ', ') filter (where not passed)"
        " from fct_score_audits where is_of_served_scores",
    )
    n, refused, names = row or (0, 0, None)
    if failed or refused:
        return Check("audits", "red", ", ".join([*failed, *([names] if names else [])]), "`fieldmart rollback`")
    told = f"{len(release.manifest['audits'])} of the release and {n} of the scores hold"
    return Check("audits", "ok" if n else "warn", told, "" if n else "the scores were not audited in this release")


def _calibration(policy: slo.Slo, release: releases.Release) -> Check:
    """Expected over realised conversions; estimated on test periods until a served period has final labels."""
    low, high = policy.health.calibration_low, policy.health.calibration_high
    live = _one(
        release,
        "select calibration_ratio, period, conversions, expected_conversions, is_inside from fct_live_performance"
        " where is_mature and calibration_ratio is not null order by period desc limit 1",
    )
    if live is not None:
        ratio, period, came, expected, is_inside = live
        told = f"{ratio:.3f} in the period of {period}: {expected:,.0f} expected, {came:,} came"
        told += ", inside the interval" if is_inside else ", outside the interval"
    else:
        row = _one(release, "select calibration_ratio from fct_accuracy_cost_by_k where is_verdict")
        ratio = row[0] if row else None
        if ratio is None:
            return Check("calibration", "warn", "not known yet", "a later night tells")
        told = f"{ratio:.3f} on the test periods; no served period has final labels yet"
    if low <= ratio <= high:
        return Check("calibration", "ok", told)
    return Check("calibration", "red", f"{told}; allowed {low:g} to {high:g}", "look at drift and the calibrator")


def _guard(cycle: Cycle) -> Check:
    log = decision_log.entries(cycle.warehouse)
    mine = [entry for entry in pointings.left(log).values() if entry.payload["contract"] == cycle.contract.name]
    published = [e for e in log if e.kind == "publish" and e.payload["contract"] == cycle.contract.name]
    if mine and (not published or mine[-1].seq > published[-1].seq):
        told = f"the guard left {mine[-1].payload['release_id']} on {mine[-1].at[:16]}"
        breaches = "; ".join(breach.get("text", breach.get("rule", "")) for breach in mine[-1].payload["breaches"])
        return Check("guard", "red", f"{told}: {breaches}", "mend the cause and publish a better release")
    return Check("guard", "ok", "did not leave the last release")


def _backup(cycle: Cycle, policy: slo.Slo, now: dt.datetime) -> Check:
    """How long something has been published that no backup holds."""
    made = [e for e in operations_log.entries(cycle.warehouse) if e.kind == "backup" and e.ok]
    last = max((dt.datetime.fromisoformat(event.at) for event in made), default=None)
    published = [dt.datetime.fromisoformat(e.at) for e in decision_log.entries(cycle.warehouse) if e.kind == "publish"]
    bare = [at for at in published if last is None or at > last]
    told = "no backup yet" if last is None else f"last {(now - last).total_seconds() / 3600:,.1f} h ago"
    if not bare:
        return Check("backup", "ok", f"{told}; nothing published since")
    at_risk = (now - min(bare)).total_seconds() / 3600
    told += f"; {len(bare)} publication{'s' if len(bare) > 1 else ''} since, the first {at_risk:,.1f} h ago"
    late = at_risk > policy.recovery_point.within_hours
    return Check("backup", "red" if late else "warn", told, "run `fieldmart backup`")


def _disk(cycle: Cycle, policy: slo.Slo) -> Check:
    free = shutil.disk_usage(cycle.warehouse).free / 1024**3
    told = f"{free:,.1f} GiB free, {policy.health.disk_free_gib:g} wanted"
    if free < policy.health.disk_free_gib:
        return Check("disk", "red", told, "`fieldmart gc --dry-run` says what can go")
    return Check("disk", "ok", told)


def _promises(cycle: Cycle, policy: slo.Slo, now: dt.datetime) -> list[Check]:
    """One check per promise of slo.yml, as of now."""
    try:
        nights = History(cycle.warehouse, cycle.contract, policy).nights()
        found = slo.report(cycle.warehouse, cycle.contract, policy, nights, utc(now))
    except (decision_log.LogError, OSError, ValueError, KeyError, duckdb.Error) as error:
        return [Check("promises", "red", " ".join(str(error).split()), "`fieldmart slo` says more")]
    states: dict[bool | None, Status] = {True: "ok", None: "warn"}
    advice = {
        "scores_ready": "`fieldmart profile` says where the time goes",
        "mart_readable": "run `fieldmart probe` every minute; its failures are in the operations log",
        "recovery_point": "run `fieldmart drill`; back up more often if it is broken",
        "recovery_time": "run `fieldmart drill`; look at what grew if it is broken",
    }
    return [
        Check(
            row["slo"],
            "red" if row["is_alarm"] else states[row["is_met"]],
            row["sentence"],
            advice[row["slo"]] if row["is_alarm"] or row["is_met"] is None else "",
        )
        for row in found
    ]
