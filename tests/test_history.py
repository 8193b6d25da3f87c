"""Point-in-time aggregates against a slow oracle that looks at every event for every row."""

import polars as pl
import pytest

from jobs.history import so_far


def oracle(counted, asked, keys):
    rows = []
    for row in asked.unique().iter_rows(named=True):
        mine = [
            event
            for event in counted.iter_rows(named=True)
            if all(event[k] == row[k] for k in keys) and event["period_no"] < row["period_no"]
        ]
        bought = [event["period_no"] for event in mine if event["n"] > 0]
        rows.append(row | {"n": sum(e["n"] for e in mine), "c": sum(e["c"] for e in mine), "last": max(bought, default=None)})
    return pl.DataFrame(rows, schema_overrides={"last": pl.Int32, "period_no": pl.Int32})


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("keys", [["a"], ["a", "b"]])
def test_so_far_is_the_sum_over_earlier_periods_only(seed, keys):
    draw = pl.DataFrame({"i": range(120)}).select(
        pl.col("i").hash(seed).mod(4).cast(pl.Int64).alias("a"),
        pl.col("i").hash(seed + 100).mod(3).cast(pl.String).alias("b"),
        (pl.col("i").hash(seed + 200).mod(9).cast(pl.Int32) - 2).alias("period_no"),  # negative periods exist
        pl.col("i").hash(seed + 300).mod(2).cast(pl.Int64).alias("n"),
        pl.col("i").hash(seed + 400).mod(2).cast(pl.Int64).alias("c"),
    )
    by = [*keys, "period_no"]
    counted = draw.head(80).group_by(by).agg(pl.col("n").sum(), pl.col("c").sum())
    asked = draw.tail(60).select(by)
    found = so_far(counted, asked, keys).join(asked.unique(), on=by, how="semi").sort(by)
    expected = oracle(counted, asked, keys).sort(by).select(found.columns)
    assert found.to_dicts() == expected.to_dicts()
