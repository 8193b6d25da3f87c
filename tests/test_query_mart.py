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

NO_FILES = "File system LocalFileSystem has been disabled"
FORBIDDEN = {  # {here}: the folder of the release, {mart}: its database
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
    "explain": ("explain select 1", "got EXPLAIN"),
    **{
        f"{how} {what}": (f"{how} {what}", "got EXPLAIN|syntax error")
        for how in ("explain", "explain analyze")
        for what in (
            *("copy fct_k to '{here}/stolen.csv'", "copy fct_k to '{mart}' (use_tmp_file false)"),
            *("create table x as select 1", "attach '{here}/x.duckdb' as x", "insert into fct_k values (8, 1)"),
            *("export database '{here}'", "delete from fct_k"),
        )
    },
    "copy in with": ("with x as (copy fct_k to '{mart}.wal') select 1", "sql must be a SELECT, got COPY in its WITH"),
    "copy over the mart": ("with x as (copy fct_k to '{mart}' (use_tmp_file false)) from x", "got COPY in its WITH"),
    "copy deep in with": ("with y as (with x as (copy fct_k to '{mart}.wal') from x) from y", "got COPY in its WITH"),
    "insert in with": ("with x as (insert into fct_k values (8, 1) returning *) from x", "got INSERT in its WITH"),
    "update in with": ("with x as (update fct_k set k = 1 returning *) from x", "got UPDATE in its WITH"),
    "delete in with": ("with x as (delete from fct_k returning *) from x", "got DELETE in its WITH"),
    "a query in a text": ("from query('explain analyze drop table fct_k')", "Expected a single SELECT"),
    "log to a file": ("from enable_logging(storage := 'file', storage_path := '{here}')", "configuration"),
    "profile to a file": ("from enable_profiling(save_location := '{here}/x')", "configuration"),
    "the mart as a file": ("select size from read_blob('{mart}')", NO_FILES),
    "the mart as a database": ("from read_duckdb('{mart}')", NO_FILES),
    "the mart as a table": ("from '{mart}'", NO_FILES),
    "a file of the release": ("from read_text('{here}/manifest.json')", NO_FILES),
    "a file of the warehouse": ("from read_text('{here}/../../current.json')", NO_FILES),
    "begin": ("begin", "got TRANSACTION"),
    "two": ("select 1; drop table fct_k", "sql must be one statement, got 2"),
    "nothing": (" -- nothing", "sql must be one statement, got 0"),
    "text of a file": ("select * from read_text('/etc/passwd')", NO_FILES),
    "bytes of a file": ("select * from read_blob('/proc/self/environ')", NO_FILES),
    "rows of a file": ("select * from read_csv('/etc/passwd')", NO_FILES),
    "a file as a table": ("select * from '/etc/passwd'", "does not exist"),
    "a list of files": ("select * from glob('/etc/*')", NO_FILES),
    "a page": ("select * from read_text('https://example.org')", NO_FILES),
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
    here = root / "releases" / "shop-2"
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with pytest.raises(QueryError, match=message) as caught:
        query_mart.run(root, sql.replace("{here}", str(here)).replace("{mart}", str(here / releases.MART)))
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", [n for n, (sql, _) in FORBIDDEN.items() if "{" in sql])
def test_sql_readonly_a_connection_reaches_no_file_even_if_the_statement_is_let_through(root: Path, name: str) -> None:
    release = releases.current(root)
    assert release is not None
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    sql = (
        FORBIDDEN[name][0].replace("{here}", str(release.folder)).replace("{mart}", str(release.folder / "mart.duckdb"))
    )
    with query_mart.opened(release) as mart, pytest.raises(duckdb.Error):
        mart.execute(sql.removeprefix("explain analyze ").removeprefix("explain ")).fetchall()
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_sql_readonly_answers_selects_of_every_kind(root: Path) -> None:
    for sql, rows in (
        ("with recursive t as (select 1 as a union all select a + 1 from t where a < 3) from t", [(1,), (2,), (3,)]),
        ("with x as (select k from fct_k union select 9) select max(k) from x", [(9,)]),
        ("with x as (values (1), (2)) select count(*) from x", [(2,)]),
        ("select k from fct_k qualify row_number() over (order by k desc) = 1", [(4,)]),
        ("describe select 1 as x", [("x", "INTEGER", "YES", None, None, None)]),
        ("from fct_k select list_transform([k], lambda x: x + 1) where k = 1", [([2],)]),
        ("from fct_k pivot (count(*) for k in (1, 2, 4)) select * exclude (night);", [(1, 1, 1)]),
        ("select name from (summarize fct_k) t(name) where name = 'k'", [("k",)]),
        ("table fct_k limit 0", []),
        # No secret is stored for this program, and the folder of the user's own is not looked at.
        ("select count(*) from duckdb_secrets()", [(0,)]),
    ):
        assert query_mart.run(root, sql).rows == rows, sql


def test_times_are_those_of_utc(root: Path) -> None:
    asked = "select current_setting('TimeZone'), strftime('2017-12-25 02:00:00+02'::timestamptz, '%d %H')"
    assert query_mart.run(root, asked).rows == [("UTC", "25 00")]


def test_sql_readonly_stops_what_takes_too_long_or_too_much(root: Path) -> None:
    with pytest.raises(QueryError, match=r"the query took longer than 0\.2 s and was stopped"):
        query_mart.run(root, "select sum(a.range * b.range) from range(10000000) a, range(10000000) b", seconds=0.2)
    with pytest.raises(QueryError, match="the query needs more than 1GB of memory"):
        query_mart.run(root, "select list(range) from range(300000000)")
    # 63 rows of a million characters are 63 MB, the 64th brings it above 64 MB; lists count with what they hold.
    for sql in ("select repeat('x', 1000000) from range(100)", "select [{'a': repeat('x', 1000000)}] from range(100)"):
        with pytest.raises(QueryError, match="the answer must be at most 64 MB, got more by row 64: ask for less"):
            query_mart.run(root, sql)
        assert len(query_mart.run(root, sql, limit=62).rows) == 62
    # 1 cell of 200 000 characters in a table of 101 lines: 20 million characters drawn.
    wide = query_mart.run(root, "select repeat('x', if(range = 0, 200000, 1)) as x from range(100)")
    with pytest.raises(QueryError, match="a table must be at most 16 MB: use --format csv or json"):
        query_mart.text(wide, "table")
    assert len(query_mart.text(wide, "csv")) == len("x\n") + 200_000 + 99 * len("\nx")


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


def test_brackets_in_values_and_names_are_no_markup(root: Path) -> None:
    for value in ("[bold]x[/bold]", "[/foo]", "[link=https://example.org]x[/link]", "\\[red]"):
        done = asked(root, f"select '{value}' as \"{value}\"")
        assert done.exit_code == 0
        assert done.stdout.count(value) == 2


def test_json_tells_what_is_nested_and_refuses_what_it_would_lose(root: Path) -> None:
    sql = """select ['nan'::double, 1] as l, {'x': '-inf'::double, 'd': date '2017-12-25'} as s,
        map {date '2017-12-25': 'nan'::double} as m, map {[1]: 2} as lists, [1.5, 'inf'::double]::double[2] as a"""
    assert json.loads(asked(root, sql, "--format", "json").stdout) == [
        {
            "l": [None, 1.0],
            "s": {"x": None, "d": "2017-12-25"},
            "m": {"2017-12-25": None},
            "lists": {"key": [[1]], "value": [2]},
            "a": [1.5, None],
        }
    ]
    assert json.loads(asked(root, "select 1 as k where false", "--format", "json").stdout) == []
    twice = asked(root, "select 1 as k, 2 as k, 3 as other", "--format", "json")
    assert (twice.exit_code, twice.output) == (
        1,
        "fieldmart: JSON must have one column of a name, got more of k: name them with AS\n",
    )
    assert asked(root, "select 1 as k, 2 as k", "--format", "csv").stdout == "k,k\n1,2\n"
    deep = query_mart.Answer("shop-2", ["x"], [(deeper(100_000),)], False)
    with pytest.raises(QueryError, match="nested too deeply"):
        query_mart.text(deep, "json")
    with pytest.raises(QueryError, match="nested too deeply"):
        query_mart.run(root, f"select {'[' * 900}1{']' * 900} as x")


def deeper(n: int) -> list:
    found: list = []
    for _ in range(n):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{bad", "it names no release"),
        ('{"release_id": "gone", "path": "releases/gone"}', "release gone has no readable manifest in "),
    ],
    ids=["not JSON", "a release that is gone"],
)
def test_a_damaged_pointer_is_not_taken_for_a_warehouse_without_releases(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(QueryError, match=r"no release in .*: run `fieldmart nightly` first"):
        query_mart.run(tmp_path, "select 1")
    (tmp_path / "current.json").write_text(text)
    with pytest.raises(QueryError, match=rf"current.json is damaged, {why}.*: `fieldmart heal` writes it anew$"):
        query_mart.run(tmp_path, "select 1")
