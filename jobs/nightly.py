"""The whole night in one Spark session, in the order of airflow_dags/fieldmart_nightly.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
from rich.table import Table

from jobs import (
    decide,
    encode,
    evaluate,
    guard,
    ingest,
    monitor,
    privacy,
    publish,
    registry,
    score,
    spark_session,
    train,
)
from jobs.cycle import Cycle
from jobs.releases import Release
from jobs.training_plan import Options

BY_K = """
    select label, logloss, logloss_lo, logloss_hi, auc, train_cpu_s, artifact_mib, usd_per_1m_scores, is_verdict
    from fct_accuracy_cost_by_k
    order by algorithm, k
"""


def run(cycle: Cycle, policy: Callable[[str], Path], options: Options | None = None) -> Release:
    """Ingest, encode, train, evaluate, build the evidence, decide, score, monitor, publish, guard; returns the release
    that was published, which the guard may have left.

    `policy` finds gate.yml, rates.yml, value.yml, scores.yml, audits.yml and slo.yml; `options` say how to train.
    """
    with cycle.stage("start"):
        privacy.variables(cycle.contract)  # a salt that is missing must not be found out after the training
        spark = spark_session.session(cycle.warehouse)
    ingest.run(cycle, spark)
    encode.run(cycle, spark)
    train.run(cycle, spark, options)
    evaluate.run(cycle, spark, policy("gate.yml"), policy("rates.yml"), policy("value.yml"))
    decide.build_evidence(cycle, policy("gate.yml"))
    decide.run(cycle, spark, policy("gate.yml"), options.stall_timeout if options else None)
    score.run(cycle, spark, policy("scores.yml"))
    monitor.run(cycle, spark)
    release = publish.run(cycle, policy("audits.yml"), policy("slo.yml"))
    with cycle.stage("guard"):
        found = guard.run(cycle.warehouse, cycle.contract.name, policy("gate.yml"), cycle.progress.note)
    cycle.progress.note(found.line)
    with cycle.stage("registry"):
        registry.update(cycle.warehouse, cycle.progress.note)
    return release


def summary(cycle: Cycle, release: Release) -> None:
    """Print what the night found: the table by k, both decisions, where the release lies and how to look at it."""
    console, state = cycle.progress.console, cycle.state()["run"]
    with duckdb.connect(str(release.folder / decide.MART), read_only=True) as mart:
        rows = mart.execute(BY_K).fetchall()
    table = Table(title=f"{cycle.contract.name} {cycle.date}: test periods, 95 % intervals over periods")
    for name in ("model", "logloss", "95 % interval", "AUC", "CPU-s", "MiB", "$ per 1M"):
        table.add_column(name, justify="right", no_wrap=True)
    for label, loss, lo, hi, auc, cpu, size, usd, verdict in rows:
        interval = "-" if lo is None else f"{lo:.4f}-{hi:.4f}"
        told = f"{label} ←" if verdict else label
        table.add_row(told, f"{loss:.5f}", interval, f"{auc:.4f}", f"{cpu:.1f}", f"{size:.2f}", f"{usd:.2g}")
    console.print(table)
    serving = f"{state['serving_model_id']} ({state['score_source']})"
    told = "" if cycle.warehouse == Path("warehouse").resolve() else f" WAREHOUSE={cycle.warehouse}"
    for line in (
        f"Model:    [bold]{state['verdict']}[/bold]. {state['reason']}",
        f"Release:  published {release.release_id}: every audit passed, scores by {serving}.",
        f"          {release.folder}",
        f"Look:     make dashboard{told}",
    ):
        console.print(line, soft_wrap=True)


if __name__ == "__main__":
    import typer

    from jobs.cli import command

    typer.run(command("nightly"))
