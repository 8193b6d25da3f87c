"""The checklist before production: eight items, answered from the release that is served, the log and the warehouse.

Every item says what it stands on, or what to do about it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from ffm_udf import card as cards
from jobs import decision_log, models, pointings, releases
from jobs.gate import REGISTRATION
from jobs.lake import LakeError

# Each selects one row: does the item hold, and its evidence in words.
LABEL = """
    select
        count(*) filter (where split = 'test') > 0 and bool_and(is_mature) filter (where split = 'test')
        and (select bool_and(label_version <> '') from fct_runs),
        format(
            '{:d} of {:d} test periods are final; label: {}',
            count(*) filter (where split = 'test' and is_mature), count(*) filter (where split = 'test'),
            (select any_value(label_version) from fct_runs)
        )
    from fct_label_maturity
"""
LEAKAGE = """
    select
        count(*) > 0 and bool_and(coalesce(passed, false)),
        format('{:d} of {:d} checks for leakage passed', count(*) filter (where passed), count(*))
        || if(count(passed) < count(*), format(', {:d} could not be made', count(*) - count(passed)), '')
    from fct_leakage
"""
SIMPLEST = """
    select
        count(*) = 1 and bool_and(is_beaten),
        format(
            'logloss against logistic regression {:+.2f} % ({:+.2f} to {:+.2f} %)',
            100 * any_value(delta_relative), 100 * any_value(delta_relative_lo), 100 * any_value(delta_relative_hi)
        )
    from fct_baselines
    where algorithm = 'lr'
"""
CALIBRATED = """
    select
        count(*) filter (where mart = 'fct_calibration_by_slice') > 0
        and count(*) filter (where mart <> 'fct_calibration_by_slice') > 0
        and bool_and(outcome in ('pass', 'waived')),
        string_agg(rule || ' = ' || coalesce(format('{:.4g}', value), 'no value') || ', ' || outcome, '; ' order by seq)
    from fct_decision_rules
    where is_of_release and (mart = 'fct_calibration_by_slice' or metric like 'calibration_ratio%')
"""
COST = """
    select
        coalesce(
            chosen.usd_per_1m_scores + chosen.train_cpu_s + chosen.score_peak_rss_mib + scoring.pairs_per_s
            + blocks.p95_s >= 0, false
        ),
        format(
            '{:.3g} USD per million scores, {:.0f} CPU seconds of training, {:.3g} pairs a second, 95 % of the blocks'
            || ' within {:.2f} s',
            chosen.usd_per_1m_scores, chosen.train_cpu_s, scoring.pairs_per_s, blocks.p95_s
        )
    from fct_accuracy_cost_by_k as chosen
    cross join fct_scoring as scoring
    inner join fct_score_stages as blocks on blocks.stage = 'block'
    where chosen.is_verdict
"""
MONITORED = """
    select
        fields > 0 and scores > 0 and audits > 0 and failed = 0,
        format('{:d} fields and {:d} periods of scores watched for drift, {:d} audits of the scores, {:d} failed',
            fields, scores, audits, failed)
    from
        (select count(distinct field) as fields from fct_drift_by_field),
        (select count(distinct period) as scores from fct_score_drift),
        (
            select count(*) as audits, count(*) filter (where not passed) as failed
            from fct_score_audits
            where is_of_served_scores
        )
"""
TRACED = f"""
    select
        runs.git_sha not in ('', 'none') and not ends_with(runs.git_sha, '+')
        and runs.lock_sha <> '' and runs.snapshot_id <> '' and runs.examples_id <> ''
        and coalesce(rules.outcome = 'pass', false),
        decisions.entry_hash,
        format(
            'code {{}}, lock {{}}, snapshot {{}}, gate registered before evaluation: {{}}', left(runs.git_sha, 12),
            left(runs.lock_sha, 12), runs.snapshot_id, coalesce(rules.outcome, 'not on record')
        )
    from fct_runs as runs
    cross join fct_decisions as decisions
    left join fct_decision_rules as rules on decisions.decision_id = rules.decision_id and rules.rule = '{REGISTRATION}'
    where decisions.is_of_release
"""
PRIOR = "select model_id from dim_model where algorithm = 'prior' and role = 'candidate'"


@dataclass(frozen=True)
class Item:
    """One line of the checklist; `mend` says what to do where it did not pass."""

    name: str
    passed: bool
    evidence: str
    mend: str

    @property
    def line(self) -> str:
        told = self.evidence if self.passed else f"{self.evidence}. {self.mend}"
        return f"{'ok    ' if self.passed else 'FAILED'}  {self.name}: {told}"

    def record(self) -> dict[str, Any]:
        return {"item": self.name, "passed": self.passed, "evidence": self.evidence, "mend": self.mend}


def checklist(warehouse: Path, contract: str) -> list[Item]:
    """The eight items for `contract`'s release that readers were pointed to last; ReleaseError if there is none."""
    release_id = releases.last_pointed(warehouse, contract)
    if release_id is None:
        raise releases.ReleaseError(
            f"nothing of {contract} was published in {warehouse}: run `fieldmart nightly` first"
        )
    mart = releases.named(warehouse, release_id).folder / "mart.duckdb"

    def read(sql: str) -> Callable[[], tuple[bool, str]]:
        return lambda: _told(_rows(mart, sql))

    asked: list[tuple[str, Callable[[], tuple[bool, str]], str]] = [
        ("label", read(LABEL), "Move the cycle date: labels of the test periods must be final"),
        ("leakage", read(LEAKAGE), "Run a night with the leakage audit, and look at what it caught"),
        ("simplest_baseline", read(SIMPLEST), "Train `lr` among the baselines of the grid; if it ties, keep it"),
        (
            "calibration",
            read(CALIBRATED),
            "See the page Calibration for which slices, and `fieldmart decide --explain`",
        ),
        ("cost_and_latency", read(COST), "Run `fieldmart nightly`: cost and speed are measured while it works"),
        ("monitoring", read(MONITORED), "Run `fieldmart monitor` and look at the audits on the page Scores"),
        ("rollback", lambda: _rollback(warehouse, contract, release_id, mart), "Publish a second release"),
        (
            "reproducibility",
            lambda: _traced(warehouse, mart),
            "Run `fieldmart log verify` and a night on a clean checkout",
        ),
    ]
    return [_item(name, question, mend) for name, question, mend in asked]


def _item(name: str, question: Callable[[], tuple[bool, str]], mend: str) -> Item:
    """An item that cannot be answered has not passed: the evidence says why."""
    try:
        passed, evidence = question()
    except duckdb.CatalogException as error:
        passed, evidence = False, f"this release cannot tell: {str(error).splitlines()[0]}"
    except decision_log.LogError as error:
        passed, evidence = False, str(error)
    return Item(name, passed, evidence, mend)


def _rows(mart: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(mart), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def _told(rows: list[tuple[Any, ...]]) -> tuple[bool, str]:
    if len(rows) != 1:
        return False, f"one row must tell, got {len(rows)}"
    passed, evidence = rows[0]
    return bool(passed), str(evidence) if evidence else "no rows to tell from"


def _rollback(warehouse: Path, contract: str, release_id: str, mart: Path) -> tuple[bool, str]:
    """An earlier release to point back to; with the first one, a prior that can stand in for the champion."""
    known = [release for release in releases.list_releases(warehouse) if release.manifest["contract"] == contract]
    left = pointings.left(decision_log.entries(warehouse))
    earlier = [release.release_id for release in known if release.release_id not in {release_id, *left}]
    if earlier:
        return True, f"`fieldmart rollback --to {earlier[-1]}`"
    for (model_id,) in _rows(mart, PRIOR):
        with contextlib.suppress(LakeError):
            card = models.read_card(warehouse, model_id)
            if cards.damaged(models.model_folder(warehouse, model_id), card) is None:
                return True, f"this is the first release; the prior {model_id} can stand in for its model"
    return False, "no earlier release and no prior to fall back on"


def _traced(warehouse: Path, mart: Path) -> tuple[bool, str]:
    """The log is whole and has the decision, and code, data and gate are on record."""
    report = decision_log.verify(warehouse)
    rows = _rows(mart, TRACED)
    if len(rows) != 1:
        return False, "no decision belongs to this release"
    is_traced, entry_hash, evidence = rows[0]
    is_logged = any(entry.entry_hash == entry_hash for entry in decision_log.entries(warehouse))
    told = "holds the decision" if is_logged else "lacks the decision of this release"
    return bool(is_traced) and is_logged, f"the log of {report.entries} entries is whole and {told}; {evidence}"
