"""Publishing twice, after a crash, and going back: readers' links follow the release they are pointed to."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console
from typer.testing import CliRunner

from jobs import cli, decide, decision_log, facts, monitor, publish, releases, served_links
from jobs.lake import LakeError, sha256_json, write_json
from jobs.progress import Progress


def again(night: Any) -> releases.Release:
    return publish.run(night.cycle, cli.policy(night.contract, "audits.yml"))


def links(warehouse: Path) -> dict[str, str]:
    """Where the links of scores and vectors point."""
    found = [*warehouse.glob("scores/*/score_date=*"), *warehouse.glob("vectors/*")]
    return {str(link.relative_to(warehouse)): os.readlink(link) for link in found}


def pointings(warehouse: Path) -> list[tuple[str, str]]:
    entries = decision_log.entries(warehouse)
    return [(e.kind, e.payload["release_id"]) for e in entries if e.kind in ("publish", "rollback")]


def other_scores(night: Any, name: str = "scores") -> str:
    """Let the cycle stand on a copy of its data set `name` under another key."""
    cycle = night.cycle
    old = cycle.dataset(name)
    with cycle.lake.writing(name, "other", {}, old.manifest["params"]) as folder:
        root = old.root
        shutil.copytree(root, folder, dirs_exist_ok=True)
    cycle.remember({name: "other"})
    return old.key


@pytest.fixture
def told(own_night: Any) -> io.StringIO:
    """What the night's cycle prints from now on."""
    out = io.StringIO()
    own_night.cycle.progress = Progress(Console(file=out, width=1000))
    return out


def test_a_second_publication_publishes_nothing_new(own_night: Any) -> None:
    warehouse = own_night.cycle.warehouse
    before = (links(warehouse), pointings(warehouse), own_night.cycle.state()["datasets"])
    assert len(before[0]) == 2
    made_of = {name: own_night.cycle.dataset(name).key for name in facts.FACTS if own_night.cycle.has(name)}
    named = json.loads(own_night.release.manifest["datasets"])
    assert made_of.items() <= named.items()  # also those of the run itself, or it could not be built again
    for _ in range(2):
        release = again(own_night)
        assert (release.release_id, release.is_current) == (own_night.release.release_id, True)
    assert (links(warehouse), pointings(warehouse), own_night.cycle.state()["datasets"]) == before
    assert own_night.cycle.state()["stages"]["publish"]["status"] == "reused"
    assert [path.name for path in (warehouse / "releases").glob(".building-*")] == []


def test_a_kill_before_the_links_is_mended(own_night: Any) -> None:
    warehouse = own_night.cycle.warehouse
    before = links(warehouse)
    for link in before:
        (warehouse / link).unlink()
    forget_publication(own_night)
    assert again(own_night).release_id == own_night.release.release_id
    assert links(warehouse) == before


def forget_publication(night: Any) -> None:
    """The cycle as a kill before its last note leaves it."""
    path = night.cycle.warehouse / "cycles" / "small" / f"{night.cycle.date}.json"
    state = json.loads(path.read_text())
    del state["run"]["published"], state["run"]["published_id"]
    write_json(path, state)


def test_a_kill_before_the_pointer_is_mended(own_night: Any) -> None:
    warehouse = own_night.cycle.warehouse
    before = len(pointings(warehouse))
    log = decision_log.path_of(warehouse)
    lines = log.read_text().splitlines(keepends=True)
    assert '"kind":"publish"' in lines[-1]
    log.write_text("".join(lines[:-1]))
    (warehouse / "current.json").unlink()
    forget_publication(own_night)
    assert again(own_night).is_current
    assert len(pointings(warehouse)) == before


@pytest.mark.slow
def test_a_build_that_said_the_same_can_be_published_twice(own_night: Any) -> None:
    """The nightly ran again, its build was dropped for the release there is, and the scheduler publishes once more."""
    decide.build_evidence(own_night.cycle)
    assert own_night.cycle.state()["run"]["release_id"] == f"{own_night.release.release_id}-2"
    for _ in range(2):
        assert again(own_night).release_id == own_night.release.release_id


@pytest.mark.slow
def test_other_scores_on_the_same_evidence_are_published_anew(own_night: Any) -> None:
    other_scores(own_night)
    release = again(own_night)
    # The copy says the same: the release stays, and the tree shows the copy.
    assert release.release_id == own_night.release.release_id
    assert "lake/scores/other/" in links(own_night.cycle.warehouse)[f"scores/small/score_date={own_night.cycle.date}"]
    assert again(own_night).release_id == release.release_id


@pytest.mark.slow
def test_other_evidence_has_to_be_decided_on_first(own_night: Any) -> None:
    other_scores(own_night, "model_metrics")
    message = f"model_metrics of small 2017-03-13 changed since {own_night.release.release_id} was published: run"
    with pytest.raises(LakeError, match=f"^{message} `fieldmart warehouse` and `fieldmart decide` first$"):
        again(own_night)


def second_release(night: Any) -> releases.Release:
    """A later release of the same date with other scores and without vectors (the prior's)."""
    cycle = night.cycle
    other_scores(night)
    [row] = cycle.dataset("scoring").table().to_pylist()
    cycle.lake.write_fact("scoring", "other", [row | {"model_id": "prior-1", "source": "prior"}])
    datasets = {name: key for name, key in cycle.state()["datasets"].items() if name != "vectors"}
    building = releases.open_building(cycle.warehouse, "small-again")
    shutil.copy(night.release.folder / "mart.duckdb", building.folder)
    (building.folder / "mart.duckdb").chmod(0o644)
    manifest = {
        name: night.release.manifest[name] for name in ("contract", "cycle_date", "decision_id", "data_through")
    }
    manifest |= {"content_sha256": "other", "datasets": json.dumps(datasets | {"scoring": "other"})}
    made = releases.publish(cycle.warehouse, building.release_id, manifest, [audit_of(night)])
    assert served_links.follow(cycle.warehouse, made) == []
    return made


def audit_of(night: Any) -> Any:
    return publish.release_audits.Audit(**night.release.manifest["audits"][0])


def rollback(night: Any, *options: str) -> Any:
    return CliRunner().invoke(cli.app, ["rollback", "--warehouse", str(night.cycle.warehouse), *options])


@pytest.mark.slow
def test_scores_and_vectors_follow_a_rollback(own_night: Any) -> None:
    warehouse, first = own_night.cycle.warehouse, own_night.release.release_id
    before = links(warehouse)
    second = second_release(own_night)
    tree = f"scores/small/score_date={own_night.cycle.date}"
    assert links(warehouse) == {tree: "../../lake/scores/other/" + links(warehouse)[tree].rsplit("/", 1)[1]}
    done = rollback(own_night)
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"current is {first}\n", "")
    assert links(warehouse) == before
    assert rollback(own_night, "--to", second.release_id).exit_code == 0
    assert list(links(warehouse)) == [tree]


@pytest.mark.slow
def test_after_a_rollback_a_second_publication_leaves_readers_where_they_are(own_night: Any, told: io.StringIO) -> None:
    """The scheduler's second run of the day must not undo what somebody did by hand."""
    own_night.cycle.remember({"scoring": own_night.cycle.dataset("scoring").key})
    second = second_release(own_night)
    own_night.cycle.remember({}, run={"release_id": second.release_id})
    own_night.cycle.remember({"scoring": "other"})
    forget_publication(own_night)
    state = own_night.cycle.state()
    del state["datasets"]["vectors"]
    write_json(own_night.cycle.warehouse / "cycles" / "small" / f"{own_night.cycle.date}.json", state)
    rollback(own_night)
    before = links(own_night.cycle.warehouse)
    release = again(own_night)
    assert (release.release_id, release.is_current) == (second.release_id, False)
    assert f"readers were pointed to {own_night.release.release_id} since: that stays" in told.getvalue()
    assert links(own_night.cycle.warehouse) == before


@pytest.mark.parametrize("name", ["scores", "scoring", "vectors"])
def test_a_rollback_to_data_that_is_gone_says_so_and_removes_nothing(own_night: Any, name: str) -> None:
    warehouse = own_night.cycle.warehouse
    second_release(own_night)
    key = json.loads(own_night.release.manifest["datasets"])[name]
    shutil.rmtree(warehouse / "lake" / name / key)
    before = links(warehouse)
    done = rollback(own_night)
    assert done.exit_code == 0
    assert done.stderr == (
        f"fieldmart: {name} {key} of small {own_night.cycle.date} is gone from the lake: its link stays as it is\n"
    )
    assert set(links(warehouse)) >= set(before)
    assert json.loads((warehouse / "current.json").read_text())["release_id"] == own_night.release.release_id


def test_a_release_that_names_no_data_sets_moves_no_link(own_night: Any) -> None:
    manifest = {name: value for name, value in own_night.release.manifest.items() if name != "datasets"}
    old = releases.Release("old", own_night.release.folder, manifest, True)
    before = links(own_night.cycle.warehouse)
    said = "release old does not name its data sets: scores and vectors stay where they point"
    assert served_links.follow(own_night.cycle.warehouse, old) == [said]
    assert links(own_night.cycle.warehouse) == before


def test_vectors_of_stale_scores_are_found_in_the_release_that_made_them(own_night: Any) -> None:
    """The release that serves stale scores has no vectors of its own; the link was removed."""
    warehouse = own_night.cycle.warehouse
    before = links(warehouse)
    (warehouse / "vectors" / "small").unlink()
    datasets = {name: key for name, key in own_night.cycle.state()["datasets"].items() if name != "vectors"}
    assert served_links.point(warehouse, "small", own_night.cycle.date, datasets) == []
    assert links(warehouse) == before


@pytest.mark.slow
def test_stale_scores_are_not_counted_as_tonights_distribution(own_night: Any, spark: Any) -> None:
    cycle = own_night.cycle
    tonight = cycle.periods.day(cycle.periods.scoring)
    counted = scores_by_period(cycle)
    assert counted[tonight] == cycle.dataset("scores").rows
    [row] = cycle.dataset("scoring").table().to_pylist()
    stale = row | {"source": "stale"}
    cycle.lake.write_fact("scoring", sha256_json(stale)[:16], [stale])
    cycle.remember({"scoring": sha256_json(stale)[:16]})
    monitor.run(cycle, spark)
    assert cycle.dataset("drift_bins").table().schema.remove_metadata() == facts.FACTS["drift_bins"]
    del counted[tonight]
    assert scores_by_period(cycle) == counted
    assert len(counted) == 4  # the reference and three test periods


def scores_by_period(cycle: Any) -> dict[Any, int]:
    rows = pl.DataFrame(cycle.dataset("drift_bins").table()).filter(subject="score")
    return dict(rows.group_by("period").agg(pl.col("n").sum()).iter_rows())
