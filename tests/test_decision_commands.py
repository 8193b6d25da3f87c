"""The commands around the decision as a person types them: what they print and how they end."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import contract_marts
import pytest
from typer.testing import CliRunner

from jobs import decision_log, exit_codes, explain_decision
from jobs.cli import app
from jobs.gate import REGISTRATION, Evaluation, RuleResult, Verdict

DAY = dt.date(2017, 12, 18)  # the default date of conf/promo.yml
WAIT = "about 3 more periods (21 days) of test data would decide it with 80 % power"


def logged(warehouse: Path, verdict: Verdict, auc: str = "pass", profit: str = "pass") -> decision_log.Entry:
    values = {"pass": 0.9, "fail": 0.7, "missing": None}
    rules = (
        RuleResult(REGISTRATION, "hard", "gate", "1 if recorded", "==", 1.0, 1.0, "pass", "honest"),
        RuleResult("auc", "hard", "fct_k", "auc", ">=", 0.8, values[auc], auc, "ranks"),  # ty: ignore[invalid-argument-type]
        RuleResult("profit", "soft", "fct_k", "profit_lo", ">", 0.0, -1.0, profit, "pays", WAIT, 3, 21),  # ty: ignore[invalid-argument-type]
    )
    action = {"GO": "promote", "HOLD": "wait", "NO-GO": "look"}[verdict]
    found = Evaluation(verdict, "the reason", 2, "k2", rules, "gate-sha", "evidence-sha", action)
    return decision_log.append_decision(warehouse, "promo", DAY, found)


def run(*arguments: str, warehouse: Path) -> Any:
    return CliRunner().invoke(app, [*arguments, "--warehouse", str(warehouse)])


def test_a_decision_is_explained_from_the_log_once_its_night_is_published(tmp_path: Path) -> None:
    entry = logged(tmp_path, "HOLD", profit="fail")
    said = run("decide", "--explain", warehouse=tmp_path)
    assert said.exit_code == 0
    lines = said.stdout.splitlines()
    assert lines[0] == "HOLD on promo 2017-12-18: the reason"
    assert lines[1].startswith(f"decision {entry.decision_id}, made ")
    assert {"gate_sha=gate-sha", "registered_before_eval=true", "chosen k = 2, model k2"} <= set(lines)
    assert "  fail    soft profit: -1 > 0  [fct_k]  (" + WAIT + ")" in lines
    assert lines[-3:] == [
        "Blocks: profit",
        f"  profit would change: {WAIT}",
        "Next: nothing; more test data may decide it.",
    ]
    assert len(decision_log.entries(tmp_path)) == 1


def test_deciding_without_evidence_says_what_to_run(tmp_path: Path) -> None:
    for options in ([], ["--explain"]):
        said = run("decide", *options, warehouse=tmp_path)
        assert said.exit_code == exit_codes.FAILED
        assert said.stderr == "fieldmart: no evidence marts for promo 2017-12-18: run `fieldmart warehouse` first\n"


@pytest.mark.parametrize(
    ("verdict", "outcomes", "code"),
    [
        ("GO", {}, 0),
        ("HOLD", {"auc": "missing"}, exit_codes.MISSING_EVIDENCE),
        ("HOLD", {"auc": "missing", "profit": "fail"}, exit_codes.MISSING_EVIDENCE),
        ("HOLD", {"profit": "fail"}, exit_codes.HELD),
        ("NO-GO", {"auc": "fail"}, exit_codes.REFUSED),
    ],
)
def test_the_outcome_is_an_exit_code_only_where_asked(
    tmp_path: Path, verdict: Verdict, outcomes: dict[str, str], code: int
) -> None:
    logged(tmp_path, verdict, **outcomes)
    assert run("decide", "--explain", warehouse=tmp_path).exit_code == 0
    assert run("decide", "--explain", "--exit-code", warehouse=tmp_path).exit_code == code


def test_what_is_missing_and_what_was_approved_is_said(tmp_path: Path) -> None:
    entry = logged(tmp_path, "HOLD", auc="missing")
    assert "  auc would change: a value of auc in fct_k" in explain_decision.lines(entry, None, None)
    said = {"decision_id": entry.decision_id, "by": "ann", "why": "a trial", "promotes": "refit"}
    approval = decision_log.append(tmp_path, "approval", said)
    assert explain_decision.lines(entry, approval, None)[-1] == "Approved by ann: a trial. refit is promoted."


def test_margin_interval_and_chosen_k_are_those_of_the_mart(tmp_path: Path) -> None:
    by_k = {"is_baseline": False, "margin": 0.00006, "delta_logloss": 0.00002, "delta_lo_simultaneous": -0.00001}
    by_k |= {"usd_per_1m_scores": 0.00004}
    mart = contract_marts.build(
        tmp_path / "mart.duckdb",
        {
            "fct_accuracy_cost_by_k": [
                by_k | {"k": 1, "is_verdict": False, "is_non_inferior": False, "delta_hi_simultaneous": 0.00009},
                by_k | {"k": 2, "is_verdict": True, "is_non_inferior": True, "delta_hi_simultaneous": 0.00005},
                by_k | {"k": 4, "is_verdict": False, "is_non_inferior": True, "infeasible_reason": "size_budget: 80"},
            ],
            "fct_incumbent_comparison": [
                {
                    "incumbent_source": "champion",
                    "incumbent_model_id": "old",
                    "delta_logloss": -0.002,
                    "needs": "superiority",
                }
                | {"delta_lo": -0.003, "delta_hi": -0.001, "allowed_delta": 0.0, "is_earned": True}
                | {"challenger_usd_per_1m": 0.00002, "incumbent_usd_per_1m": 0.00001}
            ],
        },
    )
    said = explain_decision.lines(logged(tmp_path, "GO"), None, mart)
    assert "  k = 1: 2e-05 (-1e-05 to 9e-05), margin 6e-05, 4e-05 USD: not shown to be within the margin" in said
    assert "* k = 2: 2e-05 (-1e-05 to 5e-05), margin 6e-05, 4e-05 USD: within the margin" in said
    assert "  k = 4: 2e-05 (-1e-05 to ?), margin 6e-05, 4e-05 USD: size_budget: 80" in said
    assert (
        "Against the champion, old: -0.002 (-0.003 to -0.001), 2e-05 against 1e-05 USD per million scores;"
        " needs superiority (at most 0): earned"
    ) in said
    older = contract_marts.build(tmp_path / "older.duckdb", {})
    assert explain_decision.lines(logged(tmp_path, "GO"), None, older)  # says the rest


def test_approving_what_is_not_there_is_one_line(tmp_path: Path) -> None:
    said = run("approve", "--by", "analyst", "--why", "a trial", warehouse=tmp_path)
    assert said.exit_code == exit_codes.FAILED
    assert said.stderr == "fieldmart: nothing was decided on promo 2017-12-18: run `fieldmart decide` first\n"


def test_waiving_prints_the_entry_and_the_log_lists_it(tmp_path: Path) -> None:
    options = ["--rule", "profit_above_prior", "--by", "analyst", "--why", "a trial", "--until", "2018-01-31"]
    said = run("waive", *options, warehouse=tmp_path)
    assert (said.exit_code, said.stderr) == (0, "")
    text = "profit_above_prior from 2017-12-18 until 2018-01-31 by analyst: a trial"
    assert said.stdout.strip().endswith(text)
    shown = run("log", warehouse=tmp_path).stdout
    assert f"waiver    {text}" in shown
    assert "1 entries, chain intact" in shown


def test_the_log_is_verified_and_a_changed_line_named(tmp_path: Path) -> None:
    logged(tmp_path, "GO")
    assert run("log", "verify", warehouse=tmp_path).stdout.startswith("1 entries, chain intact, head ")
    path = decision_log.path_of(tmp_path)
    path.write_text(path.read_text().replace('"GO"', '"HOLD"'))
    said = run("log", "verify", warehouse=tmp_path)
    assert said.exit_code == exit_codes.FAILED
    assert "line 1: was changed after writing" in said.stderr
