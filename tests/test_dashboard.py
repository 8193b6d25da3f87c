"""The dashboard as its reader sees it: every page over a release, and over none."""

from __future__ import annotations

import ast
import datetime as dt
import json
import re
from pathlib import Path

import fake_facts
import fake_release
import fake_value
import pandas as pd
import plotly.graph_objects as go
import pytest
from fake_release import FakeRelease
from fake_training import NIGHTLY, SWEEP, evaluation
from shown_page import answer, copy_with, opened, sentence, texts

from dashboard import figures, look, queries, screenshots

ROOT = Path(__file__).resolve().parent.parent
PAGES = screenshots.page_names()
# The sentence in the box of a page, where it is that of its first section.
SENTENCE = {"training": "training_curve"}
CHOSEN = f"ffm-k{NIGHTLY.verdict_k}"


@pytest.fixture(scope="session")
def swept(sweep: FakeRelease) -> str:
    return str(sweep.database)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("flavour", ["nightly", "sweep"])
def test_page_shows_release_sentence_and_figure(
    page: str, flavour: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = request.getfixturevalue("release" if flavour == "nightly" else "sweep")
    app = opened(page, shown.warehouse, monkeypatch)
    sql = f"select sentence from fct_findings where page = '{SENTENCE.get(page, page)}'"
    assert texts(app) == list(answer(str(shown.database), sql))
    captions = [caption.value for caption in app.caption]
    assert captions[0].startswith(
        f"Release {fake_release.RELEASE} · contract tiny · cycle of 2017-12-25 · data before 2017-12-25 00:00,"
        " 0 days old at the cycle date · built "
    )
    assert captions[1].endswith("Made up: no household, no ad, no sale.")
    has_figure = len(app.get("plotly_chart")) >= 1
    assert has_figure == ((page, flavour) != ("levers", "nightly"))  # where levers were not pulled the sentence says so


def test_sections_say_what_they_show_and_overfitting_is_a_warning(
    sweep: FakeRelease, swept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracy, training = (opened(page, sweep.warehouse, monkeypatch) for page in ("accuracy_cost", "training"))
    said = [text.value for text in accuracy.markdown]
    assert sentence(swept, "test_openings") in said
    assert sentence(swept, "baselines") in said
    assert sentence(swept, "training_cost") in [text.value for text in training.markdown]
    assert [box.value for box in training.warning] == [sentence(swept, "training_curve")]


def test_levers_that_were_not_pulled_say_what_to_run(release: FakeRelease, monkeypatch: pytest.MonkeyPatch) -> None:
    assert texts(opened("levers", release.warehouse, monkeypatch)) == [
        "No lever was measured yet: run `fieldmart levers`."
    ]


@pytest.mark.parametrize("table", ["fct_lever_gain", "fct_test_openings", "fct_score_audits", "fct_shadow"])
def test_a_mart_that_may_be_empty_may_not_be_missing(
    table: str, release: FakeRelease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = {"fct_lever_gain": "levers", "fct_test_openings": "accuracy_cost"}.get(table, "scores")
    root = copy_with(release, tmp_path, f"drop table {table}")
    found = texts(opened(page, root, monkeypatch))
    assert any(text.startswith(f"This release has no mart `{table}`, or an older form of it.") for text in found)


@pytest.mark.parametrize("page", PAGES)
def test_no_release_gives_a_sentence_that_says_what_to_run(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = opened(page, tmp_path, monkeypatch)
    assert texts(app) == [
        f"No release has been published in the warehouse `{tmp_path}`. Run `make nightly` to build and publish one."
    ]


@pytest.mark.parametrize(
    ("page", "table"),
    [
        ("decision", "fct_decision_rules"),
        ("scores", "fct_scoring"),
        ("scores", "fct_entity_scores"),
        ("scores", "fct_score_stages"),
        ("scores", "fct_score_blocks"),
        ("accuracy_cost", "fct_accuracy_cost_by_k"),
        ("accuracy_cost", "fct_seed_metrics"),
        ("accuracy_cost", "fct_baselines"),
        ("training", "fct_training_curve"),
        ("training", "fct_training_cost"),
        ("calibration", "fct_calibration_by_slice"),
        ("calibration", "fct_reliability_curve"),
        ("calibration", "fct_calibration_error"),
        ("calibration", "fct_calibrator_comparison"),
        ("drift", "fct_drift_by_field"),
        ("kpi_lift", "fct_kpi_lift"),
    ],
)
@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("delete from {}", "The mart `{}` of this release has no rows to show here. Run `make nightly`"),
        ("drop table {}", "This release has no mart `{}`, or an older form of it. Run `make nightly`"),
    ],
)
def test_empty_or_missing_mart_gives_a_sentence(
    page: str,
    table: str,
    statement: str,
    fault: str,
    release: FakeRelease,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = copy_with(release, tmp_path, statement.format(table))
    assert any(text.startswith(fault.format(table)) for text in texts(opened(page, root, monkeypatch)))


def test_unreadable_releases_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "current.json").write_text("{}")
    assert "does not name a release (KeyError('path'))" in texts(opened("drift", tmp_path, monkeypatch))[0]
    (tmp_path / "current.json").write_text('{"path": "releases/gone"}')
    assert "gone/mart.duckdb`, which does not exist. Run" in texts(opened("drift", tmp_path, monkeypatch))[0]
    (tmp_path / "releases" / "gone").mkdir(parents=True)
    (tmp_path / "releases" / "gone" / "mart.duckdb").write_bytes(b"not a database")
    assert "cannot be read" in texts(opened("drift", tmp_path, monkeypatch))[0]


def test_a_new_release_is_seen_without_a_restart(
    release: FakeRelease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copy_with(release, tmp_path, "update fct_findings set sentence = 'First.'")
    assert texts(opened("drift", root, monkeypatch)) == ["First."]
    second = root / "releases" / "second"
    second.mkdir()
    (second / "mart.duckdb").write_bytes(release.database.read_bytes())
    (root / "current.json").write_text(json.dumps({"release_id": "second", "path": "releases/second"}))
    assert texts(opened("drift", root, monkeypatch)) != ["First."]


def test_warehouse_comes_from_the_argument_then_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDMART_WAREHOUSE", "from-environment")
    assert queries.warehouse_root(["--warehouse", "from-argument", "-q"]) == Path("from-argument")
    assert queries.warehouse_root(["-q"]) == Path("from-environment")
    monkeypatch.delenv("FIELDMART_WAREHOUSE")
    assert queries.warehouse_root([]) == Path("warehouse")


@pytest.mark.parametrize(
    ("later", "age"),
    [
        (dt.timedelta(minutes=20), "built within the last hour"),
        (dt.timedelta(hours=5, minutes=59), "built 5 hours ago"),
        (dt.timedelta(hours=49), "built 2 days ago"),
    ],
)
def test_release_says_how_old_it_is(mart: str, later: dt.timedelta, age: str) -> None:
    assert queries.release(mart, fake_facts.STARTED + later)["summary"].endswith(age)


# ---- sentences: the numbers in them, computed once more from the facts ----


def test_sentence_on_k_says_which_one_and_at_what_price(mart: str) -> None:
    facts = evaluation()
    chosen = next(row for row in facts["k_comparison"] if row["is_verdict"])
    metrics = {row["model_id"]: row for row in facts["model_metrics"] if row["split"] == "test"}
    logloss = metrics[chosen["model_id"]]["sum_logloss"] / metrics[chosen["model_id"]]["n"]
    # medians over the repeats are those of the third; storage at one model a month over a million scores
    cost = next(r for r in facts["scoring_cost"] if r["model_id"] == chosen["model_id"] and r["repeat"] == 3)
    rates = fake_facts.labels_and_rates()["rates"][0]
    model = next(row for row in facts["models"] if row["model_id"] == chosen["model_id"])
    usd = cost["cpu_s"] / 3600 * rates["usd_per_cpu_hour"] * 1e6 / cost["rows"]
    usd += cost["peak_rss_mib"] / 1024 * cost["wall_s"] / 3600 * rates["usd_per_gib_hour"] * 1e6 / cost["rows"]
    usd += model["artifact_bytes"] / 1024**3 * rates["usd_per_gib_month"]
    found = sentence(mart, "accuracy_cost")
    assert found.startswith(f"k = {chosen['k']} ")
    assert f"{logloss:.5f}" in found
    assert f"{usd:.6f} " in found
    assert found.endswith("Provisional: 1 of 5 seeds.")


def test_sentence_on_k_of_a_sweep_has_its_seeds_and_is_not_provisional(swept: str) -> None:
    chosen = next(row for row in evaluation(SWEEP)["k_comparison"] if row["is_verdict"])
    found = sentence(swept, "accuracy_cost")
    assert found.startswith(f"k = {SWEEP.verdict_k} has the lowest test logloss, {chosen['logloss']:.5f}")
    assert "over 6 periods and 5 seeds, and no smaller k is surely within 0.2 % of it" in found
    assert "Provisional" not in found


def test_sentence_on_baselines_names_the_best_of_them(mart: str, swept: str) -> None:
    rows = evaluation(SWEEP)["baseline_comparison"]
    best = min(rows, key=lambda row: row["logloss"])
    assert best["algorithm"] == "lightgbm"
    found = sentence(swept, "baselines")
    assert f"beats the best baseline, LightGBM, by {-100 * best['delta_relative']:.1f} % of test logloss" in found
    assert f"{100 * best['delta_relative_lo']:+.1f} to {100 * best['delta_relative_hi']:+.1f} %" in found
    assert found.endswith(f"{sum(row['delta_hi'] < 0 for row in rows)} of {len(rows)} baselines are surely beaten.")
    assert "beats the prior rate by" in sentence(mart, "baselines")
    assert sentence(mart, "baselines").endswith("a sweep (`fieldmart nightly --sweep`) trains the others.")


def test_sentence_on_levers_names_the_cheapest_that_helps(swept: str) -> None:
    rows = evaluation(SWEEP)["lever_gain"]
    helping = [row for row in rows if row["delta_hi"] < 0]
    cheapest = min(helping, key=lambda row: row["cpu_ratio"])
    found = sentence(swept, "levers")
    assert found.startswith(
        f"Cheapest lever that helps: {cheapest['lever']}: {cheapest['setting']}, -1.20 % of logloss"
    )
    assert f"{len(helping)} of {len(rows) - 1} settings surely help" in found
    assert "More latent factors give at best -0.30 % (-0.50 to -0.10 %) at 1.90 times (k = 8)." in found


def test_sentences_on_training_name_what_overfits_and_what_is_skewed(mart: str, swept: str) -> None:
    # 0.003 above 0.27 at the last epoch
    assert "k = 16 by 1.1 % (epoch 3 kept), k = 32 by 1.1 % (epoch 3 kept)" in sentence(swept, "training_curve")
    cpu = sum(row["cpu_s"] for row in evaluation(SWEEP)["training_cost"] if row["model_id"][:2] != "re")
    found = sentence(swept, "training_cost")
    assert found.startswith(f"{len(SWEEP.models())} candidates took {cpu:.1f} CPU seconds to train")
    assert "15 stages are skewed; most stage " in found  # three stages of five seeds
    assert "of FFM, k = 32, " in found
    assert "partition 3 of 4 took 3.5 times the seconds" in found
    assert "No k overfits by more than 0.5 %" in sentence(mart, "training_curve")
    assert "Each was trained in one partition" in sentence(mart, "training_cost")


def test_sentence_on_openings_counts_them(mart: str, swept: str) -> None:
    assert sentence(swept, "test_openings").startswith(
        f"The test periods 2017-11-13 to 2017-12-18 were opened 3 times, last for {len(SWEEP.models())} models"
    )
    assert sentence(mart, "test_openings") == "No opening of the test periods is on record."


def test_sentence_on_calibration_counts_the_slices_off(mart: str) -> None:
    slices = [row for row in evaluation()["slice_metrics"] if row["model_id"] == CHOSEN]
    judged = [row for row in slices if row["n"] >= row["min_n"]]
    off = [row for row in judged if row["p_adjusted"] <= 0.05]
    assert 0 < len(off) < len(judged) < len(slices)
    assert f"{len(off)} of {len(judged)} slices with enough rows are off" in sentence(mart, "calibration")


def test_sentence_on_drift_names_the_field_that_was_pushed(mart: str) -> None:
    pushed = max(fake_facts.FIELDS, key=lambda name: abs(fake_facts.FIELDS[name]))
    found = sentence(mart, "drift")
    assert f"of {len(fake_facts.FIELDS)} fields moved" in found
    assert f"most {pushed}, " in found


def test_sentence_on_value_has_the_deltas_of_profit(mart: str) -> None:
    rows = [row for row in fake_value.value_facts(NIGHTLY)["value_comparison"] if row["objective"] == "profit"]
    for row in rows:
        if row["policy"] != "model" or row["baseline"] == "perfect":
            continue
        assert f"{row['delta']:+,.0f} USD of profit against {row['baseline']}" in sentence(mart, "kpi_lift")


def test_sentence_on_the_decision_says_verdict_reason_and_source(mart: str) -> None:
    assert sentence(mart, "decision") == (
        f"GO: all 5 rules pass for k = {NIGHTLY.verdict_k}. The scores come from the champion of this night."
    )


# ---- figures: pure functions of rows ----


def test_calibration_figure_has_every_slice_once_and_its_interval(mart: str) -> None:
    rows = queries.calibration_by_slice(mart, CHOSEN)
    figure = figures.calibration_by_slice(rows)
    drawn = {name: x for trace in figure.data for name, x in zip(trace.y, trace.x, strict=True)}
    assert drawn == dict(zip(rows["slice_type"] + " = " + rows["slice_value"], rows["calibration_ratio"], strict=True))
    worst = figure.data[0]
    assert worst.x[0] + worst.error_x.array[0] == pytest.approx(rows["calibration_ratio_hi"].iloc[0])
    assert worst.x[0] - worst.error_x.arrayminus[0] == pytest.approx(rows["calibration_ratio_lo"].iloc[0])


def test_calibration_figure_keeps_a_far_slice_at_the_end_of_the_axis_with_its_number(mart: str) -> None:
    rows = queries.calibration_by_slice(mart, CHOSEN)
    rows.loc[rows["is_below_min_n"], ["calibration_ratio", "calibration_ratio_hi"]] = [18.25, 40.0]
    figure = figures.calibration_by_slice(rows)
    (small,) = (trace for trace in figure.data if trace.name == "too few rows to judge")
    lowest, highest = figure.layout.xaxis.range
    assert lowest < 1 < small.x[0] < highest <= 2
    assert list(small.text) == ["18.25"]


def test_an_interval_without_an_upper_end_leaves_the_axis_and_says_so(mart: str) -> None:
    rows = queries.calibration_by_slice(mart, CHOSEN)
    rows.loc[rows["is_below_min_n"], ["calibration_ratio_lo", "calibration_ratio_hi"]] = [0.5, None]
    figure = figures.calibration_by_slice(rows)
    (small,) = (trace for trace in figure.data if trace.name == "too few rows to judge")
    assert small.x[0] + small.error_x.array[0] > figure.layout.xaxis.range[1]
    assert small.customdata[0][2] == "without an upper end"


def test_k_figure_greys_the_dominated_and_leaves_the_prior_out(mart: str) -> None:
    rows = queries.accuracy_cost_by_k(mart).assign(is_dominated=lambda frame: frame["k"] == 4)
    figure = figures.accuracy_cost_by_k(rows, queries.seed_metrics(mart))
    colours = {
        name: trace.marker.color for trace in figure.data if trace.mode == "markers" for name in trace.customdata
    }
    assert colours == {"k = 1": look.BLUE, "k = 2": look.ORANGE, "k = 4": look.GREY}


def test_k_figure_shows_the_seeds_whose_mean_is_the_point(swept: str, mart: str) -> None:
    rows = queries.accuracy_cost_by_k(swept)
    figure = figures.accuracy_cost_by_k(rows, queries.seed_metrics(swept))
    (dots,) = (trace for trace in figure.data if trace.name == "single seeds")
    for k, delta in rows.loc[~rows["is_baseline"], ["k", "delta_logloss"]].itertuples(index=False):
        mine = [y for y, (of_k, _) in zip(dots.y, dots.customdata, strict=True) if of_k == k]
        assert len(mine) == 5
        assert sum(mine) / 5 == pytest.approx(delta, abs=1e-12)
    one_seed = figures.accuracy_cost_by_k(queries.accuracy_cost_by_k(mart), queries.seed_metrics(mart))
    assert "single seeds" not in {trace.name for trace in one_seed.data}


def test_baselines_figure_compares_each_once_and_keeps_the_far_prior_at_the_end(swept: str) -> None:
    rows = queries.baselines(swept)
    figure = figures.baselines(rows)
    left, right = ([trace for trace in figure.data if trace.xaxis == axis] for axis in ("x", "x2"))
    assert sorted(name for trace in left for name in trace.y) == sorted(rows.loc[~rows["is_verdict"], "label"])
    height = {text: y for trace in right for text, y in zip(trace.text, trace.y, strict=True)}
    prior = rows.loc[rows["algorithm"] == "prior", "logloss"].item()
    assert f"prior {prior:.4f}" in height
    assert max(height, key=height.get) == f"prior {prior:.4f}"
    assert height[f"prior {prior:.4f}"] < prior


def test_baselines_figure_of_a_night_with_the_prior_alone(mart: str) -> None:
    figure = figures.baselines(queries.baselines(mart))
    texts = [text for trace in figure.data if trace.xaxis == "x2" for text in trace.text]
    assert sorted(texts) == ["ffm", "prior"]


def test_training_figure_marks_the_epoch_kept_and_the_k_that_overfits(swept: str) -> None:
    rows = queries.training_curve(swept)
    figure = figures.training_curve(rows)
    titles = [note.text for note in figure.layout.annotations]
    assert titles == ["k = 1", "k = 2", "k = 4", "k = 8", "k = 16 ▲ overfits", "k = 32 ▲ overfits"]
    kept = [(trace.x, trace.y) for trace in figure.data if trace.name == "epoch kept"]
    assert kept == [((3,), (0,))] * 6
    past = [trace.x for trace in figure.data if str(trace.name).startswith("overfit")]
    assert past == [(None,)] * 4 + [(4,)] * 2


def test_cost_figure_says_how_skewed_a_model_is(swept: str, mart: str) -> None:
    (words,) = (trace for trace in figures.training_cost(queries.training_cost(swept)).data if trace.type == "scatter")
    assert dict(zip(words.y, words.text, strict=True)) == {"FFM, k = 32": "  ▲ 3.5 ×"}
    bars = [trace for trace in figures.training_cost(queries.training_cost(mart)).data if trace.type == "bar"]
    assert [trace.name for trace in bars] == ["fit", "calibrate", "save"]
    fit = dict(zip(bars[0].y, bars[0].x, strict=True))
    expected = {row["model_id"]: row["cpu_s"] for row in evaluation()["training_cost"] if row["stage"] == "fit"}
    assert fit["FFM, k = 4"] == pytest.approx(expected["ffm-k4"])
    assert len(fit) == len(NIGHTLY.models())


def test_lever_figure_sorts_levers_by_what_they_do(swept: str) -> None:
    rows = queries.lever_gain(swept)
    figure = figures.lever_gain(rows)
    names = {trace.name: set(trace.y) for trace in figure.data if trace.type == "scatter"}
    assert names["surely harms"] == {"fewer fields: without history of exposures"}
    assert names["no sure difference"] == {"more k: k = 16", "no early stopping: all 20 epochs"}
    assert names["reference"] == {"reference: k = 4"}
    assert set().union(*names.values()) == set(rows["label"])


def test_drift_figure_marks_status_in_words_of_its_own(mart: str) -> None:
    rows = queries.drift_by_field(mart)
    (heatmap,) = figures.drift_by_field(rows).data
    for text, status in zip(heatmap.text, rows["status"], strict=True):
        assert text.endswith({"alarm": "▲", "watch": "△"}.get(status, text[-1]))
    assert "alarm" in set(rows["status"])


def test_decision_figure_draws_a_rule_without_value_at_the_threshold(mart: str) -> None:
    rows = queries.decision_rules(mart)
    rows.loc[0, ["value", "headroom", "outcome"]] = [None, None, "missing"]
    figure = figures.decision_rules(rows)
    texts = {
        rule: text
        for trace in figure.data
        if trace.type == "scatter"
        for rule, text in zip(trace.y, trace.text, strict=True)
    }
    assert texts[rows["rule"][0]].startswith("no value ")
    assert len(texts) == len(rows)


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([2.4e-5, 6.1e-5], ["0.00002", "0.00005"]),
        ([4e-6, 1.5e-4], ["0.00001", "0.00003", "0.0001"]),  # 1, 2 and 5 would make five
        ([0.9, 3.0], ["1", "2", "3"]),
    ],
)
def test_log_ticks_are_few_and_plain(values: list[float], texts: list[str]) -> None:
    found = look.log_ticks(pd.Series([*values, None]))
    assert found["ticktext"] == texts
    assert found["tickvals"] == pytest.approx([float(text) for text in texts])
    assert look.log_ticks(pd.Series([None], dtype=float)) == {"type": "log"}


def test_every_figure_titles_its_axes(mart: str, swept: str) -> None:
    def titled(figure: go.Figure) -> bool:
        return all(axis.title.text for axis in [*figure.select_xaxes(), *figure.select_yaxes()])

    drawn: list[go.Figure] = [
        figures.accuracy_cost_by_k(queries.accuracy_cost_by_k(mart), queries.seed_metrics(mart)),
        figures.reliability_curve(queries.reliability_curve(mart, CHOSEN)),
        figures.score_drift(queries.score_drift(mart)),
        figures.label_maturity(queries.label_maturity(mart)),
        figures.value_by_period(queries.value_by_period(mart)),
        figures.shadow(queries.shadow(swept)),
    ]
    assert all(titled(figure) for figure in drawn)
    # names stand on the y axis
    assert all(axis.title.text for axis in figures.training_cost(queries.training_cost(mart)).select_xaxes())
    named = [figures.baselines(queries.baselines(swept)), figures.lever_gain(queries.lever_gain(swept))]
    named += [figures.score_audits(queries.score_audits(mart)), figures.score_stages(queries.score_stages(mart))]
    named += [figures.entity_scores(queries.entity_scores(mart, "h00"))]
    named += [figures.slice_shrinkage(queries.slice_shrinkage(mart))]
    for figure in named:
        assert all(axis.title.text for axis in figure.select_xaxes())
    assert all(axis.title.text for axis in figures.training_curve(queries.training_curve(mart)).select_xaxes())


# ---- the cut between page, query and figure ----


def test_pages_read_through_queries_and_compute_nothing() -> None:
    for path in (ROOT / "dashboard" / "app_pages").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
        imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert imported == {"figures", "queries", "streamlit"}, path.name
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.BinOp)], f"{path.name} computes"


def test_a_figure_is_named_as_its_query_and_its_mart() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "dashboard" / "figures").glob("*.py"))
    drawn = set(re.findall(r"^def ([a-z]\w*)", code, re.MULTILINE))
    assert drawn == set(figures.__all__)
    assert drawn == {name for name in drawn if callable(getattr(queries, name))}
    assert all((ROOT / "dbt" / "models" / "marts" / f"fct_{name}.sql").is_file() for name in drawn)


@pytest.mark.slow
def test_screenshots_of_every_page(release: FakeRelease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["screenshots", "--warehouse", str(release.warehouse), "--output", str(tmp_path)]
    monkeypatch.setattr("sys.argv", arguments)
    screenshots.main()
    assert sorted(path.stem for path in tmp_path.glob("*.png")) == PAGES
    assert all(path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 20_000 for path in tmp_path.iterdir())
