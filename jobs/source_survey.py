"""Which files a source had when it was read: the data set `source_files`, one row per file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from jobs.adapters import coupon, files, grocery_tables, promo
from jobs.contract import Contract
from jobs.source_files import REFUSED, REPEATED, SourceFile, listed, named, root_of, survey

RAW_TABLES = {"promo": promo.TABLES, "coupon": coupon.TABLES}  # adapters of ours and the raw tables that they read
COLUMNS = {
    "table": pl.String,
    "name": pl.String,  # below the folder that the contract names
    "path": pl.String,
    "bytes": pl.Int64,
    "sha256": pl.String,
    "outcome": pl.String,  # read | repeated | refused
    "reason": pl.String,
    "rows": pl.Int64,  # of a Parquet file
}


def places(contract: Contract) -> dict[str, str]:
    """The path of each table of the source; of an adapter of ours those of the raw tables it derives its own from."""
    if contract.source.adapter not in RAW_TABLES:
        return files.places(contract)
    folder = grocery_tables.folder(contract.source)
    return {name: str(folder / f"{name}.parquet") for name in RAW_TABLES[contract.source.adapter]}


def fingerprint(contract: Contract) -> dict[str, list[int]]:
    """Size and time of every source file: what a rerun checks before it trusts the snapshot it has."""
    return {
        f"{table} {named(path, root_of(place))}": [path.stat().st_size, path.stat().st_mtime_ns]
        for table, place in places(contract).items()
        for path in listed(place)
    }


def survey_of(contract: Contract) -> list[SourceFile]:
    """Every file of the source, hashed; only plain files of exposures must have the contract's columns."""
    plain = contract.source.adapter not in RAW_TABLES
    return [
        file
        for table, place in places(contract).items()
        for file in survey(table, place, contract.columns if plain and table == "exposures" else {})
    ]


def write(surveyed: Iterable[SourceFile], out: Path) -> None:
    rows = [file.record() for file in surveyed]
    pl.DataFrame(rows, schema=COLUMNS).sort("table", "name").write_parquet(out / "part-0.parquet")


def told(surveyed: Iterable[SourceFile]) -> list[str]:
    """A line for each file that is not read."""
    return [f"{f.table}: {f.name} is {f.outcome}: {f.reason}" for f in surveyed if f.outcome in (REPEATED, REFUSED)]
