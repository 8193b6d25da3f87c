"""The reading side of model folders, and that what scores does not import what trains."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import models
from jobs.lake import LakeError

ROOT = Path(__file__).resolve().parent.parent
TRAINERS = {
    *("jobs.train", "jobs.training_plan", "jobs.training_tasks", "jobs.mixing", "jobs.nightly", "jobs.cli"),
    *("ffm_udf.workers", "ffm_udf.mixing", "ffm_udf.mixing_steps", "ffm_udf.mixing_tasks", "jobs.sweep"),
}


def write(folder: Path, text: str) -> None:
    folder.mkdir(parents=True)
    (folder / "card.json").write_text(text)


def test_a_card_is_read_from_the_folder_of_its_model(tmp_path: Path):
    write(models.model_folder(tmp_path, "ffm-k4"), '{"model_id": "ffm-k4", "files": {}}')
    assert models.model_folder(tmp_path, "ffm-k4") == tmp_path / "models" / "ffm-k4"
    assert models.read_card(tmp_path, "ffm-k4") == {"model_id": "ffm-k4", "files": {}}


def test_a_model_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(LakeError, match=r"no model ffm-k4 in .*models"):
        models.read_card(tmp_path, "ffm-k4")


def test_a_damaged_card_is_named(tmp_path: Path):
    write(models.model_folder(tmp_path, "ffm-k4"), '{"model_id"')
    with pytest.raises(LakeError, match=r"model ffm-k4 is damaged: card\.json is not JSON"):
        models.read_card(tmp_path, "ffm-k4")


def test_a_model_is_finished_when_it_has_its_card(tmp_path: Path):
    task = {"folder": str(tmp_path / "model")}
    (tmp_path / "model").mkdir()
    assert not models.is_finished(task)
    (tmp_path / "model" / "card.json").write_text("{}")
    assert models.is_finished(task)


def imports(module: str) -> set[str]:
    """The project modules that importing `module` loads, itself included; what stands below `if __name__ == "__main__"`
    is not imported."""
    found, todo = set(), [module]
    while todo:
        name = todo.pop()
        path = ROOT / Path(*name.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name in found or not path.exists():
            continue
        found.add(name)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        tree.body = [
            node for node in tree.body if not (isinstance(node, ast.If) and "__main__" in ast.unparse(node.test))
        ]
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                todo += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                todo += [alias.name for alias in node.names]
    return {name for name in found if name.partition(".")[0] in ("jobs", "ffm_udf")}


def test_the_import_graph_reaches_the_trainer_from_the_train_job():
    assert imports("jobs.train") >= {"jobs.train", "ffm_udf.workers", "ffm_udf.row_store"}


@pytest.mark.parametrize("module", ["jobs.score", "jobs.monitor", "jobs.models", "ffm_udf.scoring"])
def test_scoring_never_imports_the_trainer(module: str):
    """Functions' own imports count as well: the scoring job does not reach the trainer on any path."""
    assert not imports(module) & TRAINERS


def test_scoring_never_imports_trainer_in_a_process_of_its_own():
    code = f"import sys, jobs.score, jobs.monitor; print(sorted({TRAINERS!r} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
