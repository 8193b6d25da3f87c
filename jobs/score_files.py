"""Finished score files read by DuckDB: only the columns asked for, only aggregates, two threads."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Generator, Sequence

import duckdb

THREADS = 2
DECILES = 10
# Bins of log-odds from which deciles are cut: fine enough for shares to 1 %, few enough (some thousands) to count
# any number of scores in one pass. Exact quantiles would have to hold them all.
STEPS_PER_LOGIT = 100


@contextlib.contextmanager
def connection() -> Generator[duckdb.DuckDBPyConnection]:
    """A connection of its own that spills, if it must, into a folder that goes away with it."""
    with tempfile.TemporaryDirectory(prefix="fieldmart-scores-") as folder:
        config: dict[str, str | bool | int | float | list[str]] = {"threads": THREADS, "temp_directory": folder}
        with contextlib.closing(duckdb.connect(config=config)) as found:
            # Else columns that happen to hold no null are written as never null, and files differ in their schema.
            found.execute("set disabled_optimizers = 'statistics_propagation'")
            yield found


def scan(files: Sequence[str]) -> str:
    """The table function that reads Parquet `files` in their order; ValueError without any."""
    if not files:
        raise ValueError("files must name at least one Parquet file, got none")
    listed = ", ".join(quoted(file) for file in files)
    return f"read_parquet([{listed}], hive_partitioning = false)"


def quoted(text: str) -> str:
    """`text` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def rows(found: duckdb.DuckDBPyConnection, files: Sequence[str]) -> int:
    """Rows by the files' own metadata; no column is read."""
    listed = ", ".join(quoted(file) for file in files)
    [[count]] = found.execute(f"select sum(num_rows)::bigint from parquet_file_metadata([{listed}])").fetchall()
    return count or 0


def log_odds_bin(p: str) -> str:
    """SQL: the bin of the log-odds of column `p`; null unless 0 < p < 1."""
    return f"case when {p} > 0 and {p} < 1 then floor(ln({p} / (1 - {p})) * {STEPS_PER_LOGIT})::integer end"


def histogram(found: duckdb.DuckDBPyConnection, files: Sequence[str]) -> dict[int, int]:
    """Scores per bin of the log-odds of p; those that are no probabilities are left out."""
    sql = f"""
        select {log_odds_bin("p::double")} as bin, count(*)
        from {scan(files)}
        group by bin
        having bin is not null
        order by bin
    """
    return dict(found.execute(sql).fetchall())


def decile_edges(counts: dict[int, int]) -> list[int]:
    """The last bin of each of the deciles 1 to 9; a bin that spans several deciles ends them all."""
    total, seen, edges = sum(counts.values()), 0, []
    for bin_, n in sorted(counts.items()):
        seen += n
        while len(edges) < DECILES - 1 and seen * DECILES >= total * (len(edges) + 1):
            edges.append(bin_)
    return edges


def excess_psi(old: dict[int, int], new: dict[int, int]) -> float | None:
    """Population stability index of two histograms in the deciles of `old`, less its mean without any drift.

    Half a row is added to each decile, as the marts on drift do; None if either has no scores.
    """
    if not old or not new:
        return None
    edges = sorted(set(decile_edges(old)))
    shares = []
    for counts in (old, new):
        sums = [0.5] * (len(edges) + 1)
        for bin_, n in counts.items():
            sums[sum(edge < bin_ for edge in edges)] += n
        shares.append([n / sum(sums) for n in sums])
    psi = sum((now - before) * math.log(now / before) for before, now in zip(*shares, strict=True))
    return psi - len(edges) * (1 / sum(old.values()) + 1 / sum(new.values()))
