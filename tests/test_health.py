"""Health: fresh and right, each with what was found; what is broken turns exactly its own checks red."""

from __future__ import annotations

import datetime as dt
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

from jobs import cli, decision_log, health, operations_log, releases, slo

NEW = dt.timedelta(hours=1)


@pytest.fixture
def policy() -> slo.Slo:
    return slo.load_slo()


def states(found: list[health.Check]) -> dict[str, str]:
    return {one.name: one.status for one in found}


def reds(night: Any, policy: slo.Slo, after: dt.timedelta = NEW) -> dict[str, str]:
    """Names and evidence of what is red for a while after the night was published."""
    at = dt.datetime.fromisoformat(night.release.manifest["published_at"]) + after
    return {one.name: one.evidence for one in health.check(night.cycle, policy, at) if one.status == "red"}


def mart_of(night: Any) -> Path:
    """The mart in the night's own warehouse: `night.release` of a copy is still the original's."""
    return night.cycle.warehouse / "releases" / night.release.release_id / "mart.duckdb"


def changed(night: Any, statement: str) -> None:
    """The mart after `statement`, as if it had been built and sealed so."""
    path = mart_of(night)
    path.chmod(0o644)
    with duckdb.connect(str(path)) as mart:
        mart.execute(statement)


def test_a_good_night_is_healthy(night: Any, policy: slo.Slo) -> None:
    at = dt.datetime.fromisoformat(night.release.manifest["published_at"]) + NEW
    found = health.check(night.cycle, policy, at)
    assert not health.is_red(found)
    told = {one.name: one.evidence for one in found}
    assert told["pointer"] == f"{night.release.release_id} answers"
    assert told["fresh"] == f"scores of {night.cycle.date}, wanted for {night.cycle.date}"
    assert told["served"].endswith(", the champion")
    # What nobody looked at yet is not known, which is not red.
    warned = {name for name, status in states(found).items() if status == "warn"}
    assert warned == {"backup", "mart_readable", "recovery_point", "recovery_time"}
    assert all(one.advice for one in found if one.status != "ok")


def test_the_command_prints_json_and_fails_if_anything_is_red(own_night: Any) -> None:
    asked = ["health", "--json", "--contract", str(own_night.contract), "--warehouse", str(own_night.cycle.warehouse)]
    good = CliRunner().invoke(cli.app, asked)
    assert good.exit_code == 0, good.stdout
    assert json.loads(good.stdout)["status"] == "warn"
    (own_night.cycle.warehouse / "current.json").write_text('{"release_id": "nowhere", "path": "releases/nowhere"}')
    bad = CliRunner().invoke(cli.app, asked)
    assert bad.exit_code == 1
    told = {one["name"]: one for one in json.loads(bad.stdout)["checks"]}
    assert json.loads(bad.stdout)["status"] == told["pointer"]["status"] == "red"
    assert "nowhere" in told["pointer"]["evidence"]


def test_scores_of_an_earlier_period_are_not_fresh(own_night: Any, policy: slo.Slo) -> None:
    late = cli.cycle_of(
        own_night.contract, str(own_night.cycle.date + dt.timedelta(days=14)), own_night.cycle.warehouse
    )
    at = dt.datetime.fromisoformat(own_night.release.manifest["published_at"]) + NEW
    fresh = next(one for one in health.check(late, policy, at) if one.name == "fresh")
    assert fresh.status == "red"
    assert f"wanted for {late.date}: {late.periods.scoring - own_night.cycle.periods.scoring} periods behind" in (
        fresh.evidence
    )


@pytest.mark.parametrize(
    ("statement", "name", "evidence"),
    [
        ("update fct_scoring set is_degraded = true, score_source = 'stale', reason = 'psi'", "served", "stale: psi"),
        ("update fct_score_audits set passed = false where audit = 'oov_share'", "audits", "oov_share"),
        ("update fct_accuracy_cost_by_k set calibration_ratio = 1.5", "calibration", "1.500 on the test periods"),
        ("drop table fct_scoring", "fresh", "fct_scoring does not exist"),
    ],
)
def test_what_is_wrong_in_the_mart_is_red(
    own_night: Any, policy: slo.Slo, statement: str, name: str, evidence: str
) -> None:
    changed(own_night, statement)
    found = reds(own_night, policy)
    assert evidence in found[name]
    assert "mart.duckdb was changed after publication" in found["release whole"]


def test_the_last_final_period_is_judged_before_the_test_periods(own_night: Any, policy: slo.Slo) -> None:
    columns = "contract, period, served_release_id, model_id, score_source, score_date, is_stale, exposures, n,"
    columns += (
        " expected_conversions, expected_lo, expected_hi, dispersion, dispersion_logloss, is_mature,"
        " conversions, is_dispersion_known,"
    )
    columns += " calibration_ratio, is_inside, is_latest, entities"
    changed(
        own_night,
        f"insert into fct_live_performance ({columns}) values ('small', '2017-01-02', 'r', 'm', 'model', '2017-01-02',"
        " false, 90, 90, 60, 45, 75, 1, 1, true, 40, false, 1.5, false, true, 9)",
    )
    told = reds(own_night, policy)["calibration"]
    assert told.startswith("1.500 in the period of 2017-01-02: 60 expected, 40 came, outside the interval")


def test_a_log_that_was_changed_is_red(own_night: Any, policy: slo.Slo) -> None:
    path = decision_log.path_of(own_night.cycle.warehouse)
    path.write_bytes(path.read_bytes().replace(b'"GO"', b'"NO"', 1))
    assert "was changed after writing" in reds(own_night, policy)["log chain"]


def test_the_guard_having_left_the_last_release_is_red(own_night: Any, policy: slo.Slo) -> None:
    breaches = [{"rule": "psi", "value": 3.0, "bound": 0.25, "text": "psi: 3, must be <= 0.25"}]
    said = {"contract": own_night.cycle.contract.name, "demotes": None, "breaches": breaches}
    releases.leave(own_night.cycle.warehouse, own_night.release.release_id, None, said)
    assert "psi: 3, must be <= 0.25" in reds(own_night, policy)["guard"]


def test_what_no_backup_holds_is_red_after_the_promised_hours(own_night: Any, policy: slo.Slo) -> None:
    assert "backup" not in reds(own_night, policy, dt.timedelta(hours=23))
    assert "1 publication since" in reds(own_night, policy, dt.timedelta(hours=25))["backup"]
    at = dt.datetime.fromisoformat(own_night.release.manifest["published_at"])
    operations_log.append(own_night.cycle.warehouse, "backup", ok=False, at=at + NEW)  # does not count
    assert "backup" in reds(own_night, policy, dt.timedelta(hours=25))
    operations_log.append(own_night.cycle.warehouse, "backup", ok=True, at=at + NEW)
    assert "backup" not in reds(own_night, policy, dt.timedelta(hours=25))


def test_a_full_disk_and_a_broken_promise_are_red(
    own_night: Any, policy: slo.Slo, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = dt.datetime.fromisoformat(own_night.release.manifest["published_at"])
    operations_log.append(own_night.cycle.warehouse, "drill", ok=True, seconds=16 * 60.0, rpo_s=60.0, at=at)
    usage = shutil.disk_usage(own_night.cycle.warehouse)
    monkeypatch.setattr(health.shutil, "disk_usage", lambda _: usage._replace(free=1024**3))
    found = reds(own_night, policy)
    assert found["disk"] == "1.0 GiB free, 2 wanted"
    assert "Recovery time within 15 min: 0 of 1 observations" in found["recovery_time"]


def test_the_probe_says_and_logs_whether_readers_can_read(own_night: Any) -> None:
    root = own_night.cycle.warehouse
    good = CliRunner().invoke(cli.app, ["probe", "--warehouse", str(root)])
    assert (good.exit_code, good.stdout.startswith("readable in ")) == (0, True)
    mart = mart_of(own_night)
    mart.chmod(0o644)
    mart.write_bytes(b"no database")
    bad = CliRunner().invoke(cli.app, ["probe", "--warehouse", str(root)])
    assert bad.exit_code == 1
    assert "readers cannot read" in bad.stderr
    probes = [event for event in operations_log.entries(root) if event.kind == "probe"]
    assert [event.ok for event in probes] == [True, False]
    assert "mart.duckdb" in probes[1].detail


def test_without_a_release_the_probe_fails(tmp_path: Path) -> None:
    assert health.probe(tmp_path).detail == "no release is current"


def test_a_publication_is_timed_in_parts_and_logged(night: Any) -> None:
    stages = night.cycle.state()["stages"]
    parts = [name for name in stages if name.startswith("publish: ")]
    assert set(parts) >= {"publish: facts", "publish: dbt", "publish: audits", "publish: export"}
    assert sum(stages[name]["wall_s"] for name in parts) <= stages["publish"]["wall_s"]
    [event] = [event for event in operations_log.entries(night.cycle.warehouse) if event.kind == "publish"]
    assert (event.ok, event.detail) == (True, night.release.release_id)
    told = CliRunner().invoke(cli.app, ["profile", "--warehouse", str(night.cycle.warehouse)])
    assert re.search(r"publish .*\n.* {3}facts .*\n.* {3}dbt ", told.stdout)
    assert re.search(r"Longest: \w+, \d+% of ", told.stdout)


def test_a_log_that_does_not_hold_is_for_a_backup_and_not_for_heal(tmp_path: Path) -> None:
    """Heal goes by the log, and refuses one that does not hold."""
    path = decision_log.path_of(tmp_path)
    decision_log.append(tmp_path, "decision", {"contract": "promo"})
    path.write_text(path.read_text().replace("promo", "prima"))
    cycle: Any = SimpleNamespace(warehouse=tmp_path)
    found = health._guarded("log chain", lambda: health._log_chain(cycle))
    assert (found.status, found.advice) == ("red", "bring the log back from a backup (docs/recovery.md)")
