"""`fieldmart trace`: from a published score to the rows and files behind it, also of a past release."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import io
import json
import re
import shlex
from pathlib import Path

import duckdb
import polars as pl
import pytest
import yaml
from rich.console import Console
from small_world import CONF
from test_ingest import CLICKS
from typer.testing import CliRunner

from jobs import privacy, releases, score_trace, source_survey
from jobs.adapters import coupon, grocery_tables, promo
from jobs.cli import app
from jobs.contract import load
from jobs.lake import Lake
from jobs.periods import Periods
from jobs.release_audits import Audit
from jobs.score_trace import TraceError

NOW = dt.datetime(2026, 3, 11)
SALT = "a salt of more than sixteen characters"


def put(lake: Lake, name: str, key: str, **files: pl.DataFrame) -> str:
    with lake.writing(name, key) as folder:
        for path, frame in files.items():
            at = folder / path.replace("__", "=") / "part-0.parquet"
            at.parent.mkdir(parents=True, exist_ok=True)
            frame.write_parquet(at)
    return key


def score(entity: str, offer: str, p: float, rank: int) -> dict:
    about = {"entity_id": entity, "candidate_id": offer, "match_id": "", "p": p, "raw_score": 0.0}
    about |= {"rank_in_entity": rank, "model_id": "prior-1", "calibrator_id": "c", "source": "prior"}
    return about | {"scored_at": NOW, "score_date": NOW.date()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two releases of one source: in the second one the file `late.csv` has brought Ann's purchase."""
    lake = Lake(tmp_path)
    (tmp_path / "first.csv").write_text("first")
    (tmp_path / "late.csv").write_text("late")
    clicked = [dt.datetime(2026, 3, day, 10) for day in (2, 3)]
    rows = pl.DataFrame({"user": ["ann", "bob"], "offer": "tent", "clicked_at": clicked, "revenue": 5.0})
    rows = rows.with_columns(pl.lit(None, pl.Datetime("us")).alias("bought_at"))
    first = rows.with_columns(pl.lit("first.csv").alias("source_file"), pl.lit(None, pl.String).alias("reason"))
    late = first.head(1).with_columns(pl.lit("late.csv").alias("source_file"), pl.lit(clicked[1]).alias("bought_at"))
    replaced = first.head(1).with_columns(pl.lit("superseded").alias("reason"))
    put(lake, "exposures", "e1", status__kept=first)
    put(lake, "exposures", "e2", status__kept=pl.concat([late, first.tail(1)]), status__quarantined=replaced)
    about = [
        {"table": "exposures", "name": name, "path": str(tmp_path / name), "bytes": 5, "outcome": "read"}
        | {"sha256": hashlib.sha256(name[:-4].encode()).hexdigest()}
        for name in ("first.csv", "late.csv")
    ]
    put(lake, "source_files", "f1", all=pl.DataFrame(about[:1]))
    put(lake, "source_files", "f2", all=pl.DataFrame(about))
    found = [score("ann", "tent", 0.1, 2), score("ann", "stove", 0.3, 1), score("bob", "tent", 0.2, 1)]
    put(lake, "scores", "s1", all=pl.DataFrame(found))
    put(lake, "scores", "s2", all=pl.DataFrame(found).with_columns(pl.col("p") / 2))
    for n in (1, 2):
        building = releases.open_building(tmp_path, f"clicks-{n}")
        with duckdb.connect(str(building.folder / releases.MART)) as mart:
            mart.execute(f"create table fct_runs as select 'run-{n}' as run_id, 'sha' as git_sha")
        datasets = {"exposures": f"e{n}", "source_files": f"f{n}", "scores": f"s{n}"}
        manifest = {"contract": "clicks", "content_sha256": str(n), "decision_id": f"d{n}", "data_through": "x"}
        manifest |= {"cycle_date": "2026-03-11", "datasets": json.dumps(datasets)}
        releases.publish(tmp_path, f"clicks-{n}", manifest, [Audit("there", 1.0, ">", 0.0, True, "it is there")])
    return tmp_path


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    path = tmp_path / "clicks.yml"
    source = {"adapter": "files", "exposures": str(tmp_path)}
    path.write_text(yaml.safe_dump(CLICKS | {"source": source}))
    return path


def test_a_score_is_traced_to_the_rows_and_files_behind_it(root: Path, contract: Path) -> None:
    found = score_trace.run(root, load(contract), "ann")
    assert (found.score["candidate_id"], found.score["p"], found.score["scores_id"]) == ("stove", 0.15, "s2")
    assert (found.release["release_id"], found.release["run_id"]) == ("clicks-2", "run-2")
    assert found.snapshot["snapshot_id"] == "e2"
    assert found.snapshot["rows_of_entity"] == {"kept": 1, "quarantined": 1}
    assert [(row["status"], row["source_file"], row["reason"]) for row in found.rows] == [
        ("kept", "late.csv", None),
        ("quarantined", "first.csv", "superseded"),
    ]
    assert [(f["name"], f["rows_of_entity"], f["now"]) for f in found.files] == [
        ("first.csv", 1, "unchanged"),
        ("late.csv", 1, "unchanged"),
    ]
    (root / "first.csv").unlink()
    (root / "late.csv").write_text("other")
    assert [file["now"] for file in score_trace.run(root, load(contract), "ann").files] == ["gone", "changed"]


def test_a_past_release_is_traced_as_it_was(root: Path, contract: Path) -> None:
    found = score_trace.run(root, load(contract), "ann", "tent", "clicks-1")
    assert (found.score["p"], found.release["run_id"], found.snapshot["snapshot_id"]) == (0.1, "run-1", "e1")
    assert [(row["status"], row["source_file"]) for row in found.rows] == [("kept", "first.csv")]
    assert [file["name"] for file in found.files] == ["first.csv"]


def test_links_that_are_gone_are_named(root: Path, contract: Path) -> None:
    found = score_trace.run(root, load(contract), "bob")
    assert found.features == []
    assert [line.split(" in ")[0] for line in found.missing] == [
        "no model prior-1",
        "data set score_inputs (the release names none)",
        "feature values: no model prior-1",
    ]
    (root / "lake" / "exposures" / "e2" / "manifest.json").unlink()
    gone = score_trace.run(root, load(contract), "bob")
    assert "data set exposures e2" in gone.missing
    assert (gone.rows, gone.snapshot) == ([], {})


def test_an_entity_is_found_by_its_hash_where_the_marts_show_hashes(
    root: Path, contract: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = privacy.hashed("bob", SALT.encode())
    with pytest.raises(TraceError, match=f"clicks-2 has no score of entity {hidden}"):
        score_trace.run(root, load(contract), hidden)
    asked = yaml.safe_load(contract.read_text()) | {"privacy": {"hash_entities": True}}
    contract.write_text(yaml.safe_dump(asked))
    monkeypatch.setenv("FIELDMART_SALT", SALT)
    for name in (hidden, "bob"):
        found = score_trace.run(root, load(contract), name)
        assert (found.score["entity_id"], found.score["entity_key"], found.score["p"]) == ("bob", hidden, 0.1)


def test_what_cannot_be_traced_is_said_in_one_line(root: Path, contract: Path, tmp_path: Path) -> None:
    def asked(*arguments: str):
        told = ["trace", "--contract", str(contract), "--warehouse", str(root), *arguments]
        return CliRunner().invoke(app, told)

    for arguments, message in (
        (["--entity", "cid"], "clicks-2 has no score of entity cid"),
        (["--entity", "ann", "--candidate", "sofa"], "no score of entity ann and candidate sofa"),
        (["--entity", "ann", "--release", "clicks-9"], "no release 'clicks-9'"),
        (
            ["--entity", "ann", "--contract", "conf/promo.yml"],
            "--contract must be that of the release clicks-2, clicks",
        ),
        (["--entity", "ann", "--warehouse", str(tmp_path / "empty")], "run `fieldmart nightly` first"),
    ):
        done = asked(*arguments)
        assert done.exit_code == 1
        assert message in done.output
        assert len(done.output.splitlines()) == 1
    told = json.loads(asked("--entity", "ann", "--json").stdout)
    assert told["score"]["p"] == 0.15
    people = asked("--entity", "ann").stdout
    assert "p = 0.150000 of ann and stove" in people
    assert "missing      no model prior-1" in people


def test_a_real_score_has_every_link(night) -> None:
    cycle = night.cycle
    best = pl.read_parquet(cycle.dataset("scores").files).filter(pl.col("rank_in_entity") == 1).row(0, named=True)
    found = score_trace.run(cycle.warehouse, cycle.contract, best["entity_id"])
    assert found.missing == []
    assert found.score["p"] == best["p"]
    assert [item["field"] for item in found.features] == cycle.contract.field_names
    assert found.decision["promotes"] == found.model["model_id"] == best["model_id"]
    kept = pl.read_parquet(cycle.dataset("exposures").under("status=kept"))
    mine = kept.filter(pl.col("household_id").cast(pl.String) == best["entity_id"])
    assert found.snapshot["rows_of_entity"]["kept"] == len(mine)
    # An exposure is derived from the tables that the adapter reads, not from all that lie in the folder.
    assert {file["table"] for file in found.files} == {"demographics", "products", "promotions", "transactions"}
    assert {row["source_file"] for row in found.rows} == {
        "demographics.parquet+products.parquet+promotions.parquet+transactions.parquet"
    }
    assert {(file["rows_of_entity"], file["now"]) for file in found.files} == {(len(mine), "unchanged")}
    logs = (path.read_text() for path in (cycle.warehouse / "log" / "runs").iterdir())
    run_ids = [json.loads(line)["run_id"] for log in logs for line in log.splitlines()]
    assert set(run_ids) == {found.release["run_id"]}


@pytest.mark.parametrize("name", ["promo", "coupon"])
def test_an_adapter_names_the_tables_that_it_reads_and_no_others(spark, name: str, monkeypatch) -> None:
    adapter, read = {"promo": promo, "coupon": coupon}[name], set()

    def noted(session, folder: Path, table: str):
        read.add(table)
        return original(session, folder, table)

    original = grocery_tables.read
    for module in (grocery_tables, adapter):
        monkeypatch.setattr(module, "read", noted)
    contract = load(CONF / f"{name}.yml")
    adapter.tables(spark, contract.source, Periods(contract, dt.date(2017, 11, 13)))
    assert read == set(adapter.TABLES)
    places = source_survey.places(contract)
    assert list(places) == sorted(read)
    assert all(Path(place).is_file() for place in places.values())
    assert len(source_survey.fingerprint(contract)) == len(read)


def test_brackets_in_what_a_trace_prints_are_no_markup(root: Path, contract: Path) -> None:
    found = score_trace.run(root, load(contract), "ann")
    told = dataclasses.replace(
        found,
        score=found.score | score("[/foo]", "[bold]tent[/bold]", 0.5, 1),
        features=[{"field": "[red]colour", "value": "[/red]"}],
        files=[found.files[0] | {"name": "[b]a.csv", "path": "/in/[b]a.csv"}],
        missing=["model [/x]"],
    )
    console = Console(file=io.StringIO(), width=200)
    score_trace.show(told, console)
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    for text in ("of [/foo] and [bold]tent[/bold],", "[red]colour", " [/red] ", "/in/[b]a.csv", "model [/x]"):
        assert text in printed


def documented(page: str) -> list[list[str]]:
    """The `fieldmart sql` and `fieldmart trace` commands of a page, as a shell would take them apart."""
    text = (Path(__file__).parent.parent / "docs" / page).read_text()
    lines = re.findall(r"^fieldmart .*$|`(fieldmart [^`]+)`", text, re.MULTILINE)
    blocks = [line for line in text.splitlines() if line.startswith("fieldmart ")]
    found = (shlex.split(line, comments=True)[1:] for line in [*blocks, *filter(None, lines)])
    return [arguments for arguments in found if arguments[0] in ("sql", "trace")]


@pytest.mark.parametrize("page", ["provenance.md", "incidents.md"])
def test_the_commands_of_the_documentation_run(night, page: str) -> None:
    best = pl.read_parquet(night.cycle.dataset("scores").files).filter(pl.col("rank_in_entity") == 1).row(0, named=True)
    instead = {"--release": night.release.release_id, "--entity": best["entity_id"]}
    instead |= {"--candidate": best["candidate_id"]}
    commands = documented(page)
    assert len(commands) >= 2
    for arguments in commands:
        told = [instead.get(before, value) for before, value in zip(["", *arguments], arguments, strict=False)]
        told += ["--warehouse", str(night.cycle.warehouse)]
        told += ["--contract", str(night.contract)] if arguments[0] == "trace" else []
        done = CliRunner().invoke(app, told)
        assert done.exit_code == 0, f"{arguments}: {done.output}"
