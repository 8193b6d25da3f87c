"""One night end to end in the small world: counts against an independent derivation, marts against scikit-learn."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import duckdb
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from ffm_udf import calibration, judged_rows, predictions, scoring
from ffm_udf.judged_rows import JudgedRows
from jobs import calibrators, champions, cli, decision_log, models, nightly, releases, score
from jobs.block_scores import ScoreError

WEEK = 12


@pytest.fixture(scope="module")
def mart(night):
    with duckdb.connect(str(night.release.folder / "mart.duckdb"), read_only=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def derived(small_tables):
    """The exposures of weeks before the scoring week, derived in polars from the definition in docs/data.md."""
    tables = {
        name: pl.read_parquet(small_tables / f"{name}.parquet") for name in ("transactions", "promotions", "products")
    }
    products = tables["products"].filter(pl.col("product_category").is_not_null())
    lines = tables["transactions"].filter(pl.col("week") < WEEK)
    family = ["manufacturer_id", "product_category"]
    on_ad = (
        tables["promotions"]
        .filter(pl.col("mailer_location").is_in(["D", "H"]) & (pl.col("week") < WEEK))
        .select("product_id", "store_id", "week")
        .unique()
        .join(products, on="product_id")
    )
    visits = lines.select("household_id", "store_id", "week").unique()
    shown = visits.join(on_ad.select("store_id", "week", *family).unique(), on=["store_id", "week"])
    bought = (
        lines.join(on_ad, on=["product_id", "store_id", "week"])
        .group_by("household_id", "store_id", "week", *family)
        .agg(pl.col("transaction_timestamp").min().alias("conversion_time"), pl.col("sales_value").sum())
    )
    return shown.join(bought, on=["household_id", "store_id", "week", *family], how="left")


def test_exposures_and_conversions_are_those_of_the_definition(night, derived):
    rates = pl.DataFrame(night.cycle.dataset("label_rates").table())
    per_week = (
        derived.group_by("week").agg(pl.len().alias("n"), pl.col("conversion_time").count().alias("c")).sort("week")
    )
    assert rates["exposures"].to_list() == per_week["n"].to_list()
    assert rates["conversions"].to_list() == per_week["c"].to_list()
    kept = night.cycle.dataset("exposures").under("status=kept")
    value = sum(pq.ParquetFile(path).read(["sales_value"])["sales_value"].to_numpy().sum() for path in kept)
    assert value == pytest.approx(derived["sales_value"].sum())


def test_nothing_of_the_scoring_week_or_later_is_read(night):
    through = night.cycle.periods.data_through.replace(tzinfo=None)
    for path in night.cycle.dataset("exposures").under("status=kept"):
        times = pq.ParquetFile(path).read(["exposure_time", "conversion_time"])
        for column in times.columns:
            assert max(t for t in column.to_pylist() if t).replace(tzinfo=None) < through
    for path in night.cycle.dataset("purchases").files:
        assert (
            max(pq.ParquetFile(path).read(["purchase_time"])["purchase_time"].to_pylist()).replace(tzinfo=None)
            < through
        )


def test_split_is_by_time_and_vocabulary_from_training_rows(night):
    rates = pl.DataFrame(night.cycle.dataset("label_rates").table()).filter(pl.col("split") != "unused")
    order = rates.group_by("split").agg(pl.col("period").min().alias("a"), pl.col("period").max().alias("b")).sort("a")
    assert order["split"].to_list() == ["train", "valid", "calib", "test"]
    assert (order["a"][1:] > order["b"][:-1]).all()
    vocabulary = pl.DataFrame(night.cycle.dataset("vocabulary").table())
    train_rows = rates.filter(pl.col("split") == "train")["exposures"].sum()
    seen = vocabulary.filter(pl.col("value").is_not_null())
    assert seen["n"].min() >= night.cycle.contract.min_count
    assert (seen.group_by("field").agg(pl.col("n").sum())["n"] <= train_rows).all()
    assert seen.filter(pl.col("field") == "brand").is_empty()  # not a field of the contract


def said(night, part: str) -> tuple[JudgedRows, Callable[[str], np.ndarray]]:
    """The judged rows of the night, and the p of a model (by id) on those of `part`."""
    dataset = night.cycle.dataset("predictions")
    rows, found = predictions.opened(
        {"judged": str(night.cycle.dataset("judged_rows").root), "predictions": str(dataset.root)}
    )
    return rows, lambda model_id: found.p(dataset.manifest["params"].index(model_id), rows.splits[part])


def test_marts_hold_the_metrics_scikit_learn_finds_on_the_same_predictions(night, mart):
    rows, p_of = said(night, "test")
    y = rows.y[rows.splits["test"]]
    shown = mart.execute("select model_id, logloss, auc, pr_auc from fct_accuracy_cost_by_k").fetchall()
    assert len(shown) == 4  # two k, logistic regression and the prior
    for model_id, loss, area, precision in shown:
        p = p_of(model_id)
        assert loss == pytest.approx(log_loss(y, p), rel=1e-12)
        assert area == pytest.approx(roc_auc_score(y, p), rel=1e-12)
        assert precision == pytest.approx(average_precision_score(y, p), rel=1e-12)


def test_metrics_by_period_are_scikit_learns(night, mart):
    rows, p_of = said(night, "test")
    test = rows.splits["test"]
    found = mart.execute(
        "select model_id, period, logloss, brier, auc, pr_auc, calibration_ratio, normalized_entropy"
        " from fct_period_metrics where split = 'test'"
    ).fetchall()
    assert len(found) == 4 * 3
    for model_id, period, loss, brier, area, precision, ratio, entropy in found:
        here = rows.periods[night.cycle.periods.number(period)]
        y, p = rows.y[here], p_of(model_id)[here.start - test.start : here.stop - test.start]
        assert (loss, brier) == pytest.approx((log_loss(y, p), brier_score_loss(y, p)), rel=1e-12)
        assert (area, precision) == pytest.approx((roc_auc_score(y, p), average_precision_score(y, p)), rel=1e-12)
        assert ratio == pytest.approx(p.mean() / y.mean(), rel=1e-12)
        assert entropy == pytest.approx(log_loss(y, p) / log_loss(y, np.full(len(y), y.mean())), rel=1e-12)


def test_judged_rows_are_the_examples_in_the_order_of_the_row_store(night):
    """Counts, sums and slices by period are those of the examples, and row i has the features of its own example."""
    rows, _ = said(night, "test")
    dataset, contract = night.cycle.dataset("examples"), night.cycle.contract
    parts = [
        pl.read_parquet(path, hive_partitioning=False)
        for part in ("valid", "calib", "test")
        for path in dataset.under(f"split={part}")
    ]
    examples = pl.concat(parts)
    assert len(rows.y) == len(examples)
    for number, here in rows.periods.items():
        mine = examples.filter(pl.col("period_no") == number)
        assert (here.stop - here.start, rows.y[here].sum()) == (len(mine), mine["y"].sum())
        assert rows.value[here].sum() == pytest.approx(mine["value"].sum())
        for place, name in enumerate(rows.slice_names):
            codes, counts = np.unique(rows.slices[here, place], return_counts=True)
            texts = {rows.slice_values[place][code]: n for code, n in zip(codes, counts, strict=True)}
            assert texts == dict(mine[f"s_{name}"].value_counts().iter_rows())
        entity = judged_rows.hashed(mine["entity_id"].to_arrow().cast("string"))
        candidate = judged_rows.hashed(mine["candidate_id"].to_arrow().cast("string"))
        X = mine.select(f"f_{name}" for name in contract.field_names).to_numpy()
        expected = sorted(zip(entity.tolist(), candidate.tolist(), mine["y"], map(tuple, X.tolist()), strict=True))
        found = zip(
            rows.entity[here].tolist(), rows.candidate[here].tolist(), rows.y[here], map(tuple, rows.X[here].tolist()),
            strict=True,
        )  # fmt: skip
        assert sorted(found) == expected


def decision(night):
    [entry] = [e for e in decision_log.entries(night.cycle.warehouse) if e.kind == "decision"]
    return entry


@pytest.mark.slow
def test_the_test_periods_are_opened_once_and_the_log_says_so(own_night):
    opened = [e.payload for e in decision_log.entries(own_night.cycle.warehouse) if e.kind == "opening"]
    assert [(o["contract"], o["nth"], o["models"]) for o in opened] == [
        ("small", 1, 4)
    ]  # two k, logistic regression and the prior
    assert [row["nth"] for row in own_night.cycle.dataset("test_openings").table().to_pylist()] == [1]
    own_night.again()  # everything is reused: nobody looked again
    assert sum(e.kind == "opening" for e in decision_log.entries(own_night.cycle.warehouse)) == 1


def test_what_is_judged_on_test_has_learned_from_everything_before_it(night):
    rows = {row["model_id"]: row for row in night.cycle.dataset("models").table().to_pylist()}
    rates = night.cycle.dataset("label_rates").table().to_pylist()
    last = {part: max(row["period"] for row in rates if row["split"] == part) for part in ("train", "calib")}
    rehearsals = [row for row in rows.values() if row["role"] == "rehearsal"]
    assert len(rehearsals) == 4
    for row in rehearsals:
        candidate = rows[row["candidate_id"]]
        assert (candidate["train_through"], row["train_through"]) == (last["train"], last["calib"])
        assert row["epochs"] == candidate["best_epoch"]
        assert (row["k"], row["seed"], row["algorithm"]) == (candidate["k"], candidate["seed"], candidate["algorithm"])


def test_predictions_are_those_of_the_rehearsals_calibrated_on_the_periods_just_before_each_period(night):
    """Rolling origin: test period t gets the calibrator of the one calib period's length before it."""
    rows, p_of = said(night, "test")
    last = night.cycle.periods.scoring - 1
    before, now, test = rows.periods[last - 1], rows.periods[last], rows.splits["test"]
    rehearsals = {
        row["candidate_id"]: row["model_id"]
        for row in night.cycle.dataset("models").table().to_pylist()
        if row["role"] == "rehearsal"
    }
    for model_id in night.cycle.dataset("predictions").manifest["params"]:
        model = scoring.opened(str(models.model_folder(night.cycle.warehouse, rehearsals[model_id]).resolve()))
        calibrator = calibration.fit(model.score(rows.X[before])[0], rows.y[before])
        expected = calibrator(model.score(rows.X[now])[0])
        mine = p_of(model_id)[now.start - test.start : now.stop - test.start]
        np.testing.assert_allclose(mine, expected, rtol=1e-6)


def test_the_champion_serves_with_the_calibrator_of_the_last_matured_period_at_its_own_level(night):
    card = models.read_card(night.cycle.warehouse, champions.champion(night.cycle.warehouse, "small"))
    candidate = decision(night).payload["model_id"]
    learned = calibrators.serving_calibrator(night.cycle, candidate)
    assert card["task"]["calibrator"] == learned
    assert card["calibrator"]["slope"] == learned["slope"]
    rows, _ = said(night, "test")
    here = rows.periods[night.cycle.periods.last_matured]
    model = scoring.opened(str(models.model_folder(night.cycle.warehouse, card["model_id"]).resolve()))
    assert model.score(rows.X[here])[1].sum() == pytest.approx(rows.y[here].sum(), rel=1e-4)


def test_the_first_test_period_has_the_candidates_calibrator_at_the_rehearsals_level(night):
    rows, p_of = said(night, "test")
    first = rows.periods[rows.periods_of("test")[0]]
    calib = rows.splits["calib"]
    for row in night.cycle.dataset("models").table().to_pylist():
        if row["role"] == "rehearsal":
            own = scoring.opened(str(models.model_folder(night.cycle.warehouse, row["model_id"]).resolve()))
            assert own.score(rows.X[calib])[1].sum() == pytest.approx(rows.y[calib].sum(), rel=1e-4)
            expected = own.score(rows.X[first])[1]
            found = p_of(row["candidate_id"])[: first.stop - first.start]
            np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_on_calib_a_candidate_is_calibrated(night):
    """Platt's calibrator sums to the conversions of the rows it was learned from: the calib period's."""
    rows, p_of = said(night, "calib")
    for model_id in night.cycle.dataset("predictions").manifest["params"]:
        assert p_of(model_id).sum() == pytest.approx(rows.y[rows.splits["calib"]].sum(), rel=1e-4)


def test_scoring_gives_a_past_exposure_the_features_it_had_in_training(night, spark, monkeypatch):
    """Train/serve parity: the pairs of a past period, built by the scoring path, are encoded as the examples were."""
    from pyspark.sql import functions as F

    from jobs import encode

    contract, periods, dataset = night.cycle.contract, night.cycle.periods, night.cycle.dataset
    tables = encode.events(night.cycle, spark)
    number = periods.scoring - 1
    rows = tables["exposures"].where(F.col("period_no") == number)
    wanted = [c for rule in contract.fields for c in rule.columns]
    pairs = rows.select(*dict.fromkeys([*wanted, *contract.match]), "period_no")
    rate = encode.base_rate(dataset("label_rates").table())
    values = encode.values(pairs, contract, periods, tables, rate, encode.keys(contract))
    coded = pl.DataFrame(encode.encoded(values, dataset("vocabulary").table()).toArrow())
    examples = pl.concat(
        [pl.read_parquet(path, hive_partitioning=False) for path in dataset("examples").under("split=test")]
    )
    past = examples.filter(pl.col("period_no") == number).select(coded.columns)
    keys = ["entity_id", "candidate_id", "match_id"]
    assert coded.sort(keys).equals(past.cast(dict(coded.schema)).sort(keys))


def test_only_k_varies_and_parameters_have_their_closed_form(night, mart):
    rows = mart.execute(
        "select k, n_features, n_fields, n_parameters, hyperparameters from dim_model"
        " where algorithm = 'ffm' and role = 'candidate'"
    ).fetchall()
    assert sorted(row[0] for row in rows) == [1, 2]
    assert len({row[4] for row in rows}) == 1
    for k, features, fields, parameters, _ in rows:
        assert parameters == features * ((fields - 1) * k + 1) + 1


def test_decision_names_a_refit_champion_and_the_log_is_intact(night):
    entry = decision(night)
    assert entry.payload["verdict"] == "GO", entry.payload
    champion = champions.champion(night.cycle.warehouse, "small")
    card = models.read_card(night.cycle.warehouse, champion)
    assert card["role"] == "refit"
    assert card["lineage"]["train_through"] == str(night.cycle.periods.day(night.cycle.periods.scoring - 1))
    assert decision_log.verify(night.cycle.warehouse).torn_bytes == 0


@pytest.mark.slow
def test_rerun_reuses_everything_and_gives_the_same_release(own_night):
    before = own_night.release.manifest["content_sha256"]
    models = {path.name: path.stat().st_mtime_ns for path in (own_night.cycle.warehouse / "models").iterdir()}
    again = own_night.again()
    assert again.release.release_id == own_night.release.release_id
    assert again.release.manifest["content_sha256"] == before
    stages = again.cycle.state()["stages"]
    reused = {name for name, stage in stages.items() if stage["status"] == "reused"}
    assert reused >= {"ingest", "encode", "train", "evaluate", "refit", "score", "monitor"}
    after = {path.name: path.stat().st_mtime_ns for path in (own_night.cycle.warehouse / "models").iterdir()}
    assert {name: when for name, when in after.items() if name in models and name != "aliases.json"} == {
        name: when for name, when in models.items() if name != "aliases.json"
    }


@pytest.mark.slow
def test_computed_anew_the_data_sets_have_the_same_bytes(own_night):
    names = ("exposures", "purchases", "members", "vocabulary", "examples", "rows", "score_inputs", "score_candidates")
    [scoring] = own_night.cycle.dataset("scoring").table().to_pylist()
    before = {name: own_night.cycle.dataset(name).content for name in names}
    shutil.rmtree(own_night.cycle.warehouse / "lake")
    own_night.cycle.warehouse.joinpath("cycles").rename(own_night.cycle.warehouse / "old_cycles")
    again = own_night.again()
    assert {name: again.cycle.dataset(name).content for name in names} == before
    [anew] = (
        again.cycle.dataset("scoring").table().to_pylist()
    )  # the files say when they were made, their hash does not
    assert anew["scores_sha256"] == scoring["scores_sha256"]
    assert anew["scored_at"] > scoring["scored_at"]


@pytest.mark.slow
def test_a_failing_night_leaves_the_last_release_and_says_why(own_night, monkeypatch):
    current = releases.current(own_night.cycle.warehouse)

    def broken(*args, **kwargs):
        raise ScoreError("scores must be complete probabilities, got 3 scores that are not a number")

    monkeypatch.setattr(score, "run", broken)
    with pytest.raises(ScoreError, match="3 scores that are not a number"):
        nightly.run(own_night.cycle, lambda name: cli.policy(own_night.contract, name))
    assert releases.current(own_night.cycle.warehouse).release_id == current.release_id
    pointer = json.loads((own_night.cycle.warehouse / "current.json").read_text())
    assert pointer["release_id"] == current.release_id


def test_calibration_windows_end_before_the_period_they_serve(night):
    windows = calibrators.calibration_windows(night.cycle)
    scoring = night.cycle.periods.scoring
    assert windows == {target: [target - 1] for target in range(scoring - 3, scoring + 1)}


def test_release_carries_every_mart_as_parquet(night, mart):
    names = {
        row[0] for row in mart.execute("select table_name from duckdb_tables() where schema_name = 'main'").fetchall()
    }
    exported = {path.stem for path in (night.release.folder / "marts").glob("*.parquet")}
    assert names == exported
    assert {"fct_accuracy_cost_by_k", "fct_entity_scores", "fct_decisions"} <= names
