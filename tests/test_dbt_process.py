"""dbt's own process: what it answers, and what becomes of it when it or its owner dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from jobs import dbt_process, warehouse

VERSION = ["--version"]  # the cheapest command


def environment(**more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")} | more


def command(folder: Path, *parts: str) -> list[str]:
    paths = ["--project-dir", str(warehouse.PROJECT), "--profiles-dir", str(warehouse.PROJECT)]
    paths += ["--target-path", str(folder / "target"), "--log-path", str(folder / "logs")]
    return ["--quiet", *parts, *paths]


def test_commands_run_one_after_the_other_until_one_fails(tmp_path: Path) -> None:
    failed = dbt_process.run([VERSION, ["ls", "--no-such-option"], VERSION], tmp_path, environment())
    assert not failed.success
    assert "No such option" in failed.output
    assert failed.output.count("installed:") == 1
    assert dbt_process.run([VERSION, VERSION], tmp_path, environment()).output.count("installed:") == 2


def test_each_request_has_its_folder_and_environment_in_the_same_process(tmp_path: Path) -> None:
    """The profile reads the database's name from the environment, relative to the folder."""
    pids = set()
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        asked = command(folder, "compile", "--inline", "select 1")
        assert dbt_process.run([asked], folder, environment(FIELDMART_MART=f"{name}.duckdb")).success
        assert [path.name for path in tmp_path.rglob("*.duckdb")].count(f"{name}.duckdb") == 1
        duckdb.connect(str(folder / f"{name}.duckdb")).close()  # nobody holds it
        pids.add(dbt_process._processes[0].pid)
    assert len(pids) == 1


def test_a_process_that_dies_fails_its_command_and_the_next_gets_another(tmp_path: Path) -> None:
    assert dbt_process.run([VERSION], tmp_path, environment()).success
    [process] = dbt_process._processes
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert dbt_process.run([VERSION], tmp_path, environment()).success  # it was dead before the request
    [process] = dbt_process._processes
    os.kill(process.pid, signal.SIGSTOP)
    killer = subprocess.Popen(["sh", "-c", f"sleep 1; kill -9 {process.pid}"])
    assert not dbt_process.run([VERSION], tmp_path, environment()).success  # it died under the request
    killer.wait()
    assert dbt_process.run([VERSION], tmp_path, environment()).success


def test_what_keeps_it_from_starting_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dbt_process, "_processes", [])
    monkeypatch.setattr(sys, "executable", "/bin/ls")
    done = dbt_process.run([VERSION], tmp_path, environment())
    assert not done.success
    assert "/bin/ls" in done.output


def test_it_ends_when_its_owner_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from jobs import dbt_process\n"
        f"assert dbt_process.run([{VERSION!r}], Path({str(tmp_path)!r}), {environment()!r}).success\n"
        "print(dbt_process._processes[0].pid, flush=True); time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        os.kill(pid, 0)
        owner.kill()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}/stat").exists() or running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
