"""Ingest of plain files by a second contract: quarantine with reasons, and the faults that must stop the night."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from rich.console import Console

from jobs import cli, encode, ingest
from jobs.ingest import IngestError
from jobs.progress import Progress

CLICKS: dict[str, Any] = {
    "name": "clicks",
    "version": 1,
    "data_note": "Invented clicks on offers, for tests.",
    "source": {"adapter": "files"},
    "default_date": "2026-03-11",
    "period": {"days": 1, "origin": "2026-03-01T00:00:00"},
    "columns": {
        "user": {"type": "string"},
        "offer": {"type": "string"},
        "device": {"type": "string", "allowed": ["phone", "desktop"]},
        "price": {"type": "number", "minimum": 0},
        "clicked_at": {"type": "timestamp"},
        "bought_at": {"type": "timestamp", "nullable": True},
        "revenue": {"type": "number", "minimum": 0},
    },
    "entity": ["user"],
    "candidate": ["offer"],
    "exposure_time": "clicked_at",
    "conversion_time": "bought_at",
    "value": "revenue",
    "label": {"events": ["purchase"], "window": 2},
    "split": {"valid": 1, "calib": 1, "test": 2},
    "min_count": 1,
    "fields": [
        {"name": "user", "side": "entity", "known_at": "static", "columns": ["user"]},
        {"name": "offer", "side": "candidate", "known_at": "planned", "columns": ["offer"]},
        {"name": "price", "side": "candidate", "known_at": "planned", "transform": "log2", "columns": ["price"]},
        {
            "name": "device",
            "side": "entity",
            "known_at": "static",
            "transform": "hashed",
            "columns": ["device"],
            "buckets": 8,
        },
        {
            "name": "rate_user",
            "side": "entity",
            "known_at": "history",
            "transform": "history",
            "of": "exposures",
            "measure": "conversion_rate",
            "columns": ["user"],
        },
    ],
    "prior": {"candidate_levels": ["offer"], "entity": "user"},
    "training": {"epochs": 1},
    "grid": {"nightly": {"k": [1]}},
}
GOOD = {
    "user": "ann",
    "offer": "tent",
    "device": "phone",
    "price": "19.5",
    "clicked_at": "2026-03-02 10:00:00",
    "bought_at": "",
    "revenue": "0",
}


def written(folder: Path, rows: list[dict], **changes) -> Path:
    """A contract over a CSV file of `rows`."""
    pl.DataFrame(rows).write_csv(folder / "clicks.csv")
    contract = CLICKS | {"source": {"adapter": "files", "exposures": str(folder / "clicks.csv")}} | changes
    path = folder / "clicks.yml"
    path.write_text(yaml.safe_dump(contract))
    return path


def ingested(contract: Path, spark):
    cycle = cli.cycle_of(contract, None, contract.parent / "warehouse")
    cycle.progress = Progress(Console(quiet=True))
    return cycle, ingest.run(cycle, spark)


def test_bad_rows_are_quarantined_with_the_reason_and_good_rows_kept(spark, tmp_path):
    rows = [
        GOOD,
        GOOD | {"user": "bob", "device": "fridge"},
        GOOD | {"user": "cid", "price": "-1", "revenue": "many"},
        GOOD | {"user": "dee", "bought_at": "2026-03-01 10:00:00"},  # before the click
        GOOD,  # the first row again
        GOOD | {"user": "eve", "clicked_at": "2026-03-11 00:00:00"},  # DATE itself: not read
        GOOD | {"user": "fay", "bought_at": "2026-03-11 08:00:00", "revenue": "5"},  # bought after DATE: not known yet
    ]
    cycle, snapshot = ingested(written(tmp_path, rows), spark)
    kept = pl.concat([pl.read_parquet(path) for path in snapshot.under("status=kept")])
    assert sorted(kept["user"]) == ["ann", "fay"]
    assert kept.filter(pl.col("user") == "fay").select("bought_at", "revenue").rows() == [(None, 0.0)]
    bad = pl.concat([pl.read_parquet(path) for path in snapshot.under("status=quarantined")])
    reasons = dict(zip(bad["user"], bad["reason"], strict=True))
    assert reasons == {
        "ann": "duplicate of user+clicked_at+offer",
        "bob": "device: isin(('phone', 'desktop'))",
        "cid": "price: greater_than_or_equal_to(0.0)",  # what did not convert has no revenue to be wrong
        "dee": "bought_at: before clicked_at",
    }
    counts = {row["reason"]: row["rows"] for row in cycle.dataset("ingest_counts").table().to_pylist()}
    assert counts.pop(None) == 2
    assert sorted(counts.values()) == [1, 1, 1, 1]


def test_snapshot_is_write_once_and_found_again(spark, tmp_path):
    contract = written(tmp_path, [GOOD])
    first = ingested(contract, spark)[1]
    assert all(not Path(path).stat().st_mode & 0o222 for path in first.files)
    assert ingested(contract, spark)[1].files == first.files
    first.verify()


def test_parquet_source_gives_the_same_snapshot_as_csv(spark, tmp_path):
    contract = written(tmp_path, [GOOD, GOOD | {"user": "bob"}])
    from_csv = ingested(contract, spark)[1]
    typed = pl.read_csv(tmp_path / "clicks.csv").with_columns(
        pl.col("clicked_at", "bought_at").str.to_datetime(
            "%Y-%m-%d %H:%M:%S", time_unit="us", time_zone="UTC", strict=False
        ),
        pl.col("revenue").cast(pl.Float64),
    )
    typed.write_parquet(tmp_path / "clicks.parquet")
    source = {"adapter": "files", "exposures": str(tmp_path / "clicks.parquet")}
    contract.write_text(yaml.safe_dump(CLICKS | {"source": source}))
    from_parquet = ingested(contract, spark)[1]
    assert from_parquet.key != from_csv.key
    one, other = from_parquet.table().to_pylist(), from_csv.table().to_pylist()
    assert [row.pop("source_file") for row in one] == ["clicks.parquet"] * 2
    assert [row.pop("source_file") for row in other] == ["clicks.csv"] * 2
    assert one == other


def test_without_lists_entities_are_the_latest_rows_and_candidates_those_of_the_last_period(spark, tmp_path):
    rows = [
        GOOD,
        GOOD | {"clicked_at": "2026-03-09 10:00:00", "device": "desktop"},
        GOOD | {"user": "bob", "offer": "stove", "clicked_at": "2026-03-10 10:00:00"},
    ]
    cycle, _ = ingested(written(tmp_path, rows), spark)
    people = {row["user"]: row["device"] for row in cycle.dataset("entity_list").table().to_pylist()}
    assert people == {"ann": "desktop", "bob": "phone"}
    assert [row["offer"] for row in cycle.dataset("offer_list").table().to_pylist()] == ["stove"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop("price"), r"column price is missing \(the source has bought_at, clicked_at"),
        (
            lambda frame: frame.with_columns(pl.lit(1).alias("clicked_at")),
            "column clicked_at must be of type timestamp, got int",
        ),
        (lambda frame: frame.head(0), "must hold at least one good exposure before DATE, got none"),
    ],
)
def test_a_source_that_does_not_fit_stops_with_one_line(spark, tmp_path, change, message):
    contract = written(tmp_path, [GOOD])
    moment = dt.datetime(2026, 3, 2, 10)
    typed = pl.DataFrame([GOOD | {"price": 1.0, "revenue": 0.0, "clicked_at": moment, "bought_at": None}])
    typed = typed.with_columns(pl.col("bought_at").cast(pl.Datetime("us")))
    change(typed).write_parquet(tmp_path / "clicks.parquet")
    source = {"adapter": "files", "exposures": str(tmp_path / "clicks.parquet")}
    contract.write_text(yaml.safe_dump(CLICKS | {"source": source}))
    with pytest.raises(IngestError, match=message) as caught:
        ingested(contract, spark)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "warehouse" / "lake" / "exposures").exists() or not list(
        (tmp_path / "warehouse" / "lake" / "exposures").rglob("manifest.json")
    )


def test_an_unreadable_file_stops_with_one_line(spark, tmp_path):
    contract = written(tmp_path, [GOOD])
    (tmp_path / "clicks.parquet").write_bytes(b"PAR1 this is not parquet PAR1")
    source = {"adapter": "files", "exposures": str(tmp_path / "clicks.parquet")}
    contract.write_text(yaml.safe_dump(CLICKS | {"source": source}))
    with pytest.raises(IngestError, match="source of clicks cannot be read") as caught:
        ingested(contract, spark)
    assert "\n" not in str(caught.value)


def test_a_missing_file_stops_with_one_line(spark, tmp_path):
    contract = written(tmp_path, [GOOD])
    (tmp_path / "clicks.csv").unlink()
    with pytest.raises(IngestError, match=r"source of clicks cannot be read: .*clicks\.csv"):
        ingested(contract, spark)


def test_examples_of_plain_files_are_split_with_an_embargo_and_encoded_by_every_transform(spark, tmp_path):
    rows = [
        GOOD
        | {
            "user": user,
            "clicked_at": f"2026-03-{day:02d} 10:00:00",
            "bought_at": f"2026-03-{day + 1:02d} 09:00:00" if bought else "",
        }
        for day in range(1, 20)
        for user, bought in (("ann", day % 2), ("bob", 0))
    ]
    cycle, _ = ingested(written(tmp_path, rows, default_date="2026-03-20"), spark)
    examples = encode.run(cycle, spark)
    # A label is final two days later, so days 18 and 19 are immature; two days lie between the parts.
    days = {part: [] for part in ("train", "valid", "calib", "test", "unused")}
    for row in cycle.dataset("label_rates").table().to_pylist():
        days[row["split"]].append(row["period"].day)
        assert row["is_mature"] == (row["period"].day <= 17)
    assert days == {
        "train": [1, 2, 3, 4, 5, 6, 7],
        "valid": [10],
        "calib": [13],
        "test": [16, 17],
        "unused": [8, 9, 11, 12, 14, 15, 18, 19],
    }
    frame = pl.concat([pl.read_parquet(path, hive_partitioning=False) for path in examples.files])
    vocabulary = {row["feature_id"]: row["value"] for row in cycle.dataset("vocabulary").table().to_pylist()}
    first = frame.filter((pl.col("entity_id") == "ann") & (pl.col("period_no") == 1)).row(0, named=True)
    assert vocabulary[first["f_user"]] == "ann"
    assert vocabulary[first["f_price"]] == "4"  # floor(log2(19.5 + 1))
    # Day 2: one earlier exposure of ann's, whose conversion on day 2 itself is not known before day 2 began; base rate
    # of the training days 4/14. Smoothed (0 + 20 b)/(1 + 20)/b = 20/21: round(2 log2) = 0, so 12 * 100, and octave 1.
    assert vocabulary[first["f_rate_user"]] == "1201"
    # Day 3: two exposures and the conversion of day 2: (1 + 20 b)/22/b with b = 4/14 gives 1.068, again 12; octave 1.
    second = frame.filter((pl.col("entity_id") == "ann") & (pl.col("period_no") == 2)).row(0, named=True)
    assert vocabulary[second["f_rate_user"]] == "1201"


# Clicks on bundles of articles, and what was bought: history over the sets in bundles.parquet.
BUNDLES = CLICKS | {
    "default_date": "2026-03-20",
    "columns": CLICKS["columns"] | {"bundle": {"type": "integer"}},
    "fields": [
        *CLICKS["fields"],
        {
            "name": "bought_bundle",
            "side": "pair",
            "known_at": "history",
            "transform": "history",
            "of": "purchases",
            "measure": "basket_rate",
            "columns": ["user", "bundle"],
            "members": "bundles",
        },
    ],
}
SETS = pl.DataFrame({"bundle": [1, 1, 2, 1, None, 2], "article": ["a", "c", "b", "c", "d", None]})
BOUGHT = pl.DataFrame(
    {
        "user": ["ann", "ann", "ann", "bob"],
        "article": ["a", "a", "c", "a"],
        "basket_id": ["x", "y", "y", "z"],
        "purchase_time": [dt.datetime(2026, 3, day, 9, tzinfo=dt.UTC) for day in (1, 3, 3, 1)],
    }
)


def written_with_sets(folder: Path, sets: pl.DataFrame = SETS, bought: pl.DataFrame = BOUGHT) -> Path:
    """A contract over 19 days of two users' clicks, purchases and sets."""
    rows = [
        GOOD
        | {
            "user": user,
            "bundle": str(bundle),
            "clicked_at": f"2026-03-{day:02d} 10:00:00",
            "bought_at": f"2026-03-{day + 1:02d} 09:00:00" if day % 2 and user == "ann" else "",
        }
        for day in range(1, 20)
        for user, bundle in (("ann", 1), ("bob", 2))
    ]
    sets.write_parquet(folder / "bundles.parquet")
    bought.write_parquet(folder / "purchases.parquet")
    source = {
        "adapter": "files",
        "exposures": str(folder / "clicks.csv"),
        "purchases": str(folder / "purchases.parquet"),
        "members": {"bundles": str(folder / "bundles.parquet")},
    }
    return written(folder, rows, **BUNDLES | {"source": source})


def test_history_over_sets_counts_baskets_that_hold_any_of_the_set(spark, tmp_path):
    cycle, _ = ingested(written_with_sets(tmp_path), spark)
    found = cycle.dataset("members")
    stored = pl.read_parquet(found.under("bundles")).sort("bundle", "article")
    assert stored.rows() == [(1, "a"), (1, "c"), (2, "b")]  # once each, without what is incomplete
    assert stored.schema == {"bundle": pl.Int64, "article": pl.String}
    examples = encode.run(cycle, spark)
    frame = pl.concat([pl.read_parquet(path, hive_partitioning=False) for path in examples.files])
    value = {row["feature_id"]: row["value"] for row in cycle.dataset("vocabulary").table().to_pylist()}

    def codes(user):
        mine = frame.filter(pl.col("entity_id") == user).sort("period_no").head(4)
        return [value[code] for code in mine["f_bought_bundle"].to_list()]

    # Ann, bundle 1: basket x on day 1, y (twice in the set) on day 3; purchases begin in period 0. Day 1: nothing
    # before. Day 2: 1 basket in 1 period, rate 12; 1 period ago: log2 2 = 1. Day 3: 1 in 2, 2 * log2 = -2: 10; 2 ago:
    # log2 3, floor 1. Day 4: 2 in 3, 2 * log2 = -1.17: 11; 1 ago: 1. Bob, bundle 2: bought a, which is not in it.
    assert codes("ann") == ["0", "1201", "1001", "1101"]
    assert codes("bob") == ["0"] * 4


def test_the_order_of_the_rows_of_a_set_table_does_not_change_its_content(spark, tmp_path):
    found = []
    for number, sets in enumerate((SETS, SETS.reverse())):
        folder = tmp_path / str(number)
        folder.mkdir()
        found.append(ingested(written_with_sets(folder, sets), spark)[0].dataset("members"))
    assert found[0].content == found[1].content


@pytest.mark.parametrize(
    ("sets", "bought", "message"),
    [
        (
            SETS.with_columns(pl.lit(1).alias("weight")),
            BOUGHT,
            "members bundles must have two columns, bundle and one of the purchases, got article, bundle, weight",
        ),
        (SETS.rename({"bundle": "pack"}), BOUGHT, "must have two columns, bundle and one .* got article, pack"),
        (SETS.cast({"bundle": pl.String}), BOUGHT, "column bundle must be of type integer, got string"),
        (SETS.rename({"article": "kind"}), BOUGHT, "column kind has a name that is used for something else"),
        (SETS, BOUGHT.drop("article"), "purchases must have the columns article, which the fields of members bundles"),
        (
            SETS,
            BOUGHT.with_columns(pl.lit(1).alias("article")),
            r"column article must be of the type that it has in the purchases \(int\), got string",
        ),
    ],
)
def test_a_set_table_that_does_not_fit_stops_before_anything_is_written(spark, tmp_path, sets, bought, message):
    with pytest.raises(IngestError, match=message) as caught:
        ingested(written_with_sets(tmp_path, sets, bought), spark)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "warehouse").rglob("manifest.json"))
