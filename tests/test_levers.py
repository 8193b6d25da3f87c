"""The table of cheaper levers: one setting against a fit by hand, gains against numbers by hand, and the job itself."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from row_task import COUNTS, FIELDS, OFFSET, SIZE, draw, write_rows
from scipy import optimize, special
from small_world import CONF

from ffm_udf import FFM
from ffm_udf.row_store import RowStore, put
from jobs import levers
from jobs.contract import FieldRule, Grid, Grids, Training, load
from jobs.cycle import Cycle
from jobs.encode import numbered
from jobs.folds import Fold, FoldError
from jobs.levers import Options, Setting, gains, groups, measured_losses, reference_and_levers
from jobs.progress import Progress

HYPER = {"k": 2, "seed": 3, "eta": 0.1, "l2": 2e-5, "epochs": 4, "patience": 2}
LEVERS = {"reference", "more k", "more regularisation", "less regularisation", "no early stopping", "refit"}
LEVERS |= {"fewer weeks", "fewer fields", "recency weights", "negative downsampling", "step size"}
FOLD = {"train": [5, 6], "valid": [7, 7], "calib": [8, 8], "test": [9, 9]}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "rows"
    return folder, write_rows(folder)


def lever_task(folder, **changes: Any) -> dict[str, Any]:
    given = {"setting": 0, "fold": 0, "seed": 3, "without": [], "refit": False, "window": None, "half_life": None}
    sizes = {"offsets": OFFSET, "n_features": SIZE, "min_count": 1, "maturity": 0}
    return {"rows": str(folder), "parts": FOLD, "hyperparameters": HYPER} | given | sizes | changes


def calibrated_loss(logits: np.ndarray, y: np.ndarray, served: np.ndarray, truth: np.ndarray) -> float:
    """Summed logloss of `served`, calibrated by slope and intercept that scipy finds on (logits, y)."""

    def loss(at: np.ndarray, z: np.ndarray, labels: np.ndarray) -> float:
        p = special.expit(at[0] * z.astype(float) + at[1])
        return float(-np.log(np.where(labels == 1, p, 1 - p)).sum())

    best = optimize.minimize(loss, [1.0, 0.0], args=(logits, y), method="BFGS").x
    return loss(best, served, truth)


def test_a_setting_is_trained_stopped_calibrated_and_judged_on_the_folds_own_parts(tiny) -> None:
    folder, store = tiny
    train, valid, calib, test = (store.span(*FOLD[part]) for part in ("train", "valid", "calib", "test"))
    model = FFM(**HYPER).fit(store.X[train], store.y[train], eval_set=(store.X[valid], store.y[valid]), n_features=SIZE)
    logits = model.decision_function
    expected = calibrated_loss(logits(store.X[calib]), store.y[calib], logits(store.X[test]), store.y[test])
    found = measured_losses(lever_task(folder))
    assert found["sums"] == {9: (250, pytest.approx(expected, rel=1e-6))}
    assert found["artifact_bytes"] == model.nbytes_
    assert (found["setting"], found["fold"], found["seed"]) == (0, 0, 3)


def test_each_test_period_has_the_calibrator_of_the_period_before_it(tiny) -> None:
    folder, store = tiny
    parts = {"train": [5, 5], "valid": [6, 6], "calib": [7, 7], "test": [8, 9]}
    rows = {number: store.span(number, number) for number in store.periods}
    valid = store.X[rows[6]], store.y[rows[6]]
    model = FFM(**HYPER).fit(store.X[rows[5]], store.y[rows[5]], eval_set=valid, n_features=SIZE)
    logits = {number: model.decision_function(store.X[rows[number]]) for number in (7, 8, 9)}
    sums = measured_losses(lever_task(folder, parts=parts))["sums"]
    for before, period in pairwise((7, 8, 9)):
        wanted = calibrated_loss(logits[before], store.y[rows[before]], logits[period], store.y[rows[period]])
        assert sums[period][1] == pytest.approx(wanted, rel=1e-6)


def test_a_refit_trains_through_calib_and_keeps_the_candidates_calibrator(tiny) -> None:
    folder, store = tiny
    train, valid, calib, test, all_before = (store.span(*p) for p in (*FOLD.values(), [5, 8]))
    eval_set = store.X[valid], store.y[valid]
    candidate = FFM(**HYPER).fit(store.X[train], store.y[train], eval_set=eval_set, n_features=SIZE)
    again = HYPER | {"epochs": candidate.best_epoch_, "patience": None}
    refit = FFM(**again).fit(store.X[all_before], store.y[all_before], n_features=SIZE)
    expected = calibrated_loss(
        candidate.decision_function(store.X[calib]),
        store.y[calib],
        refit.decision_function(store.X[test]),
        store.y[test],
    )
    assert measured_losses(lever_task(folder, refit=True))["sums"][9][1] == pytest.approx(expected, rel=1e-6)


def test_a_window_or_a_half_life_is_the_fit_on_fewer_or_lighter_rows(tiny) -> None:
    folder, store = tiny
    valid, calib, test = (store.span(*FOLD[part]) for part in ("valid", "calib", "test"))

    def by_hand(first: int, weight: np.ndarray | None) -> float:
        rows, eval_set = store.span(first, 6), (store.X[valid], store.y[valid])
        model = FFM(**HYPER)
        model.fit(store.X[rows], store.y[rows], eval_set=eval_set, sample_weight=weight, n_features=SIZE)
        z = model.decision_function
        return calibrated_loss(z(store.X[calib]), store.y[calib], z(store.X[test]), store.y[test])

    # Half-life 1: period 6, the last of training, weighs 1, and the 1000 rows of period 5 half.
    halved = np.repeat(np.array([0.5, 1.0], np.float32), [1000, 700])
    assert measured_losses(lever_task(folder, window=1))["sums"][9][1] == pytest.approx(by_hand(6, None), rel=1e-6)
    found = measured_losses(lever_task(folder, half_life=1.0))["sums"][9][1]
    assert found == pytest.approx(by_hand(5, halved), rel=1e-6)
    assert found != pytest.approx(by_hand(5, None), rel=1e-6)


def test_leaving_a_field_out_is_training_on_rows_that_never_had_it(tiny, tmp_path) -> None:
    folder, store = tiny
    RowStore.create(tmp_path, ["category", "household"], COUNTS)
    # Without family's six ids those of household begin at 3 instead of 9.
    put(tmp_path, 0, np.ascontiguousarray(store.X[:, [0, 2]] - np.array([0, 6])), store.y)
    never = measured_losses(lever_task(tmp_path, offsets=[0, 3], n_features=13))
    assert measured_losses(lever_task(folder, without=["family"])) | {"cpu_s": 0} == never | {"cpu_s": 0}


def test_gains_are_paired_by_fold_and_period_and_relative_to_the_reference() -> None:
    """Two periods, two seeds. Reference: 10 and 30 (means of 9, 11 and 29, 31); the other: 9 and 28, so the gain is
    -3 / 40 = -7.5 %. Residuals -1 + .075 x 10 = -.25 and -2 + .075 x 30 = .25, over the mean 20: +-.0125. Error
    sqrt(2 x .0125^2 / (2 x 1)) = .0125; t of 1 df at 97.5 % is 12.7062: +-.158828."""
    settings = [Setting("reference", "k = 1", {"k": 1}), Setting("more k", "k = 4", {"k": 4})]
    losses = {(0, 1): (9.0, 29.0), (0, 2): (11.0, 31.0), (1, 1): (9.0, 28.0), (1, 2): (9.0, 28.0)}
    done = [
        {
            "setting": setting,
            "fold": fold,
            "seed": seed,
            "sums": {35 + fold: (100, found[fold])},
            "cpu_s": [2.0, 3.0][setting] + seed,
            "artifact_bytes": [100, 400][setting] + fold,
        }
        for (setting, seed), found in losses.items()
        for fold in (0, 1)
    ]
    reference, other = gains(settings, done)
    assert (reference["delta_logloss_relative"], reference["delta_lo"], reference["cpu_ratio"]) == (0.0, 0.0, 1.0)
    assert (reference["is_reference"], other["is_reference"]) == (True, False)
    assert other["delta_logloss_relative"] == pytest.approx(-0.075)
    assert (other["delta_lo"], other["delta_hi"]) == pytest.approx((-0.233828, 0.083828), abs=1e-6)
    # CPU: mean of 4 and 5 against that of 3 and 4; a fold's own vocabulary makes its model smaller, the largest counts.
    assert (other["cpu_s"], other["cpu_ratio"], other["artifact_bytes"]) == (4.5, pytest.approx(4.5 / 3.5), 401)
    assert (other["n_folds"], other["n_periods"], other["n_seeds"], other["k"]) == (2, 2, 2, 4)


def test_every_setting_changes_one_thing_of_the_contracts_own() -> None:
    contract = load(CONF / "promo.yml")
    reference, *others = reference_and_levers(contract, 28)
    assert reference.changes == {"k": min(contract.grid.nightly.k)}
    assert {other.lever for other in others} | {"reference"} == LEVERS
    for other in others:
        own = contract.training.hyperparameters() | reference.changes
        hyper = {name for name, value in other.changes.items() if own[name] != value}
        more = {n for n in ("window", "half_life", "without", "refit") if getattr(other, n) != getattr(reference, n)}
        if other.lever == "step size":  # for every k, so that eta can be seen to favour one
            hyper.discard("k")
        assert len(hyper | more) == 1, other
    assert len({(other.lever, other.name) for other in others}) == len(others)
    assert {other.window for other in others} == {None, 7, 14}  # a quarter and half of 28 periods


def test_field_groups_cover_the_history_and_leave_fields_to_train_on() -> None:
    contract = load(CONF / "promo.yml")
    found = groups(contract)
    history = [rule.name for rule in contract.fields if rule.transform == "history"]
    assert sorted(found["history of exposures"] + found["history of purchases"]) == sorted(history)
    assert found["plain entity fields"] == ("household", "store", "household_comp")
    assert all(set(contract.field_names) - set(fields) for fields in found.values())


def encoded_cycle(warehouse: Path) -> Cycle:
    """A cycle that stands on 12 periods of tiny rows: 0-5 train, 6 valid, 7 calib, 8-11 test."""
    rules = [FieldRule(name=name, side="pair", known_at="static", columns=["household_id"]) for name in FIELDS]
    rules[0] = rules[0].model_copy(update={"transform": "history", "of": "exposures"})
    changes = {
        "fields": tuple(rules),
        "training": Training(epochs=2, patience=1),
        "grid": Grids(nightly=Grid(k=(1, 8))),
        "min_count": 1,
    }
    contract = load(CONF / "promo.yml").model_copy(update=changes)
    cycle = Cycle(contract, dt.date(2017, 3, 27), warehouse, Progress(Console(quiet=True)))

    def rows(out: Path) -> None:
        RowStore.create(out, FIELDS, dict.fromkeys(range(12), 200))
        for number in range(12):
            # Labels of test periods that no kernel would take: reading them would end the job.
            X, y = draw(number, 200)
            put(out, number * 200, X, y if number < 8 else y + 7)

    def vocabulary(out: Path) -> None:
        sizes = zip(FIELDS, (2, 5, 9), strict=True)  # values beside the OOV feature
        counts = [{"field": name, "value": str(i), "n": 9} for name, size in sizes for i in range(size)]
        pq.write_table(numbered(pl.DataFrame(counts), FIELDS), out / "part-0.parquet")

    parts = ["train"] * 6 + ["valid", "calib"] + ["test"] * 4
    rates = [
        {"period": cycle.periods.day(n), "split": part, "exposures": 200, "conversions": 50, "is_mature": True}
        | {"conversions_first": 50, "conversions_former": 50}
        for n, part in enumerate(parts)
    ]
    cycle.make("rows", "jobs.row_arrays", {}, None, rows)
    cycle.make("vocabulary", "jobs.encode", {}, None, vocabulary)
    cycle.lake.write_fact("label_rates", "tiny", rates)
    cycle.remember({"label_rates": "tiny"})
    return cycle


def test_the_job_stays_before_the_test_periods_and_is_reused(spark, tmp_path) -> None:
    cycle, options = encoded_cycle(tmp_path), Options(folds=2, test_periods=1, seeds=1)
    assert levers.planned(cycle, options) == [
        Fold([0, 3], [4, 4], [5, 5], [6, 6]),
        Fold([0, 4], [5, 5], [6, 6], [7, 7]),
    ]
    rows = levers.run(cycle, spark, options).table().to_pylist()
    assert [row["is_reference"] for row in rows] == [True] + [False] * (len(rows) - 1)
    assert {row["lever"] for row in rows} == LEVERS
    assert all(row["n_folds"] == 2 and row["n_periods"] == 2 and row["n_seeds"] == 1 for row in rows)
    assert all(row["delta_lo"] <= row["delta_logloss_relative"] <= row["delta_hi"] for row in rows)
    by_name = {row["setting"]: row for row in rows}
    assert by_name["k = 8"]["artifact_bytes"] > by_name["k = 1"]["artifact_bytes"]
    assert by_name["without history of exposures"]["artifact_bytes"] < by_name["k = 1"]["artifact_bytes"]
    written = cycle.dataset("lever_gain").manifest["run"]
    assert levers.run(cycle, spark, options).manifest["run"] == written
    with pytest.raises(FoldError, match="use fewer or shorter folds"):
        levers.run(cycle, spark, Options(folds=3, test_periods=3))
