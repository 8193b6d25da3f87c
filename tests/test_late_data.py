"""Files that come later: late conversions, corrections, the same file again, a file that does not fit."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import yaml
from rich.console import Console
from test_ingest import CLICKS, GOOD

from jobs import cli, encode, event_files, history, ingest
from jobs.contract import ContractError, load
from jobs.event_files import EventFile
from jobs.history import SHOWN, Coder
from jobs.ingest import IngestError
from jobs.progress import Progress

DELIVERED = {"delivered_at": {"type": "timestamp"}}
DAYS = range(1, 20)
DUPLICATE = "duplicate of user+clicked_at+offer"
SUPERSEDED = "superseded by a later delivery of user+clicked_at+offer"


def click(user: str, day: int, *, bought: str = "", delivered: int | None = None, **more: str) -> dict[str, str]:
    """A click at ten o'clock of a day of March, delivered that evening, with a purchase at noon of the next day, or at
    noon of day `delivered`."""
    delivered = delivered or (day + 1 if bought else None)
    came = f"2026-03-{day:02d} 23:00:00" if delivered is None else f"2026-03-{delivered:02d} 12:00:00"
    revenue = "5" if bought else "0"
    clicked = {"user": user, "clicked_at": f"2026-03-{day:02d} 10:00:00", "bought_at": bought, "revenue": revenue}
    return GOOD | clicked | {"delivered_at": came} | more


# Ann buys what she clicked on odd days the next morning, except on days 9 and 19; Bob never does.
BUYS = {day: int(day % 2 and day not in (9, 19)) for day in DAYS}
FIRST = [click("ann", day, bought=f"2026-03-{day + 1:02d} 09:00:00" if buys else "") for day, buys in BUYS.items()]
FIRST += [click("bob", day) for day in DAYS]
# Day 9's purchase is told on day 15, and day 5's is withdrawn.
LATE = [click("ann", 9, bought="2026-03-10 09:00:00", delivered=15), click("ann", 5, delivered=15)]


def world(folder: Path, *, date: str = "2026-03-20", path: str = "in", **files: list[dict[str, str]]) -> Path:
    """A contract over CSV files of these rows in the folder `in`."""
    (folder / "in").mkdir(exist_ok=True)
    for name, rows in files.items():
        pl.DataFrame(rows).write_csv(folder / "in" / f"{name}.csv")
    told = {"source": {"adapter": "files", "exposures": str(folder / path)}, "default_date": date}
    contract = CLICKS | told | {"columns": CLICKS["columns"] | DELIVERED, "delivered_at": "delivered_at"}
    (folder / "clicks.yml").write_text(yaml.safe_dump(contract))
    return folder / "clicks.yml"


def ingested(contract: Path, spark):
    cycle = cli.cycle_of(contract, None, contract.parent / "warehouse")
    cycle.progress = Progress(Console(quiet=True))
    ingest.run(cycle, spark)
    return cycle


def rates(cycle, spark) -> dict[int, int]:
    """Day of March -> conversions."""
    encode.run(cycle, spark)
    return {row["period"].day: row["conversions"] for row in cycle.dataset("label_rates").table().to_pylist()}


def outcomes(cycle) -> dict[str | None, int]:
    return {row["reason"]: row["rows"] for row in cycle.dataset("ingest_counts").table().to_pylist()}


def test_a_late_file_changes_the_labels_of_its_own_days_and_again_changes_nothing(spark, tmp_path):
    contract = world(tmp_path, first=FIRST)
    before = rates(ingested(contract, spark), spark)
    assert before == BUYS

    world(tmp_path, late=LATE)
    cycle = ingested(contract, spark)
    after = rates(cycle, spark)
    assert after == before | {9: 1, 5: 0}  # every other day as it was
    assert outcomes(cycle) == {None: 38, SUPERSEDED: 2}
    kept = pl.read_parquet(cycle.dataset("exposures").under("status=kept"))
    corrected = kept.filter(pl.col("source_file") == "late.csv")
    assert sorted(corrected["clicked_at"].dt.day()) == [5, 9]
    datasets = {name: cycle.dataset(name).content for name in ("exposures", "examples", "label_rates", "ingest_counts")}

    # The same file once more, and its bytes under another name: nothing at all is different.
    world(tmp_path, late=LATE, zz_late_again=LATE)
    replayed = ingested(contract, spark)
    rates(replayed, spark)
    assert {name: replayed.dataset(name).content for name in datasets} == datasets
    files = {row["name"]: row["outcome"] for row in replayed.dataset("source_files").table().to_pylist()}
    assert files == {"first.csv": "read", "late.csv": "read", "zz_late_again.csv": "repeated"}

    # The rows once more in a file of other bytes: the labels stay, and the duplicates are counted.
    world(tmp_path, zz_late_again=LATE[::-1])
    replayed = ingested(contract, spark)
    assert rates(replayed, spark) == after
    assert replayed.dataset("exposures").content != datasets["exposures"]  # the quarantine holds two rows more
    assert replayed.dataset("examples").content == datasets["examples"]
    assert outcomes(replayed) == {None: 38, SUPERSEDED: 2, DUPLICATE: 2}


@pytest.mark.slow
def test_a_night_of_an_earlier_date_does_not_know_what_came_later(spark, tmp_path):
    """As of day 15 nothing of noon that day was delivered: the rerun gives what that night gave."""
    then = ingested(world(tmp_path, date="2026-03-15", first=FIRST), spark)
    rates(then, spark)
    again = ingested(world(tmp_path, date="2026-03-15", late=LATE), spark)
    rates(again, spark)
    for name in ("exposures", "examples", "label_rates", "ingest_counts"):
        assert again.dataset(name).content == then.dataset(name).content


@pytest.mark.slow
def test_a_correction_that_breaks_a_rule_leaves_what_was_there(spark, tmp_path):
    wrong = click("ann", 5, delivered=15, device="fridge")
    cycle = ingested(world(tmp_path, first=FIRST, late=[wrong]), spark)
    assert rates(cycle, spark)[5] == 1
    assert outcomes(cycle) == {None: 38, "device: isin(('phone', 'desktop'))": 1}


@pytest.mark.slow
def test_a_late_row_says_when_it_became_known(spark, tmp_path):
    late = [click("ann", 9, bought="2026-03-10 09:00:00", delivered=19)]
    cycle = ingested(world(tmp_path, first=FIRST, late=late), spark)
    encode.run(cycle, spark)
    found = {row["period"].day: row for row in cycle.dataset("label_rates").table().to_pylist()}
    # Ann's purchases are of the next morning, so none is known when the day of its click ends.
    assert {row["conversions_first"] for row in found.values()} == {0}
    # One night before, at the start of day 19, all were known but the one that was told that day.
    assert {day: row["conversions_former"] for day, row in found.items()} == BUYS
    assert {day: row["conversions"] for day, row in found.items()} == BUYS | {9: 1}


@pytest.mark.parametrize(
    "path",
    [
        "in",
        *(pytest.param(path, marks=pytest.mark.slow) for path in ("in/*.parquet", "in/**/*.parquet")),
    ],
)
def test_folders_and_globs_are_read_and_rows_name_their_file(spark, tmp_path, path):
    contract = world(tmp_path, path=path)
    frame = pl.DataFrame([click("ann", 2), click("bob", 2)]).with_columns(
        pl.col("clicked_at", "delivered_at", "bought_at").str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False),
        pl.col("price", "revenue").cast(pl.Float64),
    )
    (tmp_path / "in" / "day 2").mkdir()
    frame.head(1).write_parquet(tmp_path / "in" / "a+b %.parquet")
    frame.tail(1).with_columns(pl.col("price").cast(pl.Int64)).write_parquet(tmp_path / "in" / "day 2" / "b.parquet")
    (tmp_path / "in" / "_SUCCESS").write_text("")
    kept = pl.read_parquet(ingested(contract, spark).dataset("exposures").under("status=kept"))
    below = {"bob": "day 2/b.parquet"} if path != "in/*.parquet" else {}
    assert dict(kept.select("user", "source_file").iter_rows()) == {"ann": "a+b %.parquet"} | below


def test_a_file_that_does_not_fit_is_refused_and_the_others_are_read(spark, tmp_path):
    contract = world(tmp_path, path="in", first=FIRST)
    typed = pl.DataFrame([click("cid", 2)]).with_columns(
        pl.col("clicked_at", "delivered_at", "bought_at").str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False),
        pl.col("revenue").cast(pl.Float64),  # the price is text
    )
    typed.write_parquet(tmp_path / "in" / "text.parquet")
    pl.DataFrame([click("dee", 2)]).drop("device").write_csv(tmp_path / "in" / "short.csv")
    (tmp_path / "in" / "torn.parquet").write_bytes(b"PAR1")
    cycle = ingested(contract, spark)
    found = outcomes(cycle)
    assert found.pop(None) == 38
    torn = next(reason for reason in found if str(reason).startswith("file torn.parquet: cannot be read: "))
    assert found == {
        "file text.parquet: column price must be of type number, got large_string": 1,
        "file short.csv: column device is missing": 0,
        torn: 0,
    }


@pytest.mark.slow
def test_a_source_of_which_no_file_fits_stops_the_night(spark, tmp_path):
    contract = world(tmp_path, path="in/*.csv", one=[{"user": "ann"}], two=[{"user": "bob"}])
    with pytest.raises(IngestError, match=r"column offer is missing \(the source has user\)"):
        ingested(contract, spark)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"delivered_at": "arrived"}, "delivered_at: column must be declared under columns, got 'arrived'"),
        ({"delivered_at": "bought_at"}, "delivered_at: column bought_at must be a timestamp that is never empty"),
        ({"delivered_at": "clicked_at"}, "delivered_at must be a column of its own, got 'clicked_at'"),
    ],
)
def test_the_column_of_deliveries_is_checked(tmp_path, change, message):
    contract = world(tmp_path, first=FIRST)
    contract.write_text(yaml.safe_dump(yaml.safe_load(contract.read_text()) | change))
    with pytest.raises(ContractError, match=message):
        load(contract)


@pytest.mark.slow
def test_history_knows_a_late_conversion_from_its_delivery_on_in_training_rows_as_in_tonight_s_pairs(spark, tmp_path):
    late = [click("ann", 9, bought="2026-03-10 09:00:00", delivered=15)]  # the only one: rates come in steps
    never = [click("ann", day) for day in DAYS]
    found = []
    for name, files in {"without": {}, "told": {"late": late}}.items():
        folder = tmp_path / name
        folder.mkdir()
        cycle = ingested(world(folder, first=never, **files), spark)
        tables = encode.events(cycle, spark)
        rows = encode.values(tables["exposures"], cycle.contract, cycle.periods, tables, 0.25, ["user", "period_no"])
        ann = pl.DataFrame(rows.toArrow()).filter(pl.col("user") == "ann").sort("period_no")
        read = [
            event_files.read(
                EventFile(path, SHOWN, ("user",)), "clicked_at", "bought_at", cycle.periods, "delivered_at"
            )
            for path in cycle.dataset("exposures").under("status=kept")
        ]
        events = pl.concat(read).with_columns(pl.lit(None, pl.String).alias("basket_id"))
        [rule] = [rule for rule in cycle.contract.fields if rule.transform == "history"]
        asked = ann.select("user", "period_no")
        coder = Coder(cycle.contract.history_smoothing, base_rate=0.25, first=0)
        tonight = history.history_columns(asked, events, [rule], coder, {})[rule.name].to_list()
        assert ann["v_rate_user"].to_list() == tonight
        found.append(tonight)
    without, told = found
    # What was told on day 15 (period 14) is known to the rows from day 16 on.
    assert told[:15] == without[:15]
    assert all(a >= b for a, b in zip(told[15:], without[15:], strict=True))
    assert told[15:] != without[15:]
