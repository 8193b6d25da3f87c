"""Kills and failing disks: whenever they strike, readers see a whole release, and the same action again ends as it
would have. Each case runs in a process of its own, hit at one call that changes the disk after the other."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_warehouse as tiny
from typer.testing import CliRunner

from jobs import cli, releases
from jobs.backup import backup
from jobs.lake import Lake
from jobs.verification import verify_warehouse

HERE = Path(__file__).resolve().parent


def hit(action: str, way: str, scratch: Path, stride: int) -> int:
    """Hit every `stride`-th call; fails with what went wrong, returns how many hits there were."""
    command = [sys.executable, "-W", "ignore", str(HERE / "killed_process.py"), action, way, str(scratch), str(stride)]
    told = os.environ | {"PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}"}
    done = subprocess.run(command, env=told, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["wrong"] == []
    return found["hits"]


@pytest.mark.parametrize(("action", "way", "stride"), [("publish", "kill", 37), ("lake", "full", 13)])
def test_death_and_a_full_disk_leave_the_last_release_and_the_next_run_ends_well(
    tmp_path: Path, action: str, way: str, stride: int
) -> None:
    """A few moments; all of them are in the slow test below."""
    assert hit(action, way, tmp_path, stride) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("way", ["kill", "full", "readonly"])
@pytest.mark.parametrize(
    ("action", "stride"), [("publish", 5), ("lake", 3), ("backup", 61), ("restore", 61), ("gc", 17), ("rebuild", 2)]
)
def test_whenever_it_strikes(tmp_path: Path, action: str, way: str, stride: int) -> None:
    assert hit(action, way, tmp_path, stride) >= 3


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """A file system of its own on `folder`; skips where that is not allowed."""
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("needs the right to mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_really_full_stops_the_night_with_one_line_and_nothing_half_visible(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with mounted(disk, "-t", "tmpfs", "-o", "size=6m", "tmpfs"):
        tiny.copy(disk / "wh")
        ballast = disk / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as stream:
            while stream.write(b"x" * 4096):
                pass
        with pytest.raises(OSError, match=r"No space left|[Ww]rit"):
            tiny.put(disk / "wh", "rows", "big", tiny.pa.table({"v": list(range(100_000))}))
        assert Lake(disk / "wh").find("rows", "big") is None
        assert tiny.read(disk / "wh") == ("tiny-2026-01-02", 1)
        refused = CliRunner().invoke(cli.app, ["backup", str(disk / "bk"), "--warehouse", str(disk / "wh")])
        assert refused.exit_code == 1
        assert refused.stderr.startswith("fieldmart: ")
        assert "No space left on device" in refused.stderr
        ballast.unlink()
        tiny.put(disk / "wh", "rows", "big", tiny.pa.table({"v": list(range(100_000))}))
        assert tiny.run_night(disk / "wh", 2).is_current
        assert verify_warehouse(disk / "wh").faults == []


def test_a_read_only_disk_serves_readers_and_is_told_in_one_line(tmp_path: Path) -> None:
    """Root may write where the mode forbids it, so the disk itself is made read-only."""
    tiny.copy(tmp_path / "wh")
    view = tmp_path / "view"
    view.mkdir()
    with mounted(view, "--bind", "-o", "ro", str(tmp_path / "wh")):
        with pytest.raises(OSError, match="Read-only") as raised:
            tiny.put(view, "rows", "new", tiny.pa.table({"v": [1]}))
        assert raised.value.errno == errno.EROFS
        assert tiny.read(view) == ("tiny-2026-01-02", 1)
        refused = CliRunner().invoke(cli.app, ["rollback", "--warehouse", str(view)])
        assert refused.exit_code == 1
        assert "Read-only file system" in refused.stderr
        assert refused.stderr.count("\n") == 1
    assert releases.rollback(tmp_path / "wh").release_id == "tiny-2026-01-01"


def test_a_truncated_file_counts_as_absent_and_is_made_again(tmp_path: Path) -> None:
    warehouse = tiny.copy(tmp_path / "wh")
    part = Path(Lake(warehouse).get("rows", "rows1").files[0])
    part.chmod(0o644)
    part.write_bytes(part.read_bytes()[:-5])
    assert Lake(warehouse).find("rows", "rows1") is None
    assert tiny.read(warehouse) == ("tiny-2026-01-02", 1)
    assert backup(warehouse, tmp_path / "bk").faults != []
    tiny.evaluate(warehouse, 1)  # the step again
    Lake(warehouse).get("rows", "rows1").verify()
    assert verify_warehouse(warehouse).faults == []
    assert backup(warehouse, tmp_path / "bk").faults == []


def test_the_wrong_date_run_by_hand_is_left_with_one_rollback(tmp_path: Path) -> None:
    """Night 0 again after night 1: the same content is the same release, and the right one comes back."""
    warehouse = tiny.copy(tmp_path / "wh")
    assert tiny.run_night(warehouse, 0, "GO").release_id == "tiny-2026-01-01"
    assert tiny.read(warehouse) == ("tiny-2026-01-01", 0)
    releases.rollback(warehouse, "tiny-2026-01-02")
    assert tiny.read(warehouse) == ("tiny-2026-01-02", 1)
    assert len(releases.list_releases(warehouse)) == 2
    assert verify_warehouse(warehouse).faults == []
