"""How long it takes to look up one entity's scores by its key: in the published mart, and in the files of all scores.

`python -m bench.lookup --n 1000` takes fewer lookups than the 10,000 of `python -m bench --only lookup`.
"""

import argparse
import time

import duckdb
import numpy as np

from bench.published import published
from bench.report import Measure, write

LOOKUPS, WARM_UPS, SEED = 10_000, 100, 1
PERCENTILES = (50, 95, 99)
TITLE = "Lookup of one entity's scores"
ONE_ENTITY = "select candidate_id, p from {source} where entity_id = ? order by rank_in_entity"


def main(n=LOOKUPS):
    found = published()
    mart, files = mart_times(found, n), file_times(found, n)
    notes = (
        f"{n:,} lookups by key of entities drawn at random, one after the other, in one process with a connection that "
        f"stays open, each until its rows are in Python; {WARM_UPS} before them are not counted. The release of "
        f"{found.contract} {found.date}. The mart is DuckDB's `fct_entity_scores`, which has the best candidates of "
        f"every entity. All scores are {len(found.scores)} Parquet files that DuckDB reads in place, one per block: a "
        f"hash of an entity's key says its block, and a file is sorted by match, then entity. So no file can be passed "
        f"over by the key; of each, those row groups are read whose range of keys includes it."
    )
    write(
        "lookup", TITLE, [*measures("mart, best candidates", *mart), *measures("files, all candidates", *files)], notes
    )


def mart_times(found, n):
    """Milliseconds of each lookup in the mart, and the median of rows found."""
    with duckdb.connect(found.mart, read_only=True) as con:
        return times(con, "fct_entity_scores", keys(con, "fct_entity_scores", n))


def file_times(found, n):
    """The same for the Parquet files of all scores."""
    with duckdb.connect() as con:
        con.execute("set parquet_metadata_cache = true")
        source = f"read_parquet({found.scores!r})"
        return times(con, source, keys(con, source, n))


def keys(con, source, n):
    """Entities to look up, drawn with replacement from all; first those of the warm-up."""
    every = con.execute(f"select distinct entity_id from {source} order by entity_id").fetchall()
    drawn = np.random.default_rng(SEED).integers(0, len(every), WARM_UPS + n)
    return [every[place][0] for place in drawn]


def times(con, source, entities):
    query, taken, rows = ONE_ENTITY.format(source=source), [], []
    for entity in entities:
        began = time.perf_counter()
        found = con.execute(query, [entity]).fetchall()
        taken.append(1000 * (time.perf_counter() - began))
        rows.append(len(found))
    return taken[WARM_UPS:], float(np.median(rows))


def measures(name, milliseconds, rows):
    found = zip(PERCENTILES, np.percentile(milliseconds, PERCENTILES), strict=True)
    return [Measure(f"{name} ({rows:.0f} rows): p{percent}", float(value), "ms") for percent, value in found]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=LOOKUPS, help="lookups of each kind (default: %(default)s)")
    main(parser.parse_args().n)
