"""Where a night's time went: the stages of a release's night, and inside scoring the stages of its blocks.

What came before the mart was built is in the mart; publish and its parts are in what the cycle remembers.
"""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
from rich.console import Console
from rich.table import Table

from jobs import releases

STAGES = """
    select stage, wall_s, share_of_wall, n_rows, bytes_written / 1024.0 ^ 2, peak_rss_mib
    from fct_run_stages
    order by seq
"""
SCORING = """
    select stage, total_s, share_of_time, p50_s, p95_s, max_s, is_dominant
    from fct_score_stages
    where is_part
    order by seq
"""
WIDTH = 12  # of the longest bar


def show(warehouse: Path, release_id: str | None, console: Console) -> None:
    """Print both tables of a release (None: the current one), the longest stage of each named; ReleaseError if there is
    no such release."""
    release = releases.current(warehouse) if release_id is None else releases.named(warehouse, release_id)
    if release is None:
        raise releases.ReleaseError("no release is current: run the nightly")
    with duckdb.connect(str(release.folder / releases.MART), read_only=True) as mart:
        stages = mart.execute(STAGES).fetchall()
        parts = mart.execute(SCORING).fetchall()
    published = _published(warehouse, release)
    whole = sum(row[1] for row in [*stages, *published[:1]])
    stages = [(row[0], row[1], row[1] / whole, *row[3:]) for row in [*stages, *published]]
    names = ("wall s", "share", "rows", "MiB written", "driver MiB")
    table = _table(f"{release.release_id}: the stages of the night", names)
    for stage, wall, share, rows, written, peak in stages:
        table.add_row(stage, f"{wall:.1f}", _bar(share), f"{rows:,}", f"{written:,.1f}", f"{peak:,.0f}")
    console.print(table)
    longest = max(stages, key=lambda row: row[1])
    console.print(f"Longest: {longest[0]}, {longest[2]:.0%} of {whole:,.0f} s.")
    table = _table("inside score: time of the blocks", ("s in all", "share", "p50 s", "p95 s", "max s"))
    for stage, total, share, *spread, dominates in parts:
        name = f"{stage} ←" if dominates else stage
        table.add_row(name, f"{total:.2f}", _bar(share), *(f"{seconds:.2f}" for seconds in spread))
    console.print(table)


def _published(warehouse: Path, release: releases.Release) -> list[tuple]:
    """Publish and then its parts, as rows of STAGES; none if the cycle was published anew since, or is gone."""
    contract, date = release.manifest["contract"], release.manifest.get("cycle_date")
    try:
        state = json.loads((warehouse / "cycles" / contract / f"{date}.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return []
    if state["run"].get("published_id") != release.release_id:
        return []
    names = [name for name in state["stages"] if name.split(":")[0] == "publish"]
    found = []
    for name in sorted(names, key=lambda name: (":" in name, state["stages"][name]["started_at"])):
        record = state["stages"][name]
        shown = "  " + name.split(": ")[1] if ":" in name else name
        found.append(
            (shown, record["wall_s"], None, record["rows"], record["bytes_written"] / 1024**2, record["peak_rss_mib"])
        )
    return found


def _table(title: str, names: tuple[str, ...]) -> Table:
    found = Table(title=title)
    found.add_column("stage", no_wrap=True)
    for name in names:
        found.add_column(name, justify="right", no_wrap=True)
    return found


def _bar(share: float | None) -> str:
    share = share or 0.0
    return f"{'█' * round(share * WIDTH)} {share:4.0%}"
