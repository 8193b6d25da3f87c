"""Releases made of fake facts, each built by dbt once for all tests that look at it."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import fake_facts
from fake_training import NIGHTLY, Flavour

from jobs import warehouse

RELEASE = "tiny-2017-12-25-0001"


@dataclass(frozen=True)
class FakeRelease:
    """`database` as its builds left it; `ran` = node -> status for each of the two of a nightly."""

    database: Path
    facts: dict[str, str]
    ran: tuple[dict[str, str], dict[str, str]]

    @property
    def warehouse(self) -> Path:
        return self.database.parent.parent.parent


@functools.cache  # every test file asks with the folder of the session
def build(folder: Path, flavour: Flavour = NIGHTLY) -> FakeRelease:
    """Build the marts and point the warehouse `folder`/fake_<flavour> at them.

    The nightly is built as a night does it, evidence first, and runs the unit tests, which have data of their own.
    """
    root = folder / f"fake_{flavour.name}"
    database = root / "releases" / RELEASE / "mart.duckdb"
    given = fake_facts.write(root / "facts", fake_facts.evidence(flavour))
    first: dict[str, str] = {}
    if flavour is NIGHTLY:
        warehouse.build(database, given, select=warehouse.EVIDENCE, unit_tests=True)
        first = run_results(database)
    given |= fake_facts.write(root / "facts", fake_facts.night(flavour))
    rest = warehouse.EVIDENCE if first else None
    warehouse.build(database, given, exclude=rest, unit_tests=flavour is NIGHTLY)
    (root / "current.json").write_text(json.dumps({"release_id": RELEASE, "path": f"releases/{RELEASE}"}))
    return FakeRelease(database, given, (first, run_results(database)))


def run_results(database: Path) -> dict[str, str]:
    """Node -> status of the last build."""
    path = database.parent / "dbt" / "target" / "run_results.json"
    return {result["unique_id"]: result["status"] for result in json.loads(path.read_text())["results"]}
