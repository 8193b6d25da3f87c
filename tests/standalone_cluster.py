"""A standalone Spark cluster on loopback, started from the pyspark wheel, and the driver program that runs on it.

Master and workers are processes of their own, and each worker has a folder of its own: nothing is shared but files.
`python standalone_cluster.py '<request as JSON>'` is a driver: it runs mixing or a sweep task on a master and prints
the card, or the error, as its last line.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import psutil
import pyspark

from jobs.java import java_home

SPARK_CLASS = Path(pyspark.__file__).parent / "bin" / "spark-class"
SETTINGS = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.executor.memory": "512m",
    "spark.driver.memory": "512m",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.executor.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
}


class Cluster:
    """A master and `workers` workers of one core each below `folder`, while the `with` block lasts."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder, self.n_workers, self.processes = folder, workers, []

    def __enter__(self) -> Self:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"spark://127.0.0.1:{port}"
        try:
            self._start("master", "master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", "0")
            wait_for(lambda: _answers(port), 180, "the master to listen")
            for number in range(self.n_workers):
                name = f"worker-{number}"
                options = ("--host", "127.0.0.1", "-c", "1", "-m", "1g", "-d", str(self.folder / name))
                self._start(name, "worker.Worker", *options, "--webui-port", "0", self.url)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        own = [process for started in self.processes for process in _descendants(started)]
        for process in [*own, *self.processes]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for started in self.processes:
            started.wait(30)

    def _start(self, name: str, role: str, *options: str) -> None:
        (self.folder / name).mkdir(parents=True)
        java_home()
        told = os.environ | {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_DAEMON_MEMORY": "256m"}
        told |= {"SPARK_DAEMON_JAVA_OPTS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}
        command = [str(SPARK_CLASS), f"org.apache.spark.deploy.{role}", *options]
        with (self.folder / name / "log").open("wb") as log:
            self.processes.append(subprocess.Popen(command, env=told, stdout=log, stderr=log))

    def executors(self) -> list[psutil.Process]:
        """The executors' Java processes, all children of this cluster's workers."""
        own = [process for started in self.processes for process in _descendants(started)]
        return [process for process in own if _is(process, "CoarseGrainedExecutorBackend")]

    def python_workers(self) -> list[psutil.Process]:
        """The Python processes that run tasks: forked by the daemon that every executor starts."""
        daemons = [child for executor in self.executors() for child in _descendants(executor, False)]
        return [child for daemon in daemons if _is(daemon, "pyspark.daemon") for child in _descendants(daemon, False)]


def _descendants(process: Any, recursive: bool = True) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=recursive)
    except psutil.NoSuchProcess:
        return []


def _is(process: psutil.Process, word: str) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return any(word in part for part in process.cmdline())
    return False


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """The condition's first true value; TimeoutError if there is none in time."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.02)
    return found


class Driver:
    """A driver program of its own that runs `request` (see `drive`), while the `with` block lasts."""

    def __init__(self, **request: Any) -> None:
        java_home()
        told = os.environ | {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
        command = [sys.executable, str(Path(__file__).resolve()), json.dumps(request, default=str)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, env=told, stdout=pipe, stderr=pipe, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in [*_descendants(self.process), self.process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.communicate()

    def result(self, timeout: float = 300.0) -> dict[str, Any]:
        """What `drive` returned. Raises RuntimeError with the driver's output if it failed."""
        out, err = self.process.communicate(timeout=timeout)
        if self.process.returncode != 0:
            raise RuntimeError(f"driver ended with {self.process.returncode}: {out}\n{err}")
        return json.loads(out.splitlines()[-1])


def drive(request: dict[str, Any]) -> dict[str, Any]:
    """Run `request` {master, warehouse, task, work, partitions, options of mixing.train} on a cluster, and the task
    `swept`, if there is one, as a sweep runs it; returns {mixed: card, swept: card, said: lines} or {error}."""
    from jobs import mixing, sweep, watched_job
    from jobs.spark_session import session

    spark = session(Path(request["warehouse"]), SETTINGS | {"spark.master": request["master"]})
    said: list[str] = []
    found: dict[str, Any] = {"said": said}
    try:
        work, partitions = Path(request["work"]), request["partitions"]
        found["mixed"] = mixing.train(
            spark, request["task"], work, partitions, say=said.append, **request.get("options", {})
        )
        if "swept" in request:
            [found["swept"]] = sweep.train(spark.sparkContext, [request["swept"]], 120.0, said.append)
    except watched_job.JobError as error:
        found["error"] = str(error)
    spark.stop()
    return found


if __name__ == "__main__":
    print(json.dumps(drive(json.loads(sys.argv[1]))))
