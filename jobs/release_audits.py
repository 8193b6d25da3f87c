"""May the release be seen? Checks on the finished mart itself, apart from whether any model was promoted.

The checks of `conf/audits.yml` plus three that hold for any release: every mart is there, none that must have rows is
empty, and all carry the one release id. A value that is missing fails: what cannot be audited is not published.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import duckdb
from pydantic import Field, model_validator

from jobs.mart_checks import Check, Name, measure, reading, tables
from jobs.policies import Policy, read_policy


class Audits(Policy):
    """The whole file. `may_be_empty` lists the marts that can rightly have no rows."""

    may_be_empty: tuple[Name, ...] = ()
    checks: Annotated[tuple[Check, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_differ(self) -> Audits:
        names = [check.name for check in self.checks]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"checks must have different names, got {name!r} twice")
        return self


@dataclass(frozen=True)
class Audit:
    """One audit and what came of it; a count or a metric against its threshold."""

    name: str
    value: float | None  # None: there was nothing to measure
    operator: str
    threshold: float
    passed: bool
    why: str

    @property
    def sentence(self) -> str:
        value = "no value" if self.value is None else f"{self.value:.6g}"
        return f"{self.name}: {value}, must be {self.operator} {self.threshold:.6g} ({self.why})"


def load_audits(path: Path) -> Audits:
    """The audits in the YAML file `path`; PolicyError names file, place, rule and value of each fault."""
    return read_policy(path, Audits)


def audit(mart_database: Path, audits: Audits, marts: Collection[str], release_id: str) -> list[Audit]:
    """All audits of a finished mart; `marts` are the tables that must be in it. Nothing is raised for a failed one.

    Raises MartError when the database cannot be read or a check's SQL does not fit its mart.
    """
    with reading(mart_database) as connection:
        found = tables(connection)
        missing = [mart for mart in marts if mart not in found]
        empty = _empty(connection, found, [mart for mart in marts if mart not in audits.may_be_empty])
        foreign = _foreign(connection, found, release_id)
        results = [
            _none("missing_marts", missing, "are not in the mart database"),
            _none("empty_marts", empty, "have no rows"),
            _none("foreign_release_ids", foreign, f"carry a release id other than {release_id}"),
        ]
        for check in audits.checks:
            value = measure(connection, check)
            passed = value is not None and check.holds(value)
            results.append(Audit(check.name, value, check.operator, check.threshold, passed, check.why))
    return results


def _none(name: str, faults: list[str], fault: str) -> Audit:
    """An audit that passes if nothing is at fault."""
    why = f"{', '.join(faults)} {fault}" if faults else f"marts that {fault}"
    return Audit(name, float(len(faults)), "==", 0.0, not faults, why)


def _empty(connection: duckdb.DuckDBPyConnection, found: dict[str, str], marts: list[str]) -> list[str]:
    present = [mart for mart in marts if mart in found]
    return [mart for mart in present if not connection.execute(f"select 1 from {found[mart]} limit 1").fetchall()]


def _foreign(connection: duckdb.DuckDBPyConnection, found: dict[str, str], release_id: str) -> list[str]:
    """The marts with a column release_id that holds anything else."""
    rows = connection.execute(
        "select table_name from information_schema.columns where table_catalog = 'mart' and column_name = 'release_id'"
    ).fetchall()
    carriers = sorted(name for (name,) in rows if name in found)
    other = "release_id is distinct from ?"
    return [
        mart
        for mart in carriers
        if connection.execute(f"select 1 from {found[mart]} where {other} limit 1", [release_id]).fetchall()
    ]
