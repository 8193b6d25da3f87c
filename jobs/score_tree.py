"""The scores by date, for tools that read a folder of Parquet files: links to the data sets of the lake.

    scores/<contract>/score_date=2017-12-18 -> ../../lake/scores/<key>/<run>

A link is replaced in one rename, so a reader that lists the folder sees the old scores of a date or the new ones. The
targets are relative: a warehouse can be moved. The column `score_date` is in the files as well; DuckDB (with
`hive_partitioning`) and Spark take the folder's date in its place, which is the day the scores are served for. The two
differ only for stale scores, whose files keep the date of the night that made them; `scored_at` shows it in the tree.
DuckDB follows links for the pattern `*/*.parquet`, not for `**`.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from jobs import durable
from jobs.lake import Dataset

COLUMN = "score_date"


@dataclass(frozen=True)
class Dated:
    """One date of the tree; `key` names the data set of the lake."""

    date: dt.date
    link: Path
    key: str
    is_whole: bool  # whether the data set is still there


def root(warehouse: Path, contract: str) -> Path:
    return warehouse / "scores" / contract


def point(warehouse: Path, contract: str, date: dt.date, dataset: Dataset) -> Path:
    """Make `dataset` the scores of `date`; returns the link. Any reader sees the old scores or the new ones."""
    link = root(warehouse, contract) / f"{COLUMN}={date}"
    durable.point(link, dataset.root)
    return link


def listing(warehouse: Path, contract: str) -> list[Dated]:
    """The dates of the tree, oldest first."""
    found = []
    for link in root(warehouse, contract).glob(f"{COLUMN}=*"):
        with contextlib.suppress(ValueError):  # a folder that somebody else made
            date = dt.date.fromisoformat(link.name.removeprefix(f"{COLUMN}="))
            run = link.resolve()
            is_whole = run.is_dir() and (run.parent / "manifest.json").is_file()
            found.append(Dated(date, link, run.parent.name, is_whole))
    return sorted(found, key=lambda dated: dated.date)
