"""The dashboard as its reader sees it: every page over a release, and over none."""

from __future__ import annotations

import ast
import datetime as dt
import json
import re
from pathlib import Path

import duckdb
import fake_facts
import fake_release
import plotly.graph_objects as go
import pytest
from fake_release import FakeRelease
from streamlit.testing.v1 import AppTest

from dashboard import figures, look, queries, screenshots

ROOT = Path(__file__).resolve().parent.parent
APP = ROOT / "dashboard" / "streamlit_app.py"
PAGES = screenshots.page_names()


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> FakeRelease:
    return fake_release.build(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def mart(release: FakeRelease) -> str:
    return str(release.database)


def opened(page: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """The page as it stands after its script has run."""
    monkeypatch.setenv("FIELDMART_WAREHOUSE", str(root))
    app = AppTest.from_file(str(APP), default_timeout=30).run()
    app = app.switch_page(f"app_pages/{page}.py").run()
    assert not app.exception
    return app


def texts(app: AppTest) -> list[str]:
    """The sentences in boxes, whatever their colour."""
    return [box.value for kind in (app.info, app.success, app.warning, app.error) for box in kind]


def answer(mart: str, sql: str) -> tuple:
    with duckdb.connect(mart, read_only=True) as connection:
        row = connection.execute(sql).fetchone()
    assert row is not None
    return row


def copy_with(release: FakeRelease, folder: Path, statement: str) -> Path:
    """A warehouse whose release is that of `release` after `statement`."""
    target = folder / "releases" / "changed"
    target.mkdir(parents=True)
    (target / "mart.duckdb").write_bytes(release.database.read_bytes())
    with duckdb.connect(str(target / "mart.duckdb")) as connection:
        connection.execute(statement)
    (folder / "current.json").write_text(json.dumps({"release_id": "changed", "path": "releases/changed"}))
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_page_shows_release_sentence_and_figure(
    page: str, release: FakeRelease, mart: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = opened(page, release.warehouse, monkeypatch)
    sentence = answer(mart, f"select sentence from fct_findings where page = '{page}'")[0]
    assert texts(app) == [sentence]
    captions = [caption.value for caption in app.caption]
    assert captions[0].startswith(
        f"Release {fake_release.RELEASE} · contract tiny · cycle of 2017-12-25 · data before 2017-12-25 00:00,"
        " 0 days old at the cycle date · built "
    )
    assert captions[1].endswith("Made up: no household, no ad, no sale.")
    assert len(app.get("plotly_chart")) >= 1


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
        ("accuracy_cost", "fct_accuracy_cost_by_k"),
        ("calibration", "fct_calibration_by_slice"),
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


def sentence(mart: str, page: str) -> str:
    return queries.finding(mart, page)


def test_sentence_on_k_says_which_one_and_at_what_price(mart: str) -> None:
    evaluation = fake_facts.evaluation()
    chosen = next(row for row in evaluation["k_comparison"] if row["is_verdict"])
    metrics = {row["model_id"]: row for row in evaluation["model_metrics"] if row["split"] == "test"}
    logloss = metrics[chosen["model_id"]]["sum_logloss"] / metrics[chosen["model_id"]]["n"]
    # medians over the repeats are those of the third; storage at one model a month over a million scores
    cost = next(r for r in evaluation["scoring_cost"] if r["model_id"] == chosen["model_id"] and r["repeat"] == 3)
    rates = fake_facts.labels_and_rates()["rates"][0]
    model = next(row for row in evaluation["models"] if row["model_id"] == chosen["model_id"])
    usd = cost["cpu_s"] / 3600 * rates["usd_per_cpu_hour"] * 1e6 / cost["rows"]
    usd += cost["peak_rss_mib"] / 1024 * cost["wall_s"] / 3600 * rates["usd_per_gib_hour"] * 1e6 / cost["rows"]
    usd += model["artifact_bytes"] / 1024**3 * rates["usd_per_gib_month"]
    found = sentence(mart, "accuracy_cost")
    assert found.startswith(f"k = {chosen['k']} ")
    assert f"{logloss:.5f}" in found
    assert f"{usd:.6f} " in found
    assert found.endswith("Provisional: 1 of 5 seeds.")


def test_sentence_on_calibration_counts_the_slices_off(mart: str) -> None:
    chosen = fake_facts.model_id(fake_facts.VERDICT_K)
    slices = [row for row in fake_facts.evaluation()["slice_metrics"] if row["model_id"] == chosen]
    judged = [row for row in slices if row["n"] >= row["min_n"]]
    off = [row for row in judged if row["calibration_ratio_lo"] > 1 or row["calibration_ratio_hi"] < 1]
    assert 0 < len(off) < len(judged) < len(slices)
    assert f"{len(off)} of {len(judged)} slices with enough rows are off" in sentence(mart, "calibration")


def test_sentence_on_drift_names_the_field_that_was_pushed(mart: str) -> None:
    pushed = max(fake_facts.FIELDS, key=lambda name: abs(fake_facts.FIELDS[name]))
    found = sentence(mart, "drift")
    assert f"of {len(fake_facts.FIELDS)} fields moved" in found
    assert f"most {pushed}, " in found


def test_sentence_on_value_has_the_deltas_of_profit(mart: str) -> None:
    rows = [row for row in fake_facts.value()["value_comparison"] if row["objective"] == "profit"]
    for row in rows:
        assert f"{row['delta']:+,.0f} USD of profit against {row['baseline']}" in sentence(mart, "kpi_lift")


def test_sentence_on_the_decision_says_verdict_reason_and_source(mart: str) -> None:
    assert sentence(mart, "decision") == (
        f"GO: all 5 rules pass for k = {fake_facts.VERDICT_K}. The scores come from the champion of this night."
    )


# ---- figures: pure functions of rows ----


def test_calibration_figure_has_every_slice_once_and_its_interval(mart: str) -> None:
    rows = queries.calibration_by_slice(mart, fake_facts.model_id(fake_facts.VERDICT_K))
    figure = figures.calibration_by_slice(rows)
    drawn = {name: x for trace in figure.data for name, x in zip(trace.y, trace.x, strict=True)}
    assert drawn == dict(zip(rows["slice_type"] + " = " + rows["slice_value"], rows["calibration_ratio"], strict=True))
    worst = figure.data[0]
    assert worst.x[0] + worst.error_x.array[0] == pytest.approx(rows["calibration_ratio_hi"].iloc[0])
    assert worst.x[0] - worst.error_x.arrayminus[0] == pytest.approx(rows["calibration_ratio_lo"].iloc[0])


def test_calibration_figure_keeps_a_far_slice_at_the_end_of_the_axis_with_its_number(mart: str) -> None:
    rows = queries.calibration_by_slice(mart, fake_facts.model_id(fake_facts.VERDICT_K))
    rows.loc[rows["is_below_min_n"], ["calibration_ratio", "calibration_ratio_hi"]] = [18.25, 40.0]
    figure = figures.calibration_by_slice(rows)
    (small,) = (trace for trace in figure.data if trace.name == "too few rows to judge")
    lowest, highest = figure.layout.xaxis.range
    assert lowest < 1 < small.x[0] < highest <= 2
    assert list(small.text) == ["18.25"]


def test_k_figure_greys_the_dominated_and_leaves_the_prior_out(mart: str) -> None:
    rows = queries.accuracy_cost_by_k(mart).assign(is_dominated=lambda frame: frame["k"] == 4)
    figure = figures.accuracy_cost_by_k(rows)
    colours = {name: trace.marker.color for trace in figure.data if trace.mode == "markers" for name in trace.x}
    assert colours == {"k = 1": look.BLUE, "k = 2": look.ORANGE, "k = 4": look.GREY}


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


def test_every_figure_titles_its_axes(mart: str) -> None:
    model = fake_facts.model_id(fake_facts.VERDICT_K)
    drawn: list[go.Figure] = [
        figures.accuracy_cost_by_k(queries.accuracy_cost_by_k(mart)),
        figures.training_curve(queries.training_curve(mart)),
        figures.reliability(queries.reliability(mart, model)),
        figures.score_drift(queries.score_drift(mart)),
        figures.label_maturity(queries.label_maturity(mart)),
        figures.value_by_period(queries.value_by_period(mart)),
    ]
    for figure in drawn:
        assert all(axis.title.text for axis in [*figure.select_xaxes(), *figure.select_yaxes()])


# ---- the cut between page, query and figure ----


def test_pages_read_through_queries_and_compute_nothing() -> None:
    for path in (ROOT / "dashboard" / "app_pages").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
        imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert imported == {"figures", "queries", "streamlit"}, path.name
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.BinOp)], f"{path.name} computes"


def test_a_figure_is_named_as_its_query_and_its_mart() -> None:
    code = (ROOT / "dashboard" / "figures.py").read_text(encoding="utf-8")
    drawn = set(re.findall(r"^def ([a-z]\w*)", code, re.MULTILINE))
    assert drawn == {name for name in drawn if callable(getattr(queries, name))}
    assert all((ROOT / "dbt" / "models" / "marts" / f"fct_{name}.sql").is_file() for name in drawn)


@pytest.mark.slow
def test_screenshots_of_every_page(release: FakeRelease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["screenshots", "--warehouse", str(release.warehouse), "--output", str(tmp_path)]
    monkeypatch.setattr("sys.argv", arguments)
    screenshots.main()
    assert sorted(path.stem for path in tmp_path.glob("*.png")) == PAGES
    assert all(path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 20_000 for path in tmp_path.iterdir())
