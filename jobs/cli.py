"""The console script `fieldmart`; `spark-submit jobs/<step>.py` runs the same functions with the same options."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs import (
    decide,
    decision_log,
    encode,
    evaluate,
    ingest,
    monitor,
    nightly,
    publish,
    releases,
    score,
    train,
)
from jobs.contract import ContractError, load
from jobs.cycle import Cycle
from jobs.java import JavaError
from jobs.lake import PROJECT, LakeError
from jobs.mart_checks import MartError
from jobs.policies import PolicyError
from jobs.progress import Progress
from jobs.spark_session import session
from jobs.warehouse import WarehouseError

KNOWN = (
    ContractError,
    JavaError,
    LakeError,
    MartError,
    PolicyError,
    WarehouseError,
    decision_log.LogError,
    ingest.IngestError,
    releases.ReleaseError,
    score.ScoreError,
)
CONF = PROJECT / "conf"
DEFAULT = CONF / "promo.yml"

Contract = Annotated[Path, typer.Option(help="Feature contract (YAML). Policies beside it win over the project's.")]
Date = Annotated[
    str | None,
    typer.Option(help="Cycle date YYYY-MM-DD, a day of the scoring period.  [default: the contract's, else today]"),
]
Warehouse = Annotated[Path, typer.Option(envvar="FIELDMART_WAREHOUSE", help="Root of lake, models, log and releases.")]
ROOT = Path("warehouse")

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback()
def _about() -> None:
    """Batch conversion-rate scoring: which embedding size is worth its cost, and may tonight's scores go live?

    `nightly` runs all steps; each step can be run alone and finds its inputs by contract and date.
    """


def cycle_of(contract: Path, date: str | None, warehouse: Path) -> Cycle:
    """The cycle the options name; raises ContractError for a bad file or date."""
    found = load(contract)
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


def policy(contract: Path, name: str) -> Path:
    """The policy file `name`: the contract's own if one lies beside it, else the project's."""
    beside = contract.parent / name
    return beside if beside.exists() else CONF / name


def _nightly(cycle: Cycle, contract: Path) -> None:
    started = dt.datetime.now(dt.UTC)
    release = nightly.run(cycle, lambda name: policy(contract, name))
    nightly.summary(cycle, release)
    cycle.progress.console.print(f"Done in {(dt.datetime.now(dt.UTC) - started).total_seconds():.0f} s.")


def _evaluate(cycle: Cycle, contract: Path) -> None:
    evaluate.run(
        cycle, session(cycle.warehouse), *(policy(contract, f"{name}.yml") for name in ("gate", "rates", "value"))
    )


def _decide(cycle: Cycle, contract: Path) -> None:
    entry = decide.run(cycle, session(cycle.warehouse), policy(contract, "gate.yml"))
    cycle.progress.console.print(f"{entry.payload['verdict']}: {entry.payload['reason']}")


def _publish(cycle: Cycle, contract: Path) -> None:
    release = publish.run(cycle, policy(contract, "audits.yml"))
    cycle.progress.console.print(f"published {release.release_id}: {release.folder}")


Step = Callable[[Cycle, Path], Any]
STEPS: dict[str, tuple[Step, str]] = {
    "nightly": (_nightly, "The whole night, ingest to publish, with a summary."),
    "ingest": (
        lambda cycle, _: ingest.run(cycle, session(cycle.warehouse)),
        "Read and validate the source as of DATE into an immutable snapshot; bad rows go to quarantine.",
    ),
    "encode": (
        lambda cycle, _: encode.run(cycle, session(cycle.warehouse)),
        "Turn the snapshot into examples: point-in-time history, vocabularies, split by time.",
    ),
    "train": (
        lambda cycle, _: train.run(cycle, session(cycle.warehouse)),
        "Train every k and the prior, one model per Spark task.",
    ),
    "evaluate": (_evaluate, "Metrics with intervals, calibration, cost per score and value on the test periods."),
    "warehouse": (lambda cycle, _: decide.build_evidence(cycle), "Build the evidence marts, not yet visible."),
    "decide": (_decide, "GO, HOLD or NO-GO by the gate; on GO refit; append to the decision log."),
    "score": (
        lambda cycle, _: score.run(cycle, session(cycle.warehouse)),
        "Score every entity on every candidate with the champion.",
    ),
    "monitor": (
        lambda cycle, _: monitor.run(cycle, session(cycle.warehouse)),
        "Count fields and scores in frozen bins for drift.",
    ),
    "publish": (_publish, "Build the rest of the marts, audit, publish the release."),
}


def command(name: str) -> Callable[..., None]:
    """The function behind `fieldmart <name>` and `spark-submit jobs/<name>.py`."""
    work, text = STEPS[name]

    def run(contract: Contract = DEFAULT, date: Date = None, warehouse: Warehouse = ROOT) -> None:
        guarded(lambda: work(cycle_of(contract, date, warehouse), contract))

    run.__doc__ = text
    return run


for _name in STEPS:
    app.command(_name)(command(_name))


@app.command()
def dashboard(warehouse: Warehouse = ROOT, port: Annotated[int, typer.Option()] = 8501) -> None:
    """Serve the dashboard on the current release."""
    script = PROJECT / "dashboard" / "streamlit_app.py"
    told = os.environ | {"FIELDMART_WAREHOUSE": str(warehouse)}
    code = subprocess.call(
        [sys.executable, "-m", "streamlit", "run", str(script), "--server.port", str(port)], env=told
    )
    raise typer.Exit(code)


@app.command("releases")
def list_releases(warehouse: Warehouse = ROOT) -> None:
    """List the releases; the current one is marked."""
    for release in releases.list_releases(warehouse):
        mark = "*" if release.is_current else " "
        typer.echo(f"{mark} {release.release_id}  data through {release.manifest['data_through']}")


@app.command()
def rollback(
    warehouse: Warehouse = ROOT,
    to: Annotated[str | None, typer.Option(help="Release id.  [default: the one before]")] = None,
) -> None:
    """Point readers back to an earlier release; logged."""
    release = guarded(lambda: releases.rollback(warehouse, to))
    typer.echo(f"current is {release.release_id}")


@app.command("log")
def show_log(warehouse: Warehouse = ROOT) -> None:
    """Verify the decision log's hash chain and print its entries."""

    def step() -> None:
        report = decision_log.verify(warehouse)
        for entry in decision_log.entries(warehouse):
            said = entry.payload.get("verdict") or entry.payload.get("release_id")
            typer.echo(f"{entry.seq:>4}  {entry.at}  {entry.kind:<9} {said}  {entry.entry_hash[:12]}")
        typer.echo(
            f"{report.entries} entries, chain intact"
            + (f", {report.torn_bytes} torn bytes ignored" if report.torn_bytes else "")
        )

    guarded(step)
