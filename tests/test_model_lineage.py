"""Lineage: every link of a model resolves on a real night, and one that is removed or altered is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import served_world
import tiny_warehouse as tiny
from typer.testing import CliRunner

from jobs import champions, cli, decision_log, lineage, model_lineage, models
from jobs.lake import write_json

LINKS = (
    *("model", "candidate", "hyperparameters", "code", "lock", "environment", "snapshot", "examples", "rows"),
    *("vocabulary", "contract", "sweep", "evaluation", "decision", "gate", "evidence", "approver", "card", "release"),
)


def only(folder: Path, pattern: str) -> Path:
    """The first file of `folder` that fits."""
    return sorted(folder.glob(pattern))[0]


def altered(path: Path) -> None:
    path.chmod(0o644)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 0xFF]))


class World:
    """Where the things lie that the champion of a night rests on."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.model_id = str(champions.champion(root, "small"))
        self.card = models.read_card(root, self.model_id)
        self.folder = models.model_folder(root, self.model_id)
        self.decision = next(e for e in decision_log.entries(root) if e.kind == "decision").payload
        self.facts = json.loads(only(root / "cycles" / "small", "*.json").read_text())["datasets"]

    def data(self, name: str, lake_name: str | None = None) -> Path:
        return self.root / "lake" / (lake_name or name) / self.card["lineage"][name]["key"]

    def fact(self, name: str) -> Path:
        return self.root / "lake" / name / self.facts[name]

    def kept(self, sha: str) -> Path:
        return self.root / "kept" / sha


def rewrite_card(world: World, **links: Any) -> None:
    """Another lineage in the card, as if somebody had edited it."""
    path = world.folder / "card.json"
    card = json.loads(path.read_text())
    card["lineage"] |= links
    path.chmod(0o644)
    path.write_text(json.dumps(card))


HARM: dict[str, tuple[str, Callable[[World], object]]] = {
    "weights altered": ("model", lambda w: altered(only(w.folder, "*.npy"))),
    "weights gone": ("model", lambda w: only(w.folder, "*.npy").unlink()),
    "candidate gone": ("candidate", lambda w: shutil.rmtree(w.root / "models" / w.card["task"]["candidate_id"])),
    "card edited": ("card", lambda w: rewrite_card(w, note="x")),
    "other machine": ("environment", lambda w: rewrite_card(w, machine="another")),
    "lock gone": ("lock", lambda w: w.kept(w.card["lineage"]["lock_sha"]).unlink()),
    "snapshot gone": ("snapshot", lambda w: shutil.rmtree(w.data("snapshot", "exposures"))),
    "snapshot altered": ("snapshot", lambda w: altered(only(w.data("snapshot", "exposures"), "*/**/*.parquet"))),
    "examples gone": ("examples", lambda w: shutil.rmtree(w.data("examples"))),
    "rows altered": ("rows", lambda w: altered(max(w.data("rows").rglob("*.npy"), key=lambda p: p.stat().st_size))),
    "vocabulary altered": ("vocabulary", lambda w: altered(only(w.data("vocabulary"), "*/**/*.parquet"))),
    "contract gone": ("contract", lambda w: w.kept(w.card["lineage"]["contract_sha"]).unlink()),
    "contract edited": ("contract", lambda w: altered(w.kept(w.card["lineage"]["contract_sha"]))),
    "gate edited": ("gate", lambda w: altered(w.kept(w.decision["gate_sha"]))),
    "metrics altered": ("evaluation", lambda w: altered(only(w.fact("model_metrics"), "*/**/*.parquet"))),
    "cycle gone": ("evaluation", lambda w: shutil.rmtree(w.root / "cycles")),
    "mart altered": ("release", lambda w: altered(only(w.root / "releases", "small-*/marts/*.parquet"))),
}


@pytest.mark.slow
def test_every_link_of_a_champion_resolves_and_one_that_does_not_is_named(own_night: Any, tmp_path: Path) -> None:
    root = own_night.cycle.warehouse
    world = World(root)
    links = model_lineage.trace(root, "champion", verify=True)
    assert [link.named for link in links if link.fault] == []
    assert {link.name for link in links} == set(LINKS)
    found = {link.name: link for link in links}
    assert found["release"].value == own_night.release.release_id
    assert found["gate"].value == world.decision["gate_sha"]
    assert found["approver"].value == "the gate"
    assert found["environment"].value == lineage.env_hash(world.card["lineage"])

    log = decision_log.path_of(root).read_bytes()
    for name, (link, do) in HARM.items():
        own = tmp_path / "harmed"
        shutil.copytree(root, own, symlinks=True)
        do(World(own))
        broken = {one.name for one in model_lineage.trace(own, world.model_id, verify=True) if one.fault}
        assert link in broken, (name, broken)
        shutil.rmtree(own)

    ran = CliRunner().invoke(cli.app, ["lineage", world.model_id, "--verify", "--warehouse", str(root)])
    assert ran.exit_code == 0, ran.stderr
    decision_log.path_of(root).write_bytes(log.replace(b'"k":', b'"K":', 1))
    ran = CliRunner().invoke(cli.app, ["lineage", world.model_id, "--verify", "--warehouse", str(root)])
    assert ran.exit_code == 1
    assert "decision (" in ran.stderr
    assert "was changed after writing" in ran.stderr


def test_a_model_that_nobody_knows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(model_lineage.LineageError, match=r"no model ghost in .*, and the decision log"):
        model_lineage.trace(tmp_path, "ghost")
    with pytest.raises(model_lineage.LineageError, match="champion must name one model, got no champion"):
        model_lineage.trace(tmp_path, "champion")


def test_the_champion_of_a_damaged_log_is_not_told_and_the_damage_is(tmp_path: Path) -> None:
    served_world.decided(tmp_path, 0, "a")
    path = decision_log.path_of(tmp_path)
    path.write_text(path.read_text().replace("tiny", "tine", 1))
    with pytest.raises(model_lineage.LineageError, match=r"line 1: was changed after writing.*which model is champion"):
        model_lineage.trace(tmp_path, "champion")


def test_metrics_that_cannot_be_read_are_a_broken_link(tmp_path: Path) -> None:
    keys = {
        name: tiny.put(tmp_path, name, "k", tiny.pa.table({"model_id": ["a"]})) for name in model_lineage.EVALUATION
    }
    write_json(tmp_path / "cycles" / "tiny" / "2026-01-01.json", {"datasets": keys})
    card = {"lineage": {"contract": "tiny", "cycle_date": "2026-01-01"}}

    def evaluation() -> model_lineage.Link:
        return list(model_lineage._evaluation(tmp_path, [], card, "a", False))[-1]

    assert evaluation().fault is None
    file = only(tmp_path / "lake" / "model_metrics", "*/*/*.parquet")
    file.write_bytes(b"x" * file.stat().st_size)  # as long as it was: no step sees it by its size
    assert str(evaluation().fault).startswith("model_metrics of tiny 2026-01-01 cannot be read: ")
