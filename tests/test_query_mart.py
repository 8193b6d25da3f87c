"""`fieldmart sql`: answers about a release, and nothing that writes, reads other files or runs on for ever."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner

from jobs import query_mart, releases
from jobs.cli import app
from jobs.query_mart import QueryError
from jobs.release_audits import Audit

FORBIDDEN = {
    "insert": ("insert into fct_k values (8, 1)", "sql must be a SELECT, got INSERT"),
    "insert behind with": ("with x as (select 1) insert into fct_k select *, 1 from x", "got INSERT"),
    "update": ("update fct_k set k = 1", "got UPDATE"),
    "delete": ("delete from fct_k", "got DELETE"),
    "drop": ("drop table fct_k", "got DROP"),
    "create": ("create table x as select 1", "got CREATE"),
    "temporary": ("create temp table x as select 1", "got CREATE"),
    "copy to": ("copy fct_k to 'stolen.csv'", "got COPY"),
    "copy from": ("copy fct_k from '/etc/passwd'", "got COPY"),
    "export": ("export database 'stolen'", "got EXPORT"),
    "attach": ("attach 'other.duckdb'", "got ATTACH"),
    "install": ("install httpfs", "got LOAD"),
    "load": ("load httpfs", "got LOAD"),
    "pragma": ("pragma database_list", "got PRAGMA"),
    "set": ("set memory_limit = '99GB'", "got SET"),
    "call": ("call pragma_version()", "got CALL"),
    "begin": ("begin", "got TRANSACTION"),
    "two": ("select 1; drop table fct_k", "sql must be one statement, got 2"),
    "nothing": (" -- nothing", "sql must be one statement, got 0"),
    "text of a file": ("select * from read_text('/etc/passwd')", 'Cannot access file "/etc/passwd"'),
    "bytes of a file": ("select * from read_blob('/proc/self/environ')", "Cannot access file"),
    "rows of a file": ("select * from read_csv('/etc/passwd')", "Cannot access file"),
    "a file as a table": ("select * from '/etc/passwd'", "does not exist"),
    "a list of files": ("select * from glob('/etc/*')", "Cannot access"),
    "a page": ("select * from read_text('https://example.org')", "Cannot access file|disabled"),
    "a secret": ("select * from duckdb_secrets()", "Cannot access directory"),
    "a variable of the program": ("select * from warehouse", "Table with name warehouse does not exist"),
    "no such column": ("select cvr from fct_k", 'Referenced column "cvr" not found'),
    "no SQL": ("selec 1", 'syntax error at or near "selec"'),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse with two releases of one small mart."""
    folder = tmp_path_factory.mktemp("sql")
    for number in (1, 2):
        building = releases.open_building(folder, f"shop-{number}")
        with duckdb.connect(str(building.folder / releases.MART)) as mart:
            mart.execute("create table fct_k as select unnest([1, 2, 4]) as k, ? as night", [number])
        about = {"contract": "shop", "content_sha256": str(number), "decision_id": str(number), "data_through": "x"}
        releases.publish(folder, f"shop-{number}", about, [Audit("there", 1.0, ">", 0.0, True, "it is there")])
    return folder


@pytest.mark.parametrize(("sql", "message"), FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_sql_readonly_refuses_in_one_line(root: Path, sql: str, message: str) -> None:
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with pytest.raises(QueryError, match=message) as caught:
        query_mart.run(root, sql)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_sql_readonly_may_read_the_files_of_its_own_release_only(root: Path) -> None:
    here = root / "releases" / "shop-2" / "manifest.json"
    [(size,)] = query_mart.run(root, f"select size from read_blob('{here}')").rows
    assert size == here.stat().st_size
    for other in (root / "current.json", here.parent / ".." / "shop-1" / "manifest.json", here.parent / "../.lock"):
        with pytest.raises(QueryError, match="Cannot access file"):
            query_mart.run(root, f"select size from read_blob('{other}')")


def test_sql_readonly_stops_what_takes_too_long_or_too_much(root: Path) -> None:
    with pytest.raises(QueryError, match=r"the query took longer than 0\.2 s and was stopped"):
        query_mart.run(root, "select sum(a.range * b.range) from range(10000000) a, range(10000000) b", seconds=0.2)
    with pytest.raises(QueryError, match="the query needs more than 1GB of memory"):
        query_mart.run(root, "select list(range) from range(300000000)")


def test_questions_are_answered_from_the_release_that_is_named(root: Path) -> None:
    assert query_mart.run(root, "select max(night) from fct_k").rows == [(2,)]
    assert query_mart.run(root, "select max(night) from fct_k", "shop-1").rows == [(1,)]
    assert query_mart.run(root, "show tables").rows == [("fct_k",)]
    cut = query_mart.run(root, "select k from fct_k order by k", limit=2)
    assert (cut.rows, cut.is_cut, cut.release_id) == ([(1,), (2,)], True, "shop-2")
    assert not query_mart.run(root, "select k from fct_k", limit=3).is_cut


def asked(root: Path, *arguments: str):
    return CliRunner().invoke(app, ["sql", *arguments, "--warehouse", str(root)])


def test_the_command_prints_tables_csv_and_json(root: Path, tmp_path: Path) -> None:
    sql = "select k, null as nothing, 'nan'::double as x, date '2017-12-25' as day from fct_k where k < 3 order by k"
    assert asked(root, sql, "--format", "csv").stdout.splitlines() == [
        "k,nothing,x,day",
        "1,,nan,2017-12-25",
        "2,,nan,2017-12-25",
    ]
    found = json.loads(asked(root, sql, "--format", "json").stdout)
    assert found[1] == {"k": 2, "nothing": None, "x": None, "day": "2017-12-25"}
    assert "│ 2 │" in asked(root, sql).stdout
    long = asked(root, "select repeat('x', 300) as long")
    assert "x" * 300 in long.stdout  # a table is as wide as its text
    cut = asked(root, "select k from fct_k", "--limit", "1")
    assert "fieldmart: the first 1 rows of shop-2; --limit shows more" in cut.output
    wrong = asked(root, "drop table fct_k")
    assert (wrong.exit_code, wrong.output) == (
        1,
        "fieldmart: sql must be a SELECT, got DROP: releases are only read\n",
    )
    assert "no release 'shop-9' (releases: shop-1, shop-2)" in asked(root, "select 1", "--release", "shop-9").output
    nowhere = CliRunner().invoke(app, ["sql", "select 1", "--warehouse", str(tmp_path)])
    assert (nowhere.exit_code, "run `fieldmart nightly` first" in nowhere.output) == (1, True)
