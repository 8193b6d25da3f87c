"""The audits: what a finished mart must fulfil before anyone may see it, and what counts as the same content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import contract_marts
import pytest

from jobs import release_audits
from jobs.mart_checks import MartError
from jobs.policies import PolicyError
from jobs.release_audits import Audit

CONF = Path(__file__).parent.parent / "conf"
ENTITY = {
    "entity_id": "h1",
    "candidates_on_offer": 2,
    "candidates_scored": 2,
    "mean_p": 0.02,
    "max_p": 0.03,
}
NO_OFFER = {"entity_id": "h2", "candidates_on_offer": 0, "candidates_scored": 0}
RATES = [
    {"period": "2017-12-04", "is_mature": True, "observed_rate": 0.5},
    {"period": "2017-12-11", "is_mature": True, "observed_rate": 0.018},
    {"period": "2017-12-18", "is_mature": False, "observed_rate": 0.0001},
]


def finished(path: Path, **changes: list[dict[str, Any]]) -> Path:
    """The project's own marts after a good night, with the rows of some of them changed."""
    rows = {
        "dim_release": [{"release_id": "r1"}],
        "dim_entity": [ENTITY, NO_OFFER],
        "fct_entity_scores": [{"p": 0.01}, {"p": 0.03}],
        "fct_label_maturity": RATES,
    }
    return contract_marts.build(path, rows | changes)


def audit(path: Path, release_id: str = "r1", **changes: list[dict[str, Any]]) -> dict[str, Audit]:
    audits = release_audits.load_audits(CONF / "audits.yml")
    marts = ["dim_release", "dim_entity", "fct_entity_scores", "fct_label_maturity"]
    found = release_audits.audit(finished(path, **changes), audits, marts, release_id)
    return {audit.name: audit for audit in found}


def test_a_good_night_passes_the_committed_audits(tmp_path: Path) -> None:
    found = audit(tmp_path / "mart.duckdb")
    assert [name for name, audit in found.items() if not audit.passed] == []
    assert len(found) == 10
    assert found["mean_p_not_low"].value == pytest.approx(0.02 / 0.018)  # the last matured period, not the last
    assert found["empty_marts"].why == "marts that have no rows"


# changed marts -> audits that fail
NIGHTS: list[tuple[dict[str, Any], list[str]]] = [
    ({"dim_release": [{"release_id": "r1"}, {"release_id": "r1"}]}, ["one_release_row"]),
    ({"dim_release": [{"release_id": "r2"}]}, ["foreign_release_ids"]),
    ({"dim_release": [{"release_id": None}]}, ["foreign_release_ids"]),
    ({"dim_entity": [ENTITY | {"candidates_scored": 1}]}, ["entities_not_fully_scored"]),
    ({"dim_entity": [ENTITY | {"candidates_scored": 3}]}, ["entities_not_fully_scored"]),
    ({"dim_entity": [ENTITY, ENTITY | {"mean_p": None}]}, ["entities_without_a_rate"]),
    ({"dim_entity": [ENTITY, ENTITY | {"mean_p": 0.0}]}, ["entities_without_a_rate"]),
    ({"dim_entity": [ENTITY, ENTITY | {"max_p": 1.0}]}, ["highest_p"]),
    ({"fct_entity_scores": [{"p": 0.0}]}, ["lowest_p"]),
    ({"dim_entity": [ENTITY | {"mean_p": 0.005}]}, ["mean_p_not_low"]),
    ({"dim_entity": [ENTITY | {"mean_p": 0.06}]}, ["mean_p_not_high"]),
    ({"fct_label_maturity": [RATES[2]]}, ["mean_p_not_low", "mean_p_not_high"]),  # nothing to compare with
    ({"fct_entity_scores": []}, ["empty_marts", "lowest_p"]),
    (
        {"dim_entity": [ENTITY | {"mean_p": float("nan"), "max_p": float("nan")}]},
        ["entities_without_a_rate", "highest_p", "mean_p_not_low", "mean_p_not_high"],
    ),
]


@pytest.mark.parametrize(("changes", "failed"), NIGHTS)
def test_each_audit_fails_on_its_fault(tmp_path: Path, changes: dict[str, Any], failed: list[str]) -> None:
    found = audit(tmp_path / "mart.duckdb", **changes)
    assert [name for name, audit in found.items() if not audit.passed] == failed


def test_a_failed_audit_says_what_and_where(tmp_path: Path) -> None:
    found = audit(tmp_path / "mart.duckdb", fct_entity_scores=[], dim_release=[{"release_id": "r2"}])
    assert found["empty_marts"].sentence == "empty_marts: 1, must be == 0 (fct_entity_scores have no rows)"
    assert found["lowest_p"].sentence.startswith("lowest_p: no value, must be > 0 (")
    expected = "foreign_release_ids: 1, must be == 0 (dim_release carry a release id other than r1)"
    assert found["foreign_release_ids"].sentence == expected


def test_missing_marts_and_marts_that_may_be_empty(tmp_path: Path) -> None:
    database = finished(tmp_path / "mart.duckdb", fct_entity_scores=[])
    audits = release_audits.load_audits(CONF / "audits.yml")
    marts = ["dim_release", "fct_entity_scores", "fct_kpi_lift", "fct_runs"]
    tolerant = audits.model_copy(update={"may_be_empty": ("fct_entity_scores",)})
    missing, empty = release_audits.audit(database, tolerant, marts, "r1")[:2]
    assert (missing.value, missing.passed) == (2.0, False)
    assert missing.why == "fct_kpi_lift, fct_runs are not in the mart database"
    assert empty.passed


def test_the_committed_audits_fit_the_declared_marts(tmp_path: Path) -> None:
    database = contract_marts.build(tmp_path / "mart.duckdb", {mart: [] for mart in contract_marts.contracts()})
    audits = release_audits.load_audits(CONF / "audits.yml")
    found = release_audits.audit(database, audits, contract_marts.contracts(), "r1")
    assert found[0].passed
    assert not found[1].passed  # all are empty
    assert len(found) == 3 + len(audits.checks)


def test_a_check_that_does_not_fit_is_an_error_not_a_failed_audit(tmp_path: Path) -> None:
    check = release_audits.load_audits(CONF / "audits.yml").checks[0]
    audits = release_audits.Audits(checks=(check.model_copy(update={"metric": "sum(nothing)"}),))
    with pytest.raises(MartError, match=r'one_release_row: Binder Error: Referenced column "nothing" not found'):
        release_audits.audit(finished(tmp_path / "mart.duckdb"), audits, [], "r1")


def test_audits_need_different_names(tmp_path: Path) -> None:
    text = (CONF / "audits.yml").read_text().replace("name: highest_p", "name: lowest_p")
    (tmp_path / "audits.yml").write_text(text)
    with pytest.raises(PolicyError, match=r"audits.yml: file: checks must have different names, got 'lowest_p' twice"):
        release_audits.load_audits(tmp_path / "audits.yml")
