"""The commands around releases as a person or a script meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import served_world as world
from typer.testing import CliRunner

from jobs import cli


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
