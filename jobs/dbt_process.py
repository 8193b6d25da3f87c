"""dbt in one process beside this one that stays: importing dbt takes longer than many of its commands.

A night builds twice, and dbt's documentation is a command of its own; tests build dozens of times. The process is
started with the first command and ends with the process that started it, however that ends: its standard input closes.

As a program it is that process. A request is one line of JSON on standard input, its answer one on standard output.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Done:
    """What became of commands: whether all succeeded, and what they printed."""

    success: bool
    output: str


def run(commands: Sequence[Sequence[str]], folder: Path, environment: Mapping[str, str]) -> Done:
    """Run dbt commands one after the other in `folder`, with exactly this environment; stop at the first that fails.

    A process that dies under a command makes that command fail with what it last printed; the next gets a new process.
    """
    output = folder / "output.txt"
    request = {"commands": commands, "folder": str(folder), "environment": dict(environment), "output": str(output)}
    with _LOCK:
        answer = _answer(request)
    return Done(answer == {"success": True}, output.read_text(errors="replace") if output.is_file() else "")


def stop() -> None:
    """End the process; the next command gets a new one."""
    with _LOCK:
        while _processes:
            _end(_processes.pop())


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Answer requests until there are no more."""
    for line in requests:
        request = json.loads(line)
        answers.write(json.dumps({"success": _serve(request)}) + "\n")
        answers.flush()


_LOCK = threading.Lock()
_processes: list[subprocess.Popen[str]] = []  # the one that runs, if any


def _answer(request: dict[str, Any]) -> dict[str, Any] | None:
    """None if the process died."""
    if _processes and _processes[0].poll() is not None:
        _end(_processes.pop())
    if not _processes:
        _processes.append(_started(Path(request["output"])))
    process = _processes[0]
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
    except BrokenPipeError:
        line = ""
    except BaseException:  # interrupted: what it is doing must not be taken for the answer to the next request
        _end(_processes.pop())
        raise
    if line.endswith("\n"):
        return json.loads(line)
    _end(_processes.pop())
    return None


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with contextlib.suppress(BrokenPipeError):
            pipe.close()


def _started(errors: Path) -> subprocess.Popen[str]:
    """`errors`: takes what it says before its first request."""
    with errors.open("w") as stderr:
        return subprocess.Popen(
            [sys.executable, "-m", "jobs.dbt_process"],
            cwd=HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )


def _serve(request: Mapping[str, Any]) -> bool:
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import dbtRunner

    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    with open(request["output"], "w") as output:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(output.fileno(), stream.fileno())
    try:
        for command in request["commands"]:
            done = dbtRunner().invoke(list(command))
            if done.exception:
                print(done.exception, file=sys.stderr)
            if not done.success:
                return False
        return True
    finally:
        # dbt keeps the file open for its next command, and would take the next one's for the same if named alike.
        if DuckDBConnectionManager._ENV is not None:
            DuckDBConnectionManager._ENV.close()
        DuckDBConnectionManager.close_all_connections()
        os.chdir(HERE)  # the folder may go away
        for stream in (sys.stdout, sys.stderr):
            stream.flush()


if __name__ == "__main__":
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever prints must not answer
    serve(sys.stdin, replies)
