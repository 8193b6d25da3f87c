"""The checklist before production: eight items on a made-up release; breaking one names it and ends with code 1."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from pathlib import Path

import contract_marts
import duckdb
import pytest
from typer.testing import CliRunner

from jobs import decision_log, ready, releases
from jobs.cli import app
from jobs.gate import REGISTRATION, Evaluation

DAY = dt.date(2017, 12, 18)
ITEMS = [
    *("label", "leakage", "simplest_baseline", "calibration", "cost_and_latency", "monitoring", "rollback"),
    "reproducibility",
]
LEAKAGE = "create table fct_leakage as select * from (values ('canary', true), ('single field', true)) t (name, passed)"


def marts(entry_hash: str) -> dict[str, list[dict]]:
    """Rows of a release with nothing to object to."""
    rule = {"decision_id": "d", "is_of_release": True, "severity": "hard", "outcome": "pass", "value": 1.0}
    weeks = [dt.date(2017, 10, 16) + n * dt.timedelta(weeks=1) for n in range(3)]
    return {
        "fct_label_maturity": [{"period": week, "split": "test", "is_mature": True} for week in weeks]
        + [{"period": DAY, "split": "unused", "is_mature": False}],
        "fct_baselines": [
            {"algorithm": "lr", "is_beaten": True, "delta_relative": -0.02}
            | {"delta_relative_lo": -0.03, "delta_relative_hi": -0.01}
        ],
        "fct_decisions": [{"decision_id": "d", "is_of_release": True, "entry_hash": entry_hash}],
        "fct_decision_rules": [
            rule | {"seq": seq, "rule": name, "mart": mart, "metric": metric}
            for seq, (name, mart, metric) in enumerate(
                [
                    (REGISTRATION, "gate", "1 if the gate is the one recorded"),
                    ("calibration_not_low", "fct_accuracy_cost_by_k", "calibration_ratio where is_verdict"),
                    ("slices_off", "fct_calibration_by_slice", "avg(off)"),
                ]
            )
        ],
        "fct_accuracy_cost_by_k": [
            {
                "model_id": "k1",
                "is_verdict": True,
                "usd_per_1m_scores": 3e-5,
                "train_cpu_s": 9.0,
                "score_peak_rss_mib": 300.0,
            }
        ],
        "fct_scoring": [{"release_id": "r", "pairs_per_s": 1e5}],
        "fct_score_stages": [{"stage": "block", "p95_s": 0.5}, {"stage": "read", "p95_s": None}],
        "fct_drift_by_field": [{"field": "brand", "period": DAY}],
        "fct_score_drift": [{"field": "score", "period": DAY}],
        "fct_score_audits": [{"audit": "psi", "is_of_served_scores": True, "passed": True}],
        "fct_runs": [
            {"run_id": "run", "git_sha": "abc", "lock_sha": "def", "snapshot_id": "s", "examples_id": "e"}
            | {"label_version": "purchase"}
        ],
        "dim_model": [],
    }


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """A warehouse with two releases of `promo`; the second, which is served, has the marts above."""
    found = Evaluation("GO", "all rules pass", 1, "k1", (), "gate", "evidence")
    entry = decision_log.append_decision(tmp_path, "promo", DAY, found)
    for release_id in ("promo-1", "promo-2"):
        folder = tmp_path / "releases" / release_id
        folder.mkdir(parents=True)
        database = contract_marts.build(folder / "mart.duckdb", marts(entry.entry_hash))
        with duckdb.connect(str(database)) as connection:
            connection.execute(LEAKAGE)
        about = {"contract": "promo", "release_id": release_id, "published_at": f"2026-01-0{release_id[-1]}"}
        about |= {"content_sha256": release_id, "decision_id": entry.decision_id, "files": {}}
        (folder / "manifest.json").write_text(json.dumps(about | {"data_through": "2017-12-18"}))
        decision_log.append(tmp_path, "publish", {"contract": "promo", "release_id": release_id})
    return tmp_path


def change(warehouse: Path, statement: str) -> None:
    with duckdb.connect(str(warehouse / "releases" / "promo-2" / "mart.duckdb")) as connection:
        connection.execute(statement)


def failing(warehouse: Path) -> list[str]:
    return [item.name for item in ready.checklist(warehouse, "promo") if not item.passed]


def test_all_items_pass_and_say_what_they_stand_on(served: Path) -> None:
    items = ready.checklist(served, "promo")
    assert [item.name for item in items] == ITEMS
    assert [item.evidence for item in items if not item.passed] == []
    told = {item.name: item.evidence for item in items}
    assert told["label"] == "3 of 3 test periods are final; label: purchase"
    assert told["leakage"] == "2 of 2 checks for leakage passed"
    assert told["simplest_baseline"] == "logloss against logistic regression -2.00 % (-3.00 to -1.00 %)"
    assert told["rollback"] == "`fieldmart rollback --to promo-1`"
    assert told["reproducibility"].startswith(
        "the log of 3 entries is whole and holds the decision; code abc, lock def"
    )


# item -> what breaks it
BREAKS = [
    ("label", "update fct_label_maturity set is_mature = false where period = '2017-10-30'"),
    ("label", "update fct_runs set label_version = ''"),
    ("leakage", "update fct_leakage set passed = false where name = 'canary'"),
    ("leakage", "update fct_leakage set passed = null where name = 'canary'"),
    ("leakage", "delete from fct_leakage"),
    ("leakage", "drop table fct_leakage"),
    ("simplest_baseline", "update fct_baselines set is_beaten = false"),
    ("simplest_baseline", "delete from fct_baselines"),
    ("calibration", "update fct_decision_rules set outcome = 'fail' where rule = 'slices_off'"),
    ("calibration", "delete from fct_decision_rules where rule = 'slices_off'"),
    ("cost_and_latency", "update fct_accuracy_cost_by_k set usd_per_1m_scores = null"),
    ("cost_and_latency", "delete from fct_score_stages"),
    ("monitoring", "delete from fct_drift_by_field"),
    ("monitoring", "delete from fct_score_audits"),
    ("monitoring", "update fct_score_audits set passed = false"),
    ("reproducibility", "update fct_runs set git_sha = 'none'"),
    ("reproducibility", "update fct_runs set git_sha = 'abc+'"),
    ("reproducibility", "update fct_decisions set entry_hash = 'another'"),
    ("reproducibility", f"update fct_decision_rules set outcome = 'fail' where rule = '{REGISTRATION}'"),
    ("reproducibility", "delete from fct_decisions"),
]


@pytest.mark.parametrize(("item", "statement"), BREAKS)
def test_what_is_broken_is_named(served: Path, item: str, statement: str) -> None:
    change(served, statement)
    assert failing(served) == [item]


def test_without_an_earlier_release_a_prior_has_to_stand_in(served: Path) -> None:
    for path in (served / "releases" / "promo-1").iterdir():
        path.unlink()
    assert failing(served) == ["rollback"]
    change(served, "insert into dim_model (model_id, algorithm, role) values ('prior', 'prior', 'candidate')")
    assert failing(served) == ["rollback"]  # its files are gone
    card = served / "models" / "prior" / "card.json"
    card.parent.mkdir(parents=True)
    card.write_text(json.dumps({"files": {"rates.npy": hashlib.sha256(b"rates").hexdigest()}}))
    assert failing(served) == ["rollback"]  # one of them still is
    (card.parent / "rates.npy").write_bytes(b"rates")
    assert failing(served) == []


def test_a_log_that_was_changed_is_named_with_its_line(served: Path) -> None:
    path = decision_log.path_of(served)
    path.write_text(path.read_text().replace('"release_id":"promo-1"', '"release_id":"promo-7"'))
    with pytest.raises(decision_log.LogError, match="line 2: was changed after writing"):
        ready.checklist(served, "promo")


def test_nothing_published_is_said(tmp_path: Path) -> None:
    with pytest.raises(releases.ReleaseError, match=r"nothing of promo was published in .*: run `fieldmart nightly`"):
        ready.checklist(tmp_path, "promo")


def test_the_command_ends_with_1_and_names_what_failed(served: Path) -> None:
    fine = CliRunner().invoke(app, ["ready", "--warehouse", str(served)])
    assert (fine.exit_code, len(fine.stdout.splitlines())) == (0, 8)
    change(served, "drop table fct_leakage")
    broken = CliRunner().invoke(app, ["ready", "--json", "--warehouse", str(served)])
    assert broken.exit_code == 1
    assert "fieldmart: not ready: leakage" in broken.stderr
    assert [each["item"] for each in json.loads(broken.stdout) if not each["passed"]] == ["leakage"]
