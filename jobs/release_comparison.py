"""A release against the one before it, on the pairs that both score: one row of numbers for the gate's live rules.

Both nights' full scores lie in the lake, where the manifests of the releases name them. Ranks are compared and not only
levels: a model whose weights are wrong can keep the mean and the histogram of its scores.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import duckdb

from jobs.lake import Dataset, Lake
from jobs.releases import Release

TABLE = "fct_release_comparison"
MOST_ROWS = 4_000_000  # of one night's scores that are read into memory; above that, entities are sampled
PSI_BINS = 10

COLUMNS = """
    create table {table} (
        release_id varchar, before_release_id varchar,
        score_source varchar, before_score_source varchar,
        model_id varchar, before_model_id varchar,
        n_pairs bigint,                 -- scored in both
        rank_correlation double,        -- of p, Spearman; 1: the same order, 0: none in common
        top_overlap double,             -- share of the top tenth before that is in the top tenth now
        mean_p_ratio double,            -- mean p now over mean p before
        psi double,                     -- of p in the tenths of before, half a row added per bin
        n_entities bigint,              -- scored in both, on whatever candidates
        entity_rank_correlation double  -- of their mean logit, Spearman
    )
"""

COMPARED = """
    with pairs as (
        select now.p as p, before.p as p_before
        from now inner join before on now.entity_id = before.entity_id and now.candidate_id = before.candidate_id
    ),
    ranked as (
        select
            *,
            rank() over (order by p) as r, rank() over (order by p_before) as r_before,
            percent_rank() over (order by p) as share, percent_rank() over (order by p_before) as share_before
        from pairs
    ),
    edges as (select quantile_cont(p_before, [i / {bins}.0 for i in range(1, {bins})]) as cuts from pairs),
    binned as (
        select
            len(list_filter(cuts, lambda cut: cut < p)) as bin,
            len(list_filter(cuts, lambda cut: cut < p_before)) as bin_before
        from pairs, edges
    ),
    shares as (
        select
            (count_if(binned.bin = bins.bin) + 0.5) / (count(*) + {bins} * 0.5) as now_share,
            (count_if(binned.bin_before = bins.bin) + 0.5) / (count(*) + {bins} * 0.5) as before_share
        from binned cross join (select unnest(range({bins})) as bin) as bins
        group by bins.bin
    ),
    entities as (
        select rank() over (order by now.logit) as r, rank() over (order by before.logit) as r_before
        from (select entity_id, avg(raw_score) as logit from now group by entity_id) as now
        inner join (select entity_id, avg(raw_score) as logit from before group by entity_id) as before
            on now.entity_id = before.entity_id
    )
    select
        (select count(*) from pairs),
        (select corr(r, r_before) from ranked),
        (select avg(cast(share > 0.9 as integer)) from ranked where share_before > 0.9),
        (select avg(p) / nullif(avg(p_before), 0) from pairs),
        (select sum((now_share - before_share) * ln(now_share / before_share)) from shares),
        (select count(*) from entities),
        (select corr(r, r_before) from entities)
"""


def write(warehouse: Path, release: Release, before: Release | None, database: Path) -> None:
    """Make the DuckDB file `database` with the one row of TABLE; without scores of both its numbers are null."""
    ids = [release.release_id, before.release_id if before else None]
    served = [_said(found, name) for name in ("score_source", "serving_model_id") for found in (release, before)]
    with duckdb.connect(str(database)) as connection:
        connection.execute(COLUMNS.format(table=TABLE))
        both = [_scores(warehouse, found) for found in (release, before)]
        numbers = [0, *[None] * 4, 0, None]
        if all(both):
            for name, scores in zip(("now", "before"), both, strict=True):
                _read(connection, name, scores)
            row = connection.execute(COMPARED.format(bins=PSI_BINS)).fetchone()
            numbers = list(row) if row else numbers
            connection.execute("drop table now; drop table before")
        row = [*ids, *served, *(None if _is_nan(number) else number for number in numbers)]
        connection.execute(f"insert into {TABLE} values ({', '.join('?' * len(row))})", row)


def _said(release: Release | None, name: str) -> str | None:
    return release.manifest.get(name) if release else None


def _scores(warehouse: Path, release: Release | None) -> Dataset | None:
    """The release's full scores; None if it has none, or they are gone from the lake."""
    if release is None:
        return None
    key = json.loads(release.manifest.get("datasets", "{}")).get("scores")
    found = Lake(warehouse).find("scores", key) if key else None
    return found if found is not None and found.rows else None


def _read(connection: duckdb.DuckDBPyConnection, name: str, scores: Dataset | None) -> None:
    """Table `name` of the scores, of all entities or of an even sample: the same entities in both nights."""
    assert scores is not None
    every = max(math.ceil(scores.rows / MOST_ROWS), 1)
    connection.execute(
        f"create temp table {name} as select entity_id, candidate_id, p, raw_score from read_parquet(?)"
        f" where hash(entity_id) % {every} = 0",
        [[str(path) for path in scores.files]],
    )


def _is_nan(number: float | None) -> bool:
    return isinstance(number, float) and math.isnan(number)
