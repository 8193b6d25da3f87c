"""Which prior serves, or stands in for the model: none of a later night, and none whose files are damaged."""

from __future__ import annotations

import datetime as dt
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from row_task import training_task

from ffm_udf import scoring, workers
from jobs import champions, serving, vectors
from jobs.contract import load
from jobs.cycle import Cycle
from jobs.lake import LakeError, sha256_json
from jobs.lineage import features
from jobs.progress import Progress
from jobs.serving import Serving

CONTRACT = load(Path(__file__).resolve().parent.parent / "conf" / "promo.yml")
NIGHTS = [dt.date(2017, 12, day) for day in (4, 11, 18)]
CHAMPION = Serving("champion", "model", {"slope": 1.0, "intercept": 0.0}, "champion")


def cycle_of(warehouse: Path, date: dt.date) -> Cycle:
    return Cycle(CONTRACT, date, warehouse, Progress(Console(file=io.StringIO(), width=500)))


def train(warehouse: Path, model_id: str, date: dt.date, algorithm: str = "prior", **lineage: Any) -> None:
    """A tiny finished model of that night; by default of the same contract, fields and vocabulary."""
    known = {
        "contract": "promo",
        "cycle_date": str(date),
        "features_sha": sha256_json(features(CONTRACT)),
        "vocabulary": {"key": "words"},
    }
    workers.train(training_task(warehouse, algorithm, model_id=model_id, lineage=known | lineage))


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    """A champion of the second night and a prior of each night."""
    train(tmp_path, "champion", NIGHTS[1], "ffm")
    for number, date in enumerate(NIGHTS, start=1):
        train(tmp_path, f"prior-{number}", date)
    return tmp_path


def damage(warehouse: Path, model_id: str) -> None:
    path = next((warehouse / "models" / model_id).glob("*.npy"))
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])


def lose(warehouse: Path, model_id: str) -> None:
    next((warehouse / "models" / model_id).glob("*.npy")).unlink()


def tear(warehouse: Path, model_id: str) -> None:
    card = warehouse / "models" / model_id / "card.json"
    card.chmod(0o644)
    card.write_text("{")


def told(cycle: Cycle) -> str:
    out = cycle.progress.console.file
    assert isinstance(out, io.StringIO)
    return out.getvalue()


def stand_in(warehouse: Path, date: dt.date) -> str | None:
    scoring.opened.cache_clear()  # as the process of another night
    found = serving.fallback(cycle_of(warehouse, date), CHAMPION)
    return found["model_id"] if found else None


@pytest.mark.parametrize("place", range(3))
def test_no_later_prior_is_used(warehouse: Path, place: int) -> None:
    wanted = f"prior-{place + 1}"
    assert serving.prior(cycle_of(warehouse, NIGHTS[place]), None, "").model_id == wanted
    assert stand_in(warehouse, NIGHTS[place]) == wanted


def test_before_the_first_prior_there_is_none(warehouse: Path) -> None:
    early = NIGHTS[0] - dt.timedelta(days=7)
    with pytest.raises(LakeError, match="no model can score promo 2017-11-27: run `fieldmart train` first"):
        serving.prior(cycle_of(warehouse, early), None, "")
    assert stand_in(warehouse, early) is None


@pytest.mark.parametrize("harm", [damage, lose, tear])
def test_a_damaged_prior_is_passed_over(warehouse: Path, harm: Any) -> None:
    harm(warehouse, "prior-3")
    cycle = cycle_of(warehouse, NIGHTS[2])
    found = serving.prior(cycle, "champion", "why")
    assert (found.model_id, found.source, found.requested_model_id, found.reason) == (
        "prior-2",
        "prior",
        "champion",
        "why",
    )
    assert found.calibrator.keys() == {"slope", "intercept"}
    assert ("prior prior-3 is passed over: model" in told(cycle)) == (harm is not tear)
    harm(warehouse, "prior-2")
    assert stand_in(warehouse, NIGHTS[2]) == "prior-1"
    harm(warehouse, "prior-1")
    assert stand_in(warehouse, NIGHTS[2]) is None


def test_a_prior_must_fit(warehouse: Path) -> None:
    train(warehouse, "others", NIGHTS[2], contract="ads")
    train(warehouse, "new-fields", NIGHTS[2], features_sha="other")
    train(warehouse, "new-words", NIGHTS[2], vocabulary={"key": "other"})
    # By order of the ids the last of the night would win, prior-3; all of them are of that night.
    tear(warehouse, "prior-3")
    assert serving.prior(cycle_of(warehouse, NIGHTS[2]), None, "").model_id == "new-words"
    assert stand_in(warehouse, NIGHTS[2]) == "new-fields"
    assert serving.fallback(cycle_of(warehouse, NIGHTS[2]), Serving("prior-1", "prior", {}, None)) is None


def remember(cycle: Cycle, name: str, rows: list[dict[str, Any]]) -> None:
    with cycle.lake.writing(name, "tonight") as folder:
        pq.write_table(pa.Table.from_pylist(rows), folder / "part-0.parquet")
    cycle.remember({name: "tonight"})


def test_tonights_prior_has_tonights_calibrator_unless_it_is_damaged(warehouse: Path) -> None:
    cycle = cycle_of(warehouse, NIGHTS[2])
    remember(cycle, "models", [{"model_id": "prior-3", "algorithm": "prior", "role": "candidate"}])
    calibrator = {"slope": 0.5, "intercept": -1.0}
    remember(cycle, "calibrators", [{"model_id": "prior-3", "period": NIGHTS[2], "calibrator": json.dumps(calibrator)}])
    found = serving.prior(cycle, None, "")
    assert (found.model_id, found.calibrator) == ("prior-3", calibrator)
    damage(warehouse, "prior-3")
    scoring.opened.cache_clear()
    assert serving.prior(cycle, None, "").model_id == "prior-2"


def test_tonights_prior_has_its_own_level_not_its_rehearsals(warehouse: Path) -> None:
    cycle = cycle_of(warehouse, NIGHTS[2])
    remember(cycle, "models", [{"model_id": "prior-3", "algorithm": "prior", "role": "candidate"}])
    row = {"model_id": "prior-3", "period": NIGHTS[2], "calibrator": json.dumps({"slope": 0.5, "intercept": -1.0})}
    params = {"ids": ["other", "prior-3"], "shifts": [9.0, 0.25]}  # the rehearsal lies .25 above the candidate
    with cycle.lake.writing("calibrators", "tonight", {}, params) as folder:
        pq.write_table(pa.Table.from_pylist([row]), folder / "part-0.parquet")
    cycle.remember({"calibrators": "tonight"})
    assert serving.prior(cycle, None, "").calibrator == {"slope": 0.5, "intercept": -1.25}


def test_a_night_that_trained_no_prior_takes_the_last(warehouse: Path) -> None:
    cycle = cycle_of(warehouse, NIGHTS[1])
    remember(cycle, "models", [{"model_id": "champion", "algorithm": "ffm", "role": "candidate"}])
    remember(cycle, "calibrators", [{"model_id": "champion", "period": NIGHTS[1], "calibrator": "{}"}])
    assert serving.prior(cycle, None, "").model_id == "prior-2"


def test_a_damaged_champion_leaves_the_scores_to_the_prior(warehouse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(champions, "champion", lambda *about: "champion")
    damage(warehouse, "champion")
    found = serving.champion_or_prior(cycle_of(warehouse, NIGHTS[1]))
    assert (found.model_id, found.is_degraded) == ("prior-2", True)
    assert "champion champion cannot be used (model " in found.reason


def test_a_champion_that_is_held_is_calibrated_anew(warehouse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its candidate was judged tonight, too, so it has a calibrator for tonight; else it keeps its own."""
    monkeypatch.setattr(champions, "champion", lambda *about: "champion")
    cycle = cycle_of(warehouse, NIGHTS[2])
    remember(cycle, "vocabulary", [{"field": "a"}])
    path = warehouse / "models" / "champion" / "card.json"
    card = json.loads(path.read_text())
    card["task"]["candidate_id"] = "its-candidate"
    card["task"]["calibrator"] = {"slope": 0.5, "intercept": -0.2}  # its rehearsal's …
    card["calibrator"] = {"slope": 0.5, "intercept": 0.1}  # … and at its own level
    card["lineage"]["vocabulary"]["key"] = "tonight"
    path.chmod(0o644)
    path.write_text(json.dumps(card))
    assert serving.champion_or_prior(cycle).calibrator == card["calibrator"]
    fresh = {"slope": 0.9, "intercept": 0.1}
    rows = [
        {"model_id": "its-candidate", "period": NIGHTS[1], "calibrator": "{}"},
        {"model_id": "its-candidate", "period": NIGHTS[2], "calibrator": json.dumps(fresh)},
    ]
    remember(cycle, "calibrators", rows)
    found = serving.champion_or_prior(cycle)
    assert (found.model_id, found.source) == ("champion", "model")
    # Learned of the rehearsal tonight, and .1 - -.2 = .3 higher, as on the night it was promoted.
    assert found.calibrator == pytest.approx({"slope": 0.9, "intercept": 0.4})
    rows[1]["calibrator"] = json.dumps(card["task"]["calibrator"])  # the night that promoted it
    with cycle.lake.writing("calibrators", "its own night") as folder:
        pq.write_table(pa.Table.from_pylist(rows), folder / "part-0.parquet")
    cycle.remember({"calibrators": "its own night"})
    assert serving.champion_or_prior(cycle).calibrator == card["calibrator"]


def test_no_vectors_are_made_where_their_formula_would_be_wrong(warehouse: Path) -> None:
    """Whoever reads vectors knows slope and intercept; a table in their place would give other p without a word."""
    bent = replace(CHAMPION, calibrator={"method": "isotonic", "logits": [0.0], "log_odds": [0.0]})
    cycle, nothing = cycle_of(warehouse, NIGHTS[2]), cast(Any, None)
    assert vectors.make(cycle, nothing, bent, nothing) is None
    assert "no vectors: the calibrator of champion is isotonic, they need slope and intercept" in told(cycle)
