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

from jobs import decision_log, facts, pointings, stale_scores
from jobs.contract import load
from jobs.cycle import Cycle
from jobs.lake import Dataset, write_json
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
        "content_sha256": release_id,
        "decision_id": "d",
        "files": {},
    }
    write_json(cycle.warehouse / "releases" / release_id / "manifest.json", manifest | changes)
    point(cycle, "publish", release_id)
    return release_id


def point(cycle: Cycle, kind: decision_log.Kind, release_id: str) -> None:
    decision_log.append(cycle.warehouse, kind, {"contract": "promo", "release_id": release_id})


def found(cycle: Cycle) -> str | None:
    source = stale_scores.last_good(cycle)
    return source.release_id if source else None


def served(cycle: Cycle, reason: str) -> dict[str, Dataset]:
    """The cycle's data sets after the last good scores were served."""
    source = stale_scores.last_good(cycle)
    assert source is not None
    assert stale_scores.serve_stale(cycle, source, reason) is not None
    return {name: cycle.dataset(name) for name in (*stale_scores.REWRITTEN, *stale_scores.KEPT)}


def really_served(cycle: Cycle) -> str | None:
    """The release whose scores are served if those of the last good one have to be."""
    source = stale_scores.last_good(cycle)
    whole = stale_scores.serve_stale(cycle, source, "psi") if source else None
    return whole.release_id if whole else None


def damage(cycle: Cycle, name: str) -> None:
    """Flip a bit in the last file of a data set: its size stays, its hash does not."""
    path = Path(cycle.dataset(name).files[-1])
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(data)


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
    served = stale_scores.serve_stale(tonight, source, "psi: 0.4, must be <= 0.25")
    assert served is not None
    assert (served.release_id, served.scoring) == (source.release_id, source.scoring)
    assert set(tonight.state()["datasets"]) == {*stale_scores.REWRITTEN, *stale_scores.KEPT}
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
    first, again = (served(tonight, reason)["scores"] for reason in ("one", "two"))
    assert (again.key, again.manifest["run"]) == (first.key, first.manifest["run"])
    with tonight.lake.writing("scores", "elsewhere") as folder:
        stale_scores.rewrite(source.datasets["scores"], folder)
    assert tonight.lake.get("scores", "elsewhere").content == first.content


def test_stale_scores_served_again_are_the_same_data_sets(tmp_path: Path) -> None:
    publish(scored(tmp_path, MONDAYS[0]), 0)
    second = cycle_of(tmp_path, MONDAYS[1])
    before = served(second, "psi")
    [scoring] = cycle_of(tmp_path, MONDAYS[0]).dataset("scoring").table().to_pylist()
    second.lake.write_fact("scoring", "stale", [scoring | {"source": "stale"}])
    second.remember({"scoring": "stale"})
    publish(second, 1)
    tonight = cycle_of(tmp_path, MONDAYS[2])
    after = served(tonight, "psi")
    assert {name: dataset.key for name, dataset in after.items()} == {n: data.key for n, data in before.items()}
    assert len(list((tmp_path / "lake" / "scores").iterdir())) == 2  # the first night's, and these
    assert after["scores"].table()["score_date"].unique().to_pylist() == [MONDAYS[0]]


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


def test_a_release_that_was_rolled_back_from_is_not_good_after_the_next_one_either(tmp_path: Path) -> None:
    """A, B, back to A, then C: if C is damaged it is A again, never B."""
    a, b, c = (scored(tmp_path, day) for day in (*MONDAYS[:2], MONDAYS[1] + dt.timedelta(days=3)))
    first = publish(a, 0)
    publish(b, 1)
    point(b, "rollback", first)
    third = publish(c, 2)
    tonight = cycle_of(tmp_path, MONDAYS[2])
    assert found(tonight) == third
    damage(c, "scores")
    assert really_served(tonight) == first
    damage(a, "scores")
    assert really_served(tonight) is None


@pytest.mark.parametrize(
    ("moves", "standing"),
    [
        ("A B C <B", "AB"),
        ("A B C <A <C", "AC"),  # pointed at by name: good again; B is not
        ("A B C <A <B", "AB"),
        ("A B <A C <B", "AB"),  # C came after B
        ("A B A", "BA"),  # the night of A once more
        ("A B A <B", "B"),
        ("<A B", "AB"),  # the log does not know when A was published
        ("", ""),
    ],
)
def test_the_log_is_replayed_like_a_stack(tmp_path: Path, moves: str, standing: str) -> None:
    """`<X`: a rollback to X; any other letter: a publication. The last one is served first."""
    cycle = cycle_of(tmp_path, MONDAYS[0])
    for move in moves.split():
        point(cycle, "rollback" if move.startswith("<") else "publish", move[-1])
    decision_log.append(tmp_path, "publish", {"contract": "coupon", "release_id": "Z"})
    assert "".join(pointings.standing(decision_log.entries(tmp_path), "promo")) == standing


def test_damaged_scores_are_not_served_but_those_before(tmp_path: Path) -> None:
    first = publish(scored(tmp_path, MONDAYS[0], model_id="m0"), 0)
    last = scored(tmp_path, MONDAYS[1], model_id="m1")
    publish(last, 1)
    damage(last, "top_scores")
    tonight = cycle_of(tmp_path, MONDAYS[2])
    source = stale_scores.last_good(tonight)
    assert source is not None
    assert source.release_id == "promo-2017-12-11"  # nothing but the one row is read before it is needed
    whole = stale_scores.serve_stale(tonight, source, "psi")
    assert whole is not None
    assert (whole.release_id, whole.scoring["model_id"]) == (first, "m0")
    assert tonight.dataset("scores").table()["score_date"].unique().to_pylist() == [MONDAYS[0]]
    out = tonight.progress.console.file
    assert isinstance(out, io.StringIO)
    told = " ".join(out.getvalue().split())
    assert "release promo-2017-12-11 cannot be served again: top_scores" in told
    assert "the scores of 2017-12-04 (release promo-2017-12-04) are served, stale" in told


def test_without_whole_scores_nothing_is_served_or_remembered(tmp_path: Path) -> None:
    only = scored(tmp_path, MONDAYS[0])
    publish(only, 0)
    damage(only, "entities")
    tonight = cycle_of(tmp_path, MONDAYS[2])
    assert really_served(tonight) is None
    assert tonight.state()["datasets"] == {}


@pytest.mark.parametrize("name", ["scoring", "scores"])
def test_a_release_whose_row_is_changed_or_whose_file_is_gone_is_passed_over(tmp_path: Path, name: str) -> None:
    first = publish(scored(tmp_path, MONDAYS[0]), 0)
    last = scored(tmp_path, MONDAYS[1])
    publish(last, 1)
    if name == "scoring":
        damage(last, name)
    else:
        Path(last.dataset(name).files[0]).unlink()
    assert found(cycle_of(tmp_path, MONDAYS[2])) == first


@pytest.mark.parametrize("name", ["top_scores", "scoring"])
def test_a_release_without_these_data_sets_is_not_usable(tmp_path: Path, name: str) -> None:
    cycle = scored(tmp_path, MONDAYS[0])
    datasets = {key: value for key, value in cycle.state()["datasets"].items() if key != name}
    publish(cycle, 0, datasets=json.dumps(datasets))
    assert found(cycle_of(tmp_path, MONDAYS[1])) is None


def test_a_release_of_another_contract_is_not_served(tmp_path: Path) -> None:
    publish(scored(tmp_path, MONDAYS[0]), 0, contract="coupon")
    assert found(cycle_of(tmp_path, MONDAYS[1])) is None
