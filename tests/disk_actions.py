"""What is hit by tests/killed_process.py, and what must hold afterwards, whenever it was hit."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tiny_warehouse as tiny

from jobs import night_lock, rebuild, releases, restore, retention
from jobs.backup import backup
from jobs.backup_store import Store
from jobs.lake import Lake
from jobs.verification import verify_backups, verify_warehouse

RULES = retention.Retention(
    releases=1,
    cycles=1,
    snapshots=1,
    scores_days=0,
    facts_days=0,
    builds_days=0,
    work_days=0,
    unnamed_days=0,
)


@dataclass(frozen=True)
class Action:
    """`prepare` a folder, `act` in it (again and again); `readable` holds at any time, `ended` after a whole run."""

    prepare: Callable[[Path], object]
    act: Callable[[Path], object]
    readable: Callable[[Path], object]
    ended: Callable[[Path], object]


def served(place: Path, *values: int) -> None:
    """A reader sees one whole release, of one of these nights."""
    release_id, value = tiny.read(place / "wh")
    assert value in values, (release_id, value)
    assert release_id == f"tiny-{tiny.day(value)}"


def whole(place: Path, value: int) -> None:
    served(place, value)
    assert verify_warehouse(place / "wh").faults == []
    assert tiny.releases.last_pointed(place / "wh", tiny.CONTRACT) == f"tiny-{tiny.day(value)}"


def _two_nights(place: Path) -> None:
    tiny.make(place / "wh")
    tiny.evaluate(place / "wh", 2)


def _publish(place: Path) -> None:
    """As `fieldmart publish`: what is published is finished, otherwise built and published."""
    warehouse, name = place / "wh", f"tiny-{tiny.day(2)}"
    with contextlib.suppress(releases.ReleaseError):
        releases.named(warehouse, name)
        releases.finish(warehouse, name)
        tiny.follow(warehouse, 2)
        return
    tiny.publish(warehouse, 2, tiny.datasets_of(warehouse, 2))


def _lake(place: Path) -> None:
    tiny.put(place / "wh", "rows", "new", tiny.pa.table({"v": [1, 2, 3]}))


def _lake_ended(place: Path) -> None:
    dataset = Lake(place / "wh").get("rows", "new")
    dataset.verify()
    assert dataset.table()["v"].to_pylist() == [1, 2, 3]
    whole(place, 1)


def _lake_readable(place: Path) -> None:
    """Either nothing is visible, or all of it."""
    served(place, 1)
    dataset = Lake(place / "wh").find("rows", "new")
    if dataset is not None:
        dataset.verify()


def _backed_up(place: Path) -> None:
    tiny.make(place / "wh")
    backup(place / "wh", place / "bk")
    tiny.run_night(place / "wh", 2)


def _backup_readable(place: Path) -> None:
    served(place, 2)
    found = verify_backups(Store(place / "bk"))
    assert found.faults == []  # every backup that can be seen is whole


def _backup_ended(place: Path) -> None:
    _backup_readable(place)
    restore.restore(place / "bk", place / "again")
    assert tiny.read(place / "again") == tiny.read(place / "wh")
    assert not list((place / "bk").glob("*/**/.new-*"))


def _backup(place: Path) -> None:
    assert backup(place / "wh", place / "bk", keep=1).faults == []


def _restore(place: Path) -> None:
    """Night 2 is lost: back to the backup after night 1."""
    if not (place / "wh").exists() or tiny.read(place / "wh")[1] == 2:
        restore.restore(place / "bk", place / "wh", force=True)


def _restore_readable(place: Path) -> None:
    """The old warehouse or the new one; between the two renames the old one lies aside, whole."""
    if (place / "wh").exists():
        served(place, 1, 2)
        return
    [aside] = place.glob("wh.before-*")
    assert tiny.read(aside)[1] == 2


def _gc(place: Path) -> None:
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    with night_lock.alone(place / "wh"):
        retention.remove(place / "wh", retention.plan(place / "wh", RULES, later))


def _gc_ended(place: Path) -> None:
    whole(place, 3)
    assert retention.plan(place / "wh", RULES, dt.datetime.now(dt.UTC) + dt.timedelta(days=1)) == []
    assert not (place / "wh" / ".gone").exists()
    left = {path.name for path in (place / "wh" / "models").glob("ffm-*")}
    # the champion's night, the last, and that of the release to go back to
    assert {name[-1] for name in left} == {"0", "2", "3"}, left


def _damaged(place: Path) -> None:
    tiny.make(place / "wh")
    mart = place / "wh" / "releases" / f"tiny-{tiny.day(1)}" / "mart.duckdb"
    mart.chmod(0o644)
    mart.write_bytes(mart.read_bytes()[:-4096])


def _replace(place: Path) -> None:
    """`rebuild` from the moment when dbt has built the mart anew; that it says the same is tested elsewhere."""
    warehouse = place / "wh"
    release = releases.named(warehouse, f"tiny-{tiny.day(1)}")
    wanted = [name for name, _ in releases.damages(release)]
    if wanted:
        folder = release.folder.with_name(f".rebuilding-{release.release_id}")
        tiny.shutil.rmtree(folder, ignore_errors=True)
        tiny.mart(folder, release.release_id, 1)
        rebuild.replace(release, folder, wanted)
        tiny.shutil.rmtree(folder)


def _replace_readable(place: Path) -> None:
    """The release before can be rolled back to, whatever state the damaged one is in."""
    releases.rollback(place / "wh", f"tiny-{tiny.day(0)}")
    served(place, 0)


def _replace_ended(place: Path) -> None:
    releases.rollback(place / "wh", f"tiny-{tiny.day(1)}")
    whole(place, 1)


ACTIONS = {
    "publish": Action(_two_nights, _publish, lambda p: served(p, 1, 2), lambda p: whole(p, 2)),
    "lake": Action(lambda p: tiny.make(p / "wh"), _lake, _lake_readable, _lake_ended),
    "backup": Action(_backed_up, _backup, _backup_readable, _backup_ended),
    "restore": Action(_backed_up, _restore, _restore_readable, lambda p: whole(p, 1)),
    "gc": Action(lambda p: tiny.make(p / "wh", 4), _gc, lambda p: served(p, 3), _gc_ended),
    "rebuild": Action(_damaged, _replace, _replace_readable, _replace_ended),
}
