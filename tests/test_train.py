"""The training job on the small world: rows as arrays, the plan, strategies, facts, warm start, frozen block."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from ffm_udf import FFM
from ffm_udf import card as cards
from ffm_udf.scoring import ScoringModel
from jobs import cli, encode, facts, ingest, models, row_arrays, train
from jobs.contract import ContractError
from jobs.progress import Progress
from jobs.training_plan import Options, Strategy, TrainError
from jobs.training_tasks import candidates, repeated, spans


def rows_of(night):
    return {row["model_id"]: row for row in night.cycle.dataset("models").table().to_pylist()}


def test_the_arrays_hold_every_example_in_time_order(night):
    cycle = night.cycle
    store, examples = row_arrays.opened(cycle), cycle.dataset("examples")
    frame = pl.concat([pl.read_parquet(path, hive_partitioning=False) for path in examples.files])
    assert store.fields == cycle.contract.field_names
    assert len(store.X) == len(frame)
    for number, (first, end) in store.periods.items():
        mine = frame.filter(pl.col("period_no") == number)
        assert end - first == len(mine)
        columns = [f"f_{name}" for name in store.fields]
        expected = np.column_stack([*(mine[name].to_numpy() for name in columns), mine["y"].to_numpy()])
        found = np.column_stack([store.X[first:end], store.y[first:end]])
        # Tasks write whole files, so rows of a period come file by file: compared as multisets.
        order = [np.lexsort(table.T[::-1]) for table in (expected, found)]
        np.testing.assert_array_equal(found[order[1]], expected[order[0]])


def test_spans_are_those_of_the_split_and_the_window_cuts_training(night):
    ends = spans(night.cycle)
    scoring = night.cycle.periods.scoring
    assert ends["test"] == [scoring - 3, scoring - 1]
    assert (ends["calib"], ends["valid"]) == ([scoring - 4] * 2, [scoring - 5] * 2)
    assert ends["train"][1] == scoring - 6
    cut = changed(night.cycle, window=2)
    assert spans(cut)["train"] == [scoring - 7, scoring - 6]
    assert spans(cut)["valid"] == ends["valid"]


def changed(cycle, **training):
    """The cycle with other values in the frozen block."""
    block = cycle.contract.training.model_copy(update=training)
    return replace(cycle, contract=cycle.contract.model_copy(update={"training": block}))


def test_only_k_and_seed_differ_in_the_sweep_and_every_model_has_its_id(night):
    tasks = candidates(night.cycle, Options(sweep=True), {"way": "sweep", "partitions": 1, "syncs": 1})
    ffm = [task for task in tasks if task["algorithm"] == "ffm"]
    assert {(t["hyperparameters"]["k"], t["hyperparameters"]["seed"]) for t in ffm} == {
        (k, seed) for k in (1, 2) for seed in range(1, 6)
    }
    frozen = [{n: v for n, v in t["hyperparameters"].items() if n not in ("k", "seed")} for t in ffm]
    assert all(each == frozen[0] for each in frozen)
    assert len({t["model_id"] for t in tasks}) == len(tasks) == 10 + 1 + 1 + 1 + 2 + 1
    others = [t["algorithm"] for t in tasks if t["algorithm"] != "ffm"]
    assert others == ["lightgbm", "lr", "lr_cross", "fm", "fm", "prior"]
    # What may take longest comes first, and of FFM the largest k.
    assert [task["algorithm"] for task in tasks[:5]] == others[:5]
    assert [task["hyperparameters"]["k"] for task in ffm] == [2] * 5 + [1] * 5
    assert candidates(night.cycle, Options(sweep=True), tasks[0]["strategy"])[0]["model_id"] == tasks[0]["model_id"]


@pytest.mark.parametrize("name", ["window", "half_life", "negative_rate", "eta"])
def test_a_model_of_another_frozen_block_is_another_model(night, name):
    values = {"window": 2, "half_life": 3.0, "negative_rate": 0.5, "eta": 0.2}
    own = {task["model_id"] for task in candidates(night.cycle, Options(), train.SWEEP) if task["algorithm"] == "ffm"}
    other = candidates(changed(night.cycle, **{name: values[name]}), Options(), train.SWEEP)
    assert not own & {task["model_id"] for task in other}


def test_costs_are_facts_by_stage_and_partition(night):
    table = pl.DataFrame(night.cycle.dataset("training_cost").table())
    assert set(table["model_id"]) == set(rows_of(night))
    ffm = table.filter(pl.col("model_id").str.starts_with("ffm") & (pl.col("stage") == "fit"))
    assert len(ffm) >= 4
    assert (ffm["cpu_s"] > 0).all()
    assert (ffm["peak_rss_mib"] > 10).all()
    assert (ffm["bytes_read"] > 0).all()
    for row in ffm.iter_rows(named=True):
        model = rows_of(night)[row["model_id"]]
        assert row["rows"] == model["train_rows"] * model["epochs"]
        assert row["artifact_bytes"] == model["artifact_bytes"]


def test_one_model_over_two_partitions_fills_the_same_facts(own_night, spark):
    cycle = own_night.cycle
    train.run(cycle, spark, Options(strategy=Strategy.mixing, partitions=2))
    found = [row for row in rows_of(own_night).values() if row["algorithm"] == "ffm"]
    assert {(row["strategy"], row["partitions"]) for row in found} == {("mixing", 2)}
    assert {row["role"] for row in found} == {"candidate", "rehearsal"}
    costs = pl.DataFrame(cycle.dataset("training_cost").table())
    for row in found:
        mine = costs.filter((pl.col("model_id") == row["model_id"]) & (pl.col("stage") == "pass"))
        assert sorted(mine["partition"]) == [0, 1]
        assert mine["rows"].sum() == row["train_rows"] * row["epochs"]
        assert mine["rows"].max() - mine["rows"].min() <= row["epochs"]
        ScoringModel(str(models.model_folder(cycle.warehouse, row["model_id"])))
    assert not any((cycle.warehouse / "mixing").iterdir())


@pytest.mark.slow
def test_a_warm_start_takes_the_candidates_of_another_cycle(own_night, spark):
    before = own_night.cycle
    later = cli.cycle_of(own_night.contract, "2017-03-20", before.warehouse)
    later.progress = Progress(Console(quiet=True))
    ingest.run(later, spark)
    encode.run(later, spark)
    train.run(later, spark)
    cold = {row["k"]: row["model_id"] for row in later.dataset("models").table().to_pylist() if is_candidate(row)}
    train.run(later, spark, Options(init=str(before.date)))
    names = {row["k"]: row["model_id"] for row in rows_of(own_night).values() if is_candidate(row)}
    found = [row for row in later.dataset("models").table().to_pylist() if is_candidate(row)]
    assert {row["k"]: row["init_model_id"] for row in found} == names
    for row in found:
        warm, other = (models.read_card(later.warehouse, name) for name in (row["model_id"], cold[row["k"]]))
        assert warm["curve"] != other["curve"]
        rehearsal = next(
            r
            for r in later.dataset("models").table().to_pylist()
            if r["candidate_id"] == row["model_id"] and r["role"] == "rehearsal"
        )
        assert rehearsal["init_model_id"] == row["init_model_id"]
    with pytest.raises(TrainError, match=r"init must be earlier than the cycle's date 2017-03-13, got 2017-03-20"):
        candidates(before, Options(init="2017-03-20"), train.SWEEP)
    with pytest.raises(TrainError, match="init must be the date of an earlier cycle, YYYY-MM-DD, got 'yesterday'"):
        candidates(before, Options(init="yesterday"), train.SWEEP)


def is_candidate(row):
    return row["algorithm"] == "ffm" and row["role"] == "candidate"


def test_every_candidate_keeps_the_epoch_before_its_best_one_to_start_from(night):
    for row in rows_of(night).values():
        folder = models.model_folder(night.cycle.warehouse, row["model_id"])
        assert (folder / cards.START).is_dir() == is_candidate(row)
        if is_candidate(row):
            start = FFM.load(folder / cards.START)
            assert start.weights_.layout.sums == "vector"
            size = sum(p.stat().st_size for p in folder.iterdir() if p.is_file() and p.name != cards.NAME)
            assert row["artifact_bytes"] == size  # of what serves; the start is not part of it


def test_a_rehearsal_repeats_the_candidate_on_more_rows(night):
    cycle = night.cycle
    candidate = next(row for row in rows_of(night).values() if is_candidate(row))
    card = models.read_card(cycle.warehouse, candidate["model_id"])
    task = repeated(cycle, card, "rehearsal", spans(cycle)["calib"][1])
    assert task["model_id"] in rows_of(night)
    assert task["train"] == [min(row_arrays.opened(cycle).periods), spans(cycle)["calib"][1]]
    assert task["hyperparameters"]["epochs"] == candidate["best_epoch"]


def test_a_refit_keeps_the_window_and_half_life_that_its_candidate_was_judged_with(night):
    """The command that refits does not have the options of the one that trained."""
    cycle, last = night.cycle, night.cycle.periods.last_matured
    candidate = next(row for row in rows_of(night).values() if is_candidate(row))
    card = models.read_card(cycle.warehouse, candidate["model_id"])
    cut = card | {"task": card["task"] | {"window": 2, "half_life": 3.0}}
    task = repeated(cycle, cut, "refit", last)
    assert (task["train"], task["window"], task["half_life"]) == ([last - 1, last], 2, 3.0)
    assert task["model_id"] != repeated(cycle, card, "refit", last)["model_id"]


def test_an_id_covers_the_candidate_that_a_model_repeats(night):
    cycle, last = night.cycle, night.cycle.periods.last_matured
    candidate = next(row for row in rows_of(night).values() if is_candidate(row))
    card = models.read_card(cycle.warehouse, candidate["model_id"])
    twin = repeated(cycle, card | {"model_id": "another"}, "rehearsal", last)
    assert twin["model_id"] != repeated(cycle, card, "rehearsal", last)["model_id"]


def test_a_start_that_has_seen_later_rows_is_refused(night, monkeypatch):
    from jobs import training_tasks

    cycle = night.cycle
    later = cli.cycle_of(night.contract, "2017-03-20", cycle.warehouse)
    ends = spans(cycle)
    # As if the later cycle's split left more to its test periods.
    shorter = ends | {"train": [ends["train"][0], ends["train"][1] - 1]}
    monkeypatch.setattr(training_tasks, "spans", lambda _: shorter)
    with pytest.raises(
        TrainError,
        match=r"init 2017-03-13 must not have learned from later periods, got 2017-01-30; training ends 2017-01-23",
    ):
        training_tasks.earlier(later, "2017-03-13")


def test_a_dry_run_prints_the_plan_and_trains_nothing(own_night):
    cycle = own_night.cycle
    cycle.progress = Progress(Console(file=io.StringIO(), record=True, width=220))
    before = set((cycle.warehouse / "models").iterdir())
    train.dry_run(cycle, Options(sweep=True), 2)
    text = cycle.progress.console.export_text()
    assert "16 models on" in text
    assert "strategy sweep" in text
    assert "lightgbm" in text
    assert '"eta": 0.1' in text
    assert set((cycle.warehouse / "models").iterdir()) == before


def test_options_of_the_command_line_are_checked_like_the_contract(night):
    with pytest.raises(ContractError, match=r"training\.negative_rate: Input should be less than or equal to 1"):
        cli.cycle_of(night.contract, None, night.cycle.warehouse, {"negative_rate": 1.5})
    cycle = cli.cycle_of(night.contract, None, night.cycle.warehouse, {"window": 3, "half_life": 2.5})
    assert (cycle.contract.training.window, cycle.contract.training.half_life) == (3, 2.5)
    assert cycle.contract.training.eta == night.cycle.contract.training.eta


def test_rows_of_models_are_those_of_the_facts(night):
    found = [models.read_card(night.cycle.warehouse, name) for name in rows_of(night)]
    assert facts.table("models", [train.model_row(card, 1) for card in found]).num_rows == len(found)


@pytest.mark.slow
def test_a_sweep_decides_k_and_the_next_night_keeps_its_verdict(own_night, spark):
    """Five seeds, all baselines, through evaluation; then a night with one seed."""
    from jobs import decide, decision_log, evaluate

    cycle, policies = own_night.cycle, [cli.policy(own_night.contract, f"{n}.yml") for n in ("gate", "rates", "value")]
    shutil.rmtree(cycle.warehouse / "releases", ignore_errors=True)
    train.run(cycle, spark, Options(sweep=True))
    evaluate.run(cycle, spark, *policies)
    swept = cycle.dataset("k_comparison").table().to_pylist()
    chosen = next(row["k"] for row in swept if row["is_verdict"])
    assert {(row["n_seeds"], row["is_provisional"], row["verdict_from"]) for row in swept} == {(5, False, None)}
    assert all(row["se_seed"] is not None for row in swept)
    baselines = {row["algorithm"] for row in cycle.dataset("baseline_comparison").table().to_pylist()}
    assert baselines == {"prior", "lr", "lr_cross", "lightgbm", "fm"}
    [logged] = [entry.payload for entry in decision_log.entries(cycle.warehouse) if entry.kind == "sweep"]
    assert (logged["k"], logged["ks"]) == (chosen, [1, 2])
    decide.build_evidence(cycle)
    train.run(cycle, spark, Options())
    evaluate.run(cycle, spark, *policies)
    nightly = cycle.dataset("k_comparison").table().to_pylist()
    assert next(row["k"] for row in nightly if row["is_verdict"]) == chosen
    assert {(row["n_seeds"], row["is_provisional"], row["verdict_from"]) for row in nightly} == {(1, False, cycle.date)}
