"""Fixtures that are dear: the one Spark session, and one night in a small world that many tests look at."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import fake_release
import pytest
from fake_release import FakeRelease
from fake_training import SWEEP
from rich.console import Console
from small_world import write_contract, write_tables

from jobs import cli, nightly, releases
from jobs.cycle import Cycle
from jobs.progress import Progress
from jobs.releases import Release
from jobs.spark_session import session


@dataclass
class Night:
    """A finished night: its cycle, the release it published and the contract file it ran."""

    cycle: Cycle
    release: Release
    contract: Path

    def again(self) -> Night:
        """The same night once more, with a progress of its own."""
        return run_night(self.contract, self.cycle.warehouse)


def run_night(contract: Path, warehouse: Path) -> Night:
    cycle = cli.cycle_of(contract, None, warehouse)
    cycle.progress = Progress(Console(quiet=True))
    release = nightly.run(cycle, lambda name: cli.policy(contract, name))
    return Night(cycle, release, contract)


@pytest.fixture(scope="session")
def spark(tmp_path_factory):
    """The session of the whole test run; the JVM starts once and favours a quick start over peak speed."""
    root = tmp_path_factory.mktemp("spark")
    found = session(root, {"spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"})
    yield found
    found.stop()


@pytest.fixture(scope="session")
def small_tables(tmp_path_factory):
    """Folder of the small world's raw tables."""
    return write_tables(tmp_path_factory.mktemp("small") / "tables")


@pytest.fixture(scope="session")
def night(spark, small_tables, tmp_path_factory):
    """One whole night on real Spark, dbt and DuckDB. Tests must not change its warehouse."""
    folder = tmp_path_factory.mktemp("night")
    return run_night(write_contract(folder, small_tables), folder / "warehouse")


@pytest.fixture
def own_night(night, tmp_path):
    """A copy of the night's warehouse that a test may damage."""
    warehouse = tmp_path / "warehouse"
    shutil.copytree(night.cycle.warehouse, warehouse, symlinks=True)
    cycle = cli.cycle_of(night.contract, None, warehouse)
    cycle.progress = Progress(Console(quiet=True))
    return Night(cycle, releases.named(warehouse, night.release.release_id), night.contract)


@pytest.fixture(scope="session")
def release(tmp_path_factory) -> FakeRelease:
    """A release of invented facts, built by dbt: a night without a champion before it and without a cost column."""
    return fake_release.build(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def mart(release) -> str:
    return str(release.database)


@pytest.fixture(scope="session")
def sweep(tmp_path_factory) -> FakeRelease:
    """Another: a sweep with champion, cost column and everything that is measured occasionally."""
    return fake_release.build(tmp_path_factory.getbasetemp(), SWEEP)
