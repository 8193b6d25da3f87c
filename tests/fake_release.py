"""Releases made of fake facts, each built by dbt once for all tests that look at it."""

from __future__ import annotations

import functools
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import fake_facts
import fake_scores
from fake_training import NIGHTLY, Flavour

from jobs import warehouse

RELEASE = "tiny-2017-12-25-0001"
REFUSED = "tonight's scores failed the audit psi."


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
    _publish(root)
    return FakeRelease(database, given, (first, run_results(database)))


@functools.cache
def stale(folder: Path) -> FakeRelease:
    """The nightly, but tonight's scores were refused and those of the week before are served."""
    nightly = build(folder)
    root = folder / "fake_stale"
    database = root / "releases" / RELEASE / "mart.duckdb"
    database.parent.mkdir(parents=True)
    shutil.copy(nightly.database, database)
    night = fake_facts.night()
    night |= fake_scores.stale(night, REFUSED)
    night["release"] = [row | {"score_source": "stale"} for row in night["release"]]
    told = ("scores", "top_scores", "score_audits", "scoring", "release")
    given = fake_facts.write(root / "facts", {name: night[name] for name in told})
    marts = "fct_entity_scores fct_scoring fct_score_audits dim_release fct_findings"
    findings = "finding_scores finding_decision what_is_served_is_said_once"
    warehouse.build(database, given, select=f"{marts} {findings}")
    _publish(root)
    return FakeRelease(database, nightly.facts | given, ({}, run_results(database)))


def _publish(root: Path) -> None:
    (root / "current.json").write_text(json.dumps({"release_id": RELEASE, "path": f"releases/{RELEASE}"}))


def run_results(database: Path) -> dict[str, str]:
    """Node -> status of the last build."""
    path = database.parent / "dbt" / "target" / "run_results.json"
    return {result["unique_id"]: result["status"] for result in json.loads(path.read_text())["results"]}
