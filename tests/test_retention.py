"""The clean-up removes exactly what nothing kept needs, and never anything else."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_warehouse as tiny
from typer.testing import CliRunner

from jobs import night_lock, operations_log, releases, retention, served_links
from jobs.cli import app
from jobs.policies import PolicyError
from jobs.verification import verify_warehouse

LATER = dt.datetime.now(dt.UTC) + dt.timedelta(days=10)
RULES = {
    "releases": 2,
    "cycles": 2,
    "snapshots": 3,
    "scores_days": 1,
    "facts_days": 2,
    "builds_days": 7,
    "work_days": 2,
    "unnamed_days": 1,
}


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    """Six nights on six days; the first promoted its model, which has served since."""
    return tiny.copy(tmp_path / "wh", 6)


def rules(**more: int) -> retention.Retention:
    return retention.Retention(**(RULES | more))


def gone(items: list[retention.Item]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for item in items:
        found.setdefault(item.kind, []).append(item.name)
    return {kind: sorted(names) for kind, names in found.items()}


def test_what_goes_is_what_the_rules_say_and_no_kept_thing_names(warehouse: Path) -> None:
    items = gone(retention.plan(warehouse, rules(), LATER))
    # Nights 0 to 5; releases and cycles of 4 and 5 stay, with all that they name.
    assert items["release"] == [f"tiny-{tiny.day(n)}" for n in range(4)]
    # Scores of more than a day before the last date: those of nights 0 to 3, whose links go with them.
    assert items["link"] == [f"score_date={tiny.day(n)}" for n in range(4)]
    # The champion is of night 0: it, its candidate and its rehearsal stay. Those of nights 1 to 3 go.
    assert items["model"] == sorted(f"ffm-{role}-{n}" for role in ("candidate", "rehearsal") for n in (1, 2, 3))
    # Rows: 0 stays for the champion, 4 and 5 for their cycles. The snapshot stays for three nights, and for the
    # champion's. Facts (models, runs, scoring): of the two days before night 5, that is nights 3 to 5.
    expected = [f"{name} {name}{n}" for n in (1, 2) for name in ("exposures", "vocabulary")]
    expected += [f"rows rows{n}" for n in (1, 2, 3)] + [f"models models{n}" for n in (1, 2)]
    expected += [f"scores scores{n}" for n in range(4)]
    expected += [f"{name} {name}{n}" for n in range(3) for name in ("runs", "scoring")]
    assert sorted(items["data set"]) == sorted(expected)
    assert set(items) == {"release", "link", "model", "data set"}


def test_the_run_removes_exactly_what_the_dry_run_lists_and_all_kept_works(warehouse: Path) -> None:
    def paths() -> set[str]:
        return {str(p.relative_to(warehouse)) for p in warehouse.rglob("*") if not p.name.endswith(".lock")}

    before = paths()
    items = retention.plan(warehouse, rules(), LATER)
    assert paths() == before  # planning only reads
    size = sum(item.bytes for item in items)
    with night_lock.alone(warehouse):
        assert retention.remove(warehouse, items) == size
    listed = [str(item.path.relative_to(warehouse)) for item in items]
    expected = {path for path in before if not any(path == one or path.startswith(f"{one}/") for one in listed)}
    assert paths() - expected <= {"log/operations.jsonl"}
    assert expected <= paths()
    assert verify_warehouse(warehouse).faults == []
    for night in (4, 5):
        release = releases.rollback(warehouse, f"tiny-{tiny.day(night)}")
        assert served_links.follow(warehouse, release) == []
        assert tiny.read(warehouse) == (release.release_id, night)
    assert retention.plan(warehouse, rules(), LATER) == []
    event = operations_log.entries(warehouse)[-1]
    assert (event.kind, event.ok, event.bytes) == ("gc", True, size)


def test_what_readers_were_rolled_back_to_stays_however_old(warehouse: Path) -> None:
    releases.rollback(warehouse, f"tiny-{tiny.day(1)}")
    items = gone(retention.plan(warehouse, rules(), LATER))
    assert f"tiny-{tiny.day(1)}" not in items["release"]
    assert not any(name.endswith("1") for name in items["data set"])  # its manifest names them all


def test_what_the_guard_would_fall_back_on_stays(warehouse: Path) -> None:
    """Night 6 promotes another model: that of night 0 is champion again if night 6's is demoted."""
    for night in (6, 7, 8):
        tiny.run_night(warehouse, night, "GO" if night == 6 else "HOLD")
    names = gone(retention.plan(warehouse, rules(), LATER))
    assert "ffm-candidate-1" in names["model"]
    assert not [name for name in names["model"] if name.endswith("-0")]
    kept = {f"{name} {name}0" for name in ("exposures", "vocabulary", "rows", "models")}
    assert not kept & set(names["data set"])


def test_readers_that_go_back_while_things_are_removed_keep_what_they_see(warehouse: Path) -> None:
    items = retention.plan(warehouse, rules(), LATER)
    back = releases.rollback(warehouse, f"tiny-{tiny.day(1)}")
    assert back.release_id in {item.name for item in items}
    with night_lock.alone(warehouse):
        retention.remove(warehouse, items)
    assert tiny.read(warehouse) == (back.release_id, 1)
    assert releases.damage(back) is None
    for name, key in tiny.datasets_of(warehouse, 1).items():
        assert (warehouse / "lake" / name / key / "manifest.json").is_file(), name
    assert not (warehouse / "releases" / f"tiny-{tiny.day(0)}").exists()


def test_what_died_half_done_goes_after_its_days(warehouse: Path) -> None:
    (warehouse / "work" / "abc").mkdir(parents=True)
    (warehouse / "work" / "abc" / "part").write_bytes(b"12345")
    left = warehouse / "lake" / "rows" / "rows5" / "20200101T000000-dead00"
    left.mkdir()
    (left / "part-0.parquet").write_bytes(b"half")
    tiny.put(warehouse, "rows", "nobody", tiny.pa.table({"v": [1]}))
    for name in (".failed-x", ".building-x", f".building-tiny-{tiny.day(5)}"):
        (warehouse / "releases" / name).mkdir()
    usual = {"releases": 6, "cycles": 6, "scores_days": 60}
    assert retention.plan(warehouse, rules(**usual)) == []  # all of it is of today
    found = gone(retention.plan(warehouse, rules(**usual), LATER))
    assert found == {
        # The build that its cycle has not published yet is waited for.
        "build": [".building-x", ".failed-x"],
        "work": ["rows rows5/20200101T000000-dead00", "work/abc"],
        "data set": ["rows nobody"],
    }


def test_a_clean_up_that_was_killed_is_swept_by_the_next(warehouse: Path) -> None:
    (warehouse / ".gone" / "left").mkdir(parents=True)
    (warehouse / ".gone" / "left" / "file").write_bytes(b"x")
    with night_lock.alone(warehouse):
        retention.remove(warehouse, [])
    assert not (warehouse / ".gone").exists()


HOLD = """
import sys, time
from pathlib import Path
from jobs import night_lock
with night_lock.night(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_nobody_cleans_up_or_works_twice_while_a_night_runs_and_a_dead_night_holds_nothing(
    warehouse: Path, tmp_path: Path
) -> None:
    program = [sys.executable, "-c", HOLD, str(warehouse), tiny.CONTRACT]
    night = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
    assert night.stdout is not None
    assert night.stdout.readline() == "held\n"
    at = ["--warehouse", str(warehouse)]
    try:
        refused = CliRunner().invoke(app, ["gc", *at])
        assert refused.exit_code == 1
        assert refused.stderr.startswith("fieldmart: the warehouse is in use (fieldmart")
        assert f"process {night.pid}, since " in refused.stderr
        assert CliRunner().invoke(app, ["gc", "--dry-run", *at]).exit_code == 0
        with (
            pytest.raises(night_lock.NightError, match=rf"a night of tiny is running \(.*process {night.pid}, since"),
            night_lock.night(warehouse, tiny.CONTRACT),
        ):
            pass
        with night_lock.night(warehouse, "another"):  # nights of two contracts share a warehouse
            pass
        assert CliRunner().invoke(app, ["backup", str(tmp_path / "bk"), *at]).exit_code == 0
    finally:
        night.kill()
        night.communicate()
    with night_lock.night(warehouse, tiny.CONTRACT):  # its file is still there, its lock is not
        assert (warehouse / "cycles" / tiny.CONTRACT / ".night.lock").exists()
    assert CliRunner().invoke(app, ["gc", *at]).exit_code == 0


def test_the_command_tells_kind_age_and_bytes_of_each_item_and_their_sum(warehouse: Path, tmp_path: Path) -> None:
    policy = tmp_path / "retention.yml"
    policy.write_text("".join(f"{name}: {value}\n" for name, value in (RULES | {"unnamed_days": 0}).items()))
    call = ["gc", "--dry-run", "--retention", str(policy), "--warehouse", str(warehouse)]
    told = json.loads(CliRunner().invoke(app, [*call, "--json"]).stdout)
    assert told["bytes"] == sum(item["bytes"] for item in told["items"]) > 0
    assert {"kind", "name", "bytes", "age_days", "why"} <= set(told["items"][0])
    shown = CliRunner().invoke(app, call).stdout
    assert shown.splitlines()[-1] == f"{len(told['items'])} items, {told['bytes']:,} bytes would be freed"
    done = CliRunner().invoke(app, [call[0], *call[2:], "--json"])
    assert [item["path"] for item in json.loads(done.stdout)["items"]] == [item["path"] for item in told["items"]]


@pytest.mark.parametrize(
    ("line", "message"),
    [("releases: 8", "releases"), ("cycles: 0", "cycles"), ("scores_days: -1", "scores_days"), ("x: 1", "x")],
)
def test_a_rule_that_cannot_be_is_refused(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "retention.yml"
    given = RULES | {line.split(":")[0]: line.split(": ")[1]}
    path.write_text("".join(f"{name}: {value}\n" for name, value in given.items()))
    with pytest.raises(PolicyError, match=message):
        retention.load(path)


def test_the_committed_rules_load_and_keep_a_year_of_history() -> None:
    found = retention.load(Path("conf/retention.yml"))
    assert (found.releases, found.facts_days >= 365) == (releases.KEEP, True)
