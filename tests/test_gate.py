"""The gate: which evidence gives which verdict, and what a person is told about a file that cannot be used."""

from __future__ import annotations

import datetime as dt
import itertools
import re
from pathlib import Path
from typing import Any

import contract_marts
import duckdb
import fake_facts
import fake_release
import pytest
import yaml
from scipy import stats

from jobs import gate as gates
from jobs import pricing, promotion
from jobs.mart_checks import MartError
from jobs.policies import PolicyError, Rates
from jobs.power import periods_needed

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
    margins = {"margin_relative_logloss": 0.001, "margin_relative_cost": 0.1}
    return {**margins, "verdict": verdict, "rules": rules} | changes


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
    "is_baseline": False,
    "is_provisional": False,
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
OTHER_K = {"model_id": "k2", "algorithm": "ffm", "k": 2, "is_baseline": False, "artifact_mib": 6.0}
SIMPLE = {"algorithm": "lr", "delta_relative": -0.015, "delta_relative_hi": -0.0105, "n_periods": 9}
# Superiority is needed and shown.
AGAINST_CHAMPION = {
    "challenger_model_id": "k1",
    "challenger_k": 1,
    "incumbent_k": 1,
    "incumbent_source": "champion",
    "delta_logloss": -0.002,
    "delta_lo": -0.003,
    "delta_hi": -0.001,
    "margin": 0.00006,
    "allowed_delta": 0.0,
    "is_cheaper": False,
    "is_earned": True,
    "n_periods": 9,
}


def real_world(
    path: Path,
    lost_periods: int = 0,
    slices_off: int = 0,
    profit: tuple[float, float, float] = (40.0, 150.0, 260.0),
    simple: dict[str, Any] | None = None,
    incumbent: dict[str, Any] | None = None,
    all_k: dict[str, Any] | None = None,
    leaks: bool = False,
    group_ratio: float = 1.0,
    **chosen: Any,
) -> Path:
    """The project's own marts filled like a good night, with `chosen` changed in the verdict's row, `all_k` in that of
    every k, `simple` and `incumbent` in those comparisons; `profit`: delta against the prior with its interval."""
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
        {"policy": "model", "baseline": baseline, "objective": objective, "n_periods": 9}
        | dict(zip(("delta_lo", "delta", "delta_hi"), ends, strict=True))
        for baseline, objective, ends in [
            ("prior", "profit", profit),
            ("random", "profit", (-1.0, 0.0, 1.0)),
            ("prior", "conversions", (-1.0, 0.0, 1.0)),
        ]
    ]
    weeks = [
        {"policy": policy, "period": f"2017-10-{day:02d}"} for day in range(1, 30, 7) for policy in ("model", "prior")
    ]
    by_k = [CHOSEN | chosen | (all_k or {}), OTHER_K | (all_k or {})]
    rows = {
        "fct_accuracy_cost_by_k": [*by_k, PRIOR | {"is_baseline": True}],
        "fct_baselines": [SIMPLE | (simple or {}), {"algorithm": "prior", "delta_relative_hi": -0.1}],
        "fct_incumbent_comparison": [AGAINST_CHAMPION | (incumbent or {})],
        "fct_value_by_period": weeks,
        "fct_leakage": [{"audit": "shuffled_labels", "passed": not leaks}, {"audit": "keys_only", "passed": True}],
        "fct_fairness": [{"attribute": "age", "calibration_ratio": group_ratio, "is_off_band": group_ratio != 1.0}],
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
    assert outcomes.pop("groups_off_calibration") == "pass"  # a contract need not declare groups of people
    assert set(outcomes.values()) == {"missing"}


def test_the_committed_gate_lets_a_night_like_the_reference_pass(tmp_path: Path) -> None:
    found = committed(real_world(tmp_path / "mart.duckdb"))
    assert (found.verdict, found.reason, found.k, found.model_id) == ("GO", "all 24 rules pass for k = 1", 1, "k1")
    values = {rule.rule: rule.value for rule in found.rules}
    assert values["beats_prior_on_test"] == pytest.approx(0.0596 / 0.0680 - 1)
    assert values["beats_prior_in_most_periods"] == 1.0
    assert values["slices_off_calibration"] == 0.0
    assert values["some_k_is_feasible"] == 2
    # 260 USD in 9 periods of 7 days, a month of 30.4
    assert values["material_in_money"] == pytest.approx(260 / 9 * 30.4 / 7)


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
    ({"profit": (-0.01, 100.0, 210.0)}, "HOLD", ["profit_above_prior"]),
    # 10 USD a month are 10 * 9 * 7 / 30.4 = 20.72 in nine weeks
    ({"profit": (1.0, 10.0, 20.6)}, "HOLD", ["material_in_money"]),
    ({"profit": (1.0, 10.0, 20.8)}, "GO", []),
    # one seed may confirm the champion's k, choose the first one, and not change it
    ({"is_provisional": True}, "GO", []),
    ({"is_provisional": True, "incumbent": {"incumbent_k": 4}}, "HOLD", ["verdict_is_settled"]),
    ({"is_provisional": True, "incumbent": {"incumbent_k": 0, "incumbent_source": "prior"}}, "GO", []),
    ({"leaks": True}, "NO-GO", ["no_certain_leak", "no_suspected_leak"]),
    ({"group_ratio": 1.26}, "HOLD", ["groups_off_calibration"]),
    ({"simple": {"delta_relative_hi": -0.0049}}, "NO-GO", ["uplift_vs_simplest_baseline"]),
    ({"simple": {"delta_relative_hi": None}}, "HOLD", ["uplift_vs_simplest_baseline"]),
    ({"incumbent": {"delta_hi": 0.0001, "is_earned": False}}, "HOLD", ["earns_its_place"]),
    # worse beyond doubt; as much worse but cheaper, within the margin and not
    (
        {"incumbent": {"delta_lo": 0.00001, "is_earned": False}},
        "NO-GO",
        ["not_worse_than_incumbent", "earns_its_place"],
    ),
    ({"incumbent": {"delta_lo": 0.00001, "delta_hi": 0.00005, "allowed_delta": 0.00006}}, "GO", []),
    (
        {"incumbent": {"delta_lo": 0.00007, "allowed_delta": 0.00006, "is_earned": False}},
        "NO-GO",
        ["not_worse_than_incumbent", "earns_its_place"],
    ),
    # without a cost nobody knows what it has to show
    ({"incumbent": {"allowed_delta": None, "is_earned": None}}, "HOLD", ["earns_its_place"]),
]


@pytest.mark.parametrize(("change", "verdict", "rules"), NIGHTS)
def test_each_committed_rule_decides(tmp_path: Path, change: dict[str, Any], verdict: str, rules: list[str]) -> None:
    found = committed(real_world(tmp_path / "mart.duckdb", **change))
    assert (found.verdict, [rule.rule for rule in found.rules if rule.outcome != "pass"]) == (verdict, rules)


def test_a_slice_whose_interval_is_open_above_is_not_off(tmp_path: Path) -> None:
    database = real_world(tmp_path / "mart.duckdb", slices_off=2)
    with duckdb.connect(str(database)) as connection:
        connection.execute(
            "update fct_calibration_by_slice set calibration_ratio_hi = null where calibration_ratio_lo < 1"
        )
    values = {rule.rule: rule.value for rule in committed(database).rules}
    assert values["slices_off_calibration"] == 2 / 20


def test_deleting_the_cost_row_holds_for_want_of_operational_evidence(tmp_path: Path) -> None:
    database = real_world(tmp_path / "mart.duckdb", usd_per_1m_scores=None, score_peak_rss_mib=None)
    assert committed(database).reason == (
        "missing_operational_evidence: cost_budget has no value in fct_accuracy_cost_by_k; "
        "missing_operational_evidence: score_memory_budget has no value in fct_accuracy_cost_by_k"
    )


def test_a_tie_with_logistic_regression_says_to_keep_the_simple_model(tmp_path: Path) -> None:
    """An interval from -1 to +0.5 % around -0.25 %: half width 0.75 %, error 0.75 / t(.975, 8) = 0.325 % over 9 weeks;
    the estimate is no half percent, so no number of weeks will make it one."""
    tied = {"delta_relative": -0.0025, "delta_relative_hi": 0.005}
    found = committed(real_world(tmp_path / "mart.duckdb", simple=tied))
    assert found.reason == (
        "uplift_vs_simplest_baseline: 0.005, must be <= -0.005 (keep the simple model, logistic regression; knowing"
        " that is a good result; more test data would not: the estimate itself lies on the wrong side)"
    )


def test_champion_and_challenger_swapped_flip_the_verdict(tmp_path: Path) -> None:
    gap = {"delta_logloss": -0.002, "delta_lo": -0.003, "delta_hi": -0.001}
    swapped = {"delta_logloss": 0.002, "delta_lo": 0.001, "delta_hi": 0.003}
    found = [
        committed(real_world(tmp_path / "mart.duckdb", incumbent=delta | {"is_earned": earned}))
        for delta, earned in ((gap, True), (swapped, False))
    ]
    assert [each.verdict for each in found] == ["GO", "NO-GO"]
    assert found[1].reason.startswith("not_worse_than_incumbent: 0.001, must be <= 0 (the incumbent is surely better)")


def test_a_hold_says_how_much_more_test_data_would_decide_it(tmp_path: Path) -> None:
    """Better by 0.001 with an interval of 0.0012 on each side over 9 weeks: the error is 0.0012 / 2.306 = 0.00052. By
    the normal distribution (1.96 + 0.84)^2 (0.00052 * 3 / 0.001)^2 = 19.1 weeks are needed; t adds two."""
    close = {"delta_logloss": -0.001, "delta_lo": -0.0022, "delta_hi": 0.0002, "is_earned": False}
    database = real_world(tmp_path / "mart.duckdb", incumbent=close)
    gate = gates.load_gate(CONF / "gate.yml")
    found = gates.evaluate(gate, database, gate.sha, period_days=7)
    rule = next(rule for rule in found.rules if rule.rule == "earns_its_place")
    needed = periods_needed(0.0012 / stats.t.ppf(0.975, 8), 9, 0.001)
    assert needed == 22
    assert (rule.periods_needed, rule.days_needed) == (13, 91)
    assert found.verdict == "HOLD"
    assert "about 13 more periods (91 days) of test data would decide it with 80 % power" in found.reason
    assert found.next_action == "wait"
    # On the wrong side, or together with a rule that time does not mend, somebody has to look.
    worse = close | {"delta_logloss": 0.0005, "delta_hi": 0.0017, "delta_lo": -0.0007}
    found = committed(real_world(tmp_path / "mart.duckdb", incumbent=worse))
    assert "more test data would not: the estimate itself lies on the wrong side" in found.reason
    assert found.next_action == "look"
    other = close | {"incumbent_k": 4}
    assert committed(real_world(tmp_path / "mart.duckdb", incumbent=other, is_provisional=True)).next_action == "look"


# rows of fct_leakage (audit, value, passed) -> outcome of no_certain_leak and no_suspected_leak
CHANCE = ("shuffled_labels", 0.5, True)
LEAKS = {
    "all measured": ([CHANCE, ("field_alone", 0.7, True), ("keys_only", 0.05, True)], ("pass", "pass")),
    "no row": ([], ("missing", "missing")),
    "no canary": ([("field_alone", 0.7, True)], ("missing", "pass")),
    "canary not measured": ([("shuffled_labels", None, None), ("field_alone", 0.7, True)], ("missing", "missing")),
    "keys not measured": ([CHANCE, ("keys_only", None, None)], ("pass", "missing")),
    "field not measured": ([CHANCE, ("field_alone", None, None)], ("missing", "missing")),
    "fall not measured": ([CHANCE, ("field_fallen", None, None)], ("pass", "missing")),
    "suspected and not measured": ([CHANCE, ("field_alone", 0.9, False), ("keys_only", None, None)], ("pass", "fail")),
    "certain and not measured": ([("shuffled_labels", None, None), ("field_alone", 0.96, False)], ("fail", "fail")),
    "learnable and not measured": ([("shuffled_labels", 0.6, False), ("field_alone", None, None)], ("fail", "fail")),
}


@pytest.mark.parametrize("case", LEAKS)
def test_a_check_for_leakage_that_could_not_be_made_is_missing_evidence(tmp_path: Path, case: str) -> None:
    rows, outcomes = LEAKS[case]
    checks = [{"audit": audit, "value": value, "passed": passed} for audit, value, passed in rows]
    found = committed(contract_marts.build(tmp_path / "mart.duckdb", {"fct_leakage": checks}))
    told = {rule.rule: rule.outcome for rule in found.rules}
    assert (told["no_certain_leak"], told["no_suspected_leak"]) == outcomes


@pytest.mark.parametrize("has_verdict", [True, False])
def test_limits_that_no_k_keeps_are_a_no_go(tmp_path: Path, has_verdict: bool) -> None:
    """Model files of at most one byte: evaluation then chooses no k, and a k chosen before breaks it as well."""
    rules = yaml.safe_load((CONF / "gate.yml").read_text())
    next(rule for rule in rules["rules"] if rule["name"] == "size_budget")["threshold"] = 1 / 2**20
    gate = load(tmp_path, rules)
    database = real_world(tmp_path / "mart.duckdb", is_verdict=has_verdict)
    found = gates.evaluate(gate, database, gate.sha)
    assert found.verdict == "NO-GO"
    assert "some_k_is_feasible: 0, must be >= 1 (limits broken by size_budget: k = 1, 2)" in found.reason
    assert (found.k, "size_budget: 3, must be <= 9.53674e-07" in found.reason) == (
        (1, True) if has_verdict else (None, False)
    )


def test_a_waiver_lets_a_soft_rule_pass_and_nothing_else(tmp_path: Path) -> None:
    def judged(auc: str, profit: str, *names: str) -> gates.Evaluation:
        database = mart(tmp_path / "mart.duckdb", auc=auc, profit_lo=profit)
        gate = load(tmp_path, small_gate())
        waivers = [gates.Waiver(name, "ann", "a trial", dt.date(2018, 1, 31)) for name in names]
        return gates.evaluate(gate, database, gate.sha, waivers)

    found = judged("0.9", "-1.0", "profit")
    told = "profit waived by ann until 2018-01-31: a trial"
    assert (found.verdict, found.reason) == ("GO", f"3 of 4 rules pass for k = 2; {told}")
    assert [(rule.rule, rule.outcome) for rule in found.rules if rule.outcome != "pass"] == [("profit", "waived")]
    assert judged("0.9", "-1.0").verdict == "HOLD"
    assert judged("0.7", "-1.0", "profit", "auc").verdict == "NO-GO"  # a hard rule
    assert judged("0.9", "null", "profit").verdict == "HOLD"  # no evidence
    assert judged("0.9", "1.0", "profit").reason == "all 4 rules pass for k = 2"  # nothing to waive


# ---- limits on a single k ----

LIMITS = ["cost_budget", "train_memory_budget", "score_memory_budget", "size_budget"]
MODELS = [
    {"model_id": f"{role}{k}", "k": k, "algorithm": algorithm, "role": role, "is_shipping_seed": True, "cpu_s": 1.0}
    | {"n_parameters": 9, "artifact_bytes": mib * 2**20, "wall_s": 1.0, "peak_rss_mib": 500.0}
    for algorithm, role, k, mib in [
        ("ffm", "candidate", 1, 10),
        ("ffm", "candidate", 8, 65),
        ("ffm", "rehearsal", 1, 99),
        ("lightgbm", "candidate", 0, 99),
    ]
]
COSTS = [
    {"model_id": "candidate1", "rows": 1_000_000, "cpu_s": seconds, "wall_s": seconds, "peak_rss_mib": 1024.0}
    for seconds in (1.0, 2.0, 9.0)
]
RATES = Rates(usd_per_cpu_hour=0.036, usd_per_gib_hour=0.0036, usd_per_gib_month=0.02)


def test_a_k_that_breaks_a_limit_is_named_with_the_limit() -> None:
    gate = gates.load_gate(CONF / "gate.yml")
    assert [rule.name for rule in gate.limits] == LIMITS
    assert gates.infeasible(gate, RATES, MODELS, COSTS) == {8: "size_budget: 65, must be <= 64"}
    # 100 times slower: 200 s a million * (0.036 + 0.0036) / 3600, and storage, 10 / 1024 GiB * 0.02
    slow = [row | {"cpu_s": 100 * row["cpu_s"], "wall_s": 100 * row["wall_s"]} for row in COSTS]
    dear = RATES.model_copy(update={"usd_per_cpu_hour": 3.6})
    assert gates.infeasible(gate, dear, MODELS, slow)[1].startswith("cost_budget: 0.200395, must be <= 0.05")


def test_a_limit_on_what_was_not_measured_is_not_broken() -> None:
    assert gates.infeasible(gates.load_gate(CONF / "gate.yml"), RATES, MODELS[:1], []) == {}


def test_prices_before_the_marts_are_those_of_the_mart(tmp_path_factory: pytest.TempPathFactory) -> None:
    release = fake_release.build(tmp_path_factory.getbasetemp())
    facts = fake_facts.evidence()
    rates = Rates(**{name: facts["rates"][0][name] for name in Rates.model_fields})
    candidates = [row for row in facts["models"] if row["role"] == "candidate"]
    columns = list(pricing.operational_rows(rates, candidates[:1], facts["scoring_cost"])[0])
    with duckdb.connect(str(release.database), read_only=True) as connection:
        shown = connection.execute(
            f"select {', '.join(columns)} from fct_accuracy_cost_by_k order by model_id"
        ).fetchall()
    made = pricing.operational_rows(rates, candidates, facts["scoring_cost"])
    for row, expected in zip(sorted(made, key=lambda row: row["model_id"]), shown, strict=True):
        assert row.pop("model_id") == expected[0]
        assert list(row.values()) == pytest.approx(list(expected[1:]), rel=1e-9)


def test_dbt_calls_cheaper_what_the_gate_does() -> None:
    margin = gates.load_gate(CONF / "gate.yml").margin_relative_cost
    project = yaml.safe_load((CONF.parent / "dbt" / "dbt_project.yml").read_text(encoding="utf-8"))
    assert project["vars"]["margin_relative_cost"] == margin


def test_sql_and_python_agree_on_who_earns_the_place() -> None:
    sql = (CONF.parent / "dbt" / "models" / "marts" / "fct_incumbent_comparison.sql").read_text(encoding="utf-8")
    [formula] = re.findall(r"(case when is_cheaper then [^\n]* end) as is_earned", sql)
    grid = [-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, None]
    for lo, hi, margin, cheaper in itertools.product(grid, grid, (0.0, 0.1, 0.2), (True, False)):
        if lo is None or hi is None or lo > hi:
            continue
        values = f"select {lo} as delta_lo, {hi} as delta_hi, {margin} as margin, {cheaper} as is_cheaper"
        [(found,)] = duckdb.sql(f"select {formula} from ({values})").fetchall()
        assert found == promotion.is_earned(lo, hi, margin, cheaper), values


def test_every_rule_is_in_the_documentation_with_an_owner() -> None:
    text = (CONF.parent / "docs" / "decision.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (hard|soft)(, limit)? \| ([\w ]+) \|", text, re.MULTILINE)
    gate = gates.load_gate(CONF / "gate.yml")
    limits = {rule.name for rule in gate.limits}
    expected = {(rule.name, rule.severity, ", limit" if rule.name in limits else "") for rule in gate.rules}
    always = {(name, "hard", "") for name in (gates.REGISTRATION, gates.FEASIBLE)}
    assert {row[:3] for row in rows} == expected | always
    assert {row[3] for row in rows} <= {"always there", "analyst", "engineer", "product owner"}


@pytest.mark.parametrize(
    ("interval", "message"),
    [
        ({"estimate": "no_such_column", "periods": "k"}, "profit.interval: Binder Error: Referenced column"),
        (
            {"estimate": "model_id", "periods": "k"},
            "profit.interval: Conversion Error: Could not convert string 'chosen'",
        ),
    ],
)
def test_an_interval_that_does_not_fit_its_mart_is_one_clear_line(tmp_path: Path, interval: dict, message: str) -> None:
    rules = small_gate()["rules"]
    rules[2]["interval"] = interval
    with pytest.raises(MartError, match=message) as caught:
        evaluate(tmp_path, mart(tmp_path / "mart.duckdb", profit_lo="-1.0"), rules=rules)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("estimate", "periods"), [("profit_lo", "9"), ("5.0", "1"), ("null", "9")])
def test_without_an_interval_nothing_is_said_of_waiting(tmp_path: Path, estimate: str, periods: str) -> None:
    """No width, one period, no estimate."""
    rules = small_gate()["rules"]
    rules[2]["interval"] = {"estimate": estimate, "periods": periods}
    found = evaluate(tmp_path, mart(tmp_path / "mart.duckdb", profit_lo="-1.0"), rules=rules)
    assert (found.reason, found.rules[-1].periods_needed) == ("profit: -1, must be > 0", None)
