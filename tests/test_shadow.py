"""Two models' scores of the same pairs side by side; the numbers are checked with NumPy over the joined pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from jobs import facts, shadow
from jobs.shadow import ShadowError

TOP_N = 3


def scores(seed: int, entities: int = 50, candidates: int = 20, noise: float = 0.5) -> pl.DataFrame:
    """Keys, raw scores, p and ranks; the part of the raw score that all seeds share comes first."""
    shared = np.random.default_rng(0).normal(-3, 1, (entities, candidates))
    raw = (shared + np.random.default_rng(seed).normal(0, noise, shared.shape)).astype(np.float32)
    keys = [(f"e{i:02d}", f"c{j:02d}", "a") for i in range(entities) for j in range(candidates)]
    rank = (-raw).argsort(axis=1).argsort(axis=1) + 1
    table = pl.DataFrame(keys, schema=["entity_id", "candidate_id", "match_id"], orient="row")
    columns = {"raw_score": raw.ravel(), "rank_in_entity": rank.ravel().astype(np.int32)}
    return table.with_columns(**{name: pl.Series(values) for name, values in columns.items()}).with_columns(
        p=(1 / (1 + (-pl.col("raw_score").cast(pl.Float64)).exp())).cast(pl.Float32)
    )


def written(folder: Path, table: pl.DataFrame, files: int = 2) -> list[str]:
    """As blocks write them: rows of an entity by rank, so in another order for another model."""
    folder.mkdir()
    ordered = table.sort("entity_id", "rank_in_entity")
    size = -(-ordered.height // files)
    paths = [folder / f"part-{number:05d}.parquet" for number in range(files)]
    for number, path in enumerate(paths):
        ordered.slice(number * size, size).write_parquet(path)
    return [str(path) for path in paths]


@pytest.mark.parametrize("files", [(2, 2), (2, 5)])  # block by block, and all at once
def test_the_comparison_is_that_of_the_joined_pairs(tmp_path: Path, files: tuple[int, int]) -> None:
    ours, theirs = scores(1), scores(2)
    paths = [written(tmp_path / n, t, f) for n, t, f in zip("ab", (ours, theirs), files, strict=True)]
    rows = shadow.compare(paths[0], paths[1], "m1", "m2", TOP_N)
    # Both tables hold the pairs in the same order, so they can be compared row by row.
    p, q = (table["p"].to_numpy().astype(float) for table in (ours, theirs))
    x, y = (table["raw_score"].to_numpy().astype(float) for table in (ours, theirs))
    best, other = ((table["rank_in_entity"] <= TOP_N).to_numpy() for table in (ours, theirs))
    assert rows[0] == {
        "model_id": "m1",
        "shadow_model_id": "m2",
        "scope": "all",
        "decile": None,
        "pairs": 1000,
        "mean_p": pytest.approx(p.mean()),
        "mean_p_shadow": pytest.approx(q.mean()),
        "correlation": pytest.approx(np.corrcoef(x, y)[0, 1]),
        "mean_abs_difference": pytest.approx(np.abs(p - q).mean()),
        "top_n_overlap": pytest.approx((best & other).sum() / 150),  # 50 entities × 3
    }
    # Deciles are cut between bins of 0.01 in log-odds: near 100 pairs each, in the order of p.
    deciles = rows[1:]
    assert [row["decile"] for row in deciles] == list(range(1, 11))
    start, order = 0, np.argsort(p, kind="stable")
    for row in deciles:
        part = order[start : start + row["pairs"]]
        assert row["pairs"] == pytest.approx(100, abs=10)
        assert row["mean_p"] == pytest.approx(p[part].mean())
        assert row["mean_p_shadow"] == pytest.approx(q[part].mean())
        assert row["correlation"] == pytest.approx(np.corrcoef(x[part], y[part])[0, 1])
        assert (row["scope"], row["top_n_overlap"]) == ("decile", None)
        start += row["pairs"]
    assert start == 1000
    assert facts.table("shadow_comparison", rows).num_rows == 11


def test_a_model_against_itself_agrees_in_everything(tmp_path: Path) -> None:
    paths = written(tmp_path / "a", scores(1))
    whole = shadow.compare(paths, paths, "m1", "m1", TOP_N)[0]
    assert whole["correlation"] == pytest.approx(1)
    assert (whole["mean_abs_difference"], whole["top_n_overlap"]) == (0, 1)


def test_constant_or_broken_shadow_scores_have_no_correlation(tmp_path: Path) -> None:
    constant = scores(1).with_columns(raw_score=pl.lit(-3, pl.Float32), p=pl.lit(np.nan, pl.Float32))
    served, other = written(tmp_path / "a", scores(1)), written(tmp_path / "b", constant)
    rows = shadow.compare(served, other, "m1", "m2", TOP_N)
    assert {(row["correlation"], row["mean_p_shadow"]) for row in rows} == {(None, None)}
    assert rows[0]["mean_p"] == pytest.approx(scores(1)["p"].cast(pl.Float64).mean())


def test_other_pairs_are_refused(tmp_path: Path) -> None:
    table = scores(1)
    other = table.with_columns(pl.col("candidate_id").replace("c00", "x00"))
    served, shadowed = written(tmp_path / "a", table), written(tmp_path / "b", other)
    match = "got 1,000 served and 1,000 by the shadow m2, 950 of them in both"
    with pytest.raises(ShadowError, match=match):
        shadow.compare(served, shadowed, "m1", "m2", TOP_N)
    with pytest.raises(ShadowError, match="got 1,000 served and 999 by the shadow m2, 999 of them in both"):
        shadow.compare(served, written(tmp_path / "c", table.slice(1)), "m1", "m2", TOP_N)
