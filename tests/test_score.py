"""The score job on a whole small night: every pair against the row kernel, audits, fallbacks, resuming, shadows."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pair_rows import expanded
from polars.testing import assert_frame_equal
from row_task import FIELDS, draw, training_task
from typer.testing import CliRunner

from ffm_udf import score_blocks, scoring, workers
from jobs import block_scores, champions, cli, decision_log, exit_codes, models, score, score_inputs, serving
from jobs.block_scores import PARTS, ScoreError
from jobs.facts import FACTS
from jobs.watched_job import JobError

KEYS = ["entity_id", "candidate_id", "match_id"]


def table(cycle, name):
    return pl.DataFrame(cycle.dataset(name).table())


def bands(night):
    return cli.policy(night.contract, "scores.yml")


def champion_of(night):
    return champions.champion(night.cycle.warehouse, "small")


@pytest.fixture(scope="module")
def rows(night):
    """All pairs as encoded rows, X int32 [pairs, fields] in the order of their keys."""
    frame = expanded(night.cycle, night.cycle.dataset("score_inputs")).sort(KEYS)
    return frame.select(KEYS), np.ascontiguousarray(frame.drop(KEYS).to_numpy(), np.int32)


def test_every_entity_has_every_candidate_of_its_store_once(night):
    frame, entities = table(night.cycle, "scores"), table(night.cycle, "entities")
    wanted = entities.join(table(night.cycle, "candidates"), on="match_id", how="inner")
    assert len(entities) == 250
    assert len(frame) == len(wanted) == entities["candidates"].sum()
    assert frame.select(KEYS).sort(KEYS).equals(wanted.select(KEYS).sort(KEYS))


def test_every_score_is_the_row_kernels(night, rows):
    keys, X = rows
    frame = table(night.cycle, "scores").sort(KEYS)
    assert frame.select(KEYS).equals(keys)
    model = scoring.opened(str(models.model_folder(night.cycle.warehouse, champion_of(night))))
    raw, p = model.score(X)
    np.testing.assert_allclose(frame["raw_score"].to_numpy(), raw, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(frame["p"].to_numpy(), p, rtol=1e-5)
    unknown = [r["feature_id"] for r in table(night.cycle, "vocabulary").to_dicts() if r["value"] is None]
    np.testing.assert_allclose(frame["oov_share"].to_numpy(), (np.array(unknown) == X).mean(axis=1), atol=1e-7)


def test_ranks_follow_the_raw_score_and_ties_the_candidate(night):
    frame = table(night.cycle, "scores")
    order = frame.sort(["entity_id", "raw_score", "candidate_id"], descending=[False, True, False])
    place = order.select(pl.int_range(1, pl.len() + 1).over("entity_id").alias("place"))["place"]
    assert order["rank_in_entity"].to_list() == place.to_list()


def test_top_scores_are_the_best_of_all(night):
    N, frame = night.cycle.contract.top_n, table(night.cycle, "scores")
    order = ["raw_score", "entity_id", "match_id"]
    frame = frame.sort(["candidate_id", *order], descending=[False, True, False, False]).with_columns(
        pl.int_range(1, pl.len() + 1).over("candidate_id").cast(pl.Int32).alias("rank_in_candidate")
    )
    ranks = {name: pl.when(pl.col(name) <= N).then(name) for name in ("rank_in_entity", "rank_in_candidate")}
    wanted = frame.with_columns(**ranks).filter(pl.any_horizontal(pl.col(*ranks).is_not_null()))
    top = table(night.cycle, "top_scores")
    assert wanted.select(top.columns).sort(KEYS).equals(top.sort(KEYS))


def test_sums_of_entities_and_candidates(night):
    frame = table(night.cycle, "scores").with_columns(pl.col("p", "oov_share").cast(pl.Float64))
    first = pl.col("candidate_id").filter(pl.col("rank_in_entity") == 1).first()
    p, n = pl.col("p"), pl.len().cast(pl.Int64)
    wanted = frame.group_by("entity_id", "match_id").agg(
        n.alias("candidates"),
        p.sum().alias("sum_p"),
        p.min().alias("min_p"),
        p.max().alias("max_p"),
        first.alias("best_candidate_id"),
        pl.col("oov_share").sum().alias("sum_oov_share"),
    )
    found = table(night.cycle, "score_entities")
    assert_frame_equal(found, wanted, check_row_order=False, rel_tol=1e-6)
    wanted = frame.group_by("candidate_id").agg(n.alias("entities"), p.sum().alias("sum_p"), p.max().alias("max_p"))
    found = table(night.cycle, "score_candidates")
    assert_frame_equal(found, wanted, check_row_order=False, rel_tol=1e-6)


def test_files_have_the_declared_columns(night):
    for name in (*PARTS, "scoring", "score_audits", "shadow_comparison", "entities", "candidates"):
        found = night.cycle.dataset(name).table().schema
        assert dict(zip(found.names, found.types, strict=True)) == {c.name: c.type for c in FACTS[name]}, name


def test_what_is_served_is_said_once(night):
    [row] = night.cycle.dataset("scoring").table().to_pylist()
    blocks = table(night.cycle, "score_blocks")
    assert (row["source"], row["reason"], row["is_degraded"], row["engine"]) == ("model", "", False, "all_pairs")
    assert row["model_id"] == row["requested_model_id"] == champion_of(night)
    assert row["pairs"] == len(table(night.cycle, "scores")) == blocks["pairs"].sum()
    assert (row["blocks"], row["entities"]) == (len(blocks), 250)
    assert row["scored_at"] == table(night.cycle, "scores")["scored_at"].unique().item()
    audits = table(night.cycle, "score_audits")
    assert audits["passed"].all()
    assert audits["attempt"].unique().to_list() == [1]


def test_a_process_loads_each_model_once(night):
    assert table(night.cycle, "score_blocks")["model_loads"].to_list() == [1]


def test_the_tree_shows_the_scores_of_the_date(night):
    tree = night.cycle.warehouse / "scores" / "small"
    frame = pl.read_parquet(tree / f"score_date={night.cycle.date}" / "*.parquet", hive_partitioning=False)
    assert frame.sort(KEYS).equals(table(night.cycle, "scores").sort(KEYS))


@pytest.fixture
def in_blocks(own_night, monkeypatch):
    """The night's warehouse with its score_inputs cut anew, into blocks of about 60 entities, and no scores."""
    monkeypatch.setattr(score_inputs, "PAIRS_PER_BLOCK", 1500)
    lake = own_night.cycle.warehouse / "lake"
    for name in ("score_inputs", *PARTS):
        shutil.rmtree(lake / name)
    return own_night


def scored(night, spark):
    chosen = serving.champion_or_prior(night.cycle)
    return block_scores.score(night.cycle, spark, chosen, block_scores.inputs_of(night.cycle, spark, chosen))


def test_an_interrupted_run_goes_on_with_the_blocks_that_are_missing(in_blocks, night, spark, monkeypatch):
    """Five blocks; one task dies after the others are done. The rerun scores that one, and the result is as it was."""
    work = in_blocks.cycle.warehouse / "work"
    original = block_scores._tasks

    def without_model(*args):
        tasks = original(*args)
        return [*tasks[:-1], tasks[-1] | {"model": str(work / "nowhere")}]

    monkeypatch.setattr(block_scores, "_tasks", without_model)
    with pytest.raises(JobError, match="nowhere"):
        scored(in_blocks, spark)
    [folder] = [path for path in work.glob("[!.]*") if path.name != "dbt"]
    done = {path.parent.name for path in folder.glob("block-*/stats.json")}
    assert done
    assert "block-00004" not in done
    assert in_blocks.cycle.lake.find("scores", in_blocks.cycle.state()["datasets"]["scores"]) is None
    began = json.loads((folder / "plan.json").read_text())["scored_at"]
    monkeypatch.setattr(block_scores, "_tasks", original)
    found = scored(in_blocks, spark)
    assert {f"block-{row['block']:05d}" for row in found.blocks if row["is_resumed"]} == done
    assert len(found.blocks) == 5
    assert found.first_row()["scored_at"].isoformat() == began
    whole = pl.DataFrame(found.datasets["scores"].table()).drop("scored_at")
    # Blocks of another size multiply in another order: equal but for rounding.
    assert_frame_equal(
        whole, table(night.cycle, "scores").drop("scored_at"), check_row_order=False, rel_tol=1e-5, abs_tol=1e-5
    )
    assert max(row["model_loads"] for row in found.blocks) == 1
    assert not folder.exists()


def test_top_scores_and_sums_do_not_depend_on_the_blocks(in_blocks, night, spark):
    found = scored(in_blocks, spark)
    top = pl.DataFrame(found.datasets["top_scores"].table()).drop("scored_at")
    assert_frame_equal(top, table(night.cycle, "top_scores").drop("scored_at"), rel_tol=1e-5, abs_tol=1e-5)
    for name in ("score_entities", "score_candidates"):
        assert_frame_equal(
            pl.DataFrame(found.datasets[name].table()), table(night.cycle, name), rel_tol=1e-5, abs_tol=1e-5
        )


def test_pairs_of_unknown_values_fall_back_to_the_prior(in_blocks, night, spark, rows):
    """With a limit of no unknown field at all every pair that has one is the prior's; the others stay as they were."""
    in_blocks.cycle.contract = in_blocks.cycle.contract.model_copy(update={"max_oov_share": 0.0})
    found = scored(in_blocks, spark)
    frame = pl.DataFrame(found.datasets["scores"].table()).sort(KEYS)
    before = table(night.cycle, "scores").sort(KEYS)
    falls = frame["oov_share"].to_numpy() > 0
    assert 0 < falls.sum() < len(falls)
    assert frame["source"].to_list() == ["prior" if fell else "model" for fell in falls]
    np.testing.assert_allclose(frame["p"].to_numpy()[~falls], before["p"].to_numpy()[~falls], rtol=1e-5)
    card = serving.fallback(in_blocks.cycle, serving.champion_or_prior(in_blocks.cycle))
    prior = scoring.ScoringModel(card["model"])
    _, p = prior.score(rows[1])
    np.testing.assert_allclose(frame["p"].to_numpy()[falls], p[falls], rtol=1e-5)
    # The raw score is what the champion's calibrator turns into that p, so ranks by raw score are ranks by p.
    own = frame.filter(pl.col("entity_id") == frame["entity_id"][0]).sort("rank_in_entity")
    assert own["p"].is_sorted(descending=True)


def damage(night):
    folder = models.model_folder(night.cycle.warehouse, champion_of(night))
    largest = max(folder.glob("*.npy"), key=lambda path: path.stat().st_size)
    largest.chmod(0o644)
    largest.write_bytes(b"broken")
    scoring.opened.cache_clear()


def test_a_damaged_champion_leaves_the_prior_and_an_exit_code(own_night, spark):
    damage(own_night)
    found = score.run(own_night.cycle, spark, bands(own_night))
    [row] = found.table().to_pylist()
    assert (row["source"], row["is_degraded"], row["engine"]) == ("prior", True, "rows")
    assert row["requested_model_id"] == champion_of(own_night)
    assert "cannot be used" in row["reason"]
    assert set(table(own_night.cycle, "scores")["source"]) == {"prior"}
    told = CliRunner().invoke(
        cli.app, ["score", "--contract", str(own_night.contract), "--warehouse", str(own_night.cycle.warehouse)]
    )
    assert told.exit_code == exit_codes.DEGRADED
    assert "prior scores are served" in told.stderr


def test_a_champion_of_other_features_leaves_the_prior(own_night):
    assert serving.champion_or_prior(own_night.cycle).source == "model"
    own_night.cycle.contract = own_night.cycle.contract.model_copy(update={"history_smoothing": 5.0})
    found = serving.champion_or_prior(own_night.cycle)
    assert (found.source, found.is_degraded) == ("prior", True)


@pytest.mark.slow
def test_scores_that_are_too_high_are_never_served(own_night, monkeypatch):
    """Every logit is too high: scoring succeeds, the audit of the mean does not. Yesterday's scores stay, marked stale,
    and are published."""
    before = table(own_night.cycle, "scores")
    decided = score.serving.champion_or_prior

    def swapped(cycle):
        found = decided(cycle)
        return serving.Serving(found.model_id, "model", {"slope": 1.0, "intercept": 4.0}, found.requested_model_id)

    monkeypatch.setattr(score.serving, "champion_or_prior", swapped)
    again = own_night.again()
    [row] = again.cycle.dataset("scoring").table().to_pylist()
    assert (row["source"], row["is_degraded"]) == ("stale", True)
    assert "mean_p" in row["reason"]
    after = table(own_night.cycle, "scores")
    assert set(after["source"]) == {"stale"}
    assert after.drop("source").equals(before.drop("source"))
    audits = table(own_night.cycle, "score_audits")
    assert not audits.filter(pl.col("audit").str.starts_with("mean_p"))["passed"].any()
    assert again.release.is_current
    mart = pl.read_parquet(again.release.folder / "marts" / "fct_entity_scores.parquet")
    assert set(mart["score_source"]) == {"stale"}


def test_with_no_scores_to_keep_a_failed_audit_leaves_the_prior_or_nothing(own_night, spark, monkeypatch, tmp_path):
    monkeypatch.setattr(score.stale_scores, "last_good", lambda cycle: None)
    strict = tmp_path / "scores.yml"
    text = bands(own_night).read_text()
    strict.write_text(
        text.replace("mean_p_of_comparable_pairs:\n  low: 0.5", "mean_p_of_comparable_pairs:\n  low: 1.9")
    )
    with pytest.raises(ScoreError, match=r"no scores may be seen: .* failed mean_p.*no earlier release has scores"):
        score.run(own_night.cycle, spark, strict)
    audits = own_night.cycle.dataset("scoring").table().to_pylist()
    assert audits[0]["source"] == "model"  # the cycle still stands on what was served before


@pytest.mark.slow
def test_the_shadow_is_scored_kept_and_not_served(own_night, spark):
    rows = table(own_night.cycle, "models").filter(pl.col("algorithm") == "ffm", pl.col("role") == "candidate")
    other = rows.sort("k")["model_id"][-1]
    [row] = score.run(own_night.cycle, spark, bands(own_night), other).table().to_pylist()
    assert (row["model_id"], row["shadow_model_id"]) == (champion_of(own_night), other)
    shadow = table(own_night.cycle, "shadow_scores")
    served = table(own_night.cycle, "scores")
    assert set(shadow["model_id"]) == {other}
    assert set(served["model_id"]) == {champion_of(own_night)}
    both = served.join(shadow, on=KEYS)
    assert len(both) == len(served) == len(shadow)
    found = table(own_night.cycle, "shadow_comparison").filter(pl.col("scope") == "all").to_dicts()[0]
    assert found["correlation"] == pytest.approx(
        np.corrcoef(both["raw_score"], both["raw_score_right"])[0, 1], abs=1e-6
    )
    assert found["mean_p_shadow"] == pytest.approx(shadow["p"].cast(pl.Float64).mean(), rel=1e-6)


def test_challenger_is_the_last_candidate(night):
    [entry] = [entry for entry in decision_log.entries(night.cycle.warehouse) if entry.kind == "decision"]
    assert score._shadow(night.cycle, "challenger").model_id == entry.payload["model_id"]
    before = cli.cycle_of(night.contract, "2017-03-06", night.cycle.warehouse)
    with pytest.raises(ScoreError, match="no model of small was judged up to 2017-03-06"):
        score._shadow(before, "challenger")


def test_the_command_takes_the_champion_only(night):
    told = CliRunner().invoke(
        cli.app,
        ["score", "--model", "ffm-1", "--contract", str(night.contract), "--warehouse", str(night.cycle.warehouse)],
    )
    assert told.exit_code == exit_codes.FAILED
    assert "--model must be champion, got 'ffm-1': promote it with the gate" in told.stderr


def test_a_block_that_is_done_is_not_scored_again(tmp_path: Path):
    out = tmp_path / "block-00000"
    out.mkdir()
    (out / "scores.parquet").write_bytes(b"12345")
    stats = {"block": 0, "pairs": 5, "files": {"scores.parquet": 5}}
    (out / "stats.json").write_text(json.dumps(stats))
    (tmp_path / "heartbeats").mkdir()
    task = {"out": str(out), "heartbeat": str(tmp_path / "heartbeats" / "0")}
    assert score_blocks.score_block(task) == stats | {"is_resumed": True}
    (out / "scores.parquet").write_bytes(b"1234")  # cut short by a crash of the machine
    assert score_blocks.finished(out) is None


def small_block(folder, matches):
    """A trained model and score_inputs of one block: `matches` matches of one entity and two candidates each."""
    task = training_task(folder, "ffm")
    workers.train(task)
    layout = {"fields": FIELDS, "entity": FIELDS[:1], "candidate": FIELDS[1:], "pair": [], "default": {}, "keys": {}}
    first = dict.fromkeys(FIELDS, 0)
    (folder / "inputs").mkdir()
    (folder / "inputs" / "layout.json").write_text(json.dumps(layout | {"oov": first, "blocks": 1}))
    names = [f"m{number:04d}" for number in range(matches)]
    X = draw(3, 2 * matches)[0]
    people = {"entity_id": [f"e{name}" for name in names], "match_id": names, f"f_{FIELDS[0]}": X[:matches, 0]}
    offers = {
        "match_id": [name for name in names for _ in "ab"],
        "candidate_id": [f"{n}{c}" for n in names for c in "ab"],
    }
    offers |= {f"f_{name}": X[:, place] for place, name in enumerate(FIELDS) if place}
    pairs = {name: np.zeros(0, np.int32) for name in ("field", "entity", "key", "feature")}
    for where, columns in (("block=00000/entities", people), ("block=00000/pairs", pairs), ("candidates", offers)):
        (folder / "inputs" / where).mkdir(parents=True)
        pl.DataFrame(columns).write_parquet(folder / "inputs" / where / "part-00000.parquet")
    (folder / "beats").mkdir()
    day = {"score_date": "2017-03-13", "scored_at": "2017-03-13T01:00:00", "data_through": "2017-03-13T00:00:00"}
    return {
        "block": 0, "inputs": str(folder / "inputs"),
        "model": task["folder"], "calibrator": {"slope": 1, "intercept": 0.0},
        "fallback": None, "constants": {"model_id": "m", "calibrator_id": "c", "source": "model"} | day, "top_n": 1,
        "full": True, "out": str(folder / "block-00000"), "heartbeat": str(folder / "beats" / "0"),
    }  # fmt: skip


def test_a_block_of_many_small_matches(tmp_path: Path):
    """300 matches wait for one row group: more texts than a byte can number."""
    task = small_block(tmp_path, 300)
    stats = score_blocks.score_block(task)
    assert (stats["entities"], stats["pairs"], stats["engines"]) == (300, 600, ["all_pairs"])
    frame = pl.read_parquet(tmp_path / "block-00000" / "scores.parquet")
    assert frame["match_id"].to_list() == [f"m{number:04d}" for number in range(300) for _ in "ab"]
    assert (frame["entity_id"] == "e" + frame["match_id"]).all()
    assert frame["candidate_id"].str.starts_with(frame["match_id"]).all()
    assert frame["rank_in_entity"].to_list() == [1, 2] * 300
    top = pl.read_parquet(tmp_path / "block-00000" / "entity_top.parquet")
    assert top.equals(frame.filter(pl.col("rank_in_entity") == 1))
    assert pl.read_parquet(tmp_path / "block-00000" / "candidate_top.parquet").height == 600


def test_the_hash_is_of_ids_and_values(tmp_path: Path):
    first = score_blocks.score_block(small_block(tmp_path, 3))["sha256"]
    again = tmp_path / "again"
    again.mkdir()
    task = small_block(again, 3)
    assert score_blocks.score_block(task)["sha256"] == first
    shutil.rmtree(task["out"])
    changed = score_blocks.score_block(task | {"calibrator": {"slope": 1, "intercept": 0.5}})
    assert changed["sha256"] != first


@pytest.mark.slow
def test_a_second_run_of_the_same_scores_waits_and_finds_them(in_blocks, spark):
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: scored(in_blocks, spark), range(2)))
    assert sorted(found.reused for found in both) == [False, True]
    assert both[0].sha256 == both[1].sha256


def test_nothing_is_remembered_before_all_of_it_is_there(own_night, spark, monkeypatch):
    """A crash after the audits and before the facts: the cycle stands on what it stood on."""
    before = own_night.cycle.state()["datasets"]
    own_night.cycle.contract = own_night.cycle.contract.model_copy(update={"top_n": 3})

    def killed(*args):
        raise RuntimeError("killed")

    monkeypatch.setattr(score, "_scoring", killed)
    with pytest.raises(RuntimeError, match="killed"):
        score.run(own_night.cycle, spark, bands(own_night))
    after = own_night.cycle.state()["datasets"]
    same = (
        "scores",
        "top_scores",
        "entities",
        "candidates",
        "score_entities",
        "score_blocks",
        "scoring",
        "score_audits",
    )
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
