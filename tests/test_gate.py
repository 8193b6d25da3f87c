"""The gate: which evidence gives which verdict, and what a person is told about a file that cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import contract_marts
import duckdb
import pytest
import yaml

from jobs import gate as gates
from jobs.mart_checks import MartError
from jobs.policies import PolicyError

CONF = Path(__file__).parent.parent / "conf"

RULES = {
    "auc": ("hard", "auc", ">=", 0.8, "missing_quality_evidence"),
    "size_budget": ("hard", "artifact_mib", "<=", 64.0, "missing_operational_evidence"),
    "profit": ("soft", "profit_lo", ">", 0.0, "missing_value_evidence"),
}


def small_gate(**changes: Any) -> dict[str, Any]:
    """A gate of three rules over the table `fct_k` of `mart`."""
    rules = [
        {
            "name": name,
            "severity": severity,
            "mart": "fct_k",
            "metric": metric,
            "where": "is_verdict",
            "operator": operator,
            "threshold": threshold,
            "on_missing": on_missing,
            "why": "because",
        }
        for name, (severity, metric, operator, threshold, on_missing) in RULES.items()
    ]
    verdict = {"mart": "fct_k", "where": "is_verdict", "k": "k", "model_id": "model_id"}
    return {"margin_relative_logloss": 0.001, "verdict": verdict, "rules": rules} | changes


def mart(path: Path, auc: str = "0.9", artifact_mib: str = "3.5", profit_lo: str = "12.0", k: int = 2) -> Path:
    """A mart of two models; the one with `is_verdict` has the given values, as SQL."""
    path.unlink(missing_ok=True)
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "create table fct_k (model_id varchar, k int, is_verdict boolean, auc double, artifact_mib double,"
            " profit_lo double)"
        )
        connection.execute(
            f"insert into fct_k values ('other', 9, false, 0.1, 999, -9),"
            f" ('chosen', {k}, true, {auc}, {artifact_mib}, {profit_lo})"
        )
    return path


def load(folder: Path, content: dict[str, Any]) -> gates.Gate:
    path = folder / "gate.yml"
    path.write_text(yaml.safe_dump(content))
    return gates.load_gate(path)


def evaluate(folder: Path, database: Path, **changes: Any) -> gates.Evaluation:
    gate = load(folder, small_gate(**changes))
    return gates.evaluate(gate, database, registered_sha=gate.sha)


# (auc, artifact_mib, profit_lo) -> verdict and reason
CASES = [
    ("0.9", "3.5", "12.0", "GO", "all 4 rules pass for k = 2"),
    ("0.8", "64.0", "12.0", "GO", "all 4 rules pass for k = 2"),  # exactly on the thresholds of >= and <=
    ("0.9", "3.5", "0.0", "HOLD", "profit: 0, must be > 0"),  # exactly on the threshold of >
    ("0.9", "64.5", "12.0", "NO-GO", "size_budget: 64.5, must be <= 64"),
    ("0.7", "65.0", "12.0", "NO-GO", "auc: 0.7, must be >= 0.8; size_budget: 65, must be <= 64"),
    ("0.7", "3.5", "-1.0", "NO-GO", "auc: 0.7, must be >= 0.8"),  # hard goes before soft
    ("0.7", "null", "12.0", "NO-GO", "auc: 0.7, must be >= 0.8"),  # and before missing
    ("0.9", "null", "12.0", "HOLD", "missing_operational_evidence: size_budget has no value in fct_k"),
    ("0.9", "null", "-1.0", "HOLD", "missing_operational_evidence: size_budget has no value in fct_k"),
    ("'nan'::double", "3.5", "12.0", "HOLD", "missing_quality_evidence: auc has no value in fct_k"),
    ("0.9", "1.0::double / 0", "12.0", "HOLD", "missing_operational_evidence: size_budget has no value in fct_k"),
    ("null", "3.5", "null", "HOLD", "missing_quality_evidence: auc has no value in fct_k; missing_value_evidence: "),
]


@pytest.mark.parametrize(("auc", "size", "profit", "verdict", "reason"), CASES)
def test_verdict(tmp_path: Path, auc: str, size: str, profit: str, verdict: str, reason: str) -> None:
    found = evaluate(tmp_path, mart(tmp_path / "mart.duckdb", auc, size, profit))
    assert (found.verdict, found.k, found.model_id) == (verdict, 2, "chosen")
    assert found.reason.startswith(reason)


def test_every_rule_comes_with_value_threshold_and_outcome(tmp_path: Path) -> None:
    found = evaluate(tmp_path, mart(tmp_path / "mart.duckdb", auc="0.75", profit_lo="null"))
    assert [(r.rule, r.value, r.threshold, r.outcome) for r in found.rules] == [
        ("gate_registered_before_evaluation", 1.0, 1.0, "pass"),
        ("auc", 0.75, 0.8, "fail"),
        ("size_budget", 3.5, 64.0, "pass"),
        ("profit", None, 0.0, "missing"),
    ]
    assert found.rules[1].metric == "auc where is_verdict"


def test_missing_mart_and_missing_verdict_row_hold(tmp_path: Path) -> None:
    empty = tmp_path / "empty.duckdb"
    duckdb.connect(str(empty)).close()
    found = evaluate(tmp_path, empty)
    assert (found.verdict, found.k, found.model_id) == ("HOLD", None, None)

    database = mart(tmp_path / "mart.duckdb")
    with duckdb.connect(str(database)) as connection:
        connection.execute("update fct_k set is_verdict = false")
    found = evaluate(tmp_path, database)
    assert (found.verdict, found.k) == ("HOLD", None)
    assert "missing_operational_evidence: size_budget has no value in fct_k" in found.reason


def test_no_go_without_a_chosen_k_is_possible_but_go_is_not(tmp_path: Path) -> None:
    rules = [rule | {"where": "not is_verdict"} for rule in small_gate()["rules"]]
    database = mart(tmp_path / "mart.duckdb")
    with duckdb.connect(str(database)) as connection:
        connection.execute("delete from fct_k where model_id = 'other'; update fct_k set is_verdict = false")
    found = evaluate(tmp_path, database, rules=rules)
    assert (found.verdict, found.reason) == ("HOLD", "missing_quality_evidence: no k was chosen")


def test_a_gate_changed_after_registration_is_a_no_go(tmp_path: Path) -> None:
    before = load(tmp_path, small_gate())
    loosened = load(tmp_path, small_gate(margin_relative_logloss=0.01))
    database = mart(tmp_path / "mart.duckdb")
    found = gates.evaluate(loosened, database, registered_sha=before.sha)
    assert found.verdict == "NO-GO"
    assert found.reason.startswith("gate_registered_before_evaluation")
    found = gates.evaluate(loosened, database, registered_sha=None)
    assert (found.verdict, found.reason.split(":")[0]) == ("HOLD", "missing_gate_registration")


def test_sha_is_of_the_meaning_not_of_the_text(tmp_path: Path) -> None:
    plain = load(tmp_path, small_gate())
    text = yaml.safe_dump(small_gate(), sort_keys=False, default_flow_style=True)
    (tmp_path / "gate.yml").write_text("# a comment\n" + text)
    assert gates.load_gate(tmp_path / "gate.yml").sha == plain.sha
    rules = small_gate()["rules"]
    rules[0]["threshold"] = 0.81
    assert load(tmp_path, small_gate(rules=rules)).sha != plain.sha


def test_evidence_sha_is_of_the_rows_not_of_the_file(tmp_path: Path) -> None:
    def sha(sql: str = "select 1") -> str:
        database = mart(tmp_path / "mart.duckdb")
        with duckdb.connect(str(database)) as connection:
            connection.execute(sql)
        return evaluate(tmp_path, database).evidence_sha

    first = sha()
    assert (
        sha("create table fct_k2 as from fct_k order by k; drop table fct_k; alter table fct_k2 rename to fct_k")
        == first
    )
    assert sha("create table not_evidence as select 1 as a") == first
    assert sha("alter table fct_k add column more int") != first
    assert sha("update fct_k set auc = 0.9000001 where is_verdict") != first
    assert sha("update fct_k set auc = 0.2 where not is_verdict") != first  # what the verdict was compared with
    assert sha("drop table fct_k") != first


def test_evidence_covers_what_subqueries_read(tmp_path: Path) -> None:
    rules = small_gate()["rules"]
    rules[0] |= {"metric": "(select max(x) from fct_other)", "also_reads": ["fct_other"]}
    database = mart(tmp_path / "mart.duckdb")
    assert evaluate(tmp_path, database, rules=rules).verdict == "HOLD"
    shas = set()
    for value in (0.9, 0.91):
        with duckdb.connect(str(database)) as connection:
            connection.execute(f"create or replace table fct_other as select {value} as x")
        found = evaluate(tmp_path, database, rules=rules)
        assert (found.verdict, found.rules[1].value) == ("GO", value)
        shas.add(found.evidence_sha)
    assert len(shas) == 2


def test_the_mart_can_be_open_elsewhere_and_is_not_changed(tmp_path: Path) -> None:
    database = mart(tmp_path / "mart.duckdb")
    before = database.read_bytes()
    with duckdb.connect(str(database), read_only=True) as connection:
        assert connection.execute("select count(*) from fct_k").fetchall() == [(2,)]
        assert evaluate(tmp_path, database).verdict == "GO"
    assert database.read_bytes() == before


BAD_SQL = [
    ({"metric": "no_such_column"}, r'auc: Binder Error: Referenced column "no_such_column" not found'),
    ({"metric": "auc +"}, "auc: Parser Error: syntax error"),
    ({"where": None}, "auc: metric and where must select one row, got several"),
    ({"metric": "model_id"}, r"auc: metric must be one number, got \('chosen',\) from 'model_id'"),
    ({"metric": "auc, k"}, "auc: metric must be one number, got"),
    ({"where": "is_verdict; drop table fct_k"}, "auc: metric and where must make one SELECT"),
    ({"metric": "(select 1.0 from fct_secret)"}, "auc: metric and where may read fct_k and what also_reads names"),
    ({"metric": "(select 1 from read_csv('/etc/hostname'))"}, "auc: Permission Error: Cannot access file"),
]


@pytest.mark.parametrize(("change", "message"), BAD_SQL)
def test_sql_that_does_not_fit_is_one_clear_line(tmp_path: Path, change: dict, message: str) -> None:
    rules = small_gate()["rules"]
    rules[0] |= change
    database = mart(tmp_path / "mart.duckdb")
    with duckdb.connect(str(database)) as connection:
        connection.execute("create table fct_secret as select 1")
    with pytest.raises(MartError, match=message) as caught:
        evaluate(tmp_path, database, rules=rules)
    assert "\n" not in str(caught.value)


def test_a_mart_that_is_not_there_or_not_a_database_is_named(tmp_path: Path) -> None:
    with pytest.raises(MartError, match=r"mart database must be a file, got .*gone.duckdb, which does not exist"):
        evaluate(tmp_path, tmp_path / "gone.duckdb")
    (tmp_path / "text.duckdb").write_text("not a database at all" * 1000)
    with pytest.raises(MartError, match=r"text.duckdb: .*not a valid DuckDB database"):
        evaluate(tmp_path, tmp_path / "text.duckdb")


def _rule(change: dict[str, Any], drop: str = "") -> dict[str, Any]:
    rules = small_gate()["rules"]
    rules[1] |= change
    rules[1].pop(drop, None)
    return small_gate(rules=rules)


BAD_FILES = [
    (_rule({"severity": "medium"}), r"rules\[1\] \(size_budget\).severity: must be 'hard' or 'soft', got 'medium'"),
    (_rule({"operator": "=<"}), r"rules\[1\] \(size_budget\).operator: must be '<', '<=', '>', '>=' or '==', got '=<'"),
    (_rule({"threshold": "64"}), r"rules\[1\] \(size_budget\).threshold: must be a valid number, got '64'"),
    (_rule({"threshold": True}), r"rules\[1\] \(size_budget\).threshold: must be a valid number, got True"),
    (_rule({"threshold": float("nan")}), r"rules\[1\] \(size_budget\).threshold: must be a finite number, got nan"),
    (_rule({}, drop="threshold"), r"rules\[1\] \(size_budget\).threshold: must be given"),
    (_rule({"treshold": 1.0}), r"rules\[1\] \(size_budget\).treshold: is not a known key"),
    (_rule({"on_missing": "ignore"}), r"rules\[1\] \(size_budget\).on_missing: must be 'missing_quality_evidence', "),
    (_rule({"why": " "}), r"rules\[1\] \(size_budget\).why: String should have at least 1 character, got ' '"),
    (_rule({"mart": "fct_k; drop"}), r"rules\[1\] \(size_budget\).mart: String should match pattern"),
    (_rule({"name": "auc"}), "file: rules must have different names, got 'auc' twice"),
    (
        _rule({"name": "gate_registered_before_evaluation"}),
        "file: rules must not be named 'gate_registered_before_eval",
    ),
    (small_gate(rules=[]), r"rules: Tuple should have at least 1 item after validation, not 0, got \[\]"),
    (small_gate(margin_relative_logloss=0), "margin_relative_logloss: must be greater than 0, got 0"),
    ([], r"file: must be a valid dictionary or instance of Gate, got \[\]"),
]


@pytest.mark.parametrize(("content", "message"), BAD_FILES)
def test_a_bad_file_is_one_line_with_file_place_rule_and_value(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(PolicyError, match=rf"gate.yml: {message}") as caught:
        load(tmp_path, content)
    assert "\n" not in str(caught.value)


def test_several_faults_are_several_lines(tmp_path: Path) -> None:
    with pytest.raises(PolicyError) as caught:
        load(tmp_path, _rule({"severity": "medium", "operator": "~"}))
    assert {line.split(": ")[1] for line in str(caught.value).splitlines()} == {
        "rules[1] (size_budget).severity",
        "rules[1] (size_budget).operator",
    }


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gate.yml"
    path.write_text(yaml.safe_dump(small_gate()) + "\nmargin_relative_logloss: 0.5\n")
    with pytest.raises(PolicyError, match=r"gate.yml: not YAML: key 'margin_relative_logloss' is given twice"):
        gates.load_gate(path)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"gone.yml: must be a readable YAML file, got No such file"):
        gates.load_gate(tmp_path / "gone.yml")


# What the reference run on the real data looks like, rounded: 9 test weeks, FFM against the hierarchical prior.
CHOSEN = {
    "model_id": "k1",
    "algorithm": "ffm",
    "k": 1,
    "is_verdict": True,
    "n_periods": 9,
    "conversions": 10383,
    "logloss": 0.0596,
    "normalized_entropy": 0.69,
    "auc": 0.906,
    "calibration_ratio": 0.95,
    "usd_per_1m_scores": 0.0006,
    "train_peak_rss_mib": 900.0,
    "score_peak_rss_mib": 600.0,
    "artifact_mib": 3.0,
}
PRIOR = {"model_id": "prior", "algorithm": "prior", "k": 0, "is_verdict": False, "logloss": 0.0680}


def real_world(path: Path, lost_periods: int = 0, slices_off: int = 0, profit_lo: float = 40.0, **chosen: Any) -> Path:
    """The project's own marts filled like a good night, with `chosen` changed in the verdict's row."""
    periods = [
        {"model_id": model_id, "split": split, "period": f"2017-10-{day:02d}", "logloss": logloss}
        for day in range(1, 10)
        for model_id, split, logloss in [
            ("k1", "test", 0.07 if day <= lost_periods else 0.06),
            ("k2", "test", 0.09),
            ("prior", "test", 0.068),
            ("prior", "valid", 0.01),
        ]
    ]
    slices = [
        {
            "model_id": model_id,
            "is_verdict": model_id == "k1",
            "is_below_min_n": number == 20,
            "calibration_ratio_lo": 1.3 if number < slices_off or number == 20 or model_id == "k2" else 0.9,
            "calibration_ratio_hi": 1.6 if number < slices_off or number == 20 or model_id == "k2" else 1.1,
        }
        for number in range(21)
        for model_id in ("k1", "k2")
    ]
    lift = [
        {"policy": "model", "baseline": baseline, "objective": objective, "delta_lo": delta_lo}
        for baseline, objective, delta_lo in [
            ("prior", "profit", profit_lo),
            ("random", "profit", -1.0),
            ("prior", "conversions", -1.0),
        ]
    ]
    rows = {
        "fct_accuracy_cost_by_k": [CHOSEN | chosen, PRIOR, PRIOR | {"model_id": "k2", "algorithm": "ffm", "auc": 0.5}],
        "fct_period_metrics": periods,
        "fct_calibration_by_slice": slices,
        "fct_kpi_lift": lift,
    }
    return contract_marts.build(path, rows)


def committed(database: Path) -> gates.Evaluation:
    gate = gates.load_gate(CONF / "gate.yml")
    return gates.evaluate(gate, database, registered_sha=gate.sha)


def test_the_committed_gate_reads_only_evidence_marts() -> None:
    assert set(gates.load_gate(CONF / "gate.yml").marts) <= contract_marts.evidence_marts()


def test_the_committed_gate_fits_the_marts_and_holds_without_evidence(tmp_path: Path) -> None:
    found = committed(contract_marts.build(tmp_path / "mart.duckdb", {mart: [] for mart in contract_marts.contracts()}))
    assert found.verdict == "HOLD"
    outcomes = {rule.rule: rule.outcome for rule in found.rules}
    assert outcomes.pop("gate_registered_before_evaluation") == "pass"
    assert set(outcomes.values()) == {"missing"}


def test_the_committed_gate_lets_a_night_like_the_reference_pass(tmp_path: Path) -> None:
    found = committed(real_world(tmp_path / "mart.duckdb"))
    assert (found.verdict, found.reason, found.k, found.model_id) == ("GO", "all 15 rules pass for k = 1", 1, "k1")
    values = {rule.rule: rule.value for rule in found.rules}
    assert values["beats_prior_on_test"] == pytest.approx(0.0596 / 0.0680 - 1)
    assert values["beats_prior_in_most_periods"] == 1.0
    assert values["slices_off_calibration"] == 0.0


# change -> verdict and the rules that decided it
NIGHTS = [
    ({"logloss": 0.0675}, "NO-GO", ["beats_prior_on_test"]),
    ({"lost_periods": 1}, "GO", []),
    ({"lost_periods": 2}, "NO-GO", ["beats_prior_in_most_periods"]),
    ({"normalized_entropy": 0.86}, "NO-GO", ["normalized_entropy"]),
    ({"auc": 0.79}, "NO-GO", ["auc"]),
    ({"calibration_ratio": 0.84}, "NO-GO", ["calibration_not_low"]),
    ({"calibration_ratio": 1.16}, "NO-GO", ["calibration_not_high"]),
    ({"slices_off": 2}, "GO", []),
    ({"slices_off": 3}, "HOLD", ["slices_off_calibration"]),
    ({"n_periods": 3}, "NO-GO", ["enough_test_periods"]),
    ({"conversions": 499}, "NO-GO", ["enough_test_conversions"]),
    ({"usd_per_1m_scores": 0.06}, "NO-GO", ["cost_budget"]),
    ({"usd_per_1m_scores": None}, "HOLD", ["cost_budget"]),
    (
        {"train_peak_rss_mib": 4000.0, "score_peak_rss_mib": 4000.0},
        "NO-GO",
        ["train_memory_budget", "score_memory_budget"],
    ),
    ({"artifact_mib": 65.0}, "NO-GO", ["size_budget"]),
    ({"profit_lo": -0.01}, "HOLD", ["profit_above_prior"]),
]


@pytest.mark.parametrize(("change", "verdict", "rules"), NIGHTS)
def test_each_committed_rule_decides(tmp_path: Path, change: dict[str, Any], verdict: str, rules: list[str]) -> None:
    found = committed(real_world(tmp_path / "mart.duckdb", **change))
    assert (found.verdict, [rule.rule for rule in found.rules if rule.outcome != "pass"]) == (verdict, rules)


def test_deleting_the_cost_row_holds_for_want_of_operational_evidence(tmp_path: Path) -> None:
    database = real_world(tmp_path / "mart.duckdb", usd_per_1m_scores=None, score_peak_rss_mib=None)
    assert committed(database).reason == (
        "missing_operational_evidence: cost_budget has no value in fct_accuracy_cost_by_k; "
        "missing_operational_evidence: score_memory_budget has no value in fct_accuracy_cost_by_k"
    )
