"""What every command of `fieldmart` shares: its options, the cycle they name, and how it ends for a person."""

from __future__ import annotations

import datetime as dt
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs import (
    approvals,
    asof,
    backfill,
    backup_store,
    block_scores,
    decision_log,
    drill,
    explain_score,
    ingest,
    label_delay,
    model_card,
    model_lineage,
    night_lock,
    query_mart,
    rebuild,
    registry,
    releases,
    restore,
    score_inputs,
    score_trace,
    shadow,
)
from jobs.contract import ContractError, load
from jobs.cycle import Cycle
from jobs.dbt_docs import DocsError
from jobs.folds import FoldError
from jobs.java import JavaError
from jobs.lake import PROJECT, LakeError
from jobs.mart_checks import MartError
from jobs.policies import PolicyError
from jobs.privacy import PrivacyError
from jobs.progress import Progress
from jobs.training_plan import TrainError
from jobs.warehouse import WarehouseError
from jobs.watched_job import JobError

KNOWN = (
    approvals.ApprovalError,
    ContractError,
    DocsError,
    FoldError,
    JavaError,
    LakeError,
    MartError,
    PolicyError,
    PrivacyError,
    WarehouseError,
    decision_log.LogError,
    ingest.IngestError,
    releases.ReleaseError,
    backfill.BackfillError,
    explain_score.ExplainError,
    model_card.CardError,
    block_scores.ScoreError,
    label_delay.LabelError,
    score_inputs.InputsError,
    backup_store.BackupError,
    drill.DrillError,
    night_lock.NightError,
    query_mart.QueryError,
    score_trace.TraceError,
    rebuild.RebuildError,
    restore.RestoreError,
    shadow.ShadowError,
    asof.AsOfError,
    model_lineage.LineageError,
    registry.RegistryError,
    JobError,
    TrainError,
    MemoryError,
)
# A disk that is full, read-only, or beyond a quota: a person's to mend, wherever it strikes.
NO_WRITING = (errno.ENOSPC, errno.EROFS, errno.EDQUOT)
CONF = PROJECT / "conf"
DEFAULT = CONF / "promo.yml"

Contract = Annotated[Path, typer.Option(help="Feature contract (YAML). Policies beside it win over the project's.")]
Date = Annotated[
    str | None,
    typer.Option(help="Cycle date YYYY-MM-DD, a day of the scoring period.  [default: the contract's, else today]"),
]
Warehouse = Annotated[Path, typer.Option(envvar="FIELDMART_WAREHOUSE", help="Root of lake, models, log and releases.")]
ROOT = Path("warehouse")


def cycle_of(contract: Path, date: str | None, warehouse: Path, training: dict[str, Any] | None = None) -> Cycle:
    """The cycle the options name, `training` in place of the contract's own; raises ContractError for a bad value."""
    found = load(contract, training)
    try:
        # A scheduler says which day its run is for: a retry after midnight must not become another night.
        asked = date or found.default_date or os.environ.get("FIELDMART_TODAY") or dt.date.today()
        day = asked if isinstance(asked, dt.date) else dt.date.fromisoformat(asked)
    except ValueError:
        raise ContractError(f"--date must be YYYY-MM-DD, got {asked!r}") from None
    return Cycle(found, day, warehouse, Progress())


def guarded(step: Callable[[], Any]) -> Any:
    """Run `step`; an error that a person can mend is one line on stderr and exit code 1, without a traceback."""
    try:
        return step()
    except KNOWN as error:
        typer.echo(f"fieldmart: {error}", err=True)
        raise typer.Exit(1) from None
    except OSError as error:
        if error.errno not in NO_WRITING:
            raise
        typer.echo(f"fieldmart: {error}: readers keep what they have; mend that, run the same command again", err=True)
        raise typer.Exit(1) from None


def policy(contract: Path, name: str) -> Path:
    """The policy file `name`: the contract's own if one lies beside it, else the project's."""
    beside = contract.parent / name
    return beside if beside.exists() else CONF / name
