"""What can be asked of a finished night: why a score, what model, which split."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from jobs import cli, explain_score, history, model_card, models
from jobs.explain_score import ExplainError
from jobs.model_card import CardError


def ask(night, *arguments: str):
    where = ("--warehouse", str(night.cycle.warehouse), "--contract", str(night.contract))
    return CliRunner().invoke(cli.app, [*arguments, *where], env={"COLUMNS": "200"})


def scores(night) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(path) for path in night.cycle.dataset("scores").files])


def test_the_terms_of_a_score_sum_to_what_was_published(night):
    """Three pairs of the published scores: terms and bias sum to the logit, and that is the raw score (float32)."""
    for row in scores(night).filter(pl.col("source") == "model").sample(3, seed=1).to_dicts():
        found = explain_score.run(night.cycle, row["entity_id"], row["candidate_id"])
        assert found.bias + sum(term[-1] for term in found.terms) == pytest.approx(found.logit, abs=1e-9)
        assert found.logit == pytest.approx(row["raw_score"], abs=1e-5)
        n = len(night.cycle.contract.fields)
        assert len(found.terms) == n + n * (n - 1) // 2
        sizes = [abs(term[-1]) for term in found.terms]
        assert sizes == sorted(sizes, reverse=True)


def test_the_features_explained_are_those_the_model_scores(night):
    row = scores(night).filter((pl.col("source") == "model") & (pl.col("rank_in_entity") == 1)).to_dicts()[0]
    x = explain_score.features(str(night.cycle.dataset("score_inputs").root), row["entity_id"], row)
    model = explain_score.FFM.load(models.model_folder(night.cycle.warehouse, row["model_id"]))
    assert model.decision_function(x[None, :])[0] == pytest.approx(row["raw_score"], abs=1e-5)
    vocabulary = night.cycle.dataset("vocabulary").table().to_pylist()
    [own] = [r["value"] for r in vocabulary if r["feature_id"] == x[0]]  # the first field is the household itself
    assert own in (None, row["entity_id"])


def test_the_best_candidate_is_explained_unless_another_is_named(night):
    row = scores(night).filter((pl.col("source") == "model") & (pl.col("rank_in_entity") == 1)).to_dicts()[0]
    shown = ask(night, "explain", "--entity", row["entity_id"], "--json")
    assert shown.exit_code == 0, shown.output
    said = json.loads(shown.stdout)
    assert (said["candidate_id"], said["model_id"]) == (row["candidate_id"], row["model_id"])
    assert said["bias"] + sum(term["term"] for term in said["terms"]) == pytest.approx(said["logit"], abs=1e-9)
    table = ask(night, "explain", "--entity", row["entity_id"], "--top", "3")
    assert f"the 3 largest of {len(said['terms'])}" in table.output
    assert f"{said['logit']:+.5f}" in table.output


def test_a_score_that_is_not_there_is_one_clear_line(night):
    with pytest.raises(ExplainError, match=r"small 2017-03-13 has no score of entity nobody$"):
        explain_score.run(night.cycle, "nobody", None)
    shown = ask(night, "explain", "--entity", "nobody", "--candidate", "nothing")
    assert (shown.exit_code, shown.stderr) == (
        1,
        "fieldmart: small 2017-03-13 has no score of entity nobody and candidate nothing\n",
    )


@pytest.mark.parametrize(
    ("measure", "code", "words"),
    [
        ("conversion_rate", 0, "none so far"),
        ("conversion_rate", 1201, "1 × the base rate in 1 to 2 exposures"),  # 2^((12 - 12) / 2); count + 1 in [2, 4)
        ("conversion_rate", 1508, "2.8 × the base rate in 255 or more exposures"),  # 2^1.5
        ("basket_rate", 800, "0.25 baskets a period, the last 0 periods ago"),
    ],
)
def test_codes_of_history_in_words(measure: str, code: int, words: str) -> None:
    assert history.in_words(measure, code) == words


def test_the_card_says_what_the_marts_say(night):
    shown = ask(night, "card")
    assert shown.exit_code == 0, shown.output
    state = night.cycle.state()["run"]
    assert shown.stdout.startswith(f"# Model card: {state['serving_model_id']}\n")
    comparison = night.cycle.dataset("baseline_comparison").table().to_pylist()
    [prior] = [row for row in comparison if row["algorithm"] == "prior"]
    assert f"the model's logloss is {-prior['delta_relative']:.1%} below the prior's" in shown.stdout
    [lr] = [row for row in comparison if row["algorithm"] == "lr"]
    assert f"lr {lr['delta_relative']:+.1%}" in shown.stdout
    assert "purchase until the period ends of the exposure" in shown.stdout
    for heading in ("Target", "Is a model needed?", "Quality on the test periods", "Decisions", "Lineage"):
        assert f"## {heading}" in shown.stdout
    assert night.cycle.dataset("exposures").key in shown.stdout


def test_a_card_of_a_model_that_nobody_judged_is_refused(night, tmp_path):
    [prior] = [
        row["model_id"]
        for row in night.cycle.dataset("models").table().to_pylist()
        if (row["algorithm"], row["role"]) == ("prior", "candidate")
    ]
    assert "# Model card: prior" in model_card.run(night.cycle.warehouse, night.cycle.contract, prior)
    with pytest.raises(CardError, match="has no release yet: run `fieldmart nightly` first"):
        model_card.run(tmp_path, night.cycle.contract, prior)


def test_the_split_is_shown_in_time_order_with_its_sums(night):
    shown = ask(night, "split")
    assert shown.exit_code == 0, shown.output
    rates = pl.DataFrame(night.cycle.dataset("label_rates").table())
    lines = [line for line in shown.stdout.splitlines() if line.startswith("│")]
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    parts = [row[0] for row in cells if row[0] in ("train", "valid", "calib", "test")]
    assert parts == ["train", "valid", "calib", "test"]
    for row in cells:
        mine = rates.filter(pl.col("split") == row[0])
        if len(mine):
            assert row[3] == str(len(mine))
            assert row[4] == f"{mine['exposures'].sum():,}"
            assert row[5] == f"{mine['conversions'].sum():,}"
    assert np.all([row[6] == "final" for row in cells if row[0] in parts])
