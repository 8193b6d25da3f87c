"""The commands around releases as a person or a script meets them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import served_world as world
from typer.testing import CliRunner

from jobs import cli, decision_log, durable, heal, releases, served_links, verification


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    """Two nights of model a, the second held."""
    root = tmp_path / "warehouse"
    go = world.decided(root, 0, "a")
    world.published(root, 0, "a", world.logits(), go.decision_id)
    held = world.decided(root, 1, "b", "HOLD")
    world.published(root, 1, "a", world.logits() + 0.01, held.decision_id)
    return root


def run(*asked: str, warehouse: Path) -> tuple[int, str, str]:
    done = CliRunner().invoke(cli.app, [*asked, "--warehouse", str(warehouse)])
    return done.exit_code, done.stdout, done.stderr


def test_the_list_says_what_each_release_is(warehouse: Path) -> None:
    code, told, _ = run("releases", warehouse=warehouse)
    first, second = told.splitlines()
    assert code == 0
    assert first.startswith("  tiny-2017-12-04  data through 2017-12-04T05:00:00+00:00, published ")
    assert second.startswith("* tiny-2017-12-11  ")
    assert ", scores by a, " in second
    rows = json.loads(run("releases", "--json", warehouse=warehouse)[1])
    assert [(row["release_id"], row["verdict"], row["is_current"]) for row in rows] == [
        ("tiny-2017-12-04", "GO", False),
        ("tiny-2017-12-11", "HOLD", True),
    ]
    assert [row["bytes"] for row in rows] == [
        (warehouse / "releases" / row["release_id"] / "mart.duckdb").stat().st_size for row in rows
    ]


def test_check_names_the_damage_and_fails(warehouse: Path) -> None:
    assert run("releases", "--check", warehouse=warehouse)[0] == 0
    mart = warehouse / "releases" / "tiny-2017-12-04" / "mart.duckdb"
    mart.chmod(0o644)
    mart.write_bytes(b"x")
    assert run("releases", warehouse=warehouse)[0] == 0  # nothing is read without being asked to
    code, told, _ = run("releases", "--check", warehouse=warehouse)
    assert code == 1
    assert "damaged: mart.duckdb was changed after publication" in told.splitlines()[0]


def test_rollback_takes_the_tree_of_scores_along(warehouse: Path) -> None:
    code, told, errors = run("rollback", warehouse=warehouse)
    assert (code, told, errors) == (0, "current is tiny-2017-12-04\n", "")
    assert world.shown(warehouse) == dict.fromkeys(("2017-12-04", "2017-12-11"), "0-a")
    code, _, errors = run("rollback", warehouse=warehouse)
    assert code == 1
    assert errors.startswith("fieldmart: nothing to roll back to before tiny-2017-12-04 of tiny")


def test_an_unknown_model_has_no_lineage(warehouse: Path) -> None:
    code, _, errors = run("lineage", "ghost", warehouse=warehouse)
    assert code == 1
    assert "no model ghost" in errors


@pytest.mark.parametrize(
    "asked",
    [
        ["releases"],
        ["rollback"],
        ["guard"],
        ["heal"],
        ["verify"],
        ["registry"],
        ["gc"],
        ["lineage", "champion"],
        ["asof", "2026-01-01"],
    ],
    ids=lambda asked: asked[0],
)
def test_a_mistyped_warehouse_is_said_and_nothing_is_made(tmp_path: Path, asked: list[str]) -> None:
    code, _, told = run(*asked, warehouse=tmp_path / "typo")
    assert (code, told) == (
        1,
        f"fieldmart: no warehouse at {tmp_path / 'typo'}: --warehouse must name one, or run the nightly first\n",
    )
    assert not (tmp_path / "typo").exists()


def misled(warehouse: Path) -> list[str]:
    """What `fieldmart verify` says of pointer and links; this warehouse has no cycles and no models."""
    faults = verification.verify_warehouse(warehouse).faults
    return [fault for fault in faults if fault.startswith((f"{warehouse}/current", f"{warehouse}/scores"))]


def third_night(warehouse: Path) -> None:
    held = world.decided(warehouse, 2, "c", "HOLD")
    world.published(warehouse, 2, "a", world.logits() + 0.02, held.decision_id)


def test_of_two_who_roll_back_at_once_links_and_pointer_show_the_last(
    warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    third_night(warehouse)
    back = releases.rollback

    def overtaken(*given: Any) -> releases.Release:
        found = back(*given)
        back(warehouse, "tiny-2017-12-04")  # another person, before the links of the first have followed
        served_links.follow_log(warehouse, "tiny")
        return found

    monkeypatch.setattr(releases, "rollback", overtaken)
    assert run("rollback", warehouse=warehouse)[0] == 0
    assert world.current_id(warehouse) == "tiny-2017-12-04"
    assert set(world.shown(warehouse).values()) == {"0-a"}
    assert misled(warehouse) == []


def test_a_link_that_shows_what_does_not_stand_is_a_fault_that_heals(warehouse: Path) -> None:
    assert misled(warehouse) == []
    link = warehouse / "scores" / "tiny" / "score_date=2017-12-04"
    durable.point(link, (link.parent / "score_date=2017-12-11").resolve())
    assert misled(warehouse) == [
        f"{link}: does not show scores 0-a, which stand for its date: `fieldmart heal` mends it"
    ]
    heal.run(warehouse)
    assert misled(warehouse) == []


def test_a_pointer_whose_path_is_of_another_release_is_a_fault_that_heals(warehouse: Path) -> None:
    pointer = warehouse / "current.json"
    said = {"release_id": "tiny-2017-12-11", "path": "releases/tiny-2017-12-04"}
    pointer.write_text(json.dumps(said))
    assert misled(warehouse) == [
        f"{pointer}: names tiny-2017-12-11, but its path is releases/tiny-2017-12-04: `fieldmart heal` mends it"
    ]
    heal.run(warehouse)
    assert misled(warehouse) == []


def test_check_fails_on_a_manifest_that_cannot_be_read(warehouse: Path) -> None:
    path = warehouse / "releases" / "tiny-2017-12-04" / "manifest.json"
    path.chmod(0o644)
    path.write_text("{")
    assert run("releases", warehouse=warehouse)[0] == 0
    code, _, errors = run("releases", "--check", warehouse=warehouse)
    assert (code, errors) == (
        1,
        "fieldmart: release tiny-2017-12-04: manifest.json is missing or damaged: it does not count\n",
    )


def test_in_a_copy_that_followed_the_links_releases_and_links_move_on(warehouse: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(warehouse, tmp_path / "copy"))
    code, told, errors = run("rollback", warehouse=copy)
    assert (code, told, errors) == (0, "current is tiny-2017-12-04\n", "")
    assert decision_log.entries(copy)[-1].kind == "rollback"
    assert (copy / "current").resolve() == copy / "releases" / "tiny-2017-12-04"
    assert heal.run(copy) == ["nothing to heal: aliases, pointer, links and registry are those of the log"]
    assert misled(copy) == []
    third_night(copy)
    assert world.current_id(copy) == "tiny-2017-12-18"


def test_a_link_that_cannot_be_moved_is_a_line_and_the_rollback_is_in_the_log(
    warehouse: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(link: Path, *_: Path) -> None:
        raise PermissionError(13, "Permission denied", str(link))

    monkeypatch.setattr(releases, "point", refuse)
    monkeypatch.setattr(durable, "point", refuse)
    code, told, errors = run("rollback", warehouse=warehouse)
    assert (code, told) == (0, "current is tiny-2017-12-04\n")
    assert "fieldmart: the link to scores of tiny 2017-12-04 stays as it is: [Errno 13]" in errors
    assert f"{warehouse / 'current'} stays where it points" in caplog.text
    assert decision_log.entries(warehouse)[-1].kind == "rollback"
    assert world.current_id(warehouse) == "tiny-2017-12-04"
