"""A model card in Markdown, from what is recorded: the model's own card, the contract and the marts of a release.

The sections follow Mitchell et al. 2019 ("Model Cards for Model Reporting"). Nothing is written by hand here but the
questions; every answer is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from jobs import models, releases
from jobs.contract import Contract
from jobs.decide import MART


class CardError(ValueError):
    """A card that cannot be written; the message says why."""


def run(warehouse: Path, contract: Contract, model_id: str | None) -> str:
    """The card of a model, by default of the champion of the current release.

    What is known of its quality is read from the newest release whose night judged it. Raises CardError if there is no
    release or none knows the model, LakeError if the model has no files.
    """
    found = releases.list_releases(warehouse)
    current = next((release for release in found if release.is_current), None)
    if current is None:
        raise CardError(f"{warehouse} has no release yet: run `fieldmart nightly` first")
    asked = model_id or _champion(current)
    card = models.read_card(warehouse, asked)
    judged = card["task"]["candidate_id"] or asked
    for release in sorted(found, key=lambda release: release.manifest["data_through"], reverse=True):
        with duckdb.connect(str(release.folder / MART), read_only=True) as mart:
            if _one(mart, "select count(*) from fct_accuracy_cost_by_k where model_id = ?", judged):
                parts = [
                    f"# Model card: {asked}\n",
                    _what(card, judged, release.release_id),
                    _target(contract),
                    _need(mart, judged),
                    _quality(mart, judged),
                    _slices(mart, judged),
                    _decision(mart, judged),
                    _lineage(card),
                ]
                return "\n".join(part for part in parts if part)
    raise CardError(f"no release of {warehouse} has judged {asked} (seed that ships): name another model")


def _champion(release: releases.Release) -> str:
    with duckdb.connect(str(release.folder / MART), read_only=True) as mart:
        found = _one(mart, "select champion_model_id from dim_release")
    if found is None:
        raise CardError(f"release {release.release_id} has no champion: name a model")
    return str(found)


def _rows(mart: duckdb.DuckDBPyConnection, sql: str, *parameters: Any) -> list[dict[str, Any]]:
    found = mart.execute(sql, list(parameters))
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def _one(mart: duckdb.DuckDBPyConnection, sql: str, *parameters: Any) -> Any:
    row = mart.execute(sql, list(parameters)).fetchone()
    return row[0] if row else None


def _table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    lines += [f"| {' | '.join('–' if cell is None else str(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _what(card: dict[str, Any], judged: str, release_id: str) -> str:
    told = ", ".join(f"{name} {value}" for name, value in card["task"]["hyperparameters"].items())
    cost, links = card["cost"], card["lineage"]
    return (
        f"{card['algorithm']}, {len(card['fields'])} fields, {cost['n_parameters']:,} parameters, "
        f"{cost['artifact_bytes'] / 2**20:.2f} MiB. {card['role'].capitalize()} of {judged}, whose rehearsal was "
        f"judged in release {release_id}.\n\nHyperparameters: {told}.\n\nLearned from {cost['train_rows']:,} rows of "
        f"{links['train_from']} to {links['train_through']}, {cost['best_epoch']} epochs, "
        f"{cost['cpu_s']:.0f} CPU-seconds.\n"
    )


def _target(contract: Contract) -> str:
    label = contract.label
    window = "until the period ends" if isinstance(label.window, str) else f"within {label.window} days"
    return (
        "## Target\n\n"
        f"P(a row converts): {' or '.join(label.events)} {window} of the exposure, the first counts "
        f"(label {label.version}). An exposure that is younger is immature and neither positive nor negative. "
        f"A row is {' × '.join((*contract.entity, *contract.candidate))}.\n\n"
        f"{' '.join(contract.data_note.split())}\n\n"
        "p holds for rows that come to be as those did: it says nothing of entities that are never exposed, and "
        "nothing of what an exposure causes.\n"
    )


def _need(mart: duckdb.DuckDBPyConnection, judged: str) -> str:
    """Whether a model is needed at all: four conditions with numbers."""
    rows = _rows(mart, "select algorithm, logloss, delta_relative from fct_baselines where not is_verdict")
    prior = next((row for row in rows if row["algorithm"] == "prior"), None)
    others = [row for row in rows if row["algorithm"] != "prior"]
    [size] = _rows(mart, "select n, conversions, n_periods from fct_accuracy_cost_by_k where model_id = ?", judged) or [
        {"n": None, "conversions": None, "n_periods": None}
    ]
    pattern = f"the model's logloss is {-prior['delta_relative']:.1%} below the prior's" if prior else "not measured"
    simple = ", ".join(f"{row['algorithm']} {row['delta_relative']:+.1%}" for row in others) or "none in this release"
    mature = _one(mart, "select max(period) from fct_label_maturity where is_mature")
    assumption = _one(mart, "select max(assumption) from fct_kpi_lift")
    answers = [
        ("a pattern that a rule does not catch", pattern),
        ("more than a simple model finds (its logloss against ours)", simple),
        ("enough data", f"{size['conversions']} conversions in {size['n']} test rows of {size['n_periods']} periods"),
        ("an outcome that can be measured", f"labels are final up to the period of {mature}"),
        ("errors that can be borne", assumption),
    ]
    return "## Is a model needed?\n\n" + _table(("condition", "what was found"), answers)


def _quality(mart: duckdb.DuckDBPyConnection, judged: str) -> str:
    rows = _rows(
        mart,
        "select label, model_id, logloss, logloss_lo, logloss_hi, normalized_entropy, auc, pr_auc, calibration_ratio,"
        " usd_per_1m_scores from fct_accuracy_cost_by_k order by logloss",
    )
    shown = [
        (
            f"**{row['label']}**" if row["model_id"] == judged else row["label"],
            f"{row['logloss']:.5f}",
            "–" if row["logloss_lo"] is None else f"{row['logloss_lo']:.5f} to {row['logloss_hi']:.5f}",
            *(_number(row[name], form) for name, form in QUALITY),
        )
        for row in rows
    ]
    names = ("model", "logloss", "95 % interval", "normalized entropy", "AUC", "PR-AUC", "mean p ÷ rate", "$ per 1M")
    return "## Quality on the test periods\n\n" + _table(names, shown)


QUALITY = (
    ("normalized_entropy", ".4f"),
    ("auc", ".4f"),
    ("pr_auc", ".4f"),
    ("calibration_ratio", ".3f"),
    ("usd_per_1m_scores", ".2g"),
)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _ends(lo: float | None, hi: float | None) -> str:
    """Both ends of an interval, which may be open above."""
    return f"{_number(lo, '.3f')} to {'any' if lo is not None and hi is None else _number(hi, '.3f')}"


def _slices(mart: duckdb.DuckDBPyConnection, judged: str) -> str:
    rows = _rows(
        mart,
        "select slice_type, slice_value, n, calibration_ratio, calibration_ratio_lo, calibration_ratio_hi"
        " from fct_calibration_by_slice where model_id = ? and not is_below_min_n order by worst_rank limit 8",
        judged,
    )
    shown = [
        (
            f"{row['slice_type']}: {row['slice_value']}",
            f"{row['n']:,}",
            _number(row["calibration_ratio"], ".3f"),
            _ends(row["calibration_ratio_lo"], row["calibration_ratio_hi"]),
        )
        for row in rows
    ]
    told = "## Slices, those with most evidence of being off first\n\n"
    return told + _table(("slice", "rows", "mean p ÷ rate", "95 % interval"), shown) if shown else ""


def _decision(mart: duckdb.DuckDBPyConnection, judged: str) -> str:
    sql = "select cycle_date, verdict, reason, decision_id from fct_decisions where candidate_model_id = ? order by seq"
    shown = [(row["cycle_date"], row["verdict"], row["reason"], row["decision_id"]) for row in _rows(mart, sql, judged)]
    return "## Decisions\n\n" + _table(("cycle", "verdict", "reason", "entry"), shown) if shown else ""


def _lineage(card: dict[str, Any]) -> str:
    links = card["lineage"]
    rows = [(name, links[name]) for name in ("git_sha", "lock_sha", "contract_sha", "features_sha", "machine")]
    rows += [(name, links[name]["key"]) for name in ("snapshot", "examples", "vocabulary")]
    return "## Lineage\n\n" + _table(("link", "value"), rows)
