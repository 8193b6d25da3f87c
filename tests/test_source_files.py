"""Which files of a source count, told from their names, bytes and columns alone."""

from __future__ import annotations

import hashlib
from pathlib import Path

import polars as pl
import pytest

from jobs.contract import Column
from jobs.source_files import listed, named, root_of, survey

COLUMNS = {"user": Column(type="string"), "price": Column(type="number"), "day": Column(type="integer")}
ROWS = pl.DataFrame({"user": ["ann", "bob"], "price": [1, 2], "day": [1, 2]})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`in` with three files that count and four that do not."""
    inside = tmp_path / "in"
    for name in ("b.parquet", "a.csv", "month=3/c.parquet", "_SUCCESS", ".b.parquet.crc", "_tmp/d.csv", ".git/e.csv"):
        (inside / name).parent.mkdir(parents=True, exist_ok=True)
        (inside / name).write_text(name)
    return inside


@pytest.mark.parametrize(
    ("path", "root", "names"),
    [
        ("in", "in", ["a.csv", "b.parquet", "month=3/c.parquet"]),
        ("in/*", "in", ["a.csv", "b.parquet"]),
        ("in/**/*.parquet", "in", ["b.parquet", "month=3/c.parquet"]),
        ("in/month=*/*.parquet", "in", ["month=3/c.parquet"]),
        ("in/a.csv", "in", ["a.csv"]),
        ("in/none.csv", "in", []),
        ("nowhere", ".", []),
    ],
)
def test_a_path_is_a_file_a_glob_or_a_folder(folder: Path, path: str, root: str, names: list[str]) -> None:
    given = str(folder.parent / path)
    assert root_of(given) == folder.parent / root
    assert [named(file, root_of(given)) for file in listed(given)] == names


def test_an_address_is_no_path_of_this_machine() -> None:
    assert listed("s3a://bucket/in/*.parquet") == []


def test_each_file_is_read_or_says_why_not(tmp_path: Path) -> None:
    (tmp_path / "day=4").mkdir()
    ROWS.write_parquet(tmp_path / "a.parquet")
    (tmp_path / "a again.parquet").write_bytes((tmp_path / "a.parquet").read_bytes())
    ROWS.with_columns(pl.col("price").cast(pl.String)).write_parquet(tmp_path / "b text.parquet")
    ROWS.drop("price", "day").write_parquet(tmp_path / "c short.parquet")
    ROWS.drop("day").write_parquet(tmp_path / "day=4" / "d.parquet")  # its folder says the day
    ROWS.with_columns(pl.col("user").cast(pl.Categorical)).write_parquet(tmp_path / "e.parquet")
    (tmp_path / "f torn.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-3])
    ROWS.select("day", "price", "user").write_csv(tmp_path / "g.csv")
    (tmp_path / "h empty.csv").write_text("")
    (tmp_path / "i latin.csv").write_bytes("stra\xdfe,user\n".encode("latin-1"))
    found = {file.name: file for file in survey("exposures", str(tmp_path), COLUMNS)}
    assert {name for name, file in found.items() if file.outcome == "read"} == {
        *("a again.parquet", "day=4/d.parquet", "e.parquet", "g.csv")
    }
    assert (found["a.parquet"].outcome, found["a.parquet"].reason) == ("repeated", "the same bytes as a again.parquet")
    reasons = {name[0]: file.reason for name, file in found.items() if file.outcome == "refused"}
    assert reasons["b"] == "column price must be of type number, got large_string"
    assert reasons["c"] == "column price is missing; column day is missing"
    assert reasons["h"] == "column user is missing; column price is missing; column day is missing"
    for torn in ("f", "i"):
        assert str(reasons[torn]).startswith("cannot be read: ")
        assert "\n" not in str(reasons[torn])
    whole = found["a again.parquet"]
    content = (tmp_path / "a.parquet").read_bytes()
    assert (whole.rows, whole.bytes, whole.sha256) == (2, len(content), hashlib.sha256(content).hexdigest())
    assert found["g.csv"].rows is None


def test_tables_without_declared_columns_are_only_hashed(tmp_path: Path) -> None:
    ROWS.write_parquet(tmp_path / "a.parquet")
    [file] = survey("purchases", str(tmp_path), {})
    assert (file.outcome, file.columns) == ("read", (("user", "large_string"), ("price", "int64"), ("day", "int64")))
