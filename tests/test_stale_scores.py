"""Serving the last good scores again: which release that is, what is rewritten, and what is refused."""

from __future__ import annotations

import datetime as dt
import io
import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from jobs import decision_log, facts, stale_scores
from jobs.contract import load
from jobs.cycle import Cycle
from jobs.lake import write_json
from jobs.progress import Progress

CONF = Path(__file__).resolve().parent.parent / "conf"
MONDAYS = [dt.date(2017, 12, day) for day in (4, 11, 18)]
NAMES = (*stale_scores.REWRITTEN, *stale_scores.KEPT, "scoring")


def cycle_of(warehouse: Path, day: dt.date) -> Cycle:
    return Cycle(load(CONF / "promo.yml"), day, warehouse, Progress(Console(file=io.StringIO())))


def value(kind: pa.DataType, number: int, day: dt.date) -> Any:
    """Some value of the type, another one in each row."""
    if pa.types.is_string(kind):
        return f"{number:03d}"
    if pa.types.is_date(kind):
        return day
    if pa.types.is_timestamp(kind):
        return dt.datetime.combine(day, dt.time(6, number % 60))
    if pa.types.is_boolean(kind):
        return False
    return number / 64 if pa.types.is_floating(kind) else number


def table(fact: str, day: dt.date, rows: int, **constants: Any) -> pa.Table:
    schema = facts.FACTS[fact]
    made = [{f.name: value(f.type, number, day) for f in schema} | constants for number in range(rows)]
    return facts.table(fact, made)


def scored(warehouse: Path, day: dt.date, **scoring: Any) -> Cycle:
    """A cycle with the data sets of scores: two files of 300 and 200 rows, whose order is not that of any column."""
    cycle = cycle_of(warehouse, day)
    for name in NAMES:
        key = cycle.lake.key(name, "jobs.facts", {}, str(day))
        constants = {"source": "model"} if "source" in facts.FACTS[name].names else {}
        constants |= scoring if name == "scoring" else {}
        whole = table(name, day, 500 if name in stale_scores.REWRITTEN else 1, **constants)
        with cycle.lake.writing(name, key) as folder:
            for number, part in enumerate([whole.slice(200), whole.slice(0, 200)] if len(whole) > 1 else [whole]):
                pq.write_table(part, folder / f"part-{number:05d}.parquet")
        cycle.remember({name: key})
    return cycle


def publish(cycle: Cycle, at: int, **changes: Any) -> str:
    """What publishing leaves of a release: its manifest, and an entry of the log."""
    release_id = f"{cycle.contract.name}-{cycle.date}"
    manifest = {
        "contract": "promo",
        "release_id": release_id,
        "data_through": cycle.periods.data_through.isoformat(),
        "datasets": json.dumps(cycle.state()["datasets"]),
        "published_at": f"2026-01-01T00:00:{at:02d}",
    }
    write_json(cycle.warehouse / "releases" / release_id / "manifest.json", manifest | changes)
    point(cycle, "publish", release_id)
    return release_id


def point(cycle: Cycle, kind: decision_log.Kind, release_id: str) -> None:
    decision_log.append(cycle.warehouse, kind, {"contract": "promo", "release_id": release_id})


def found(cycle: Cycle) -> str | None:
    source = stale_scores.last_good(cycle)
    return source.release_id if source else None


def test_the_last_published_release_is_served_again(tmp_path: Path) -> None:
    tonight = cycle_of(tmp_path, MONDAYS[2])
    assert found(tonight) is None
    for at, day in enumerate(MONDAYS[:2]):
        publish(scored(tmp_path, day, model_id="m1"), at)
    source = stale_scores.last_good(tonight)
    assert source is not None
    assert source.release_id == "promo-2017-12-11"
    assert (source.scoring["model_id"], source.scoring["score_date"]) == ("m1", MONDAYS[1])
    reference = source.reference(tonight)
    assert (reference.release_id, reference.is_prior) == ("promo-2017-12-11", False)
    assert reference.scores == source.datasets["scores"].files


def test_only_the_source_changes(tmp_path: Path) -> None:
    old = scored(tmp_path, MONDAYS[1])
    publish(old, 0)
    tonight = cycle_of(tmp_path, MONDAYS[2])
    source = stale_scores.last_good(tonight)
    assert source is not None
    made = stale_scores.serve_stale(tonight, source, "psi: 0.4, must be <= 0.25")
    assert set(made) == {*stale_scores.REWRITTEN, *stale_scores.KEPT}
    for name in stale_scores.REWRITTEN:
        before, after = old.dataset(name).table(), tonight.dataset(name).table()
        assert after.schema.remove_metadata() == facts.FACTS[name]
        assert after["source"].unique().to_pylist() == ["stale"]
        assert after.drop(["source"]).equals(before.drop(["source"]))  # the order of rows and files, too
        assert [entry["rows"] for entry in tonight.dataset(name).manifest["files"]] == [300, 200]
    for name in stale_scores.KEPT:
        assert tonight.dataset(name).key == old.dataset(name).key
    assert not tonight.has("scoring")


def test_stale_scores_are_made_once_with_equal_bytes(tmp_path: Path) -> None:
    publish(scored(tmp_path, MONDAYS[1]), 0)
    tonight = cycle_of(tmp_path, MONDAYS[2])
    source = stale_scores.last_good(tonight)
    assert source is not None
    first = stale_scores.serve_stale(tonight, source, "one")["scores"]
    again = stale_scores.serve_stale(tonight, source, "two")["scores"]
    assert (again.key, again.manifest["run"]) == (first.key, first.manifest["run"])
    with tonight.lake.writing("scores", "elsewhere") as folder:
        stale_scores.rewrite(source.datasets["scores"], folder)
    assert tonight.lake.get("scores", "elsewhere").content == first.content


def test_a_release_that_served_stale_scores_can_be_served_again(tmp_path: Path) -> None:
    publish(scored(tmp_path, MONDAYS[0]), 0)
    second = cycle_of(tmp_path, MONDAYS[1])
    source = stale_scores.last_good(second)
    assert source is not None
    stale_scores.serve_stale(second, source, "psi")
    second.remember({"scoring": cycle_of(tmp_path, MONDAYS[0]).dataset("scoring").key})
    publish(second, 1)
    tonight = cycle_of(tmp_path, MONDAYS[2])
    last = stale_scores.last_good(tonight)
    assert last is not None
    served = stale_scores.serve_stale(tonight, last, "psi")["scores"].table()
    assert served["score_date"].unique().to_pylist() == [MONDAYS[0]]


def test_large_files_keep_several_row_groups_and_their_order(tmp_path: Path) -> None:
    cycle = cycle_of(tmp_path, MONDAYS[0])
    rows = 2 * stale_scores.ROW_GROUP + 1
    numbers = pl.DataFrame({"v": pl.int_range(rows, 0, -1, eager=True), "source": ["model"] * rows})
    with cycle.lake.writing("scores", "big") as folder:
        numbers.write_parquet(folder / "part-0.parquet", row_group_size=rows)
    stale_scores.rewrite(cycle.lake.get("scores", "big"), tmp_path)
    file = pq.ParquetFile(tmp_path / "part-00000.parquet")
    assert file.num_row_groups == 3
    assert file.read()["v"].to_pylist() == list(range(rows, 0, -1))


def test_a_release_that_was_rolled_back_from_is_not_good(tmp_path: Path) -> None:
    first, second = (publish(scored(tmp_path, day), at) for at, day in enumerate(MONDAYS[:2]))
    tonight = cycle_of(tmp_path, MONDAYS[2])
    assert found(tonight) == second
    point(tonight, "rollback", first)
    assert found(tonight) == first


def test_a_night_of_the_past_is_not_served_later_scores(tmp_path: Path) -> None:
    first, _, third = (publish(scored(tmp_path, day), at) for at, day in enumerate(MONDAYS))
    assert found(cycle_of(tmp_path, MONDAYS[0])) == first
    assert found(cycle_of(tmp_path, MONDAYS[2])) == third  # the same night once more
    assert found(cycle_of(tmp_path, MONDAYS[0] - dt.timedelta(days=7))) is None


def test_damaged_scores_are_not_served(tmp_path: Path) -> None:
    first = publish(scored(tmp_path, MONDAYS[0]), 0)
    last = scored(tmp_path, MONDAYS[1])
    publish(last, 1)
    [_, path] = last.dataset("top_scores").files
    Path(path).chmod(0o644)
    data = bytearray(Path(path).read_bytes())
    data[100] ^= 1  # the size stays, the hash does not
    Path(path).write_bytes(data)
    tonight = cycle_of(tmp_path, MONDAYS[2])
    assert found(tonight) == first
    out = tonight.progress.console.file
    assert isinstance(out, io.StringIO)
    assert "release promo-2017-12-11 cannot be served again: top_scores" in " ".join(out.getvalue().split())


@pytest.mark.parametrize("name", ["top_scores", "scoring"])
def test_a_release_without_these_data_sets_is_not_usable(tmp_path: Path, name: str) -> None:
    cycle = scored(tmp_path, MONDAYS[0])
    datasets = {key: value for key, value in cycle.state()["datasets"].items() if key != name}
    publish(cycle, 0, datasets=json.dumps(datasets))
    assert found(cycle_of(tmp_path, MONDAYS[1])) is None


def test_a_release_of_another_contract_is_not_served(tmp_path: Path) -> None:
    publish(scored(tmp_path, MONDAYS[0]), 0, contract="coupon")
    assert found(cycle_of(tmp_path, MONDAYS[1])) is None
