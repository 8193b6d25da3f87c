"""How a shadow model's scores differ from those that are served, over the same pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import duckdb

from jobs import score_files
from jobs.score_files import scan

Rows = list[dict[str, Any]]


class ShadowError(RuntimeError):
    """Two sets of scores that are not of the same pairs."""


def compare(serving: Sequence[str], shadow: Sequence[str], model_id: str, shadow_model_id: str, top_n: int) -> Rows:
    """The rows of the fact `shadow_comparison`: one for all pairs, one per decile of the serving p that has pairs.

    `serving` and `shadow` are files of the fact `scores`. Raises ShadowError unless both hold the same pairs.
    """
    with score_files.connection() as db:
        edges = score_files.decile_edges(score_files.histogram(db, serving))
        db.execute("create temp table sums (decile integer, n bigint, " + ", ".join(f"{s} double" for s in SUMS) + ")")
        for ours, theirs in _together(db, serving, shadow):
            db.execute(f"insert into sums {_joined(ours, theirs, edges, top_n)}")
        pairs = score_files.rows(db, serving), score_files.rows(db, shadow)
        [[joined]] = db.execute("select coalesce(sum(n), 0)::bigint from sums").fetchall()
        if {joined} != set(pairs):
            raise ShadowError(
                f"a shadow must score the pairs that are served, got {pairs[0]:,} served and {pairs[1]:,} by the "
                f"shadow {shadow_model_id}, {joined:,} of them in both"
            )
        totals = db.execute(f"""
            select decile, sum(n)::bigint, {", ".join(f"sum({name})" for name in SUMS)}
            from sums
            where n > 0
            group by grouping sets ((), (decile))
            order by decile nulls first
        """).fetchall()
    names = {"model_id": model_id, "shadow_model_id": shadow_model_id}
    return [names | _row(decile, n, dict(zip(SUMS, sums, strict=True))) for decile, n, *sums in totals if n]


# What is added up for each decile: x is the serving score, y the shadow's.
SUMS = {
    "p_x": "ours.p::double",
    "p_y": "theirs.p::double",
    "gap": "abs(ours.p::double - theirs.p::double)",
    "x": "ours.raw_score::double",
    "y": "theirs.raw_score::double",
    "xx": "ours.raw_score::double ^ 2",
    "yy": "theirs.raw_score::double ^ 2",
    "xy": "ours.raw_score::double * theirs.raw_score::double",
    "best": "(ours.rank_in_entity <= {top_n})::integer",
    "best_of_both": "(ours.rank_in_entity <= {top_n} and theirs.rank_in_entity <= {top_n})::integer",
}


def _together(
    db: duckdb.DuckDBPyConnection, serving: Sequence[str], shadow: Sequence[str]
) -> list[tuple[Sequence[str], Sequence[str]]]:
    """Files to be joined with each other: block by block where both sets have the same blocks, which bounds memory."""
    sizes = [[score_files.rows(db, [file]) for file in files] for files in (serving, shadow)]
    if sizes[0] == sizes[1]:
        return [([ours], [theirs]) for ours, theirs in zip(serving, shadow, strict=True)]
    return [(serving, shadow)]


def _joined(serving: Sequence[str], shadow: Sequence[str], edges: list[int], top_n: int) -> str:
    bin_ = score_files.log_odds_bin("ours.p::double")
    decile = " + ".join(["1", *(f"({bin_} > {edge})::integer" for edge in edges)])
    sums = ", ".join(f"sum({sql.format(top_n=top_n)})" for sql in SUMS.values())
    return f"""
        select {decile} as decile, count(*), {sums}
        from {scan(serving)} as ours
        inner join {scan(shadow)} as theirs
            on ours.entity_id = theirs.entity_id
            and ours.candidate_id = theirs.candidate_id
            and ours.match_id is not distinct from theirs.match_id
        group by decile
    """


def _row(decile: int | None, n: int, sums: dict[str, float]) -> dict[str, Any]:
    spread = (n * sums["xx"] - sums["x"] ** 2) * (n * sums["yy"] - sums["y"] ** 2)
    shared = n * sums["xy"] - sums["x"] * sums["y"]
    measured = {
        "mean_p": sums["p_x"] / n,
        "mean_p_shadow": sums["p_y"] / n,
        "correlation": shared / math.sqrt(spread) if spread > 0 else None,
        "mean_abs_difference": sums["gap"] / n,
        "top_n_overlap": sums["best_of_both"] / sums["best"] if decile is None and sums["best"] else None,
    }
    scope = {"scope": "all" if decile is None else "decile", "decile": decile, "pairs": n}
    return scope | {name: value if value is None or math.isfinite(value) else None for name, value in measured.items()}
