"""How old the facts of a cycle are against the thresholds that dbt's sources declare (`dbt source freshness`)."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from rich.table import Table

from jobs import facts, warehouse
from jobs.cycle import Cycle
from jobs.lake import LakeError

WORST_FIRST = ("runtime error", "error", "warn", "pass")
HOUR = 3600


def check(cycle: Cycle) -> list[dict[str, Any]]:
    """Each fact of the cycle with `status` (pass, warn or error), `loaded_at` and `age_hours`, the worst first.

    Raises LakeError if no run put the facts together, WarehouseError if dbt cannot look at them.
    """
    names = [name for name in facts.FACTS if cycle.has(name)]
    if "runs" not in names:
        raise LakeError(f"no run of {cycle.contract.name} {cycle.date} is published: run `fieldmart publish` first")
    with tempfile.TemporaryDirectory() as folder:
        files = {name: cycle.dataset(name).files for name in names}
        found = warehouse.freshness(Path(folder) / "sources.duckdb", files)
    rows = [
        {
            "fact": row["unique_id"].rsplit(".", 1)[-1],
            "status": row["status"],
            "loaded_at": row.get("max_loaded_at"),
            "age_hours": row["max_loaded_at_time_ago_in_s"] / HOUR if "max_loaded_at_time_ago_in_s" in row else None,
        }
        for row in found
    ]
    return sorted(rows, key=lambda row: (WORST_FIRST.index(row["status"]), row["fact"]))


def as_json(rows: list[dict[str, Any]]) -> str:
    return json.dumps(rows, indent=2)


def table(cycle: Cycle, rows: list[dict[str, Any]]) -> Table:
    """The rows for a person."""
    shown = Table(title=f"{cycle.contract.name} {cycle.date}: age of the facts")
    for name in ("fact", "status", "loaded at (UTC)", "hours"):
        shown.add_column(name, justify="right" if name == "hours" else "left", no_wrap=True)
    for row in rows:
        age = "-" if row["age_hours"] is None else f"{row['age_hours']:,.1f}"
        shown.add_row(row["fact"], row["status"], str(row["loaded_at"] or "-")[:19].replace("T", " "), age)
    return shown
