"""What runs inside a scoring task: opening, scoring and measuring finished models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from row_task import FIELDS, draw, training_task
from scipy import special

from ffm_udf import workers
from ffm_udf.cost import measured
from ffm_udf.scoring import ScoringModel, opened, scoring_cost


@pytest.fixture(params=["ffm", "prior"])
def task(tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    found = training_task(tmp_path, request.param)
    found["card"] = workers.train(found)
    return found


def test_scores_are_the_models_logits_and_the_calibrators_probabilities(task: dict[str, Any]) -> None:
    model, X = ScoringModel(task["folder"]), draw(3, 200)[0]
    logits, p = model.score(X)
    assert (model.model_id, model.fields) == (task["model_id"], FIELDS)
    assert (logits.dtype, p.dtype) == (np.float32, np.float64)
    slope, intercept = task["card"]["calibrator"]["slope"], task["card"]["calibrator"]["intercept"]
    np.testing.assert_allclose(p, special.expit(slope * logits.astype(np.float64) + intercept), rtol=1e-12)


def test_every_damaged_file_is_refused(task: dict[str, Any]) -> None:
    for name in task["card"]["files"]:
        path = Path(task["folder"]) / name
        whole = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
        with pytest.raises(ValueError, match=rf"model .*{task['model_id']} is damaged: {name} is not what was written"):
            ScoringModel(task["folder"])
        path.write_bytes(whole)
    ScoringModel(task["folder"])


def test_a_missing_file_is_refused(task: dict[str, Any]) -> None:
    name = next(name for name in task["card"]["files"] if name.endswith(".npy"))
    (Path(task["folder"]) / name).unlink()
    with pytest.raises(ValueError, match=f"is damaged: {name}"):
        ScoringModel(task["folder"])


def test_an_unfinished_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"card\.json"):
        ScoringModel(str(tmp_path))


def test_a_process_opens_a_model_once(task: dict[str, Any]) -> None:
    assert opened(task["folder"]) is opened(task["folder"])


def test_scoring_cost_scores_the_same_block_again_and_again(task: dict[str, Any]) -> None:
    wanted = {"folder": task["folder"], "rows": task["rows"], "periods": [9, 9], "limit": 100, "repeats": 3}
    wanted["vocabularies"] = None
    found = scoring_cost(wanted)
    assert [(row["repeat"], row["rows"]) for row in found] == [(1, 100), (2, 100), (3, 100)]
    assert all(row["wall_s"] > 0 and row["cpu_s"] >= 0 and row["peak_rss_mib"] > 10 for row in found)
    few = scoring_cost(wanted | {"limit": 10_000})  # at most the rows there are
    assert {row["rows"] for row in few} == {250}


def touch(mib: int) -> int:
    return int(np.ones(mib << 20, np.uint8)[::4096].sum())


def resettable() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def test_the_peak_includes_what_was_freed_again() -> None:
    with measured() as before:
        pass
    with measured() as cost:
        touch(200)
    assert cost.peak_rss_mib >= before.peak_rss_mib + 150


@pytest.mark.skipif(not resettable(), reason="this kernel does not let a process reset its peak")
def test_the_peak_is_that_of_the_block_alone() -> None:
    with measured() as large:
        touch(200)
    with measured() as small:
        touch(1)
    assert small.peak_rss_mib < large.peak_rss_mib - 150


def test_measured_fills_the_times_when_the_block_ends() -> None:
    with measured() as cost:
        assert (cost.wall_s, cost.cpu_s, cost.peak_rss_mib) == (0.0, 0.0, 0.0)
        touch(20)
    assert cost.wall_s > 0
    assert cost.peak_rss_mib > 10
