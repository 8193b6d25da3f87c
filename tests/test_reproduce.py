"""Training a model again from its card: the same bits, or what is different and by how much."""

from __future__ import annotations

import json
import shutil
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from row_task import FFM_PARAMETERS, FIELDS, OFFSET, SIZE, training_task, write_rows

from ffm_udf import card as cards
from ffm_udf import workers
from jobs import lineage, mixing, models, reproduce
from jobs.lake import Dataset, Lake, LakeError

FFM = FFM_PARAMETERS | {"keep_before_best": True}


def no_session():
    raise AssertionError("a model of the sweep needs no Spark session")


def link(data: Dataset) -> dict[str, str]:
    return {"key": data.key, "content": data.content}


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    """A warehouse with the data sets that training stands on: rows, and a vocabulary of 19 ids."""
    lake = Lake(tmp_path / "warehouse")
    with lake.writing("rows", "tiny") as folder:
        write_rows(folder)
    ends = [*OFFSET[1:], SIZE]
    values = [
        (name, None if feature == first else str(feature), feature)
        for name, first, end in zip(FIELDS, OFFSET, ends, strict=True)
        for feature in range(first, end)
    ]
    table = pa.table(dict(zip(("field", "value", "feature_id"), zip(*values, strict=True), strict=True)))
    with lake.writing("vocabulary", "tiny") as folder:
        pq.write_table(table, folder / "part-0.parquet")
    return tmp_path / "warehouse"


def task_in(warehouse: Path, algorithm: str = "ffm", **changes: Any) -> dict[str, Any]:
    """A training task on the warehouse's rows, with all links."""
    lake = Lake(warehouse)
    rows, vocabulary = lake.get("rows", "tiny"), lake.get("vocabulary", "tiny")
    links = lineage.environment() | {"contract": "tiny", "contract_sha": "c", "features_sha": "f"}
    links |= {"cycle_date": "2026-11-20", "snapshot": {"key": "s"}, "examples": {"key": "e"}}
    links |= {"rows": link(rows), "vocabulary": link(vocabulary)}
    task = training_task(warehouse.parent / "form", algorithm) | {"lineage": links} | changes
    if algorithm == "ffm" and "hyperparameters" not in changes:
        task["hyperparameters"] = FFM
    folder = models.model_folder(warehouse, task["model_id"])
    return task | {"folder": str(folder.resolve()), "rows": str(rows.root)}


def trained(warehouse: Path, algorithm: str = "ffm", **changes: Any) -> dict[str, Any]:
    """The card of a model of the sweep, as it lies on disk."""
    made = workers.train(task_in(warehouse, algorithm, **changes))
    return models.read_card(warehouse, made["model_id"])


def rewrite(warehouse: Path, card: dict[str, Any]) -> None:
    cards.write(models.model_folder(warehouse, card["model_id"]), card)


@pytest.mark.parametrize(
    ("algorithm", "changes"),
    [
        ("ffm", {}),
        ("ffm", {"hyperparameters": FFM | {"negative_rate": 0.5}, "half_life": 1.0}),
        ("ffm", {"role": "refit", "valid": None, "calib": None, "calibrator": {"slope": 1.1, "intercept": 0.2}}),
        ("prior", {}),
        ("lr", {"hyperparameters": {}}),
    ],
)
def test_a_sweep_model_is_reproduced_to_the_bit(warehouse: Path, algorithm: str, changes: dict[str, Any]):
    card = trained(warehouse, algorithm, **changes)
    before = {path: path.read_bytes() for path in warehouse.rglob("*") if path.is_file()}
    found = reproduce.run(warehouse, algorithm, no_session)
    assert found.must_be_identical
    assert found.identical
    assert found.reproduced
    assert {file.what for file in found.files} == set(card["files"])
    assert set(found.losses.values()) == {0.0}
    # nothing else is left behind
    assert {path: path.read_bytes() for path in warehouse.rglob("*") if path.is_file()} == before


def test_a_model_of_another_seed_is_not_reproduced(warehouse: Path):
    """The card says seed 4, the files are of seed 3."""
    card = trained(warehouse)
    card["task"]["hyperparameters"]["seed"] = 4
    rewrite(warehouse, card)
    found = reproduce.run(warehouse, "ffm", no_session)
    assert not found.identical
    assert not found.reproduced
    differing = {file.what for file in found.files if not file.same}
    assert {"blocks.npy", "model.json"} <= differing


def test_where_something_decisive_has_changed_the_losses_decide(warehouse: Path):
    card = trained(warehouse)
    card["lineage"]["machine"] = "another processor"
    rewrite(warehouse, card)
    found = reproduce.run(warehouse, "ffm", no_session)
    assert not found.must_be_identical
    near = reproduce.Reproduction("m", "sweep", found.links, [reproduce.Compared("a.npy", "1", "2")], {"loss": 0.0009})
    assert near.reproduced
    far = reproduce.Reproduction("m", "sweep", found.links, near.files, {"loss": -0.0011})
    assert not far.reproduced


def test_mixing_may_differ_in_bits_within_the_tolerance():
    same, other = reproduce.Compared("machine", "a", "a"), reproduce.Compared("a.npy", "1", "2")
    assert reproduce.Reproduction("m", "mixing", [same], [other], {"loss": 0.0}).reproduced
    assert not reproduce.Reproduction("m", "sweep", [same], [other], {"loss": 0.0}).reproduced


def test_curves_differ_by_their_largest_relative_difference():
    """0.5 -> 0.505 is 1 %, 0.4 -> 0.398 is -0.5 %."""
    then = [{"train_logloss": 0.5, "valid_logloss": None}, {"train_logloss": 0.4, "valid_logloss": None}]
    now = [{"train_logloss": 0.505, "valid_logloss": None}, {"train_logloss": 0.398, "valid_logloss": None}]
    assert reproduce.curve_differences(then, now) == {"train_logloss of each epoch": pytest.approx(0.01)}
    assert reproduce.curve_differences(then, now[:1]) == {"train_logloss of each epoch": np.inf}


def test_a_moved_warehouse_reproduces_a_warm_start(warehouse: Path, tmp_path: Path):
    """The card's task names files by their old place; data sets and models are found by key and id."""
    trained(warehouse, model_id="yesterday")
    old = str(Path(Lake(warehouse).get("vocabulary", "tiny").files[0]).resolve())
    folder = str(models.model_folder(warehouse, "yesterday").resolve())
    trained(warehouse, init={"model_id": "yesterday", "folder": folder, "old": old, "new": old})
    shutil.move(warehouse, tmp_path / "elsewhere")
    found = reproduce.run(tmp_path / "elsewhere", "ffm", no_session)
    assert found.identical
    (models.model_folder(tmp_path / "elsewhere", "yesterday") / "start" / "blocks.npy").write_bytes(b"")
    with pytest.raises(LakeError, match=r"model yesterday is damaged: start/blocks\.npy is not what was written"):
        reproduce.run(tmp_path / "elsewhere", "ffm", no_session)


def test_removed_rows_are_named_with_what_makes_them_again(warehouse: Path):
    trained(warehouse)
    shutil.rmtree(warehouse / "lake" / "rows")
    message = r"ffm cannot be trained again: its rows tiny were removed; `fieldmart encode` .*2026-11-20 \(tiny\)"
    with pytest.raises(LakeError, match=message):
        reproduce.run(warehouse, "ffm", no_session)


def test_other_rows_under_the_same_key_are_refused(warehouse: Path):
    card = trained(warehouse)
    card["lineage"]["rows"]["content"] = "0"
    rewrite(warehouse, card)
    with pytest.raises(LakeError, match="ffm cannot be trained again: its rows tiny were made anew"):
        reproduce.run(warehouse, "ffm", no_session)


def test_rows_changed_after_writing_are_refused(warehouse: Path):
    trained(warehouse)
    [labels] = [path for path in Lake(warehouse).get("rows", "tiny").files if path.endswith("y.npy")]
    Path(labels).chmod(0o644)
    data = bytearray(Path(labels).read_bytes())
    data[-1] ^= 1
    Path(labels).write_bytes(data)
    with pytest.raises(LakeError, match=r"rows tiny: file y\.npy is missing or was changed after writing"):
        reproduce.run(warehouse, "ffm", no_session)


def test_a_damaged_model_is_refused(warehouse: Path):
    trained(warehouse)
    (models.model_folder(warehouse, "ffm") / "bias.npy").write_bytes(b"")
    with pytest.raises(LakeError, match=r"model ffm is damaged: bias\.npy is not what was written"):
        reproduce.run(warehouse, "ffm", no_session)


def test_a_card_without_its_links_names_them(warehouse: Path):
    card = trained(warehouse)
    del card["lineage"]["lock_sha"], card["task"]["hyperparameters"]["seed"]
    rewrite(warehouse, card)
    with pytest.raises(LakeError, match="ffm cannot be trained again: its card lacks lock_sha, seed"):
        reproduce.run(warehouse, "ffm", no_session)


@pytest.mark.parametrize("where", ["git_sha", "training_code_sha", "lock_sha", "machine", "python", "spark", "rows"])
def test_every_link_of_a_card_is_asked_for(warehouse: Path, where: str):
    card = trained(warehouse)
    assert reproduce.missing_links(card) == []
    del card["lineage"][where]
    assert reproduce.missing_links(card) == [where]


def test_what_is_shown_names_the_differences_and_the_verdict(warehouse: Path):
    card = trained(warehouse)
    card["lineage"]["machine"] = "another processor"
    rewrite(warehouse, card)
    said = StringIO()
    reproduce.show(reproduce.run(warehouse, "ffm", no_session), Console(file=said, width=200))
    assert "another processor" in said.getvalue()
    assert card["files"]["blocks.npy"][:12] in said.getvalue()
    assert "Not the same as then: machine. Other bits are to be expected." in said.getvalue()
    assert "Reproduced: the same bits." in said.getvalue()


def test_a_mixed_model_is_trained_by_mixing_again(spark, warehouse: Path):
    strategy = {"way": "mixing", "partitions": 2, "syncs": 1}
    task = task_in(warehouse, model_id="mixed", strategy=strategy)
    mixing.train(spark, task, warehouse / "mixing" / "mixed", 2, say=lambda _: None)
    found = reproduce.run(warehouse, "mixed", lambda: spark)
    assert found.way == "mixing"
    assert found.reproduced
    assert set(found.losses.values()) == {0.0}  # merges have an order of their own, whoever comes first


def test_every_model_of_a_night_has_its_links_and_its_champion_is_reproduced(spark, night):
    cycle = night.cycle
    rows = cycle.dataset("models").table().to_pylist()
    for row in rows:
        assert reproduce.missing_links(models.read_card(cycle.warehouse, row["model_id"])) == [], row["model_id"]
    champion = json.loads((cycle.warehouse / "models" / "aliases.json").read_text())
    model_id = cycle.state()["run"]["serving_model_id"]
    assert model_id in json.dumps(champion)
    found = reproduce.run(cycle.warehouse, model_id, lambda: spark)
    assert found.identical
    assert all(pair.same for pair in found.links)
